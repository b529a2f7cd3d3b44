"""What must survive: exchanges, episodes, evaluations, the nights' journal, the replay buffer and what was refused.

Everything is a record of types.py, kept as JSON in one SQLite file. A save that returned is on the disk.
Every method may raise StoreError, and may be called from several threads and processes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self

from sleepy_coder.errors import StoreError
from sleepy_coder.store_canary import CanaryStore
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_exchanges import ExchangeStore
from sleepy_coder.store_figures import FigureStore
from sleepy_coder.store_gate import GateStore
from sleepy_coder.store_practice import PracticeStore
from sleepy_coder.store_quarantine import QuarantineStore
from sleepy_coder.store_rows import (
    decode,
    encode,
    episode_filter,
    episode_row,
    equal,
    example_hash,
    insert_episodes,
)
from sleepy_coder.store_shadow import ShadowStore
from sleepy_coder.types import Day, Episode, EvalReport, Example, ExampleKind, NightReport, Outcome, Phase

_PAGE: Final = 256
_LONGEST_PARKING: Final = 32


class Store(ExchangeStore, FigureStore, GateStore, PracticeStore, CanaryStore, ShadowStore, QuarantineStore):
    """The one SQLite file of an installation. Use it as a context manager, or call `close`."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it when missing and migrating it (after a backup) when it is older."""
        self._db = StoreDatabase(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def check(self) -> None:
        """Read all of the file. Raises StoreError, naming the newest backup, when it is damaged."""
        self._db.check()

    def keep_backup(self, label: str, keep: int) -> Path:
        """Copy the store while it is in use, to `backups/<file>.backup-<label>`, proven to be whole.

        The `keep` latest of them stay. Slow for a large store.
        """
        return self._db.keep_backup(label, keep)

    # Episodes

    def save_episode(self, episode: Episode) -> bool:
        """Keep an episode. False when its id is known already: the first one stays."""
        return self.save_episodes([episode]) == 1

    def save_episodes(self, episodes: Iterable[Episode]) -> int:
        """Keep all of `episodes` or, when one cannot be stored, none. Returns how many were new."""
        rows = [episode_row(episode) for episode in episodes]
        with self._db.write() as db:
            return insert_episodes(db, rows, self._db.spare)

    def episode(self, id: str) -> Episode | None:
        rows = self._db.rows("SELECT payload FROM episodes WHERE id = :id", {"id": id})
        return decode(Episode, rows[0][0]) if rows else None

    def episodes(
        self,
        *,
        after: int = 0,
        unused: bool = False,
        outcome: Outcome | None = None,
        limit: int | None = None,
    ) -> Iterator[Episode]:
        """Episodes in the order they were saved, streamed.

        `after` is an earlier `position()`; `unused` leaves out those that a night trained on. No
        transaction stays open between pages, so episodes saved meanwhile appear at the end.
        """
        where, parameters = episode_filter(unused, outcome)
        found = self._db.stream("episodes", where, parameters, after=after, limit=limit, page=_PAGE)
        return (decode(Episode, payload) for _, payload in found)

    def latest_episodes(self, limit: int, outcome: Outcome | None = None) -> tuple[Episode, ...]:
        """The `limit` episodes that were saved last, in the order they were saved."""
        where, parameters = episode_filter(False, outcome)
        rows = self._db.rows(
            f"SELECT payload FROM episodes WHERE {where} ORDER BY position DESC LIMIT :limit",
            {**parameters, "limit": limit},
        )
        return tuple(decode(Episode, payload) for (payload,) in reversed(rows))

    def episode_called(self, start: str) -> Episode | None:
        """The episode with this id, else the only one whose id starts so."""
        if exact := self.episode(start):
            return exact
        rows = self._db.rows(
            "SELECT payload FROM episodes WHERE id >= :start AND id < :end LIMIT 2",
            {"start": start, "end": f"{start}\U0010ffff"},
        )
        return decode(Episode, rows[0][0]) if len(rows) == 1 else None

    def count_episodes(self, *, unused: bool = False, outcome: Outcome | None = None, after: int = 0) -> int:
        """How many there are that match, behind the position `after`."""
        where, parameters = episode_filter(unused, outcome)
        sql = f"SELECT count(*) FROM episodes WHERE {where} AND position > :after"
        return self._db.rows(sql, {**parameters, "after": after})[0][0]

    def task_ids(self) -> set[str]:
        """The tasks that there are episodes on."""
        return {id for (id,) in self._db.rows("SELECT DISTINCT task_id FROM episodes WHERE task_id IS NOT NULL")}

    def position(self) -> int:
        """Where the last saved episode stands; 0 in an empty store."""
        return self._db.rows("SELECT coalesce(max(position), 0) FROM episodes")[0][0]

    def latest_episode(self) -> datetime | None:
        """When the episode that was saved last began; None when there is none."""
        rows = self._db.rows("SELECT created FROM episodes ORDER BY position DESC LIMIT 1")
        return datetime.fromisoformat(rows[0][0]) if rows else None

    def mark_used(self, ids: Iterable[str], cycle: int) -> None:
        """Remember that night `cycle` used these episodes up. Unknown ids are ignored."""
        with self._db.write() as db:
            db.executemany("UPDATE episodes SET used_in = ? WHERE id = ?", [(cycle, id) for id in ids])

    # Evaluations

    def save_eval(self, report: EvalReport, cycle: int | None) -> None:
        """Keep a report; `cycle` is None for one that no night asked for."""
        row = [cycle, report.model, report.arm, report.set_id, encode(report)]
        with self._db.write() as db:
            db.execute("INSERT INTO evals (cycle, model, arm, set_id, payload) VALUES (?, ?, ?, ?, ?)", row)

    def evals(
        self,
        *,
        arm: Literal["baseline", "current", "candidate", "other"] | None = None,
        set_id: str | None = None,
        model: str | None = None,
        limit: int | None = None,
    ) -> tuple[EvalReport, ...]:
        """The reports that match, latest first."""
        where, parameters = equal(arm=arm, set_id=set_id, model=model)
        rows = self._db.rows(
            f"SELECT payload FROM evals WHERE {where} ORDER BY position DESC LIMIT :limit",
            {**parameters, "limit": -1 if limit is None else limit},
        )
        return tuple(decode(EvalReport, payload) for (payload,) in rows)

    # The nights' journal

    def next_cycle(self) -> int:
        """The number of the next new night; the first is 1."""
        return self._db.rows("SELECT coalesce(max(cycle), 0) + 1 FROM nights")[0][0]

    def unfinished_night(self) -> int | None:
        """The night that was begun and not finished: the one to resume."""
        rows = self._db.rows("SELECT cycle FROM nights WHERE payload IS NULL")
        return rows[0][0] if rows else None

    def begin_night(self, cycle: int) -> None:
        """Open the journal of a night, or go on with it.

        Raises StoreError when the night is finished, or when another one is not.
        """
        with self._db.write() as db:
            db.execute("INSERT INTO nights (cycle) VALUES (?) ON CONFLICT DO NOTHING", [cycle])
            begun = [row[0] for row in db.execute("SELECT cycle FROM nights WHERE payload IS NULL").fetchall()]
            if begun != [cycle]:
                other = [night for night in begun if night != cycle]
                what = f"night {other[0]} is not finished" if other else f"night {cycle} is finished"
                raise StoreError(
                    f"Night {cycle} cannot begin: {what}", "`sleepy-coder night` goes on, or begins the next one"
                )

    def phase(self, cycle: int, name: str) -> str | None:
        """The JSON that a finished phase left; None when the phase is not finished."""
        rows = self._db.rows(
            "SELECT payload FROM phases WHERE cycle = :cycle AND name = :name", {"cycle": cycle, "name": name}
        )
        return rows[0][0] if rows else None

    def day_of(self, cycle: int) -> Day | None:
        """What a night works with; None when it did not get so far as to note it."""
        noted = self.phase(cycle, "day")
        return decode(Day, noted) if noted else None

    def phases(self, cycle: int) -> tuple[Phase, ...]:
        """The finished phases of a night, in the order they finished."""
        rows = self._db.rows("SELECT name, seconds FROM phases WHERE cycle = :cycle ORDER BY rowid", {"cycle": cycle})
        return tuple(Phase(name=name, seconds=seconds) for name, seconds in rows)

    def finish_phase(self, cycle: int, name: str, payload_json: str, seconds: float) -> None:
        """Record a phase's result. Raises StoreError for a phase done twice or a night not begun."""
        with self._db.write() as db:
            db.execute("INSERT INTO phases VALUES (?, ?, ?, ?)", [cycle, name, seconds, payload_json])

    def finish_night(self, report: NightReport) -> None:
        """Close a night (a skipped one need not have begun). Raises StoreError when it is closed already."""
        with self._db.write() as db:
            closed = db.execute(
                "INSERT INTO nights VALUES (?, ?, ?) ON CONFLICT (cycle) DO UPDATE"
                " SET outcome = excluded.outcome, payload = excluded.payload WHERE payload IS NULL",
                [report.cycle, report.outcome, encode(report)],
            )
            if closed.rowcount == 0:
                raise StoreError(
                    f"Night {report.cycle} is finished already", "`sleepy-coder night` begins the next one"
                )

    def night(self, cycle: int) -> NightReport | None:
        """The report of a finished night."""
        rows = self._db.rows(
            "SELECT payload FROM nights WHERE cycle = :cycle AND payload IS NOT NULL", {"cycle": cycle}
        )
        return decode(NightReport, rows[0][0]) if rows else None

    def count_nights(self) -> int:
        """How many nights are finished."""
        return self._db.rows("SELECT count(*) FROM nights WHERE payload IS NOT NULL")[0][0]

    def nights(self, last: int | None = None, outcomes: Collection[str] = ()) -> tuple[NightReport, ...]:
        """The reports of all finished nights, or of the `last` ones, in order; if given, those with such `outcomes`."""
        rows = self._db.rows(
            "SELECT payload FROM nights WHERE payload IS NOT NULL"
            " AND (:outcomes = '[]' OR outcome IN (SELECT value FROM json_each(:outcomes)))"
            " ORDER BY cycle DESC LIMIT :last",
            {"last": -1 if last is None else last, "outcomes": json.dumps(list(outcomes))},
        )
        return tuple(decode(NightReport, payload) for (payload,) in reversed(rows))

    # The replay buffer

    def save_examples(self, cycle: int, examples: Iterable[Example]) -> int:
        """Remember what a begun night trains on. Equal rows are kept once; returns how many are new."""
        rows = [(example_hash(example), example, encode(example)) for example in examples]
        new = 0
        with self._db.write() as db:
            for sha256, example, payload in rows:
                new += db.execute(
                    "INSERT INTO examples (sha256, kind, family, payload) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    [sha256, example.kind, example.family, payload],
                ).rowcount
                db.execute(
                    "INSERT INTO example_nights SELECT position, ? FROM examples WHERE sha256 = ?"
                    " ON CONFLICT DO NOTHING",
                    [cycle, sha256],
                )
        return new

    def examples(
        self, *, kind: ExampleKind | None = None, cycles: Collection[int] | None = None
    ) -> tuple[Example, ...]:
        """Examples of finished nights (with `cycles`, of these nights), oldest first."""
        where, parameters = equal(kind=kind)
        nights = "outcome IS NOT NULL"
        if cycles is not None:
            nights += " AND cycle IN (SELECT value FROM json_each(:cycles))"
            parameters = {**parameters, "cycles": json.dumps(sorted(cycles))}
        rows = self._db.rows(
            f"SELECT payload FROM examples WHERE {where} AND position IN"
            f" (SELECT example FROM example_nights JOIN nights USING (cycle) WHERE {nights}) ORDER BY position",
            parameters,
        )
        return tuple(decode(Example, payload) for (payload,) in rows)

    # Parked tasks

    def park(self, task_id: str, cycle: int) -> None:
        """Let a task rest after night `cycle` failed on it: 1, 3, 7, ... nights, at most 31. Once a night."""
        with self._db.write() as db:
            rows = db.execute("SELECT failures, cycle FROM parked WHERE task_id = ?", [task_id]).fetchall()
            failures, last = rows[0] if rows else (0, cycle - 1)
            if last < cycle:
                rest = min(2 ** min(failures + 1, 16), _LONGEST_PARKING)
                row = [task_id, failures + 1, cycle, cycle + rest]
                db.execute("INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?)", row)

    def unpark(self, task_id: str) -> None:
        """Forget a task's failures, because it was solved."""
        with self._db.write() as db:
            db.execute("DELETE FROM parked WHERE task_id = ?", [task_id])
