"""Qwen2 in plain torch for the embedded server: weights, KV cache, prefill and decode.

transformers' own forward spends most of a small model's decode step in Python (mask creation, cache
objects, module hooks); this one does the same arithmetic with about seventeen operations a layer.
A test holds its logits against transformers' Qwen2ForCausalLM.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch's own annotations leave Tensor.split and Tensor.roll partly unknown.
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from safetensors.torch import load_file
from torch import Tensor

from sleepy_coder.errors import ConfigError

_GROWTH = 128  # the cache grows in steps of this many positions, so that growing is rare


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen2 model, from its config.json."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    norm_epsilon: float
    rope_theta: float
    max_positions: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; q, k, v and gate, up are stacked so that each is one product."""

    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    output: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, slots=True)
class Weights:
    """All that one forward pass needs. Adapters share everything but the stacked linear weights."""

    shape: Shape
    embedding: Tensor
    layers: tuple[Layer, ...]
    norm: Tensor
    head: Tensor
    cos: Tensor
    sin: Tensor


def read_shape(folder: Path) -> Shape:
    """The sizes in `folder`/config.json. Raises ConfigError when it is not a plain Qwen2."""
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no config.json", "Point --model at a Hugging Face model folder.")
    config: dict[str, Any] = json.loads(path.read_text())
    rope: dict[str, Any] = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = rope.get("rope_type", "default") == "default" and not config.get("use_sliding_window")
    if config.get("model_type") != "qwen2" or config.get("hidden_act", "silu") != "silu" or not plain:
        raise ConfigError(
            f"{folder} is not a Qwen2 model with plain rotary attention",
            "The embedded server speaks Qwen2 only; serve other architectures with vLLM.",
        )
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or hidden // heads,
        intermediate=config["intermediate_size"],
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10000.0),
        max_positions=config["max_position_embeddings"],
    )


def load_weights(folder: Path, max_length: int | None = None) -> Weights:
    """The model in `folder` as float32, with rotary tables for `max_length` positions (tokens).

    Raises ConfigError when the folder is not a Qwen2 model.
    """
    shape = read_shape(folder)
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update((name, tensor.float()) for name, tensor in load_file(file).items())
    if "model.embed_tokens.weight" not in tensors:
        raise ConfigError(f"{folder} holds no weights", "Expected model.safetensors beside config.json.")
    embedding = tensors["model.embed_tokens.weight"]
    cos, sin = _rotary(shape, max_length or shape.max_positions)
    return Weights(
        shape=shape,
        embedding=embedding,
        layers=tuple(_layer(tensors, index) for index in range(shape.layers)),
        norm=tensors["model.norm.weight"],
        head=tensors.get("lm_head.weight", embedding),
        cos=cos,
        sin=sin,
    )


def _layer(tensors: Mapping[str, Tensor], index: int) -> Layer:
    at = f"model.layers.{index}."
    attention, mlp = at + "self_attn.", at + "mlp."
    return Layer(
        input_norm=tensors[at + "input_layernorm.weight"],
        qkv=torch.cat([tensors[f"{attention}{name}_proj.weight"] for name in "qkv"]),
        qkv_bias=torch.cat([tensors[f"{attention}{name}_proj.bias"] for name in "qkv"]),
        output=tensors[attention + "o_proj.weight"],
        post_norm=tensors[at + "post_attention_layernorm.weight"],
        gate_up=torch.cat([tensors[mlp + "gate_proj.weight"], tensors[mlp + "up_proj.weight"]]),
        down=tensors[mlp + "down_proj.weight"],
    )


def _rotary(shape: Shape, positions: int) -> tuple[Tensor, Tensor]:
    """Tables of (positions, 1, head_size); the sine carries rotate_half's sign in its first half."""
    half = torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), 1.0 / shape.rope_theta**half)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).unsqueeze(1), torch.cat([-sin, sin], -1).unsqueeze(1)


class KvCache:
    """Keys and values of a batch; row i holds positions [0, length of i), each row from position 0.

    Rows need no common alignment: joining writes a row, leaving moves the last row into the gap.
    Unwritten positions are zero and not garbage, because a masked NaN would still poison a row.
    """

    def __init__(self, shape: Shape, max_rows: int, max_length: int) -> None:
        self._shape = shape
        self._max_rows, self._max_length = max_rows, max_length
        self._keys = self._values = torch.zeros(shape.layers, 0, shape.kv_heads, 0, shape.head_size)
        self.layers: list[tuple[Tensor, Tensor]] = []

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` rows of `length` positions; what is there stays."""
        have_rows, have_length = self._keys.shape[1], self._keys.shape[3]
        if rows <= have_rows and length <= have_length:
            return
        if rows > have_rows:
            rows = min(max(rows, 2 * have_rows), self._max_rows)
        if length > have_length:
            length = min(-(-length // _GROWTH) * _GROWTH, self._max_length)
        size = (max(rows, have_rows), self._shape.kv_heads, max(length, have_length), self._shape.head_size)
        grown = torch.zeros(2, self._shape.layers, *size)
        grown[0, :, :have_rows, :, :have_length] = self._keys
        grown[1, :, :have_rows, :, :have_length] = self._values
        self._keys, self._values = grown[0], grown[1]
        self.layers = list(zip(self._keys.unbind(0), self._values.unbind(0), strict=True))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy `length` positions of row `source` over row `target`."""
        self._keys[:, target, :, :length] = self._keys[:, source, :, :length]
        self._values[:, target, :, :length] = self._values[:, source, :, :length]


def prefill(weights: Weights, cache: KvCache, first_row: int, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Write `prompts` to the cache's rows from `first_row` on; returns (prompts, vocabulary) logits."""
    hidden = _read(weights, cache, first_row, prompts)
    last = hidden[torch.arange(len(prompts)), torch.tensor([len(prompt) for prompt in prompts]) - 1]
    return _logits(weights, last)


def score(weights: Weights, prompt: Sequence[int]) -> tuple[list[float], list[int]]:
    """Natural log probability and rank (1: the likeliest) of each token of `prompt` but the first."""
    if len(prompt) < 2:
        return [], []
    hidden = _read(weights, KvCache(weights.shape, 1, len(prompt)), 0, [prompt])[0, :-1]
    table = _logits(weights, hidden).log_softmax(-1)
    chosen = table.gather(1, torch.tensor(prompt[1:]).unsqueeze(1))
    return chosen.squeeze(1).tolist(), ((table > chosen).sum(-1) + 1).tolist()


def _read(weights: Weights, cache: KvCache, first_row: int, prompts: Sequence[Sequence[int]]) -> Tensor:
    """The last layer's output, (prompts, longest, channels), with the keys and values left in the cache.

    Prompts are padded on the right, where causal attention keeps the padding out of every real token.
    """
    longest, count = max(map(len, prompts)), len(prompts)
    cache.reserve(first_row + count, longest)
    tokens = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts])
    shape, rows = weights.shape, slice(first_row, first_row + count)
    cos, sin = weights.cos[:longest], weights.sin[:longest]
    hidden = functional.embedding(tokens, weights.embedding)
    for layer, (keys, values) in zip(weights.layers, cache.layers, strict=True):
        query, key, value = _project(layer, shape, hidden, cos, sin)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        keys[rows, :, :longest] = key
        values[rows, :, :longest] = value
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        hidden = _finish(layer, shape, hidden, mixed.transpose(1, 2).reshape(count, longest, -1))
    return hidden


def decode(weights: Weights, cache: KvCache, tokens: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """One step of rows 0..n-1, whose caches hold `lengths` positions; returns (n, vocabulary) logits."""
    count, longest = len(tokens), max(lengths) + 1
    cache.reserve(count, longest)
    shape, rows, places = weights.shape, torch.arange(count), torch.tensor(lengths)
    cos, sin = weights.cos[places], weights.sin[places]
    mask = None
    if min(lengths) + 1 < longest:
        hidden_keys = torch.arange(longest) > places.unsqueeze(1)
        mask = torch.zeros(count, longest).masked_fill_(hidden_keys, float("-inf"))[:, None, None]
    hidden = functional.embedding(torch.tensor(tokens), weights.embedding)
    for layer, (keys, values) in zip(weights.layers, cache.layers, strict=True):
        query, key, value = _project(layer, shape, hidden, cos, sin)
        keys[rows, :, places] = key
        values[rows, :, places] = value
        mixed = functional.scaled_dot_product_attention(
            query.unsqueeze(2), keys[:count, :, :longest], values[:count, :, :longest], mask, enable_gqa=True
        )
        hidden = _finish(layer, shape, hidden, mixed.reshape(count, -1))
    return _logits(weights, hidden)


def _project(layer: Layer, shape: Shape, hidden: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated query and key, and value, each (..., heads, head_size)."""
    normed = functional.rms_norm(hidden, (shape.hidden,), layer.input_norm, shape.norm_epsilon)
    stacked = functional.linear(normed, layer.qkv, layer.qkv_bias)
    stacked = stacked.view(*hidden.shape[:-1], shape.heads + 2 * shape.kv_heads, shape.head_size)
    both, value = stacked.split((shape.heads + shape.kv_heads, shape.kv_heads), dim=-2)
    turned = torch.addcmul(both * cos, both.roll(shape.head_size // 2, -1), sin)
    query, key = turned.split((shape.heads, shape.kv_heads), dim=-2)
    return query, key, value


def _finish(layer: Layer, shape: Shape, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a layer after attention: output projection, residual, gated MLP, residual."""
    hidden = hidden + functional.linear(mixed, layer.output)
    normed = functional.rms_norm(hidden, (shape.hidden,), layer.post_norm, shape.norm_epsilon)
    gate, up = functional.linear(normed, layer.gate_up).chunk(2, dim=-1)
    return hidden + functional.linear(functional.silu(gate) * up, layer.down)


def _logits(weights: Weights, hidden: Tensor) -> Tensor:
    shape = weights.shape
    normed = functional.rms_norm(hidden, (shape.hidden,), weights.norm, shape.norm_epsilon)
    return functional.linear(normed, weights.head)
