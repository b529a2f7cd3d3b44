"""Exports: a verified adapter in a form that others load, with its model card and its manifest, in one new folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sleepy_coder.adapter_manifest import CARD, CONFIG, MANIFEST, WEIGHTS, Manifest, model_sha256
from sleepy_coder.errors import AdapterError
from sleepy_coder.files import folder_in_the_making, publish_folder
from sleepy_coder.learn.merge import MergeJob, MergeProof, merge
from sleepy_coder.model_card import Edition, Form, model_card, plain_name, withdrawn
from sleepy_coder.registry import Registry
from sleepy_coder.share.gguf_lora import write_gguf
from sleepy_coder.types import AdapterState, Record


class Bundle(Record):
    """An exported adapter: the files in `folder` with their sizes in bytes, and of a merged model its proof.

    `withdrawn`: its state and the reason, when it may not serve here (any more).
    """

    adapter: str
    form: Form
    folder: Path
    files: dict[str, int]
    proof: MergeProof | None = None
    withdrawn: str = ""


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
            proof = None
            if edition.form == "peft":
                shutil.copyfile(adapter.path / WEIGHTS, folder / WEIGHTS)
                (folder / CONFIG).write_bytes(_config((adapter.path / CONFIG).read_bytes(), edition.base_model))
            else:
                base = self.base()
                self.registry.verify(name, model_sha256(base))
                if edition.form == "gguf":
                    write_gguf(adapter.path, base, folder / f"{name}.gguf")
                else:
                    job = MergeJob(model=base, adapter=adapter.path, out=folder, dtype=self.dtype)
                    proof = merge(job, self.on_step)
                    edition = edition.model_copy(update={"rounding": proof.lost})
            manifest = shareable(self.registry.manifest(name), adapter.state)
            edition = edition.model_copy(update={"rolled_back": self.registry.quarantine.why(adapter.sha256)})
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2, round_trip=True) + "\n")
            (folder / CARD).write_text(model_card(manifest, edition))
            sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
            publish_folder(folder, out.absolute())
        why = withdrawn(manifest, edition.rolled_back)
        return Bundle(adapter=name, form=edition.form, folder=out, files=sizes, proof=proof, withdrawn=why)


def _config(known: bytes, base_model: str) -> bytes:
    """PEFT's config as it is, but with the base's name on the Hub where it has one: PEFT loads the base by that."""
    if not base_model:
        return known
    return json.dumps(json.loads(known) | {"base_model_name_or_path": base_model}, indent=2).encode()


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
