"""Choosing the next token of each row of a batch, so that no row's choice depends on its neighbours."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch annotates Tensor.tolist as a list of unknowns.
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sleepy_coder.serve.embedded_rows import Row, TokenLogprob

_GREEDY_BELOW = 1e-5  # vLLM's own threshold
_LOWEST = -9999.0  # what vLLM reports instead of minus infinity, which JSON cannot carry


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """One token per row from `logits` (rows, vocabulary), by each row's own temperature, top_p and random."""
    tokens: list[int] = logits.argmax(-1).tolist()
    free = [i for i, row in enumerate(rows) if row.sampling.temperature >= _GREEDY_BELOW]
    plain = [i for i in free if rows[i].sampling.top_p >= 1.0]
    nucleus = [i for i in free if rows[i].sampling.top_p < 1.0]
    for part, chosen in (
        (plain, _from_all(logits, rows, plain)),
        (nucleus, _from_nucleus(logits, rows, nucleus)),
    ):
        for i, token in zip(part, chosen, strict=True):
            tokens[i] = token
    return tokens


def _from_all(logits: Tensor, rows: Sequence[Row], part: Sequence[int]) -> list[int]:
    if not part:
        return []
    return _invert(_probabilities(logits, rows, part), rows, part).tolist()


def _from_nucleus(logits: Tensor, rows: Sequence[Row], part: Sequence[int]) -> list[int]:
    """Nucleus sampling (Holtzman et al. 2020, section 3.1): the smallest set with mass `top_p`."""
    if not part:
        return []
    ranked, order = _probabilities(logits, rows, part).sort(dim=-1, descending=True)
    mass_before = ranked.cumsum(-1) - ranked
    limit = torch.tensor([[rows[i].sampling.top_p] for i in part])
    kept = ranked.masked_fill(mass_before >= limit, 0.0)
    return order.gather(1, _invert(kept, rows, part).unsqueeze(1)).squeeze(1).tolist()


def _probabilities(logits: Tensor, rows: Sequence[Row], part: Sequence[int]) -> Tensor:
    temperatures = torch.tensor([[rows[i].sampling.temperature] for i in part])
    return (logits[list(part)] / temperatures).softmax(-1)


def _invert(weights: Tensor, rows: Sequence[Row], part: Sequence[int]) -> Tensor:
    """Inverse transform sampling: one uniform number per row; the clamp keeps NaN rows in range."""
    total = weights.cumsum(-1)
    uniform = torch.tensor([[rows[i].random.random()] for i in part])
    picked = torch.searchsorted(total, uniform * total[:, -1:], right=True).squeeze(1)
    return picked.clamp_(max=weights.shape[1] - 1)


def logprobs(logits: Tensor, rows: Sequence[Row], tokens: Sequence[int]) -> list[TokenLogprob | None]:
    """Log probabilities before temperature (vLLM's raw_logprobs), for the rows that ask for them."""
    out: list[TokenLogprob | None] = [None] * len(rows)
    asking = [i for i, row in enumerate(rows) if row.sampling.logprobs is not None]
    if not asking:
        return out
    table = logits[asking].log_softmax(-1).nan_to_num(_LOWEST, neginf=_LOWEST)
    for place, i in enumerate(asking):
        best = table[place].topk(rows[i].sampling.logprobs or 0)
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        out[i] = TokenLogprob(tokens[i], float(table[place, tokens[i]]), tuple(top))
    return out
