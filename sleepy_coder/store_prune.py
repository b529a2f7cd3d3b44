"""Old exchanges are dropped a few at a time, so that whoever saves meanwhile waits for a small transaction at most.

What goes is found before, in a snapshot that no writer waits for. Under the write lock it is only asked what exchanges
need that were saved since: they stand behind the one that was the last, for as long as that is there. SQLite gives a
position again only when there is none above it, which is also why the oldest go first.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Final

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_messages import named_in
from sleepy_coder.types import Record

AT_ONCE: Final = 256
"""Rows that one transaction deletes; more only where one exchange has more messages for itself."""
_BREATH_SECONDS: Final = 0.01  # whoever waits for SQLite's lock does not queue for it, but looks again now and then

_OLD: Final = "collected = 1 AND started < :before"
_LAST: Final = "SELECT position, id FROM exchanges ORDER BY position DESC LIMIT 1"
_FROM: Final = "SELECT position, id, skeleton FROM exchanges WHERE position >= ? ORDER BY position"
_LEAVING: Final = f"SELECT position, length(CAST(payload AS BLOB)) FROM exchanges WHERE {_OLD} ORDER BY position"
# Each message that only old exchanges need, with the last of these.
_UNNEEDED: Final = f"""
WITH named AS (
 SELECT part.value AS message, max(position) AS last FROM exchanges, json_each(skeleton) AS part
  WHERE part.type = 'integer' AND {_OLD} GROUP BY part.value)
SELECT last, id, length(CAST(text AS BLOB)) FROM named JOIN messages ON id = message
 WHERE id NOT IN (SELECT part.value FROM exchanges, json_each(skeleton) AS part
  WHERE part.type = 'integer' AND NOT ({_OLD}))
"""


class Pruned(Record):
    """What was dropped, or would be: exchanges, messages that nothing needs any more, and the bytes of both."""

    exchanges: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Leaving:
    """An old exchange, and the messages that nothing needs once it and those before it are gone, with their bytes."""

    position: int
    bytes: int
    messages: Mapping[int, int]

    def without(self, needed: Set[int]) -> _Leaving:
        messages = {id: size for id, size in self.messages.items() if id not in needed}
        return replace(self, messages=messages)


def prune(db: StoreDatabase, before: str, *, only_count: bool = False) -> Pruned:
    """Drop what has become episodes and began before `before`, with the messages that only it needs.

    Ends early where somebody else prunes at the same time. Raises StoreError.
    """
    with db.snapshot():
        last = next(iter(db.rows(_LAST)), None)
        leaving = _leaving(db, before)
    gone = leaving if only_count or last is None else list(_dropped(db, leaving, last))
    return Pruned(
        exchanges=len(gone),
        messages=sum(len(one.messages) for one in gone),
        bytes=sum(one.bytes + sum(one.messages.values()) for one in gone),
    )


def _leaving(db: StoreDatabase, before: str) -> list[_Leaving]:
    old = db.rows(_LEAVING, {"before": before})
    if not old:
        return []
    messages: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for position, id, size in db.rows(_UNNEEDED, {"before": before}):
        messages[position][id] = size
    return [_Leaving(position, size, messages[position]) for position, size in old]


def _dropped(db: StoreDatabase, leaving: Iterable[_Leaving], last: tuple[int, str]) -> Iterator[_Leaving]:
    """What is gone, one transaction after the other; `last` are position and id of the snapshot's last exchange."""
    needed = set[int]()
    for batch in _batches(leaving):
        with db.write() as connection:
            there, *later = connection.execute(_FROM, [last[0]]).fetchall() or [None]
            if there is None or there[:2] != last:  # somebody else drops as well: positions may be given again
                return
            for position, id, skeleton in later:
                needed |= named_in(skeleton)
                last = position, id
            gone = [one.without(needed) for one in batch]
            _delete(connection, gone)
        yield from gone
        time.sleep(_BREATH_SECONDS)


def _batches(leaving: Iterable[_Leaving]) -> Iterator[list[_Leaving]]:
    batch, rows = list[_Leaving](), 0
    for one in leaving:
        more = 1 + len(one.messages)
        if batch and rows + more > AT_ONCE:
            yield batch
            batch, rows = [], 0
        batch.append(one)
        rows += more
    if batch:
        yield batch


def _delete(connection: sqlite3.Connection, gone: Iterable[_Leaving]) -> None:
    for one in gone:
        connection.executemany("DELETE FROM messages WHERE id = ?", [(id,) for id in one.messages])
        connection.execute("DELETE FROM exchanges WHERE position = ?", [one.position])
