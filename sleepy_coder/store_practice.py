"""The part of the store that chooses what a night works with: the choice is SQL over a narrow index.

A day is all episodes up to the position `until` that no night has used up. Of a million of them only those that
are drawn are ever read. Every method may raise StoreError.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_rows import decode, seen_at
from sleepy_coder.tasks.fresh import BUCKETS
from sleepy_coder.types import Episode, Outcome, Record, Task

# Named, because the planner, without statistics, would rather read the wide rows.
_DAY: Final = "episodes INDEXED BY episodes_of_the_day WHERE used_in IS NULL AND task_id IS NOT NULL"
# Equal answers are together in the index, and so are those of a task: one walk along it, and one sort.
_FIRST_ANSWERS: Final = f"""
WITH answers AS (SELECT task_id, answer, min(position) AS position, sum(passed) AS passed, sum(tried) AS tried
                 FROM {_DAY} AND tried IS NOT NULL AND position <= :until
                 AND task_id NOT IN (SELECT value FROM json_each(:without)) GROUP BY task_id, answer),
     numbered AS (SELECT position, answer, row_number() OVER task AS number,
                         sum(passed) OVER task AS passed, sum(tried) OVER task AS tried FROM answers
                  WINDOW task AS (PARTITION BY task_id ORDER BY answer IS NULL, position
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING))
SELECT position, passed, tried FROM numbered WHERE answer IS NOT NULL AND number <= :per_task ORDER BY position
"""
_FAILED_TASKS: Final = f"""
SELECT min(position) AS first FROM {_DAY} AND dreamable AND position <= :until
 AND task_id NOT IN (SELECT task_id FROM parked WHERE not_before > :cycle)
 AND task_id NOT IN (SELECT value FROM json_each(:without))
 GROUP BY task_id ORDER BY first LIMIT :most
"""
# An answer to a task that somebody found, whoever it was, and passed.
_ANSWERED: Final = f"""
SELECT task_id, min(position) FROM {_DAY} AND answer IS NOT NULL AND position <= :until
 AND task_id IN (SELECT value FROM json_each(:tasks)) GROUP BY task_id
"""
_PASSED_SOMETIMES: Final = f"""
SELECT min(position) AS first FROM {_DAY} AND tried IS NOT NULL AND position <= :until
 AND task_id NOT IN (SELECT value FROM json_each(:without))
 GROUP BY task_id HAVING sum(passed) > 0 AND sum(passed) < sum(tried) ORDER BY first
"""
_WAITING: Final = f"""
SELECT coalesce(sum(tried IS NOT NULL AND outcome = 'pass'), 0), count(answer), coalesce(sum(dreamable), 0) FROM {_DAY}
"""
_FIXES: Final = "SELECT position FROM episodes INDEXED BY episodes_by_mistake WHERE mistake"
_PAGE: Final = 256
# One transaction each: marks on wide rows fill the write-ahead log, which is emptied in between.
_MARKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers that passed, in the order of `positions`, with the attempts on their task that passed and were judged."""

    positions: array[int]
    passed: array[int]
    tried: array[int]


class Waiting(Record):
    """The unused episodes, counted: `passed` whoever says so, and `verified` of them.

    `trainable` of these hold an answer that the model wrote; `dreamable` failed on a task that can be asked again.
    """

    unused: int
    passed: int
    verified: int
    trainable: int
    dreamable: int

    @property
    def unverified(self) -> int:
        """Passed by the word of a tool, a person or a file, which trains nothing."""
        return self.passed - self.verified


class PracticeStore:
    """Choosing among the unused episodes, and using them up."""

    _db: StoreDatabase

    def answers(self, until: int, per_task: int, without: Collection[str] = ()) -> Answers:
        """The first `per_task` different answers that passed of each task not in `without`; 24 bytes each."""
        found = Answers(array("q"), array("q"), array("q"))
        columns = (found.positions, found.passed, found.tried)
        for batch in self._db.batches(
            _FIRST_ANSWERS, {"until": until, "per_task": per_task, "without": json.dumps(sorted(without))}
        ):
            for column, values in zip(columns, zip(*batch, strict=True), strict=True):
                column.extend(values)
        return found

    def positions_of(self, ids: Collection[str]) -> frozenset[int]:
        """Where these episodes are."""
        rows = self._db.rows(
            "SELECT position FROM episodes WHERE id IN (SELECT value FROM json_each(:ids))",
            {"ids": json.dumps(sorted(ids))},
        )
        return frozenset(position for (position,) in rows)

    def waiting(self) -> Waiting:
        """What there is for the next night."""
        verified, trainable, dreamable = self._db.rows(_WAITING)[0]
        unused, passed = self._db.rows(
            "SELECT count(*), coalesce(sum(outcome = 'pass'), 0) FROM episodes WHERE used_in IS NULL"
        )[0]
        return Waiting(unused=unused, passed=passed, verified=verified, trainable=trainable, dreamable=dreamable)

    def failed_tasks(self, until: int, cycle: int, most: int, without: Collection[str] = ()) -> tuple[Task, ...]:
        """The tasks that failed first and may be asked again, without those in `without` and those that night `cycle`
        leaves alone."""
        parameters = {"until": until, "cycle": cycle, "most": most, "without": json.dumps(sorted(without))}
        rows = self._db.rows(_FAILED_TASKS, parameters)
        return tuple(episode.task for episode in self.episodes_at(row[0] for row in rows) if episode.task)

    def fresh_ids(self, until: int, share: float, after: datetime, before: datetime) -> tuple[str, ...]:
        """The tasks that are held back: those of this share of programs first met between the two times, by id."""
        rows = self._db.rows(
            "SELECT task_id FROM live_tasks WHERE first_seen > :after AND first_seen <= :before"
            " AND bucket < :buckets AND position <= :until ORDER BY task_id",
            {
                "after": seen_at(after),
                "before": seen_at(before),
                "buckets": round(share * BUCKETS),
                "until": until,
            },
        )
        return tuple(id for (id,) in rows)

    def first_promotion(self) -> datetime | None:
        """When the first night ended that promoted anything; None when none did."""
        rows = self._db.rows(
            "SELECT json_extract(payload, '$.finished') FROM nights WHERE outcome = 'promoted' ORDER BY cycle LIMIT 1"
        )
        return datetime.fromisoformat(rows[0][0]) if rows else None

    def latest_tasks(self, ids: Collection[str], most: int) -> tuple[Task, ...]:
        """Of the tasks `ids`, the `most` that were met last, by id."""
        rows = self._db.rows(
            "SELECT position FROM live_tasks WHERE task_id IN (SELECT value FROM json_each(:ids))"
            " ORDER BY first_seen DESC, task_id LIMIT :most",
            {"ids": json.dumps(sorted(ids)), "most": most},
        )
        found = (episode.task for episode in self.episodes_at(row[0] for row in rows))
        return tuple(sorted((task for task in found if task), key=lambda task: task.id))

    def met_tasks(self) -> Iterator[Task]:
        """Each task that there are episodes on, once, those of `sleepy-coder run` too."""
        first = "SELECT min(position) FROM episodes WHERE task_id IS NOT NULL GROUP BY task_id"
        found = (episode.task for episode in self.episodes_at(row[0] for row in self._db.rows(first)))
        return (task for task in found if task)

    def answered(self, until: int, tasks: Collection[str]) -> tuple[Episode, ...]:
        """An episode that passed for each of `tasks` that has one, the first of the day."""
        rows = self._db.rows(_ANSWERED, {"until": until, "tasks": json.dumps(sorted(tasks))})
        return tuple(self.episodes_at(position for _, position in rows))

    def answered_anew(self) -> Iterator[Task]:
        """The tasks that trainers of any night answered anew (`TrainingMix.tasks`), from the nights' journals."""
        sql = (
            "SELECT DISTINCT task.value FROM phases, json_each(phases.payload, '$.tasks') AS task"
            " WHERE phases.name = 'mix'"
        )
        return (decode(Task, payload) for (payload,) in self._db.rows(sql))

    def passed_sometimes(self, until: int, without: Collection[str] = ()) -> array[int]:
        """Where the tasks stand of which some of the day's attempts passed and some did not, 0 < p < 1."""
        found = array("q")
        for batch in self._db.batches(_PASSED_SOMETIMES, {"until": until, "without": json.dumps(sorted(without))}):
            found.extend(position for (position,) in batch)
        return found

    def fixes(self, mistake: str, most: int) -> tuple[Episode, ...]:
        """Episodes whose answer mends this mistake, the latest first; where there is none, some of its error code."""
        code, divided, _ = mistake.partition(":")
        rows = self._db.rows(
            f"{_FIXES} = :mistake ORDER BY position DESC LIMIT :most", {"mistake": mistake, "most": most}
        )
        if not rows and divided:
            among = {"first": f"{code}:", "beyond": f"{code};", "most": most}
            rows = self._db.rows(f"{_FIXES} >= :first AND mistake < :beyond LIMIT :most", among)
        return tuple(self.episodes_at(row[0] for row in rows))

    def episodes_at(self, positions: Iterable[int]) -> Iterator[Episode]:
        """The episodes at these positions, in this order."""
        wanted = list(positions)
        for start in range(0, len(wanted), _PAGE):
            page = wanted[start : start + _PAGE]
            sql = "SELECT position, payload FROM episodes WHERE position IN (SELECT value FROM json_each(:page))"
            found: dict[int, str] = dict(self._db.rows(sql, {"page": json.dumps(page)}))
            yield from (decode(Episode, found[position]) for position in page)

    def unused_on(self, until: int, tasks: Collection[str]) -> Iterator[Episode]:
        """The unused episodes on these tasks."""
        sql = f"SELECT position FROM {_DAY} AND position <= :until AND task_id IN (SELECT value FROM json_each(:tasks))"
        rows = self._db.rows(f"{sql} ORDER BY position", {"until": until, "tasks": json.dumps(sorted(tasks))})
        return self.episodes_at([row[0] for row in rows])

    def use_up(self, cycle: int, until: int, outcome: Outcome, tasks: Collection[str]) -> None:
        """Remember that night `cycle` used up the episodes on `tasks` that ended so; safe to do twice."""
        with self._db.write() as db:
            db.execute(
                "UPDATE episodes SET used_in = :cycle WHERE used_in IS NULL AND task_id IS NOT NULL"
                " AND position <= :until AND outcome = :outcome AND task_id IN (SELECT value FROM json_each(:tasks))",
                {"cycle": cycle, "until": until, "outcome": outcome.value, "tasks": json.dumps(sorted(tasks))},
            )

    def use_up_all(self, cycle: int, until: int, outcome: Outcome) -> None:
        """Remember that night `cycle` used up all episodes that ended so; safe to do twice."""
        for start in range(0, until, _MARKS):
            with self._db.write() as db:
                db.execute(
                    "UPDATE episodes SET used_in = ? WHERE used_in IS NULL AND outcome = ?"
                    " AND position > ? AND position <= ?",
                    [cycle, outcome.value, start, min(start + _MARKS, until)],
                )
