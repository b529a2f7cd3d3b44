"""Verdicts already reached, in a small SQLite file of their own that may be deleted at any time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from sleepy_coder import __version__
from sleepy_coder.errors import StoreError
from sleepy_coder.types import Outcome, Task, Verdict


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
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30.0, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under `key`, marked as cached."""
        try:
            with self._lock:
                row = self._db.execute("SELECT verdict FROM verdicts WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return Verdict.model_validate_json(row[0]).model_copy(update={"cached": True}) if row else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep `verdict`, unless it is the machine's fault."""
        if verdict.outcome is Outcome.INFRA:
            return
        try:
            with self._lock:
                self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (key, verdict.model_dump_json()))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(f"the verdict cache {self._path} cannot be used ({error})", f"Delete {self._path}")
