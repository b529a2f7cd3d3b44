"""PEFT LoRA folders for the embedded server: read, checked as far as vLLM checks, merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from sleepy_coder.adapter_manifest import CONFIG, WEIGHTS
from sleepy_coder.errors import AdapterError
from sleepy_coder.serve.embedded_model import Shape, Weights


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter's factors by (layer, module): A is (rank, in), B is (out, rank), already scaled."""

    factors: Mapping[tuple[int, str], tuple[Tensor, Tensor]]


def read_lora(folder: Path, shape: Shape, max_rank: int) -> Lora:
    """The PEFT adapter in `folder`, refused only where vLLM refuses it too.

    Raises AdapterError for a rank above `max_rank`, an unreadable or wrong-shape file and the kinds of
    adapter that vLLM does not serve. NaN, all-zero tensors and layers that the model does not have pass,
    as they do there: judging those is the registry's work.
    """
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    rank = config["r"]
    if rank > max_rank:
        raise AdapterError(f"LoRA rank {rank} is greater than max_lora_rank {max_rank}.")
    if config.get("use_dora"):
        raise AdapterError("vLLM does not yet support DoRA.")
    if config.get("modules_to_save"):
        raise AdapterError("vLLM only supports modules_to_save being None.")
    if config.get("bias", "none") != "none":
        raise AdapterError("Adapter bias is not supported.")
    file = folder / WEIGHTS
    if not file.is_file():
        raise AdapterError(f"{folder} doesn't contain tensors")
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise AdapterError(f"{file.name} cannot be read: {error}") from error
    root = rank**0.5 if config.get("use_rslora") else rank
    return Lora(_factors(tensors, shape, config["lora_alpha"] / root))


def _factors(tensors: Mapping[str, Tensor], shape: Shape, scale: float) -> dict[tuple[int, str], tuple[Tensor, Tensor]]:
    sizes = _linear_sizes(shape)
    factors: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
    for name, tensor in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        stem = name.removesuffix(".lora_A.weight")
        module = stem.rsplit(".", 1)[-1]
        if module not in sizes or ".layers." not in stem:
            raise AdapterError(f"expected target modules in {sorted(sizes)} but received ['{stem}']")
        index = int(stem.split(".layers.")[1].split(".")[0])
        if index >= shape.layers:
            continue
        down, up = tensor.float(), tensors[stem + ".lora_B.weight"].float()
        if (up.shape[0], down.shape[1]) != sizes[module] or up.shape[1] != down.shape[0]:
            raise AdapterError(
                f"{stem}: lora_B {tuple(up.shape)} x lora_A {tuple(down.shape)} does not fit "
                f"the base weight {sizes[module]}"
            )
        factors[index, module] = (down, up * scale)
    return factors


def _linear_sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """(out, in) of each linear layer that an adapter may touch."""
    wide, narrow = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    return {
        "q_proj": (wide, shape.hidden),
        "k_proj": (narrow, shape.hidden),
        "v_proj": (narrow, shape.hidden),
        "o_proj": (shape.hidden, wide),
        "gate_proj": (shape.intermediate, shape.hidden),
        "up_proj": (shape.intermediate, shape.hidden),
        "down_proj": (shape.hidden, shape.intermediate),
    }


def merge(base: Weights, lora: Lora) -> Weights:
    """`base` with W + B A in place of each adapted W (LoRA, Hu et al. 2021, section 4.1)."""

    def adapted(index: int, weight: Tensor, modules: Sequence[str]) -> Tensor:
        if not any((index, module) in lora.factors for module in modules):
            return weight
        weight, start = weight.clone(), 0
        for module in modules:
            rows = sizes[module][0]
            if pair := lora.factors.get((index, module)):
                weight[start : start + rows].addmm_(pair[1], pair[0])
            start += rows
        return weight

    sizes = _linear_sizes(base.shape)
    layers = tuple(
        replace(
            layer,
            qkv=adapted(index, layer.qkv, ("q_proj", "k_proj", "v_proj")),
            output=adapted(index, layer.output, ("o_proj",)),
            gate_up=adapted(index, layer.gate_up, ("gate_proj", "up_proj")),
            down=adapted(index, layer.down, ("down_proj",)),
        )
        for index, layer in enumerate(base.layers)
    )
    return replace(base, layers=layers)
