"""The part of the store that holds what was replayed in the shadow: at night against what served before, and drills."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_rows import decode, encode
from sleepy_coder.types import Episode, Record, Task

_DRAWN: Final = 4  # so many candidates per task that is wanted: some have no prompt, some are of one cluster


class Replayed(Record):
    """One task that both adapters answered: the share of samples that passed, of each."""

    task: str
    served: float
    previous: float


class Drill(Record):
    """One drill: whether the broken adapter was caught, after how many of `tasks`, and by which E.

    `replay` and `sessions` are the E-values of the nightly replay and of the live test on the same answers.
    """

    at: datetime
    caught: bool
    tasks: int
    replay: float
    sessions: float
    good: float
    broken: float
    reason: str


class ShadowStore:
    """Replays by canary, and drills. Every method may raise StoreError."""

    _db: StoreDatabase

    def unreplayed(self, id: str, after: int, until: int, count: int, seed: int) -> tuple[Task, ...]:
        """At most `count` tasks that were met between these positions, drawn by `seed`, one of a cluster.

        Whether they passed plays no part: tasks that were picked for having failed would look better with anybody
        else. Left out are those that were met before as well, whose cluster this canary replayed, or whose prompt is
        only in a conversation.
        """
        rows = self._db.rows(
            "SELECT min(position) FROM episodes WHERE position > :after AND position <= :until AND tried IS NOT NULL"
            " AND task_id NOT IN (SELECT task FROM canary_replays WHERE canary = :id) GROUP BY task_id ORDER BY 1",
            {"id": id, "after": after, "until": until},
        )
        drawn = random.Random(seed).sample(rows, min(len(rows), _DRAWN * count))
        known, found = self._clusters_replayed(id, after), dict[str, Task]()
        for (position,) in drawn:
            task = self._task_at(position)
            if len(found) == count:
                break
            if task is None or not task.prompt or _cluster(task) in known or self._met(task, after):
                continue
            found.setdefault(_cluster(task), task)
        return tuple(found.values())

    def _clusters_replayed(self, id: str, after: int) -> set[str]:
        """Near copies say the same twice, and the evidence of all nights is multiplied."""
        rows = self._db.rows(
            "SELECT min(position) FROM episodes WHERE position > :after"
            " AND task_id IN (SELECT task FROM canary_replays WHERE canary = :id) GROUP BY task_id",
            {"id": id, "after": after},
        )
        return {_cluster(task) for (position,) in rows if (task := self._task_at(position)) is not None}

    def _met(self, task: Task, until: int) -> bool:
        """Whether what serves may have been trained on it: by family, which has an index."""
        rows = self._db.rows(
            "SELECT 1 FROM episodes WHERE family = :family AND task_id = :id AND position <= :until LIMIT 1",
            {"family": task.family, "id": task.id, "until": until},
        )
        return bool(rows)

    def _task_at(self, position: int) -> Task | None:
        [(payload,)] = self._db.rows("SELECT payload FROM episodes WHERE position = :at", {"at": position})
        return decode(Episode, payload).task

    def save_replayed(self, id: str, cycle: int, replayed: Sequence[Replayed]) -> None:
        """Keep what night `cycle` replayed; a task counts once."""
        with self._db.write() as db:
            db.executemany(
                "INSERT INTO canary_replays (canary, task, cycle, served, previous) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                [(id, one.task, cycle, one.served, one.previous) for one in replayed],
            )

    def replayed(self, id: str) -> tuple[Replayed, ...]:
        """All nights' replays of a canary, in order."""
        rows = self._db.rows(
            "SELECT task, served, previous FROM canary_replays WHERE canary = :id ORDER BY position", {"id": id}
        )
        return tuple(Replayed(task=t, served=s, previous=p) for t, s, p in rows)

    def save_drill(self, drill: Drill) -> None:
        with self._db.write() as db:
            db.execute("INSERT INTO canary_drills (payload) VALUES (?)", [encode(drill)])

    def last_drill(self) -> Drill | None:
        rows = self._db.rows("SELECT payload FROM canary_drills ORDER BY position DESC LIMIT 1")
        return decode(Drill, rows[0][0]) if rows else None


def _cluster(task: Task) -> str:
    return task.cluster or task.id
