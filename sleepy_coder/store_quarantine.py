"""Input that was refused, with the reason, for whoever looks into it."""

from __future__ import annotations

from datetime import datetime

from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_rows import Refused, insert_quarantine
from sleepy_coder.types import Record


class PutAside(Record):
    """What was refused: where it is from, why, when it came first, and what it says, redacted."""

    source: str
    reason: str
    created: datetime
    text: str


class QuarantineStore:
    """What no night learns from."""

    _db: StoreDatabase

    def quarantine(self, source: str, reason: str, payload: str) -> None:
        """Keep input that was refused (its first 64 Ki characters), once."""
        with self._db.write() as db:
            insert_quarantine(db, Refused(source, reason, payload))

    def quarantined(self, limit: int) -> tuple[PutAside, ...]:
        """What was put aside last, the newest first."""
        rows = self._db.rows(
            "SELECT source, reason, created, payload FROM quarantine ORDER BY position DESC LIMIT :limit",
            {"limit": limit},
        )
        return tuple(
            PutAside(source=source, reason=reason, created=datetime.fromisoformat(created), text=text)
            for source, reason, created, text in rows
        )

    def count_quarantined(self) -> int:
        return self._db.rows("SELECT count(*) FROM quarantine")[0][0]

    def clear_quarantine(self) -> int:
        """Forget all of it; how much that was."""
        with self._db.write() as db:
            return db.execute("DELETE FROM quarantine").rowcount
