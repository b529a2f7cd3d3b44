"""A small SQLite file of its own, for what can be made again: few tables, no migrations, no backups."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sleepy_coder.errors import StoreError
from sleepy_coder.files import in_turn


class SmallDatabase:
    """May be used by many threads and processes. Every method may raise StoreError.

    `tables` is the SQL that makes what is missing; `name` and `remedy` are for the errors.
    """

    def __init__(self, path: Path, tables: str, name: str, remedy: str) -> None:
        self.path, self._name, self._remedy = path, name, remedy
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30.0, check_same_thread=False, isolation_level=None)
            with in_turn(path.parent):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.executescript(tables)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    def do(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute one statement, on the disk when this returns; its rows."""
        try:
            with self._lock:
                return self._db.execute(sql, list(values)).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def do_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute one statement with each of `rows`: all of them or, when it raises or the process dies, none."""
        try:
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._db.executemany(sql, rows)
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(f"{self._name} {self.path} cannot be used ({error})", self._remedy)
