"""The part of the store that a canary lives in: whom the lot gave to which adapter, and how it ended.

Append-only (triggers of migration 0011), so that a restart goes on with the same evidence and nobody can take any back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple, TypeVar

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.types import Record

Stage = Literal["split", "holdback", "passed", "rolled_back", "superseded", "abandoned"]
Kind = Literal["session", "reply", "form"]
"""Whether a session ended verified; whether its first reply is bad beside the old adapter's; whether it is broken."""
T = TypeVar("T")
RUNNING: Final[Collection[Stage]] = ("split", "holdback")
AHEAD: Final = timedelta(days=1)
"""What lies further ahead was noted while the clock was wrong."""
REMEMBERED_SESSIONS: Final = 20_000
"""Sessions of a canary that are remembered, by the lots as by the replies; after a restart the lots read them here."""

_CANARIES: Final = """
SELECT c.id, c.adapter, c.previous, c.began, c.after, s.stage, s.share, s.at, s.why
 FROM canaries c JOIN canary_stages s ON s.position = (SELECT max(position) FROM canary_stages WHERE canary = c.id)
"""
# A verifier speaks of announced sessions only, and all that it may say counts: what an episode trains may hang on what
# the agent did after its lot, and this must not. Without `passed` a verifier's word was kept by an earlier release,
# which may run on beside this one.
_WAITING: Final = """
SELECT a.session, a.new, a.share, c.started,
       coalesce(c.passed, CASE json_extract(c.payload, '$.verdict.outcome') WHEN 'pass' THEN 1 WHEN 'fail' THEN 0 END),
       c.payload IS NOT NULL,
       coalesce(json_extract(c.payload, '$.verdict.outcome'), 'nothing to verify') FROM canary_sessions a
 JOIN session_checks c ON c.session = a.session
 WHERE a.canary = :id AND NOT EXISTS
  (SELECT 1 FROM canary_outcomes o WHERE o.canary = a.canary AND o.kind = 'session' AND o.session = a.session)
 ORDER BY a.position
"""


class LiveTrial(Record):
    """One promotion under watch. `id` is the promotion's; `after` where the last episode stood when it began.

    `share` is the chance with which a session is given to `adapter` rather than to `previous` (an adapter or the
    base); `since` and `why` are the present stage's.
    """

    id: str
    adapter: str
    previous: str
    began: datetime
    after: int
    stage: Stage
    share: float
    since: datetime
    why: str

    @property
    def running(self) -> bool:
        return self.stage in RUNNING


class Assigned(Record):
    """The lot of one session: the new adapter or not, drawn with the chance `share`."""

    session: str
    new: bool
    share: float


class Counted(Record):
    """A session that ended, and how: one has `failed` that did not end verified, or whose replies were bad."""

    session: str
    new: bool
    share: float
    failed: bool


class FirstReply(Record):
    """A session's first reply: whether it was `broken`, or has `failed` beside the old adapter's (None without any)."""

    session: str
    broken: bool
    failed: bool | None
    how: str


class Patience(NamedTuple):
    """What began between these times is waited for."""

    after: datetime
    until: datetime

    def waits_for(self, began: datetime) -> bool:
        return self.after < began <= self.until


def in_lot_order(lots: Iterable[T], ended: Callable[[T], bool], awaited: Callable[[T], bool]) -> Iterator[T]:
    """Those of `lots`, in the order in which they were drawn, that have ended, up to the first that is `awaited`.

    In the order of ending, the sessions of a merely slower adapter would be missing at first.
    """
    for one in lots:
        if ended(one):
            yield one
        elif awaited(one):
            return


class CanaryStore:
    """Canaries by promotion. Every method may raise StoreError."""

    _db: StoreDatabase

    def begin_canary(self, id: str, adapter: str, previous: str, share: float, at: datetime) -> bool:
        """Begin to watch a promotion, once. Whether it is new."""
        with self._db.write() as db:
            if db.execute("SELECT 1 FROM canaries WHERE id = ?", [id]).fetchone():
                return False
            db.execute(
                "INSERT INTO canaries SELECT ?, ?, ?, ?, coalesce(max(position), 0) FROM episodes",
                [id, adapter, previous, at.isoformat()],
            )
            _enter(db, id, "split", share, at, "promoted")
            return True

    def enter_stage(self, id: str, stage: Stage, share: float, at: datetime, why: str) -> bool:
        """Go on to another stage. False when the canary has ended, or is there already.

        A stage that is dated more than a day ahead, by a clock that was wrong, may be entered again.
        """
        with self._db.write() as db:
            row = db.execute(f"SELECT stage, at FROM ({_CANARIES}) WHERE id = ?", [id]).fetchone()
            if row is None or row[0] not in RUNNING:
                return False
            if row[0] == stage and datetime.fromisoformat(row[1]) <= at + AHEAD:
                return False
            _enter(db, id, stage, share, at, why)
            return True

    def canary(self, id: str) -> LiveTrial | None:
        return next((found for found in self.canaries() if found.id == id), None)

    def canaries(self) -> tuple[LiveTrial, ...]:
        """All of them, oldest first."""
        names = ("id", "adapter", "previous", "began", "after", "stage", "share", "since", "why")
        rows = self._db.rows(f"{_CANARIES} ORDER BY c.rowid")
        return tuple(LiveTrial.model_validate(dict(zip(names, row, strict=True))) for row in rows)

    def save_assigned(self, id: str, assigned: Sequence[Assigned]) -> None:
        """Remember whom the lot gave to whom; the first draw of a session holds."""
        with self._db.write() as db:
            db.executemany(
                "INSERT INTO canary_sessions (canary, session, new, share) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(id, one.session, one.new, one.share) for one in assigned],
            )

    def assigned(self, id: str) -> tuple[Assigned, ...]:
        """The latest sessions of a canary, REMEMBERED_SESSIONS at most, oldest first."""
        rows = self._db.rows(
            "SELECT session, new, share FROM canary_sessions WHERE canary = :id ORDER BY position DESC LIMIT :most",
            {"id": id, "most": REMEMBERED_SESSIONS},
        )
        return tuple(Assigned(session=s, new=bool(n), share=p) for s, n, p in reversed(rows))

    def count_assigned(self, id: str) -> int:
        """How many sessions the lot has given away."""
        return self._db.rows("SELECT count(*) FROM canary_sessions WHERE canary = :id", {"id": id})[0][0]

    def count_finished(self, id: str, announced_after: datetime, announced_until: datetime) -> int:
        """Count the sessions that ended by now, by whether a verifier passed them, in the order of their lots; how many
        are new.

        A session whose verifier was announced between these times and has not spoken yet holds up those behind it.
        """
        patience = Patience(announced_after, announced_until)
        ended = in_lot_order(
            self._db.rows(_WAITING, {"id": id}),
            lambda row: row[4] is not None,
            lambda row: not row[5] and patience.waits_for(datetime.fromisoformat(row[3])),
        )
        ready = [(id, session, new, share, not passed, how) for session, new, share, _, passed, _, how in ended]
        if ready:
            with self._db.write() as db:
                db.executemany(
                    "INSERT INTO canary_outcomes (canary, kind, session, new, share, failed, evidence)"
                    " VALUES (?, 'session', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    ready,
                )
        return len(ready)

    def count_replies(self, id: str, said: Sequence[FirstReply]) -> None:
        """Count how sessions of this canary begin, each once: whether badly, and in what way."""
        rows: list[tuple[Kind, bool, str, str, str]] = []
        for one in said:
            rows.append(("form", one.broken, one.how, id, one.session))
            if one.failed is not None:
                rows.append(("reply", one.failed, one.how, id, one.session))
        with self._db.write() as db:
            db.executemany(
                "INSERT INTO canary_outcomes (canary, kind, session, new, share, failed, evidence)"
                " SELECT canary, ?, session, new, share, ?, ? FROM canary_sessions"
                " WHERE canary = ? AND session = ?",
                rows,
            )

    def counted(self, id: str, kind: Kind = "session") -> tuple[Counted, ...]:
        """What was counted, in order: the same rows give the same E."""
        rows = self._db.rows(
            "SELECT session, new, share, failed FROM canary_outcomes WHERE canary = :id AND kind = :kind"
            " ORDER BY position",
            {"id": id, "kind": kind},
        )
        return tuple(Counted(session=s, new=bool(n), share=p, failed=bool(f)) for s, n, p, f in rows)


def _enter(db: sqlite3.Connection, id: str, stage: Stage, share: float, at: datetime, why: str) -> None:
    db.execute(
        "INSERT INTO canary_stages (canary, stage, share, at, why) VALUES (?, ?, ?, ?, ?)",
        [id, stage, share, at.isoformat(), why],
    )
