"""How much memory a running sandbox fills: seen from outside, over all of its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

LOOK_SECONDS = 0.25
"""Between two looks. What is taken in that time comes on top of the bound."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Says when the processes below a first one fill more than `most` bytes; None is never more."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._next = 0.0

    def exceeded(self, first: int | None) -> bool:
        """Whether it is too much now. It looks no more often than it has to."""
        if self._most is None or first is None or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + LOOK_SECONDS
        return sum(map(_own_bytes, _all_below(first))) > self._most


def can_watch() -> bool:
    """Whether this kernel tells which processes a process has started."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _all_below(first: int) -> Iterator[int]:
    """The process itself and all that came of it. Those whose parent has ended belong to the sandbox's first one."""
    waiting = [first]
    while waiting:
        yield (process := waiting.pop())
        waiting += _children(process)


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # it has ended, or a thread of it
        return found
    return found


def _own_bytes(process: int) -> int:
    """What it fills and does not share with a file."""
    try:
        resident, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE
