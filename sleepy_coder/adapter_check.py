"""Is this folder a plain LoRA that belongs to this base and recipe?

vLLM answers 200 to NaN weights, to all-zero weights, to a config whose rank is not that of the tensors and
to an adapter for a deeper model, so all of that is found here, before anything is loaded. Reads with numpy:
no torch.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from sleepy_coder.adapter_manifest import CONFIG, WEIGHTS
from sleepy_coder.errors import AdapterError
from sleepy_coder.types import Recipe

_TENSOR: Final = re.compile(r"base_model\.model\.([A-Za-z0-9_.]+)\.lora_([AB])\.weight", re.ASCII)
_HEADS: Final = re.compile(r"(^|\.)(lm_head|embed_tokens|wte|word_embeddings|embed_in|embed_out)(\.|$)")
_TEXT_PART: Final = re.compile(r"\.(language|text)_model\.")
_DTYPES: Final = ("F32", "F16")
_PLAIN_ONLY: Final = (
    "use_dora",
    "use_rslora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
)
_REMEDY: Final = "The candidate is not deployed; look at the training log"
_INTEGERS: Final = ("I", "U")  # how the dtypes begin that safetensors has for them

Shape = tuple[int, ...]
PACKED: Final[Shape] = ()
"""Stands for the shape of a weight that a quantised model keeps as integers: that of its bytes says nothing."""


class _Slice(Protocol):
    def get_dtype(self) -> str: ...
    def get_shape(self) -> list[int]: ...


class _Tensors(Protocol):
    """What is used of `safe_open`, whose stub has no types."""

    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _Slice: ...
    def get_tensor(self, name: str) -> NDArray[np.floating[Any]]: ...


class _PeftConfig(BaseModel):
    """The part of PEFT's LoraConfig that decides what the weights mean; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True)

    peft_type: str
    r: int
    lora_alpha: int | float
    bias: str = "none"
    fan_in_fan_out: bool = False


def check_adapter(folder: Path, recipe: Recipe, base: Path, scale: float = 1.0) -> None:
    """Raises AdapterError, with the reason, unless `folder` is a plain, sane LoRA of `recipe` for `base`.

    Its alpha is `scale` times the recipe's.

    Plain: float32 or float16 pairs lora_A (rank, in) and lora_B (out, rank) of layers that `base` has, and
    nothing else (no DoRA, biases, saved modules, embeddings or heads). Sane: finite and not all zero.
    """
    config = _read_config(folder / CONFIG)
    alpha = recipe.alpha * scale
    if (config.r, config.lora_alpha) != (recipe.rank, alpha):
        raise _refused(
            f"its config says rank {config.r}, alpha {config.lora_alpha},"
            f" its recipe rank {recipe.rank}, alpha {alpha:g}"
        )
    pairs = _read_pairs(folder / WEIGHTS, config.r)
    _match_base(pairs, base_shapes(base), config.fan_in_fan_out)


def sees_images(folder: Path) -> bool:
    """Whether the adapter in `folder` is of a model that sees images: the layers of its text part are called so.

    False where the weights cannot be read, which is for others to complain of.
    """
    try:
        with _opened(folder / WEIGHTS) as tensors:
            return any(_TEXT_PART.search(name) for name in tensors.keys())  # noqa: SIM118  (not a mapping)
    except AdapterError:
        return False


def _refused(reason: str) -> AdapterError:
    return AdapterError(f"The trained adapter is refused: {reason}", _REMEDY)


def _read_config(path: Path) -> _PeftConfig:
    try:
        config = _PeftConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _refused(f"{path.name} cannot be read ({error})") from error
    extra = config.model_extra or {}
    special = [name for name in _PLAIN_ONLY if extra.get(name)]
    if config.peft_type != "LORA" or config.bias != "none" or special:
        raise _refused(f"it is not a plain LoRA ({config.peft_type}, bias {config.bias}, {special})")
    return config


@contextmanager
def _opened(path: Path) -> Generator[_Tensors]:
    try:
        with cast(AbstractContextManager[_Tensors], safe_open(path, framework="numpy")) as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise _refused(f"{path.name} is not a complete safetensors file ({error})") from error


def _read_pairs(path: Path, rank: int) -> dict[str, dict[str, Shape]]:
    """Shapes of A and B by layer; every tensor is read and checked."""
    pairs: dict[str, dict[str, Shape]] = {}
    alive = False
    with _opened(path) as tensors:
        for name in tensors.keys():  # noqa: SIM118  (not a mapping)
            match = _TENSOR.fullmatch(name)
            if not match or _HEADS.search(match[1]):
                raise _refused(f"it holds {name!r}, which is not a lora_A or lora_B weight of an inner layer")
            dtype = tensors.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise _refused(f"{name} is {dtype}; save adapters as float32 or float16")
            values = tensors.get_tensor(name)
            if not np.isfinite(values).all():
                raise _refused(f"{name} holds NaN or infinity")
            # lora_B starts at zero: only a trained one changes the model's answers.
            alive = alive or (match[2] == "B" and bool(values.any()))
            pairs.setdefault(match[1], {})[match[2]] = values.shape
    for layer, pair in pairs.items():
        a, b = pair.get("A", ()), pair.get("B", ())
        if len(a) != 2 or len(b) != 2 or a[0] != rank or b[1] != rank:
            raise _refused(f"{layer} has shapes A {a}, B {b}, not those of rank {rank}")
    if not alive:
        raise _refused("all its weights are zero: it would change nothing")
    return pairs


def base_shapes(base: Path) -> dict[str, Shape]:
    """Shape of every tensor of the base model, by name; PACKED for integers. Raises AdapterError on a damaged file."""
    shapes: dict[str, Shape] = {}
    for path in sorted(base.glob("*.safetensors")):
        with _opened(path) as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a mapping)
                found = tensors.get_slice(name)
                shapes[name] = PACKED if found.get_dtype().startswith(_INTEGERS) else tuple(found.get_shape())
    return shapes


def _match_base(pairs: Mapping[str, Mapping[str, Shape]], base: Mapping[str, Shape], transposed: bool) -> None:
    known = [layer for layer in pairs if f"{layer}.weight" in base]
    # Some models are renamed while they are loaded; then none of the names is in the checkpoint.
    if known and len(known) < len(pairs):
        raise _refused(f"the base has no layer {next(layer for layer in pairs if layer not in known)}")
    if not known and (elsewhere := _deeper(next(iter(pairs)), base)):
        raise _refused(f"its layer {next(iter(pairs))} is {elsewhere} in the base: no server would apply it")
    for layer in known:
        shape = base[f"{layer}.weight"]
        fits = (pairs[layer]["B"][0], pairs[layer]["A"][1])
        if shape != PACKED and (shape[::-1] if transposed else shape) != fits:
            raise _refused(f"{layer} is {shape} in the base, but the adapter fits {fits}")


def _deeper(layer: str, base: Mapping[str, Shape]) -> str:
    """Where `layer` stands below a larger model's part (`model.language_model.` for `model.`); "" when it does not.

    A checkpoint with shorter names, or others as long, is one that servers rename as transformers does.
    """
    tail = f".{layer.partition('.')[2]}.weight"
    found = (name for name in base if name.endswith(tail) and name.count(".") > layer.count(".") + 1)
    return next(found, "").removesuffix(".weight")
