"""A LoRA as llama.cpp reads it: one GGUF file with a pair of matrices for each layer.

The format is that of llama.cpp's own convert_lora_to_gguf.py. Tensors are named as in the GGUF of the base, with
`.lora_a` [rank, in] and `.lora_b` [out, rank] behind the name; llama.cpp adds (alpha / rank) B A to the weight.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from sleepy_coder.adapter_manifest import CONFIG, WEIGHTS
from sleepy_coder.errors import AdapterError, ConfigError

Matrix = NDArray[np.floating[Any]]

# Whose tensors map one to one. llama.cpp turns the rows of q and k of the second kind around (see `interleaved`).
_PLAIN: Final = {"Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
_ROTATED: Final = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama"}
_SUPPORTED: Final = {**_PLAIN, **_ROTATED}


def write_gguf(adapter: Path, base: Path, file: Path) -> None:
    """Write the LoRA in the folder `adapter`, which belongs to the model in `base`, to `file` as float32.

    Raises ConfigError when the package gguf is missing and AdapterError when the architecture is none that is known
    here; llama.cpp's converter knows more of them.
    """
    if find_spec("gguf") is None:
        raise ConfigError("GGUF needs the package gguf", "pip install 'sleepy-coder[gguf]'")
    import gguf

    model = cast("dict[str, Any]", json.loads((base / "config.json").read_bytes()))
    kind = str((model.get("architectures") or [""])[0])
    if kind not in _SUPPORTED:
        raise AdapterError(
            f"{kind or 'the base'} is none of {', '.join(_SUPPORTED)}",
            "export it with --format peft and give that folder to llama.cpp's convert_lora_to_gguf.py",
        )
    arch = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == _SUPPORTED[kind])
    names = gguf.get_tensor_name_map(arch, int(model["num_hidden_layers"]))
    writer = gguf.GGUFWriter(file, _SUPPORTED[kind])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(json.loads((adapter / CONFIG).read_bytes())["lora_alpha"]))
    for layer, a, b in _pairs(adapter):
        name = names.get_name(layer)
        if name is None:
            raise AdapterError(f"llama.cpp has no name for the layer {layer}", "export it with --format peft")
        writer.add_tensor(f"{name}.weight.lora_a", a)
        heads = _heads(layer, model) if kind in _ROTATED else 0
        writer.add_tensor(f"{name}.weight.lora_b", interleaved(b, heads) if heads else b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _pairs(adapter: Path) -> Iterator[tuple[str, Matrix, Matrix]]:
    """Layer, A and B in float32. The registry has seen to it that there is nothing else in the file."""
    tensors = cast("dict[str, Matrix]", load_file(adapter / WEIGHTS))
    for name in sorted(tensors):
        stem = name.removesuffix("lora_A.weight")
        if stem != name:
            a, b = (np.ascontiguousarray(tensors[f"{stem}lora_{half}.weight"], np.float32) for half in "AB")
            yield stem.removeprefix("base_model.model.").removesuffix("."), a, b


def _heads(layer: str, model: Mapping[str, Any]) -> int:
    """How many heads the rows of `layer` make up; 0 for layers whose rows are not rotated."""
    if layer.endswith("q_proj"):
        return int(model["num_attention_heads"])
    return int(model.get("num_key_value_heads") or model["num_attention_heads"]) if layer.endswith("k_proj") else 0


def interleaved(b: Matrix, heads: int) -> Matrix:
    """The rows of q or k [heads * width, rank] as llama.cpp rotates them: in pairs, where transformers has halves."""
    halves = b.reshape(heads, 2, b.shape[0] // heads // 2, b.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(b.shape))
