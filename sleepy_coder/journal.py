"""The journal of one night: every step is done once, also when the night is killed and started again."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from sleepy_coder import log
from sleepy_coder.config import RecipeName
from sleepy_coder.errors import AlreadyRuns, InfraError, JournalError
from sleepy_coder.store import Store
from sleepy_coder.types import Phase

T = TypeVar("T")
_log = log.get("night")
RECIPE_NAME: Final = "recipe-name"
"""Under this a night notes what it learns by when it begins."""
_BEGAN = "began"
_TRIES, _PAUSE_SECONDS = 20, 0.1  # how long a night waits for another to end


@contextmanager
def alone(lock: Path, what: str = "night") -> Generator[None]:
    """Hold the file `lock`, so that no two processes work on the same night, or whatever `what` is.

    Waits for those who only keep a night from beginning (`no_night`). Raises AlreadyRuns when another process runs
    one, and InfraError when the disk refuses. The lock ends with its process, however that ends.
    """
    with _opened(lock) as file:
        tries = 0
        while not _locks(file, fcntl.LOCK_EX):
            tries += 1
            if tries >= _TRIES and not _locks(file, fcntl.LOCK_SH):
                raise AlreadyRuns(f"another process runs a {what} here", "wait for it to end, or stop it")
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(_PAUSE_SECONDS)
        yield


@contextmanager
def no_night(lock: Path) -> Generator[bool]:
    """Whether no night runs; if so, none begins while this is open, which must be short. Raises InfraError."""
    with _opened(lock) as file:
        yield _locks(file, fcntl.LOCK_SH)


def _opened(lock: Path) -> BinaryIO:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("ab")
    except OSError as error:
        remedy = "Make the folder writable for this user, and look whether its disk is full or read-only"
        raise InfraError(f"{lock} cannot be opened ({error})", remedy) from error


def _locks(file: BinaryIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unfinished_recipe(store: Store) -> tuple[int | None, RecipeName | None]:
    """The unfinished night and the recipe that it began with; None for what is not there."""
    cycle = store.unfinished_night()
    noted = store.phase(cycle, RECIPE_NAME) if cycle is not None else None
    return cycle, json.loads(noted) if noted else None


class Journal:
    """Remembers the result of each finished step of night `cycle` in the store.

    `on_phase` hears the name of each step as it begins; `resumed` says that this night was begun by a
    process that did not finish it. `step` is the one under way, or the last one.
    """

    def __init__(self, store: Store, on_phase: Callable[[str], None] = lambda _: None) -> None:
        unfinished = store.unfinished_night()
        self.resumed = unfinished is not None
        self.cycle = unfinished if unfinished is not None else store.next_cycle()
        self._store = store
        self._on_phase = on_phase
        self.phases: list[Phase] = []
        self.step = _BEGAN
        store.begin_night(self.cycle)

    def began(self, now: Callable[[], datetime]) -> datetime:
        """When this night began, whichever process began it."""
        return self.noted(_BEGAN, datetime, now)

    def once(self, name: str, kind: Any, work: Callable[[], T]) -> T:
        """The result of step `name`: from the journal when it is there, else by doing `work`.

        `kind` is the result's type as pydantic understands it. A step that raises leaves no entry, so
        it is done again next time; `work` must bear that. Raises JournalError for one of another version.
        """
        self.step = name
        resumed = self._store.phase(self.cycle, name) is not None
        if not resumed:
            self._on_phase(name)
        result = self.noted(name, kind, work)
        seconds = next(phase.seconds for phase in self._store.phases(self.cycle) if phase.name == name)
        self.phases.append(Phase(name=name, seconds=seconds, resumed=resumed))
        _log.info("night.phase", cycle=self.cycle, phase=name, seconds=seconds, resumed=resumed)
        return result

    def noted(self, name: str, kind: Any, work: Callable[[], T]) -> T:
        """As `once`, for what is no step of its own: a part of one, a figure, or what this night began with."""
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        known = self._store.phase(self.cycle, name)
        if known is not None:
            return self._read(name, adapter, known)
        started = time.monotonic()
        result = work()
        seconds = round(time.monotonic() - started, 3)
        payload = adapter.dump_json(result, round_trip=True).decode()
        self._store.finish_phase(self.cycle, name, payload, seconds)
        return result

    def known(self, name: str, kind: Any) -> Any | None:
        """The result of step `name`, or the figure noted under it; None when there is none that can be read."""
        found = self._store.phase(self.cycle, name)
        with suppress(JournalError):
            return self._read(name, TypeAdapter(kind), found) if found is not None else None
        return None

    def _read(self, name: str, adapter: TypeAdapter[T], payload: str) -> T:
        try:
            return adapter.validate_json(payload)
        except ValidationError as error:
            raise JournalError(
                f"an update of sleepy-coder changed what night {self.cycle} noted of `{name}`",
                "It cannot go on; the next night starts over with the same episodes",
            ) from error

    def failed(self, name: str, reason: str) -> int:
        """Note that `name`, a step or what it does, failed, and why; how often by now, whichever process tried."""
        tries = 1
        while self._store.phase(self.cycle, f"{name}-failed-{tries}") is not None:
            tries += 1
        self._store.finish_phase(self.cycle, f"{name}-failed-{tries}", json.dumps(reason), 0.0)
        return tries
