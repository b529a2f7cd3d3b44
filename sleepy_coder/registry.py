"""The adapters on disk: immutable folders, and one pointer to the one that serves.

A folder appears whole (copied and synced under a temporary name, then renamed), never changes its
weights, and its name is never given to other bytes. `active.json` is replaced whole, so whatever is killed,
and whenever, `active()` is the old adapter or the new one. The pointer decides who is ACTIVE; the manifests
keep every other state.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder.adapter_check import check_adapter
from sleepy_coder.adapter_manifest import (
    CARD,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    Manifest,
    Pointer,
    adapter_name,
    content_sha256,
    damaged_adapter,
    is_adapter_name,
    model_sha256,
    read_manifest,
    tokenizer_sha256,
)
from sleepy_coder.errors import AdapterError, InfraError
from sleepy_coder.files import (
    TEMPORARY_SUFFIX,
    folder_in_the_making,
    fsync_folder,
    publish_folder,
    temporary_beside,
    write_atomic,
)
from sleepy_coder.model_card import model_card
from sleepy_coder.ports import Clock
from sleepy_coder.types import Adapter, AdapterState, EvalReport, GateVerdict, Recipe, TrainingMix

__all__ = ["Manifest", "Pointer", "Registry", "model_sha256", "tokenizer_sha256"]

_POINTER: Final = "active.json"
_LOCK: Final = ".lock"
_NEVER_AGAIN: Final = (AdapterState.REJECTED, AdapterState.QUARANTINED)


class Registry:
    """The folder `root` (adapters/). Writers of several threads and processes take turns."""

    def __init__(self, root: Path, clock: Clock) -> None:
        """Open `root`, creating it when missing, and remove what a killed process left half done."""
        self._root = root.absolute()
        self._clock = clock
        with self._locked():
            self._remove_leftovers()

    # Reading

    def get(self, name: str) -> Adapter:
        """The adapter of that name. Raises AdapterError when there is none or its manifest is broken."""
        return self._adapter(self.manifest(name), self._pointer())

    def manifest(self, name: str) -> Manifest:
        """All that is known of an adapter. Raises AdapterError like `get`."""
        return read_manifest(self._folder(name))

    def adapters(self) -> tuple[Adapter, ...]:
        """All adapters by cycle; folders whose manifest is broken appear as QUARANTINED."""
        pointer = self._pointer()
        found: list[Adapter] = []
        for folder in self._root.iterdir():
            if is_adapter_name(folder.name):
                try:
                    found.append(self._adapter(read_manifest(folder), pointer))
                except AdapterError:
                    found.append(damaged_adapter(folder))
        return tuple(sorted(found, key=lambda adapter: (adapter.cycle, adapter.name)))

    def active(self) -> Adapter | None:
        """The adapter that serves; None is the bare base. Raises AdapterError when the pointer is broken."""
        name = self._pointer().name
        return self.get(name) if name else None

    def pointer_mark(self) -> tuple[int, int, int] | None:
        """Differs whenever the pointer was moved in between; far cheaper than `active`. None before the first move."""
        try:
            found = (self._root / _POINTER).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def previous(self) -> str | None:
        """The name that `rollback` goes to; None is the bare base."""
        return self._pointer().previous

    def verify(self, name: str, base_sha256: str | None = None) -> Adapter:
        """The adapter, proven to hold the bytes it was staged with and, if asked, to belong to this base.

        Raises AdapterError on any mismatch.
        """
        manifest = self.manifest(name)
        sha256 = content_sha256(self._folder(name))
        if sha256 != manifest.sha256 or adapter_name(manifest.cycle, sha256) != name:
            raise AdapterError(
                f"{name} has changed on disk: {sha256} is not {manifest.sha256}", "Roll back, then prune it"
            )
        if base_sha256 not in (None, manifest.base_sha256):
            raise AdapterError(f"{name} was trained on another base model", "Serve its base, or train anew")
        return self._adapter(manifest, self._pointer())

    # Writing

    def stage(
        self,
        trained: Path,
        *,
        cycle: int,
        parent: str | None,
        base: Path,
        base_model: str,
        base_sha256: str,
        mix: TrainingMix,
        recipe: Recipe,
    ) -> Adapter:
        """Check the folder `trained` and take a copy of it into the registry, whole.

        `base_model` is the name people know the base by, `base_sha256` what it hashed to when the training
        began. Staging the same bytes for the same
        cycle again gives the adapter that is there. Raises AdapterError with the reason of a refusal.
        """
        if model_sha256(base) != base_sha256:
            raise AdapterError(f"{base} is not the base this was trained on", "Train again on this base")
        if parent is not None and self.manifest(parent).base_sha256 != base_sha256:
            raise AdapterError(f"The parent {parent} belongs to another base", "Start again from the base")
        content_sha256(trained)
        with self._locked(), folder_in_the_making(self._root / "candidate") as temporary:
            for file in (WEIGHTS, CONFIG):
                shutil.copyfile(trained / file, temporary / file)
            check_adapter(temporary, recipe, base)
            sha256 = content_sha256(temporary)
            name = adapter_name(cycle, sha256)
            if (self._root / name).exists():
                return self.verify(name, base_sha256)
            manifest = Manifest(
                name=name,
                cycle=cycle,
                parent=parent,
                base_model=base_model,
                base_sha256=base_sha256,
                tokenizer_sha256=tokenizer_sha256(base),
                mix_sha256=mix.sha256,
                counts=mix.counts,
                shares=mix.shares,
                recipe=recipe,
                seeds={"mix": mix.seed, "training": recipe.seed},
                state=AdapterState.STAGED,
                sha256=sha256,
                created=self._clock.now(),
            )
            self._describe(temporary, manifest)
            publish_folder(temporary, self._root / name)
        return self.get(name)

    def attach(self, name: str, reports: Iterable[EvalReport] = (), verdict: GateVerdict | None = None) -> Adapter:
        """Put evaluations (without completions) and the gate's verdict into manifest and model card."""
        with self._locked():
            manifest = self.manifest(name)
            stripped = tuple(_without_completions(report) for report in reports)
            self._describe(
                self._root / name,
                manifest.model_copy(
                    update={"reports": stripped or manifest.reports, "verdict": verdict or manifest.verdict}
                ),
            )
        return self.get(name)

    def reject(self, name: str, verdict: GateVerdict) -> Adapter:
        """Mark a candidate as never to be served. Raises AdapterError when it serves now."""
        with self._locked():
            if self._pointer().name == name:
                raise AdapterError(f"{name} is serving", "Roll back instead")
            self._set_state(name, AdapterState.REJECTED, verdict)
        return self.get(name)

    def activate(self, name: str) -> Adapter:
        """Point to `name`, durably. Raises AdapterError when it has changed, was rejected or rolled back."""
        with self._locked():
            adapter = self.verify(name)
            if adapter.state in _NEVER_AGAIN:
                raise AdapterError(f"{name} is {adapter.state.value}", "Activate another adapter")
            old = self._pointer().name
            if old != name:
                # Before the flip: until then the pointer says ACTIVE whatever the manifest says.
                if old is not None:
                    self._step_down(old, AdapterState.RETIRED)
                self._point(name, previous=old)
        return self.get(name)

    def rollback(self) -> Adapter | None:
        """Go back to the previous adapter, or to the bare base (None) when there is none or it is damaged.

        The adapter that served is quarantined: it cannot be activated again.
        """
        with self._locked():
            pointer = self._pointer()
            target = pointer.previous
            if target is not None:
                try:
                    self.verify(target)
                except AdapterError:
                    target = None
            if pointer.name is not None:
                self._step_down(pointer.name, AdapterState.QUARANTINED)
            self._point(target, previous=None)
        return self.get(target) if target else None

    def prune(self, keep: int, in_use: Collection[str] = ()) -> tuple[str, ...]:
        """Delete all but the `keep` newest adapters; returns the names that are gone.

        The active one, the one to roll back to and those `in_use` (listed by a server, in flight) stay.
        """
        with self._locked():
            pointer = self._pointer()
            needed = {pointer.name, pointer.previous, *in_use}
            adapters = self.adapters()
            gone = [a.name for a in adapters[: max(len(adapters) - keep, 0)] if a.name not in needed]
            for name in gone:
                # Renamed first, so that a crash leaves a leftover rather than half an adapter.
                (self._root / name).rename(temporary_beside(self._root / name))
            fsync_folder(self._root)
            self._remove_leftovers()
        return tuple(gone)

    def export(self, name: str, destination: Path) -> Path:
        """Copy a verified adapter, with manifest and model card, to the new folder `destination`, whole."""
        self.verify(name)
        if destination.exists():
            raise AdapterError(f"{destination} exists already", "Name a folder that does not exist")
        with folder_in_the_making(destination) as temporary:
            for file in (WEIGHTS, CONFIG, MANIFEST, CARD):
                shutil.copyfile(self._root / name / file, temporary / file)
            publish_folder(temporary, destination)
        return destination

    # Steps

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        if not is_adapter_name(name) or folder.is_symlink() or not folder.is_dir():
            known = ", ".join(adapter.name for adapter in self.adapters()) or "none yet"
            raise AdapterError(f"There is no adapter {name!r}", f"Known are: {known}")
        return folder

    def _adapter(self, manifest: Manifest, pointer: Pointer) -> Adapter:
        return Adapter(
            name=manifest.name,
            cycle=manifest.cycle,
            parent=manifest.parent,
            path=self._root / manifest.name,
            sha256=manifest.sha256,
            state=AdapterState.ACTIVE if pointer.name == manifest.name else manifest.state,
        )

    def _pointer(self) -> Pointer:
        path = self._root / _POINTER
        try:
            return Pointer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Pointer(name=None, previous=None, since=self._clock.now())
        except (OSError, ValidationError) as error:
            remedy = "Restore it, or remove it to serve the bare base"
            raise AdapterError(f"{path} cannot be read ({error})", remedy) from error

    def _point(self, name: str | None, previous: str | None) -> None:
        pointer = Pointer(name=name, previous=previous, since=self._clock.now())
        write_atomic(self._root / _POINTER, pointer.model_dump_json(indent=2) + "\n")

    def _describe(self, folder: Path, manifest: Manifest) -> None:
        write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=2, round_trip=True) + "\n")
        write_atomic(folder / CARD, model_card(manifest))

    def _set_state(self, name: str, state: AdapterState, verdict: GateVerdict | None = None) -> None:
        manifest = self.manifest(name)
        update = {"state": state, "verdict": verdict or manifest.verdict}
        self._describe(self._root / name, manifest.model_copy(update=update))

    def _step_down(self, name: str, state: AdapterState) -> None:
        # A manifest that cannot be read shows as quarantined already, and must not stop the switch.
        with suppress(AdapterError):
            self._set_state(name, state)

    def _remove_leftovers(self) -> None:
        for pattern in (f".*{TEMPORARY_SUFFIX}", f"sc-*/.*{TEMPORARY_SUFFIX}"):
            for leftover in self._root.glob(pattern):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = (self._root / _LOCK).open("ab")
        except OSError as error:
            raise InfraError(f"{self._root} cannot be written ({error})", "Check the folder and its owner") from error
        with lock:
            # Ends with the process, however that ends: no stale locks.
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _without_completions(report: EvalReport) -> EvalReport:
    samples = tuple(sample.model_copy(update={"completion": ""}) for sample in report.samples)
    return report.model_copy(update={"samples": samples})
