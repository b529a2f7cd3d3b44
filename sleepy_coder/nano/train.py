"""Pretraining of the nano model: Qwen2, Muon for the matrices, AdamW for the rest.

Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; it reaches the same loss in about
half of AdamW's steps here, which decides whether the model can be built on a laptop.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sleepy_coder.nano.init import structured_start
from sleepy_coder.nano.rows import Row
from sleepy_coder.nano.tokenizer import END, PAD

# As in Qwen2 itself. With 1e4 too few of a head's 16 rotary pairs turn slowly enough to compare distant tokens.
ROPE_THETA = 1e6


@dataclass(frozen=True, slots=True)
class Shape:
    """The model's size. `hidden` and `intermediate` in channels, `vocab` in tokens."""

    vocab: int = 1536
    hidden: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 384
    context: int = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """How fast: `batch_tokens` padded tokens a step, learning rates at their peak.

    The loss weight of the prompt falls from the first to the second of `prompt_weight` over the first half:
    how programs look is learned from whole ones, how they are mended from the answers.
    """

    batch_tokens: int = 3072
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.05
    prompt_weight: tuple[float, float] = (0.5, 0.05)


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """A freshly initialised Qwen2 of this shape."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),  # pyright: ignore[reportArgumentType]
        initializer_range=1 / math.sqrt(shape.hidden),
    )
    model = Qwen2ForCausalLM(config)
    structured_start(model, ROPE_THETA, seed)
    return model


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation, whose first `prompt` tokens are not the answer."""

    ids: list[int]
    prompt: int


def encode(row: Row, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """The conversation in the chat template, answered."""
    prompt: Any = tokenizer.apply_chat_template(
        [m.model_dump() for m in row.messages], add_generation_prompt=True, tokenize=False
    )
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tail = tokenizer(row.completion + END, add_special_tokens=False)["input_ids"]
    return Encoded(head + tail, len(head))


def batches(rows: Sequence[Encoded], tokens: int, chooser: random.Random) -> Iterator[list[Encoded]]:
    """Endless shuffled batches of rows of similar length, at most `tokens` padded tokens each."""
    while True:
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids) + chooser.randrange(24))
        groups: list[list[Encoded]] = []
        group: list[Encoded] = []
        longest = 0
        for index in order:
            longest = max(longest, len(rows[index].ids))
            if group and longest * (len(group) + 1) > tokens:
                groups.append(group)
                group, longest = [], len(rows[index].ids)
            group.append(rows[index])
        groups.append(group)
        chooser.shuffle(groups)
        yield from groups


def batch_loss(model: Qwen2ForCausalLM, batch: Sequence[Encoded], pad: int, prompt_weight: float) -> torch.Tensor:
    """Mean negative log-likelihood of the batch, in nats per token; a prompt token counts `prompt_weight`."""
    width = max(len(row.ids) for row in batch)
    ids = torch.full((len(batch), width), pad)
    weights = torch.zeros(len(batch), width)
    for i, row in enumerate(batch):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        weights[i, : row.prompt] = prompt_weight
        weights[i, row.prompt : len(row.ids)] = 1.0
    # Rows are padded on the right and attention is causal, so padding needs no mask.
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    flat = weights[:, 1:].flatten()
    return (loss * flat).sum() / flat.sum()


def optimizers(model: Qwen2ForCausalLM, plan: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=plan.muon_lr, momentum=0.95, weight_decay=plan.weight_decay),
        torch.optim.AdamW(rest, lr=plan.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def pretrain(
    model: Qwen2ForCausalLM,
    rows: Sequence[Encoded],
    plan: Schedule,
    steps: int,
    seed: int,
    progress: Callable[[int, float, float], None],
) -> None:
    """Train `model` in place for `steps`; `progress(step, loss, seconds)` after each.

    Warm-up of 5%, constant to the half, then the learning rate falls linearly to 2% of its peak.
    """
    pad = int(model.config.pad_token_id or 0)
    optims = optimizers(model, plan)
    peaks = [group["lr"] for optim in optims for group in optim.param_groups]
    started = time.monotonic()
    stream = batches(rows, plan.batch_tokens, random.Random(seed))
    model.train()
    for step in range(steps):
        factor = min(1.0, (step + 1) / (0.05 * steps), max(0.02, (steps - step) / (0.5 * steps)))
        for optim, peak in zip([g for o in optims for g in o.param_groups], peaks, strict=True):
            optim["lr"] = peak * factor
        first, last = plan.prompt_weight
        weight = max(last, first + (last - first) * step / (steps / 2))
        loss = batch_loss(model, next(stream), pad, weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad(set_to_none=True)
        progress(step, float(loss.detach()), time.monotonic() - started)
    model.eval()


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """bf16 safetensors, config and tokenizer in HF layout."""
    model.to(torch.bfloat16).save_pretrained(str(out), safe_serialization=True)  # pyright: ignore
    tokenizer.save_pretrained(str(out))
