"""The adapters on disk: immutable folders, and one pointer to the one that serves.

A folder appears whole (copied and synced under a temporary name, then renamed), never changes its
weights, and its name is never given to other bytes. The pointer (adapter_pointer.py) decides who is ACTIVE; the
manifests keep every other state.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from sleepy_coder import log
from sleepy_coder.adapter_check import check_adapter, sees_images
from sleepy_coder.adapter_manifest import (
    CARD,
    CONFIG,
    FAST,
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
from sleepy_coder.adapter_pointer import PointerFile
from sleepy_coder.adapter_quarantine import Quarantine, Quarantined
from sleepy_coder.errors import AdapterError, InfraError
from sleepy_coder.files import (
    TEMPORARY_SUFFIX,
    discard,
    folder_in_the_making,
    fsync_folder,
    publish_folder,
    temporary_beside,
    write_atomic,
)
from sleepy_coder.model_card import Edition, model_card
from sleepy_coder.ports import Clock
from sleepy_coder.types import Adapter, AdapterState, Choice, EvalReport, GateVerdict, Recipe, TrainingMix

_log = log.get("registry")
_QUARANTINE: Final = "quarantine.json"
_LOCK: Final = ".lock"


class Registry:
    """The folder `root` (adapters/). Writers of several threads and processes take turns."""

    def __init__(self, root: Path, clock: Clock) -> None:
        """Open `root`, creating it when missing, and remove what a killed process left half done."""
        self._root = root.absolute()
        self._clock = clock
        self._pointer = PointerFile(self._root, clock)
        self.quarantine: Final = Quarantine(self._root / _QUARANTINE)
        with self._locked():
            self._remove_leftovers()
            self._pointer.mend()

    # Reading

    def get(self, name: str) -> Adapter:
        """The adapter of that name. Raises AdapterError when there is none or its manifest is broken."""
        return self._adapter(self.manifest(name), self._pointer.read())

    def manifest(self, name: str) -> Manifest:
        """All that is known of an adapter. Raises AdapterError like `get`."""
        return read_manifest(self._folder(name))

    def adapters(self) -> tuple[Adapter, ...]:
        """All adapters by cycle; folders whose manifest is broken appear as QUARANTINED."""
        pointer = self._pointer.read()
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
        name = self._pointer.read().name
        return self.get(name) if name else None

    def serving(self, base: str) -> str:
        """The name that answers now: the active adapter's, or `base`. Raises AdapterError like `active`."""
        active = self.active()
        return active.name if active else base

    def pointer_mark(self) -> tuple[int, int, int] | None:
        """Differs whenever the pointer was moved in between; far cheaper than `active`. None before the first move."""
        return self._pointer.mark()

    def since(self) -> datetime | None:
        """When the pointer was moved last; None when it never was."""
        return self._pointer.read().since if self.pointer_mark() else None

    def previous(self) -> str | None:
        """The name that `rollback` goes to; None is the bare base."""
        return self._pointer.read().previous

    def pointer(self) -> Pointer:
        """What serves, what a rollback goes to and by which promotion, as one. Raises AdapterError like `active`."""
        return self._pointer.read()

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
        return self._adapter(manifest, self._pointer.read())

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
        choice: Choice | None = None,
        fast: Path | None = None,
    ) -> Adapter:
        """Check the folder `trained` and take a copy of it into the registry, whole.

        `choice` says which weights of the training these are, and at what scale. The fast weights in `fast`, whose slow
        average they are, are kept beside them.

        `base_model` is the name people know the base by, `base_sha256` what it hashed to when the training began.
        Staging the same bytes for the same cycle again gives the adapter that is there. Raises AdapterError with the
        reason of a refusal.
        """
        if model_sha256(base) != base_sha256:
            raise AdapterError(f"{base} is not the base this was trained on", "Train again on this base")
        if parent is not None:
            self._refuse_parent(parent, base_sha256)
        content_sha256(trained)
        with self._locked(), folder_in_the_making(self._root / "candidate") as temporary:
            _copy_weights(trained, temporary)
            check_adapter(temporary, recipe, base, choice.chosen.scale if choice else 1.0)
            if fast is not None:
                (temporary / FAST).mkdir()
                _copy_weights(fast, temporary / FAST)
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
                choice=choice,
                fast_sha256=content_sha256(temporary / FAST) if fast else "",
            )
            self._describe(temporary, manifest)
            publish_folder(temporary, self._root / name)
        return self.get(name)

    def _refuse_parent(self, parent: str, base_sha256: str) -> None:
        """Raises AdapterError for one that nothing may descend from on this base."""
        if self.manifest(parent).base_sha256 != base_sha256:
            raise AdapterError(f"The parent {parent} belongs to another base", "Start again from the base")
        if self.get(parent).state is AdapterState.QUARANTINED:
            raise AdapterError(f"The parent {parent} was rolled back", "The next night trains from what serves now")

    def attach(self, name: str, reports: Iterable[EvalReport] = (), verdict: GateVerdict | None = None) -> Adapter:
        """Put evaluations (without completions) and the gate's verdict into manifest and model card."""
        with self._locked():
            manifest = self.manifest(name)
            stripped = tuple(report.without_completions() for report in reports)
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
            if self._pointer.read().name == name:
                raise AdapterError(f"{name} is serving", "Roll back instead")
            self._set_state(name, AdapterState.REJECTED, verdict)
        _log.warning("adapter.rejected", adapter=name, reasons=verdict.reasons)
        return self.get(name)

    def activate(self, name: str, *, instead_of: Collection[str | None] = ()) -> Adapter:
        """Point to `name`, durably.

        Raises AdapterError when it has changed, was rejected or rolled back, or when, if given, none of `instead_of`
        serves (None is the bare base).
        """
        with self._locked():
            adapter = self.verify(name)
            if not adapter.state.may_serve:
                raise AdapterError(f"{name} is {adapter.state.value}", "Activate another adapter")
            pointer = self._pointer.read()
            old = pointer.name
            if instead_of and old not in instead_of:
                raise AdapterError(
                    f"{old or 'the base'} serves now, and {name} was not judged against it",
                    "nothing was changed; the next night judges anew",
                )
            if old != name:
                # Before the flip: until then the pointer says ACTIVE whatever the manifest says.
                if old is not None:
                    self._step_down(old, AdapterState.RETIRED)
                self._pointer.move(name, previous=old, promotion=secrets.token_hex(8))
        # Also when it was active already: a night that was killed right after the flip has not said it.
        _log.warning("adapter.promoted", adapter=name, before=pointer.previous if old == name else old)
        return self.get(name)

    def rollback(
        self,
        *,
        only: str | None = None,
        why: str = "by hand",
        statistics: Mapping[str, float] | None = None,
        quarantine: bool = True,
    ) -> Adapter | None:
        """Go back to the previous adapter, or to the bare base (None) when there is none or it is damaged.

        With `quarantine` the bytes of the adapter that served cannot be activated again. `why` and `statistics` are for
        the log. Raises AdapterError when another adapter than `only` serves.
        """
        with self._locked():
            pointer = self._pointer.read()
            if only is not None and pointer.name != only:
                raise AdapterError(f"{only} does not serve any more", "Nothing is left to roll back")
            target = pointer.previous
            if target is not None:
                try:
                    target = target if self.verify(target).state.may_serve else None
                except AdapterError:
                    target = None
            if pointer.name is not None and quarantine:
                self._put_in_quarantine(pointer.name, why)
            self._pointer.move(target, previous=None)
            if pointer.name is not None:
                self._step_down(pointer.name, AdapterState.QUARANTINED if quarantine else AdapterState.RETIRED)
        _log.warning(
            "adapter.rolled_back",
            adapter=pointer.name,
            now=target,
            reason=why,
            statistics=dict(statistics or {}),
            quarantined=quarantine,
        )
        return self.get(target) if target else None

    def roll_back_from(
        self, name: str, *, why: str, statistics: Mapping[str, float] | None = None, quarantine: bool = True
    ) -> bool:
        """`rollback`, where somebody else may do it at the same time: False when `name` serves no more."""
        try:
            self.rollback(only=name, why=why, statistics=statistics, quarantine=quarantine)
        except AdapterError:
            if self._pointer.read().name == name:
                raise
            return False
        return True

    def step_back_if_damaged(self) -> str | None:
        """Roll back when the adapter that serves is not what it was staged as, or cannot be read; its name.

        Nothing goes in quarantine. The list has the hash of the sound bytes, which may be restored or could not be read
        for a moment (a bad disk, many open files); other bytes are refused whenever they are read.
        """
        name = self._pointer.read().name
        if name is None:
            return None
        try:
            self.verify(name)
        except AdapterError as error:
            return name if self.roll_back_from(name, why=error.message, quarantine=False) else None
        return None

    def prune(self, keep: int, in_use: Collection[str] = ()) -> tuple[str, ...]:
        """Delete all but the `keep` newest adapters; returns the names that are gone.

        The active one, the one to roll back to, those that these grew from and those `in_use` (listed by a server, in
        flight) stay.
        """
        with self._locked():
            pointer, adapters = self._pointer.read(), self.adapters()
            parents = {adapter.name: adapter.parent for adapter in adapters}
            needed = set[str]()
            for name in (pointer.name, pointer.previous, *in_use):
                while name is not None and name not in needed:
                    needed.add(name)
                    name = parents.get(name)
            gone = [a.name for a in adapters[: max(len(adapters) - keep, 0)] if a.name not in needed]
            for name in gone:
                # Renamed first, so that a crash leaves a leftover rather than half an adapter.
                (self._root / name).rename(temporary_beside(self._root / name))
            fsync_folder(self._root)
            self._remove_leftovers()
        return tuple(gone)

    # Steps

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        if not is_adapter_name(name) or folder.is_symlink() or not folder.is_dir():
            known = ", ".join(adapter.name for adapter in self.adapters()) or "none yet"
            raise AdapterError(
                f"There is no adapter {name!r}; known are: {known}", "`sleepy-coder adapters list` tells more"
            )
        return folder

    def _adapter(self, manifest: Manifest, pointer: Pointer) -> Adapter:
        return Adapter(
            name=manifest.name,
            cycle=manifest.cycle,
            parent=manifest.parent,
            path=self._root / manifest.name,
            sha256=manifest.sha256,
            state=self._state(manifest, pointer),
        )

    def _state(self, manifest: Manifest, pointer: Pointer) -> AdapterState:
        if pointer.name == manifest.name:
            return AdapterState.ACTIVE
        return AdapterState.QUARANTINED if self.quarantine.holds(manifest.sha256) else manifest.state

    def _put_in_quarantine(self, name: str, why: str) -> None:
        with suppress(AdapterError):  # what cannot be read shows as quarantined already, and must not stop the switch
            sha256 = self.manifest(name).sha256
            self.quarantine.add(Quarantined(sha256=sha256, name=name, since=self._clock.now(), why=why))

    def _describe(self, folder: Path, manifest: Manifest) -> None:
        write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=2, round_trip=True) + "\n")
        edition = Edition(rolled_back=self.quarantine.why(manifest.sha256), sees=sees_images(folder))
        write_atomic(folder / CARD, model_card(manifest, edition))

    def _set_state(self, name: str, state: AdapterState, verdict: GateVerdict | None = None) -> None:
        manifest = self.manifest(name)
        update = {"state": state, "verdict": verdict or manifest.verdict}
        self._describe(self._root / name, manifest.model_copy(update=update))

    def _step_down(self, name: str, state: AdapterState) -> None:
        # A manifest that cannot be read shows as quarantined already, and must not stop the switch; nor must one that
        # cannot be written (another user's folder, little room): pointer and quarantine say all that matters.
        with suppress(AdapterError):
            try:
                self._set_state(name, state)
            except InfraError as error:
                _log.error("adapter.state_not_noted", adapter=name, state=state, reason=error.message)

    def _remove_leftovers(self) -> None:
        """What cannot be removed (another user's, for one) stays: it is in nobody's way."""
        patterns = (f".*{TEMPORARY_SUFFIX}", f"sc-*/.*{TEMPORARY_SUFFIX}")
        leftovers = [path for pattern in patterns for path in self._root.glob(pattern)]
        for leftover in leftovers:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                discard(leftover)
        if stuck := [path.name for path in leftovers if path.exists()]:
            _log.warning("adapter.leftovers_stay", folder=str(self._root), names=stuck)

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


def _copy_weights(source: Path, to: Path) -> None:
    for file in (WEIGHTS, CONFIG):
        shutil.copyfile(source / file, to / file)
