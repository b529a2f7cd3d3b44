"""The part of the store that keeps what passed the gateway."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, cast

from sleepy_coder.errors import StoreError
from sleepy_coder.store_database import Parameter, StoreDatabase
from sleepy_coder.store_messages import named_in, request_of, skeleton_of
from sleepy_coder.store_prune import Pruned, prune
from sleepy_coder.store_rows import decode, encode, episode_row, insert_episodes
from sleepy_coder.types import Episode, Exchange, SessionCheck

_PAGE: Final = 64  # an exchange may be megabytes


class ExchangeStore:
    """Exchanges in the order they were saved. Every method may raise StoreError."""

    _db: StoreDatabase

    def save_exchanges(self, exchanges: Iterable[Exchange]) -> int:
        """Keep all of `exchanges` or, when one cannot be stored, none. Returns how many were new."""
        rows = [(exchange, _without_request(exchange)) for exchange in exchanges]
        with self._db.write() as db:
            pieces = _Pieces(db)
            return sum(_insert(db, exchange, payload, pieces) for exchange, payload in rows)

    def exchanges(self) -> Iterator[Exchange]:
        """All exchanges in the order they were saved, streamed, for whoever looks into them."""
        return self._stream("TRUE", {})

    def uncollected(self, announced_after: datetime, announced_until: datetime) -> Iterator[Exchange]:
        """The exchanges that `save_collected` has not been told of, in the order they were saved.

        Not those of sessions whose verifier was announced between these times and has not spoken yet.
        """
        where = (
            "collected = 0 AND session NOT IN (SELECT session FROM session_checks"
            " WHERE payload IS NULL AND passed IS NULL AND started > :after_time AND started <= :until_time)"
        )
        between = {"after_time": announced_after.isoformat(), "until_time": announced_until.isoformat()}
        return self._stream(where, between)

    def _stream(self, where: str, parameters: Mapping[str, Parameter]) -> Iterator[Exchange]:
        """No transaction stays open between pages, so exchanges saved meanwhile appear at the end."""
        sql = (
            "SELECT position, payload, skeleton FROM exchanges"
            f" WHERE position > :after AND {where} ORDER BY position LIMIT {_PAGE}"
        )
        after = 0
        while True:
            with self._db.snapshot():
                rows = self._db.rows(sql, {**parameters, "after": after})
                pieces = self._pieces(skeleton for _, _, skeleton in rows if skeleton is not None)
            for _, payload, skeleton in rows:
                exchange = decode(Exchange, payload)
                whole = {} if skeleton is None else {"request": request_of(skeleton, pieces)}
                yield exchange.model_copy(update=whole)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def _pieces(self, skeletons: Iterable[str]) -> dict[int, str]:
        ids = sorted(frozenset[int]().union(*map(named_in, skeletons)))
        sql = "SELECT id, text FROM messages WHERE id IN (SELECT value FROM json_each(:ids))"
        return dict(self._db.rows(sql, {"ids": json.dumps(ids)}))

    def save_collected(self, episodes: Iterable[Episode], exchanges: Iterable[str]) -> int:
        """Keep `episodes` and have done with the exchanges of these ids, both or neither. How many were new."""
        rows = [episode_row(episode) for episode in episodes]
        with self._db.write() as db:
            db.executemany("UPDATE exchanges SET collected = 1 WHERE id = ?", [(id,) for id in exchanges])
            return insert_episodes(db, rows, self._db.spare)

    def save_feedback(self, session: str, good: bool, note: str = "") -> None:
        """Keep what somebody says of a session; the last word counts."""
        with self._db.write() as db:
            db.execute("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?)", [session, good, note])

    def feedback(self) -> dict[str, tuple[bool, str]]:
        """Session to what was said of it: whether it was good, and a note."""
        rows = self._db.rows("SELECT session, good, note FROM feedback")
        return {session: (bool(good), note) for session, good, note in rows}

    def begin_check(self, session: str, started: datetime, nonce: str = "") -> None:
        """Announce that a verifier will say what came of `session`. Only who repeats `nonce` speaks for it."""
        row = [session, started.isoformat(), nonce]
        with self._db.write() as db:
            db.execute("INSERT OR IGNORE INTO session_checks (session, started, nonce) VALUES (?, ?, ?)", row)

    def save_check(self, check: SessionCheck, nonce: str = "") -> bool:
        """Keep what the verifier says, the last word counts. False when nobody announced it with `nonce`."""
        row = [encode(check), check.verdict.passed, check.session, nonce]
        sql = "UPDATE session_checks SET payload = ?, passed = ? WHERE session = ? AND nonce = ?"
        with self._db.write() as db:
            return db.execute(sql, row).rowcount == 1

    def end_unpassed(self, session: str, nonce: str = "") -> bool:
        """`session` is over and passed nothing, and the verifier has no more to say: what it said may be collected.

        False when nobody announced a verifier with `nonce`.
        """
        sql = "UPDATE session_checks SET payload = NULL, passed = 0 WHERE session = ? AND nonce = ?"
        with self._db.write() as db:
            return db.execute(sql, [session, nonce]).rowcount == 1

    def checks(self, sessions: Collection[str]) -> dict[str, SessionCheck]:
        """Session to what its verifier says, for those of `sessions` that one has spoken of."""
        rows = self._db.rows(
            "SELECT payload FROM session_checks WHERE payload IS NOT NULL"
            " AND session IN (SELECT value FROM json_each(:sessions))",
            {"sessions": json.dumps(sorted(sessions))},
        )
        return {check.session: check for check in (decode(SessionCheck, payload) for (payload,) in rows)}

    def verified_sessions(self, sessions: Collection[str]) -> set[str]:
        """Those of `sessions` of which an episode has a verifier's word already."""
        rows = self._db.rows(
            "SELECT DISTINCT session FROM episodes WHERE source = 'gateway' AND tried IS NOT NULL"
            " AND session IN (SELECT value FROM json_each(:sessions))",
            {"sessions": json.dumps(sorted(sessions))},
        )
        return {session for (session,) in rows}

    def prune_exchanges(self, before: datetime, *, only_count: bool = False) -> Pruned:
        """Drop the exchanges from before `before` that have become episodes, and the messages that only they hold.

        A few at a time: others save meanwhile, and what they need stays. Episodes stay. The file keeps its size; what
        is free in it is used again.
        """
        return prune(self._db, _sortable(before), only_count=only_count)

    def latest_exchange(self) -> datetime | None:
        """When the exchange that was saved last began; None when there is none."""
        rows = self._db.rows("SELECT started FROM exchanges ORDER BY position DESC LIMIT 1")
        return datetime.fromisoformat(rows[0][0]) if rows else None


def _without_request(exchange: Exchange) -> str:
    """What is stored of an exchange beside its request's pieces. Raises StoreError."""
    try:
        exchange.request.encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"This request cannot be stored ({error})", "Fix or drop it") from error
    return encode(exchange.model_copy(update={"request": ""}))


class _Pieces:
    """The numbers of the pieces of requests, new ones stored, within one transaction.

    Each is looked up once: the requests of one session that are saved together hold mostly the same ones.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, int] = {}

    def number(self, piece: str) -> int:
        known = self._known.get(piece)
        if known is None:
            known = self._known[piece] = self._stored(piece)
        return known

    def _stored(self, piece: str) -> int:
        digest = hashlib.sha256(piece.encode()).digest()
        row = self._db.execute("SELECT id FROM messages WHERE sha256 = ?", [digest]).fetchone()
        if row is None:
            insert = "INSERT INTO messages (sha256, text) VALUES (?, ?) RETURNING id"
            row = self._db.execute(insert, [digest, piece]).fetchone()
        return cast(int, row[0])


def _insert(db: sqlite3.Connection, exchange: Exchange, payload: str, pieces: _Pieces) -> bool:
    """Store an exchange and those of its pieces that are new; False when its id is known."""
    if db.execute("SELECT 1 FROM exchanges WHERE id = ?", [exchange.id]).fetchone():
        return False
    db.execute(
        "INSERT INTO exchanges (id, session, session_source, wire, whole, started, payload, skeleton)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            exchange.id,
            exchange.session,
            exchange.session_source,
            exchange.wire,
            exchange.whole,
            _sortable(exchange.started),
            payload,
            skeleton_of(exchange.request, pieces.number),
        ],
    )
    return True


def _sortable(time: datetime) -> str:
    """In the order of time as a text too."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")
