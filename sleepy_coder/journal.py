"""The journal of one night: every step is done once, also when the night is killed and started again."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from sleepy_coder import log
from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.types import Phase

T = TypeVar("T")
_log = log.get("night")
_BEGAN = "began"
_DATETIME = TypeAdapter(datetime)


@contextmanager
def alone(lock: Path) -> Generator[None]:
    """Hold the file `lock`, so that no two processes work on the same night.

    Raises StoreError when another one does. The lock ends with its process, however that ends.
    """
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError("another process runs a night here", "wait for it to end, or stop it") from error
        yield


class Journal:
    """Remembers the result of each finished step of night `cycle` in the store.

    `on_phase` hears the name of each step as it begins; `resumed` says that this night was begun by a
    process that did not finish it.
    """

    def __init__(self, store: Store, on_phase: Callable[[str], None] = lambda _: None) -> None:
        unfinished = store.unfinished_night()
        self.resumed = unfinished is not None
        self.cycle = unfinished if unfinished is not None else store.next_cycle()
        self._store = store
        self._on_phase = on_phase
        self.phases: list[Phase] = []
        store.begin_night(self.cycle)

    def began(self, now: Callable[[], datetime]) -> datetime:
        """When this night began, whichever process began it."""
        known = self._store.phase(self.cycle, _BEGAN)
        if known is None:
            known = _DATETIME.dump_json(now()).decode()
            self._store.finish_phase(self.cycle, _BEGAN, known, 0.0)
        return _DATETIME.validate_json(known)

    def once(self, name: str, kind: Any, work: Callable[[], T]) -> T:
        """The result of step `name`: from the journal when it is there, else by doing `work`.

        `kind` is the result's type as pydantic understands it. A step that raises leaves no entry, so
        it is done again next time; `work` must bear that.
        """
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        known = self._store.phase(self.cycle, name)
        if known is not None:
            seconds = next(phase.seconds for phase in self._store.phases(self.cycle) if phase.name == name)
            self.phases.append(Phase(name=name, seconds=seconds, resumed=True))
            _log.info("night.phase", cycle=self.cycle, phase=name, resumed=True)
            return adapter.validate_json(known)
        self._on_phase(name)
        started = time.monotonic()
        result = work()
        seconds = round(time.monotonic() - started, 3)
        self._store.finish_phase(self.cycle, name, adapter.dump_json(result, round_trip=True).decode(), seconds)
        self.phases.append(Phase(name=name, seconds=seconds))
        _log.info("night.phase", cycle=self.cycle, phase=name, seconds=seconds, resumed=False)
        return result
