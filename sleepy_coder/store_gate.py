"""The part of the store that the gate cannot take back: epochs, openings and verdicts.

SQLite itself refuses to change or delete them (triggers of migration 0010), and each verdict's hash covers the
one before, so that a verdict that was changed or cut out is noticed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Final, cast

from sleepy_coder.errors import StoreError
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.types import Record

GENESIS: Final = "0" * 64
_SPENT: Final = "SELECT count(*), total(spends) FROM gate_openings WHERE epoch = :epoch"
_CHARGE: Final = (
    "INSERT INTO gate_openings (epoch, number, cycle, candidate, spends)"
    " VALUES (:epoch, :number, :cycle, :candidate, :spends)"
)
_MOST_OPENINGS: Final = 1_000_000  # of an epoch: more than `gate.openings` can be
_ROUNDING: Final = 1e-9  # fifty parts of 0.05 may sum to a little more


class Opening(Record):
    """The right to read the frozen results of one candidate. `number` counts from 1 within the epoch.

    `charged` is False when the epoch's budget is spent: then nothing may be read.
    """

    epoch: int
    number: int
    charged: bool


class Charge(Record):
    """An opening that was charged, with the epoch it belongs to: all that has to outlive a damaged store of it."""

    epoch: int
    number: int
    cycle: int
    candidate: str
    spends: float
    alpha: float
    programs: tuple[str, ...]


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
            count, spent = cast(tuple[int, float], db.execute(_SPENT, {"epoch": epoch}).fetchone())
            if not _affordable(prices, count, spent, budget):
                return Opening(epoch=epoch, number=count + 1, charged=False)
            charge = Charge(
                epoch=epoch,
                number=count + 1,
                cycle=cycle,
                candidate=candidate,
                spends=prices[count],
                alpha=budget,
                programs=tuple(json.loads(row[2])),
            )
            db.execute(_CHARGE, charge.model_dump(exclude={"alpha", "programs"}))
            self._db.spare.keep([charge.model_dump_json()])
            return Opening(epoch=epoch, number=count + 1, charged=True)

    def restore_charges(self, charges: Iterable[Charge]) -> None:
        """Charge again what was charged after a backup that now stands in for a damaged store.

        Under a negative number of its own instead of its cycle, since that night may have to be done once more, with
        another candidate, and be charged twice.
        """
        with self._db.write() as db:
            for charge in charges:
                if not db.execute("SELECT 1 FROM gate_epochs WHERE epoch = ?", [charge.epoch]).fetchone():
                    row = [charge.epoch, charge.alpha, json.dumps(charge.programs)]
                    db.execute("INSERT INTO gate_epochs (epoch, alpha, programs) VALUES (?, ?, ?)", row)
                known = "SELECT 1 FROM gate_openings WHERE epoch = ? AND number = ?"
                if not db.execute(known, [charge.epoch, charge.number]).fetchone():
                    again = charge.model_copy(update={"cycle": -(charge.epoch * _MOST_OPENINGS + charge.number)})
                    db.execute(_CHARGE, again.model_dump(exclude={"alpha", "programs"}))

    def openings_left(self, prices: Sequence[float]) -> int:
        """How many openings the current epoch can still pay for."""
        rows = self._db.rows("SELECT epoch, alpha FROM gate_epochs ORDER BY epoch DESC LIMIT 1")
        if not rows:
            return len(prices)
        epoch, budget = rows[0]
        first, spent = cast(tuple[int, float], self._db.rows(_SPENT, {"epoch": epoch})[0])
        count = first
        while _affordable(prices, count, spent, budget):
            count, spent = count + 1, spent + prices[count]
        return count - first

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

    def judged_programs(self) -> frozenset[str]:
        """The programs of all epochs."""
        epochs = self._db.rows("SELECT programs FROM gate_epochs")
        return frozenset[str]().union(*(json.loads(known) for (known,) in epochs))

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


def _affordable(prices: Sequence[float], count: int, spent: float, budget: float) -> bool:
    """Whether an epoch that has spent `spent` in `count` openings can pay for one more."""
    return count < len(prices) and spent + prices[count] <= budget + _ROUNDING
