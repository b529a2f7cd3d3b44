"""The part of the store that keeps what passed the gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from sleepy_coder.store_database import Parameter, StoreDatabase
from sleepy_coder.store_rows import decode, encode, episode_row, equal, insert_episodes
from sleepy_coder.types import Episode, Exchange, SessionCheck, WireApi

_PAGE: Final = 64  # an exchange may be megabytes


class ExchangeStore:
    """Exchanges in the order they were saved. Every method may raise StoreError."""

    _db: StoreDatabase

    def save_exchange(self, exchange: Exchange) -> bool:
        """Keep an exchange. False when its id is known already: the first one stays."""
        return self.save_exchanges([exchange]) == 1

    def save_exchanges(self, exchanges: Iterable[Exchange]) -> int:
        """Keep all of `exchanges` or, when one cannot be stored, none. Returns how many were new."""
        rows = [
            [e.id, e.session, e.session_source, e.wire, e.whole, e.started.isoformat(), encode(e)] for e in exchanges
        ]
        sql = (
            "INSERT INTO exchanges (id, session, session_source, wire, whole, started, payload)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
        )
        with self._db.write() as db:
            return sum(db.execute(sql, row).rowcount for row in rows)

    def exchanges(
        self,
        *,
        after: int = 0,
        session: str | None = None,
        wire: WireApi | None = None,
        whole: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[Exchange]:
        """Exchanges in the order they were saved, streamed; `after` is an earlier `exchange_position()`.

        No transaction stays open between pages, so exchanges saved meanwhile appear at the end.
        """
        for _, exchange in self.positioned_exchanges(after=after, session=session, wire=wire, whole=whole, limit=limit):
            yield exchange

    def positioned_exchanges(
        self,
        *,
        after: int = 0,
        session: str | None = None,
        wire: WireApi | None = None,
        whole: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[tuple[int, Exchange]]:
        """Like `exchanges`, each with its position, so that a reader that was killed goes on after the last."""
        where, parameters = _filter(session, wire, whole)
        found = self._db.stream("exchanges", where, parameters, after=after, limit=limit, page=_PAGE)
        return ((position, decode(Exchange, payload)) for position, payload in found)

    def uncollected(self, announced_after: datetime) -> Iterator[Exchange]:
        """The exchanges that `save_collected` has not been told of, in the order they were saved.

        Not those of sessions whose verifier was announced after `announced_after` and has not spoken yet.
        """
        where = (
            "collected = 0 AND session NOT IN"
            " (SELECT session FROM session_checks WHERE payload IS NULL AND started > :announced_after)"
        )
        found = self._db.stream("exchanges", where, {"announced_after": announced_after.isoformat()}, page=_PAGE)
        return (decode(Exchange, payload) for _, payload in found)

    def save_collected(self, episodes: Iterable[Episode], exchanges: Iterable[str]) -> int:
        """Keep `episodes` and have done with the exchanges of these ids, both or neither. How many were new."""
        rows = [episode_row(episode) for episode in episodes]
        with self._db.write() as db:
            db.executemany("UPDATE exchanges SET collected = 1 WHERE id = ?", [(id,) for id in exchanges])
            return insert_episodes(db, rows)

    def save_feedback(self, session: str, good: bool, note: str = "") -> None:
        """Keep what somebody says of a session; the last word counts."""
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?)", [session, good, note])

    def feedback(self) -> dict[str, tuple[bool, str]]:
        """Session to what was said of it: whether it was good, and a note."""
        rows = self._db.rows("SELECT session, good, note FROM feedback")
        return {session: (bool(good), note) for session, good, note in rows}

    def begin_check(self, session: str, started: datetime) -> None:
        """Announce that a verifier will say what came of `session`."""
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO session_checks VALUES (?, ?, NULL)", [session, started.isoformat()])

    def save_check(self, check: SessionCheck) -> None:
        """Keep what the verifier says of a session that was announced; the last word counts."""
        with self._db.write() as db:
            db.execute("UPDATE session_checks SET payload = ? WHERE session = ?", [encode(check), check.session])

    def checks(self) -> dict[str, SessionCheck]:
        """Session to what its verifier says."""
        rows = self._db.rows("SELECT payload FROM session_checks WHERE payload IS NOT NULL")
        return {check.session: check for check in (decode(SessionCheck, payload) for (payload,) in rows)}

    def count_exchanges(
        self, *, session: str | None = None, wire: WireApi | None = None, whole: bool | None = None
    ) -> int:
        where, parameters = _filter(session, wire, whole)
        return self._db.rows(f"SELECT count(*) FROM exchanges WHERE {where}", parameters)[0][0]

    def exchange_position(self) -> int:
        """Where the last saved exchange stands; 0 when there is none."""
        return self._db.rows("SELECT coalesce(max(position), 0) FROM exchanges")[0][0]


def _filter(session: str | None, wire: WireApi | None, whole: bool | None) -> tuple[str, dict[str, Parameter]]:
    return equal(session=session, wire=wire, whole=whole)
