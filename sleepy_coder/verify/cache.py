"""Verdicts already reached, in a small SQLite file of their own that may be deleted at any time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sleepy_coder import __version__
from sleepy_coder.small_database import SmallDatabase
from sleepy_coder.types import Outcome, Task, Verdict

_TABLE: Final = "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL)"


def cache_key(task: Task, files: Mapping[str, str], fingerprint: str, level: str) -> str:
    """Hash of all that a verdict depends on: the files, the check, the tools and the sandbox."""
    parts = (
        sorted(files.items()),
        # The first file is a crate's root when nothing else says so.
        next(iter(files), ""),
        task.command,
        task.expected_stdout,
        task.hidden_tests,
        fingerprint,
        level,
        __version__,
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class VerdictCache:
    """Verdicts by key; safe to use from many threads and processes.

    Failures of the machine are never kept: the next try may well succeed.
    Raises StoreError when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._db = SmallDatabase(path, _TABLE, "the verdict cache", f"Delete {path}")

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under `key`, marked as cached."""
        rows = self._db.do("SELECT verdict FROM verdicts WHERE key = ?", [key])
        return Verdict.model_validate_json(rows[0][0]).model_copy(update={"cached": True}) if rows else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep `verdict`, unless it is the machine's fault."""
        if verdict.outcome is not Outcome.INFRA:
            self._db.do("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", [key, verdict.model_dump_json()])

    def close(self) -> None:
        self._db.close()
