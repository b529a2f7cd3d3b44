"""The part of the store that the gate cannot take back: epochs, openings and verdicts.

SQLite itself refuses to change or delete them (triggers of migration 0010), and each verdict's hash covers the
one before, so that a verdict that was changed or cut out is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from typing import Final, cast

from sleepy_coder.errors import StoreError
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.types import Record

GENESIS: Final = "0" * 64
_ROUNDING: Final = 1e-9  # fifty parts of 0.05 may sum to a little more


class Opening(Record):
    """The right to read the frozen results of one candidate. `number` counts from 1 within the epoch.

    `charged` is False when the epoch's budget is spent: then nothing may be read.
    """

    epoch: int
    number: int
    charged: bool


class StoredVerdict(Record):
    """A verdict as it lies in the chain; `sha256` covers `previous` and `payload`."""

    cycle: int
    payload: str
    previous: str
    sha256: str


class GateStore:
    """Epochs of frozen sets, their openings, and the chain of verdicts. Every method may raise StoreError."""

    _db: StoreDatabase

    def open_gate(self, cycle: int, candidate: str, programs: Collection[str], prices: Sequence[float]) -> Opening:
        """Charge night `cycle` for reading results of `candidate` (SHA-256 of its weights), once, durably.

        `programs` are the clusters (`Task.cluster`) of the frozen set. An epoch begins with the first set, and again
        with one that keeps at most half of its programs and is unseen by half. `prices` is what each opening of an
        epoch spends, in order; in all it may spend what their sum was when it began. Raises StoreError when this
        night opened for another candidate.
        """
        with self._db.write() as db:
            known = db.execute("SELECT epoch, number, candidate FROM gate_openings WHERE cycle = ?", [cycle]).fetchone()
            if known:
                if known[2] != candidate:
                    raise StoreError(f"Night {cycle} opened the gate for another candidate", "Begin the next night")
                return Opening(epoch=known[0], number=known[1], charged=True)
            epochs = db.execute("SELECT epoch, alpha, programs FROM gate_epochs ORDER BY epoch").fetchall()
            row = epochs[-1] if epochs else None
            if row is None or renews([json.loads(known) for _, _, known in epochs], programs):
                row = (len(epochs) + 1, math.fsum(prices), json.dumps(sorted(programs)))
                db.execute("INSERT INTO gate_epochs (epoch, alpha, programs) VALUES (?, ?, ?)", row)
            epoch, budget = row[:2]
            charged = "SELECT count(*), total(spends) FROM gate_openings WHERE epoch = ?"
            count, spent = cast(tuple[int, float], db.execute(charged, [epoch]).fetchone())
            if count >= len(prices) or spent + prices[count] > budget + _ROUNDING:
                return Opening(epoch=epoch, number=count + 1, charged=False)
            db.execute(
                "INSERT INTO gate_openings (epoch, number, cycle, candidate, spends) VALUES (?, ?, ?, ?, ?)",
                [epoch, count + 1, cycle, candidate, prices[count]],
            )
            return Opening(epoch=epoch, number=count + 1, charged=True)

    def openings_used(self) -> tuple[int, int]:
        """The current epoch (0 before the first) and how many openings it has used."""
        row = self._db.rows(
            "SELECT epoch, (SELECT count(*) FROM gate_openings o WHERE o.epoch = e.epoch)"
            " FROM gate_epochs e ORDER BY epoch DESC LIMIT 1"
        )
        return (row[0][0], row[0][1]) if row else (0, 0)

    def begins_epoch(self, programs: Collection[str]) -> bool:
        """Whether an epoch would begin with a set of these programs."""
        epochs = self._db.rows("SELECT programs FROM gate_epochs ORDER BY epoch")
        return not epochs or renews([json.loads(known) for (known,) in epochs], programs)

    def append_verdict(self, cycle: int, payload: str) -> StoredVerdict:
        """Put a verdict at the end of the chain. The same one again changes nothing.

        Raises StoreError when night `cycle` has another verdict.
        """
        with self._db.write() as db:
            known = db.execute(
                "SELECT payload, previous, sha256 FROM gate_verdicts WHERE cycle = ?", [cycle]
            ).fetchone()
            if known:
                if known[0] != payload:
                    raise StoreError(f"Night {cycle} has a verdict already", "Verdicts are final; begin the next night")
                return StoredVerdict(cycle=cycle, payload=payload, previous=known[1], sha256=known[2])
            last = db.execute("SELECT sha256 FROM gate_verdicts ORDER BY position DESC LIMIT 1").fetchone()
            previous = last[0] if last else GENESIS
            verdict = StoredVerdict(cycle=cycle, payload=payload, previous=previous, sha256=chained(previous, payload))
            db.execute(
                "INSERT INTO gate_verdicts (cycle, payload, previous, sha256) VALUES (?, ?, ?, ?)",
                [cycle, payload, previous, verdict.sha256],
            )
            return verdict

    def verdicts(self, last: int | None = None) -> tuple[StoredVerdict, ...]:
        """The chain, or its `last` verdicts, oldest first, as it is stored."""
        rows = self._db.rows(
            "SELECT cycle, payload, previous, sha256 FROM gate_verdicts ORDER BY position DESC LIMIT :last",
            {"last": -1 if last is None else last},
        )
        return tuple(StoredVerdict(cycle=c, payload=p, previous=v, sha256=h) for c, p, v, h in reversed(rows))


def chained(previous: str, payload: str) -> str:
    """The hash of a verdict that follows the one with hash `previous`."""
    return hashlib.sha256(f"{previous}\n{payload}".encode()).hexdigest()


def broken_links(verdicts: Collection[StoredVerdict]) -> tuple[int, ...]:
    """The nights whose verdict is not the one that was appended, or does not follow the one before it."""
    broken: list[int] = []
    previous = GENESIS
    for verdict in verdicts:
        if verdict.previous != previous or verdict.sha256 != chained(previous, verdict.payload):
            broken.append(verdict.cycle)
        previous = verdict.sha256
    return tuple(broken)


def renews(epochs: Sequence[Collection[str]], new: Collection[str]) -> bool:
    """Whether at least half of the last epoch's programs are retired in `new`, and half of it has judged in none."""
    last, seen = set(epochs[-1]), set[str]().union(*epochs)
    return len(last & set(new)) * 2 <= len(last) and len(set(new) - seen) * 2 >= len(set(new)) > 0
