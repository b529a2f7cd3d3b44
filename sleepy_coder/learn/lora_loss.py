"""The loss of a batch: NLL of what is learned + kl * KL(base || adapter) on the same tokens.

The base distribution comes from the same weights with the adapter switched off, so no second copy is held, and is
asked for once per row.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch and peft are only partly typed.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sleepy_coder.errors import TrainingError
from sleepy_coder.learn.rows import EncodedRow

SAME_HEAD = 0.05  # nats; rounding in bfloat16 stays below
HEAD_TOKENS = 512  # through the head at once on a GPU: over 150 000 words their distributions are 0.3 GiB each


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows side by side: `ids` [rows, tokens], and for each completion token, the row and position that
    predict it, its own id, and its share of the loss (every row counts as one, whatever its length)."""

    ids: torch.Tensor
    row: torch.Tensor
    position: torch.Tensor
    target: torch.Tensor
    share: torch.Tensor


def pack(rows: Sequence[EncodedRow], pad: int, device: torch.device) -> Packed:
    """Padded on the right. Attention is causal, so that padding needs no mask: no completion token sees it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows])
    learned = [row.learned() for row in rows]
    where = [(i, place - 1) for i, places in enumerate(learned) for place in places]
    row, position = torch.tensor(where).T
    share = torch.tensor([1 / len(learned[i]) / len(rows) for i, _ in where])
    target = ids[row, position + 1]
    return Packed(ids.to(device), row.to(device), position.to(device), target.to(device), share.to(device))


def hidden_of(model: PeftModel, packed: Packed) -> torch.Tensor:
    """Last hidden states [completion tokens, channels]; the head is costly and not needed on the prompts."""
    base: Any = model.get_base_model()
    return base.get_decoder()(input_ids=packed.ids, use_cache=False).last_hidden_state[packed.row, packed.position]


def log_probs_of(model: PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [completion tokens, vocabulary] in float32."""
    head: Any = model.get_output_embeddings()
    return functional.log_softmax(head(hidden).float(), dim=-1)


def refuse_other_head(model: PeftModel, row: EncodedRow, pad: int) -> None:
    """Raise TrainingError when the model makes other probabilities of its head's output than `log_probs_of` does.

    Granite and Cohere scale it, Gemma 2 caps it: what is learned here would not be what is served.
    """
    packed = pack([row], pad, next(model.parameters()).device)
    model.eval()  # dropout would tell two passes apart
    with torch.no_grad():
        ours = log_probs_of(model, hidden_of(model, packed))
        logits = model(input_ids=packed.ids, use_cache=False).logits[packed.row, packed.position]
    theirs = functional.log_softmax(logits.float(), dim=-1)
    apart = float((ours - theirs).gather(1, packed.target.unsqueeze(1)).abs().mean())
    if apart > SAME_HEAD:
        raise TrainingError(
            f"this model changes its head's output ({apart:.2f} nats a token), which training does not follow",
            "train a model without logits_scaling, logit_scale or final_logit_softcapping",
        )


def references_of(model: PeftModel, rows: Sequence[EncodedRow], at_once: int, pad: int) -> list[torch.Tensor]:
    """The base model's last hidden states on each row's completion [tokens, channels], on the CPU.

    `at_once` rows of similar length go through the model together.

    The base does not change while the adapter learns, so it is asked once per row and not once per step. Hidden
    states are kept rather than distributions: those would be as wide as the vocabulary.
    """
    device = next(model.parameters()).device
    kept: dict[int, torch.Tensor] = {}
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    with torch.no_grad(), model.disable_adapter():
        for at in range(0, len(order), at_once):
            some = order[at : at + at_once]
            hidden = hidden_of(model, pack([rows[i] for i in some], pad, device)).cpu()
            parts = hidden.split([len(rows[i].learned()) for i in some])
            kept.update(zip(some, parts, strict=True))
    return [kept[i] for i in range(len(rows))]


def losses(
    model: PeftModel, rows: Sequence[EncodedRow], references: Sequence[torch.Tensor], pad: int
) -> tuple[torch.Tensor, float, float]:
    """(loss to minimise, mean NLL, mean KL) over the completions of `rows`, given their `references_of`."""
    packed = pack(rows, pad, next(model.parameters()).device)
    hidden = hidden_of(model, packed)
    base = torch.cat(list(references)).to(hidden.device)
    nll, kl = by_token(model, hidden, base, packed.target, HEAD_TOKENS if hidden.is_cuda else 0)
    strength = torch.tensor([row.kl for row in rows], device=packed.row.device)[packed.row]
    loss = (packed.share * (nll + strength * kl)).sum()
    return loss, float((packed.share * nll).sum().detach()), float((packed.share * kl).sum().detach())


def by_token(
    model: PeftModel, hidden: torch.Tensor, base: torch.Tensor, target: torch.Tensor, at_once: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(NLL of `target`, KL(base || adapter)) of each token, from both models' last hidden states [tokens, channels].

    With `at_once` so many tokens go through the head together, and their distributions are made again for the gradient
    instead of kept: it costs the head's work once more, and no memory that grows with the completion.
    """
    if not at_once:
        return _through_head(model, hidden, base, target)
    pieces = zip(hidden.split(at_once), base.split(at_once), target.split(at_once), strict=True)
    found = [checkpoint(_through_head, model, *piece, use_reentrant=False) for piece in pieces]
    nll, kl = zip(*found, strict=True)
    return torch.cat(nll), torch.cat(kl)


def _through_head(
    model: PeftModel, hidden: torch.Tensor, base: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    log_probs = log_probs_of(model, hidden)
    with torch.no_grad():
        of_base = log_probs_of(model, base)
    nll = -log_probs.gather(1, target.unsqueeze(1)).squeeze(1)
    return nll, (of_base.exp() * (of_base - log_probs)).sum(dim=-1)


def measure(model: PeftModel, rows: Sequence[EncodedRow], at_once: int, pad: int) -> tuple[float, float] | None:
    """(mean NLL, mean KL to the base) of `rows` without dropout; None without rows. Draws nothing at random."""
    if not rows:
        return None
    training = model.training
    model.eval()
    nll = kl = 0.0
    with torch.no_grad():
        for at in range(0, len(rows), at_once):
            some = rows[at : at + at_once]
            _, one_nll, one_kl = losses(model, some, references_of(model, some, at_once, pad), pad)
            nll, kl = nll + one_nll * len(some), kl + one_kl * len(some)
    model.train(training)
    return nll / len(rows), kl / len(rows)
