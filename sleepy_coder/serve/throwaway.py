"""A real adapter that nobody keeps: loaded to see whether a server takes adapters at all. Made without torch."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from sleepy_coder.adapter_check import base_shapes
from sleepy_coder.adapter_manifest import CONFIG, FULL_PRECISION, WEIGHTS, quantised_by
from sleepy_coder.errors import AdapterError

PREFIX: Final = "doctor-"
DRILL: Final = "drill-"
_NAME: Final = re.compile(rf"({PREFIX}|{DRILL})[0-9a-f]{{8}}", re.ASCII)
BROKEN: Final = 100.0
"""A strength at which an adapter drowns what the model knows."""
_MODULES: Final = ("o_proj", "q_proj", "down_proj")  # whichever the model has: most do
_LAYERS: Final = 2


def is_throwaway(name: str) -> bool:
    """Whether a folder, or an adapter on a server, of that name is one of these; killed processes leave some behind."""
    return _NAME.fullmatch(name) is not None


@contextmanager
def throwaway_adapters(
    base: Path, folder: Path, rank: int, count: int = 2, prefix: str = PREFIX, strength: float = 1.0
) -> Generator[tuple[Path, ...]]:
    """`count` different random LoRAs of `rank` for the model in `base`, in `folder`; all gone afterwards.

    Their names begin with `prefix`; `strength` scales what they add to a layer's output, about its own size at 1.
    Raises AdapterError when the model has no layer that is known here, or its layers are packed.
    """
    layers = _layers(base)
    made = [folder / f"{prefix}{secrets.token_hex(4)}" for _ in range(count)]
    there = folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for seed, path in enumerate(made):
            _write(path, layers, rank, seed, strength)
        yield tuple(made)
    finally:
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        if not there:
            with suppress(OSError):  # it may hold what is not ours by now
                folder.rmdir()


def _layers(base: Path) -> dict[str, tuple[int, int]]:
    """Shape (out, in) of the first few linear layers of one kind, by name."""
    shapes = base_shapes(base)
    for module in _MODULES:
        found = sorted(name for name, shape in shapes.items() if name.endswith(f".{module}.weight") and len(shape) == 2)
        if found:
            return {name.removesuffix(".weight"): (shapes[name][0], shapes[name][1]) for name in found[:_LAYERS]}
    if method := quantised_by(base):
        raise AdapterError(f"{base} is quantised ({method}): its layers are packed", FULL_PRECISION)
    raise AdapterError(f"{base} has none of the layers {', '.join(_MODULES)}", "Load an adapter of your own by hand")


def _write(path: Path, layers: dict[str, tuple[int, int]], rank: int, seed: int, strength: float) -> None:
    chance = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, (out, into) in layers.items():
        for half, shape, scale in (("A", (rank, into), 1.0), ("B", (out, rank), strength)):
            values = scale * chance.normal(size=shape) / np.sqrt(shape[1])
            tensors[f"base_model.model.{name}.lora_{half}.weight"] = values.astype(np.float32)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in layers}),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    path.mkdir(parents=True)
    save_file(tensors, path / WEIGHTS)
    (path / CONFIG).write_text(json.dumps(config))
