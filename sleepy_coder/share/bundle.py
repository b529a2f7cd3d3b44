"""Exports: a verified adapter in a form that others load, with its model card and its manifest, in one new folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sleepy_coder.adapter_check import sees_images
from sleepy_coder.adapter_manifest import CARD, CONFIG, MANIFEST, WEIGHTS, Manifest, model_sha256
from sleepy_coder.errors import AdapterError, ConfigError
from sleepy_coder.files import folder_in_the_making, publish_folder
from sleepy_coder.learn.merge import MergeJob, MergeProof, merge
from sleepy_coder.model_card import Edition, Form, hub_name, model_card, plain_name, withdrawn
from sleepy_coder.registry import Registry
from sleepy_coder.share.gguf_lora import write_gguf
from sleepy_coder.types import Adapter, AdapterState, Record

_BASE: Final = "base_model_name_or_path"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


class Bundle(Record):
    """An exported adapter: the files in `folder` with their sizes in bytes, and of a merged model its proof.

    `withdrawn`: its state and the reason, when it may not serve here (any more). `base_model`: the base's name on the
    Hub, "" where it is not known, so that nobody else finds it.
    """

    adapter: str
    form: Form
    folder: Path
    files: dict[str, int]
    proof: MergeProof | None = None
    withdrawn: str = ""
    base_model: str = ""


@dataclass(frozen=True, slots=True)
class Exporter:
    """Exports from `registry`; `base` is the folder of the base model, which PEFT's form does not need.

    A merged model is written in the base's precision unless `dtype` says float32; `on_step` follows the merge.
    """

    registry: Registry
    base: Callable[[], Path]
    dtype: Literal["base", "float32"] = "base"
    on_step: Callable[[str, int], None] = lambda _, __: None

    def export(self, name: str, edition: Edition, out: Path) -> Bundle:
        """Write the adapter to the new folder `out`, whole; `edition` names the form and completes the card.

        Raises AdapterError when the adapter has changed on disk, belongs to another base or `out` exists, and what
        the form's own writer raises.
        """
        adapter = self.registry.verify(name)
        if out.exists():
            raise AdapterError(f"{out} exists already", "Name a folder that does not exist")
        with folder_in_the_making(out.absolute()) as folder:
            kept = self.registry.manifest(name)
            told, proof = self._fill(folder, adapter, kept, edition)
            manifest = shareable(kept, adapter.state)
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2, round_trip=True) + "\n")
            (folder / CARD).write_text(model_card(manifest, told))
            sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
            publish_folder(folder, out.absolute())
        return Bundle(
            adapter=name,
            form=told.form,
            folder=out,
            files=sizes,
            proof=proof,
            withdrawn=withdrawn(manifest, told.rolled_back),
            base_model=told.base_model,
        )

    def _fill(
        self, folder: Path, adapter: Adapter, kept: Manifest, edition: Edition
    ) -> tuple[Edition, MergeProof | None]:
        """Write the files of the form; what is to be said of them, and of a merged model its proof."""
        config = (adapter.path / CONFIG).read_bytes()
        told: dict[str, object] = {
            "base_model": edition.base_model or self._hub_name(config, kept),
            "rolled_back": self.registry.quarantine.why(adapter.sha256),
            "sees": sees_images(adapter.path),
        }
        edition = edition.model_copy(update=told)
        if edition.form == "peft":
            shutil.copyfile(adapter.path / WEIGHTS, folder / WEIGHTS)
            shared = _config(config, edition.base_model, plain_name(kept.base_model))
            (folder / CONFIG).write_bytes(shared)
            return edition.model_copy(update={"renamed": shared != config}), None
        base = self.base()
        self.registry.verify(adapter.name, model_sha256(base))
        if edition.form == "gguf":
            write_gguf(adapter.path, base, folder / f"{adapter.name}.gguf")
            return edition, None
        proof = merge(MergeJob(model=base, adapter=adapter.path, out=folder, dtype=self.dtype), self.on_step)
        return edition.model_copy(update={"rounding": proof.lost, "dtype": _dtype(folder)}), proof

    def _hub_name(self, config: bytes, manifest: Manifest) -> str:
        """The base's name on the Hub, where the adapter was trained on a model of huggingface_hub's cache; else "".

        PEFT's config then calls the base by its commit, which proves that the base of now is that of then.
        """
        named = _named(config)
        if known := hub_name(named) or hub_name(manifest.base_model):
            return known
        with suppress(ConfigError):  # there may be none any more
            base = self.base()
            return hub_name(str(base)) if base.name == named else ""
        return ""


def _dtype(folder: Path) -> str:
    """The precision that a model's config names."""
    config = json.loads((folder / "config.json").read_bytes())
    return str(config.get("dtype") or config.get("torch_dtype") or "")


def _named(config: bytes) -> str:
    """What PEFT's config calls the base."""
    return str(json.loads(config).get(_BASE) or "")


def _config(known: bytes, base_model: str, called: str) -> bytes:
    """PEFT's config as it is, but for the base's name, by which PEFT loads it: `base_model` where that is known, and
    `called` instead of a folder of this machine, or of a commit."""
    named = _named(known)
    nowhere = named.startswith(("/", "~", ".")) or _COMMIT.fullmatch(named)
    wanted = base_model or (called if nowhere else named)
    if wanted == named:
        return known
    return json.dumps(json.loads(known) | {_BASE: wanted}, indent=2).encode()


def shareable(manifest: Manifest, state: AdapterState) -> Manifest:
    """The manifest with the `state` of now, without what compilers and tests said, which may quote the code, and
    without the folder of a base model that is called by its path."""
    silent = {"completion": "", "error_signature": ""}
    reports = tuple(
        report.model_copy(
            update={
                "model": plain_name(report.model),
                "samples": tuple(
                    s.model_copy(update={**silent, "served_by": plain_name(s.served_by)}) for s in report.samples
                ),
            }
        )
        for report in manifest.reports
    )
    update = {"reports": reports, "state": state, "base_model": plain_name(manifest.base_model)}
    return manifest.model_copy(update=update)
