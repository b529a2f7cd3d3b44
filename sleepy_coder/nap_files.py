"""How a night and a gateway, two processes, agree about the sleep of the model server: two files in state/."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from sleepy_coder.files import write_atomic
from sleepy_coder.types import Record

_NAP: Final = "nap.json"
_WANTED: Final = "wanted"
_LOCK: Final = "night.lock"


class Nap(Record):
    """Why the model server sleeps, since when, and the process that put it to sleep."""

    why: str
    since: datetime
    pid: int


class NapFiles:
    """`nap.json` says that nobody may ask the model server now, `wanted` that somebody would like to.

    The night that naps holds `lock`; a nap without a holder was left behind by a killed one. The night writes and
    removes both files; whoever else wants the server only adds the wish.
    """

    def __init__(self, state: Path) -> None:
        self.lock = state / _LOCK
        self._nap, self._wanted = state / _NAP, state / _WANTED

    def begin(self, nap: Nap) -> None:
        """From here on a gateway lets nothing through. Raises InfraError."""
        self._wanted.unlink(missing_ok=True)
        write_atomic(self._nap, nap.model_dump_json())

    def end(self) -> None:
        """A gateway lets everything through again."""
        self._nap.unlink(missing_ok=True)
        self._wanted.unlink(missing_ok=True)

    def mark(self) -> tuple[int, int] | None:
        """None while nobody naps, else something that differs from nap to nap; one stat, for each request."""
        try:
            found = self._nap.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def wish(self) -> None:
        """Ask for the server."""
        self._wanted.touch()

    def wanted(self) -> bool:
        """Whether somebody has asked for the server since the nap began."""
        return self._wanted.exists()
