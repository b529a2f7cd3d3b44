"""What an adapter folder says of itself, and the content hashes that prove it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from sleepy_coder.errors import AdapterError, ConfigError
from sleepy_coder.files import sha256_files
from sleepy_coder.types import Adapter, AdapterState, Choice, EvalReport, GateVerdict, Recipe, Record, is_empty, is_none

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"
MANIFEST: Final = "manifest.json"
CARD: Final = "README.md"
FAST: Final = "fast"
"""The folder, in an adapter's own, of the fast weights that the adapter is the slow average of (`sure-dual`)."""

FULL_PRECISION: Final = "Set model.path to the full-precision weights of the same model; the server may keep its own"
"""What to do about a quantised base where the weights themselves are needed."""

_NAME: Final = re.compile(r"sc-(\d{4,9})-([0-9a-f]{8})", re.ASCII)
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
# What turns images and films into tokens; no part of the tokenizer's hash, for we train on text.
PROCESSOR_FILES: Final = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


class Manifest(Record):
    """Where an adapter is from and what was found out about it.

    `sha256` covers the weights and their config, as in `Adapter`; `base_model` is how people name the base.
    `counts` and `shares` are those of the training mix, `seeds` those of the mix and the training. The
    completions of `reports` are left out. `choice` says which weights of the training these are; `fast_sha256` is the
    hash of the fast weights beside them, "" where there are none.
    """

    schema_version: Literal[1] = 1
    name: str
    cycle: int
    parent: str | None
    base_model: str
    base_sha256: str
    tokenizer_sha256: str
    mix_sha256: str
    counts: dict[str, int]
    shares: dict[str, float]
    recipe: Recipe
    seeds: dict[str, int]
    reports: tuple[EvalReport, ...] = ()
    verdict: GateVerdict | None = None
    state: AdapterState
    sha256: str
    created: datetime
    choice: Choice | None = Field(default=None, exclude_if=is_none)
    fast_sha256: str = Field(default="", exclude_if=is_empty)

    @property
    def alpha(self) -> float:
        """`lora_alpha` of these weights: the recipe's, at the scale that was chosen."""
        return self.recipe.alpha * (self.choice.chosen.scale if self.choice else 1)


class Pointer(Record):
    """`active.json`: the adapter that serves (None is the bare base) and the one to go back to.

    `promotion` is the random name of the promotion that put it there, "" after a rollback: by it a canary divides
    the sessions.
    """

    name: str | None
    previous: str | None
    since: datetime
    promotion: str = Field(default="", exclude_if=is_empty)


def adapter_name(cycle: int, sha256: str) -> str:
    """`sc-<cycle>-<first 8 hex digits of the content hash>`."""
    return f"sc-{cycle:04d}-{sha256[:8]}"


def is_adapter_name(name: str) -> bool:
    """Whether `name` can only be a folder of the registry: no separators, no dots."""
    return _NAME.fullmatch(name) is not None


def adapter_cycle(name: str) -> int | None:
    """The night that made the adapter of that name; None when it is no adapter's."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def damaged_adapter(folder: Path) -> Adapter:
    """The entry for a folder whose manifest cannot be read: it is shown, and refused everywhere else."""
    cycle = int(folder.name.split("-")[1])
    return Adapter(name=folder.name, cycle=cycle, parent=None, path=folder, sha256="", state=AdapterState.QUARANTINED)


def content_sha256(folder: Path) -> str:
    """Hash of the weights and their config. Raises AdapterError when one is missing, unreadable or not a plain file."""
    paths, remedy = [folder / WEIGHTS, folder / CONFIG], "Train or copy the adapter again"
    try:
        for path in paths:
            if path.is_symlink() or not path.is_file():
                raise AdapterError(f"{path} is missing or not a plain file", remedy)
        return sha256_files(paths)
    except OSError as error:
        raise AdapterError(f"{folder} cannot be read ({error})", remedy) from error


def fast_weights(folder: Path) -> Path | None:
    """The fast weights beside the adapter in `folder`; None when it has none, or they are not as they were kept."""
    try:
        known = read_manifest(folder).fast_sha256
        sound = known != "" and content_sha256(folder / FAST) == known
    except AdapterError:
        return None
    return folder / FAST if sound else None


def read_manifest(folder: Path) -> Manifest:
    """Raises AdapterError when the manifest is missing, unreadable or that of another folder."""
    remedy = "Reject this adapter or restore its folder from a copy"
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{folder.name} has no readable manifest ({error})", remedy) from error
    if manifest.name != folder.name:
        raise AdapterError(f"{folder.name} holds the manifest of {manifest.name}", remedy)
    return manifest


def model_sha256(model_dir: Path) -> str:
    """Hash of a base model: its config and all its weights. Raises ConfigError when it has no safetensors."""
    weights = sorted(model_dir.glob("*.safetensors"))
    config = model_dir / "config.json"
    if not weights or not config.is_file():
        raise ConfigError(
            f"{model_dir} holds no config.json with *.safetensors", "Name the folder of a Hugging Face model"
        )
    return sha256_files([config, *weights])


def model_width(model_dir: Path) -> int:
    """Channels of a base model's hidden states, from its config.json. Raises ConfigError when it does not say."""
    width = next((part["hidden_size"] for part in _config_parts(model_dir) if part.get("hidden_size")), None)
    if not isinstance(width, int):
        raise ConfigError(f"{model_dir}/config.json names no hidden_size", "Name the folder of a Hugging Face model")
    return width


def quantised_by(model_dir: Path) -> str:
    """How a model's weights are quantised, as its config.json has it (gptq, awq, bitsandbytes, ...); "" for not at all.

    Raises ConfigError when there is no config.json that can be read.
    """
    named = (part.get("quantization_config") for part in _config_parts(model_dir))
    found = next((one for one in named if one is not None), None)
    return "" if found is None else str(found.get("quant_method") or "an unknown method")


def _config_parts(model_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's config.json, and what it says of the text part of a model that has others. Raises ConfigError."""
    try:
        config = json.loads((model_dir / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{model_dir}/config.json cannot be read ({error})", "Name the folder of a model") from error
    return config, config.get("text_config") or {}


def tokenizer_sha256(model_dir: Path) -> str:
    """Hash of everything that turns messages into tokens, the chat template included. Raises ConfigError."""
    found = [model_dir / name for name in TOKENIZER_FILES if (model_dir / name).is_file()]
    if not found:
        raise ConfigError(f"{model_dir} holds no tokenizer", "Name the folder of a Hugging Face model")
    return sha256_files(found)
