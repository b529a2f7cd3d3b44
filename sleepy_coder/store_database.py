"""One SQLite file that is safe from several threads and processes, and says what to do when it is not well.

WAL with synchronous=FULL: a transaction that returned is on the disk, because the log is synced at each
commit (sqlite.org/pragma.html#pragma_synchronous). Reads never keep a transaction open while the caller
works, so a slow reader holds up neither writers nor checkpoints.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from sleepy_coder.errors import StoreError
from sleepy_coder.files import fsync_folder, temporary_beside
from sleepy_coder.store_migrations import MIGRATIONS

Parameter = str | int | float | None

_BUSY_TIMEOUT_MS: Final = 30_000


class StoreDatabase:
    """A migrated connection behind a lock. Every failure of SQLite leaves as a StoreError with a remedy."""

    def __init__(self, path: Path, migrations: Migrations = MIGRATIONS) -> None:
        """Open `path`, creating or migrating it. Raises StoreError (newer, corrupt, locked, unwritable)."""
        self._path = path
        self._migrations = migrations
        self._lock = threading.RLock()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Episodes hold other people's code: only the owner may read them.
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._translated(), _one_at_a_time(path.parent):
                connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
                self._db = Database(connection, execute_plugins=False)
                self._refuse_newer()
                self._set_up(connection)
                self._migrate()
                fsync_folder(path.parent)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def write(self) -> Generator[sqlite3.Connection]:
        """One transaction: all of the block, durably, or nothing of it. Raises StoreError."""
        with self._lock, self._translated():
            # IMMEDIATE takes the write lock at once, where busy_timeout applies; a read lock that is
            # upgraded later fails with "locked" straight away when another process wrote in between.
            self._db.conn.execute("BEGIN IMMEDIATE")
            try:
                yield self._db.conn
                self._db.conn.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself on some errors (full disk); what was raised first matters.
                with suppress(sqlite3.Error):
                    self._db.rollback()
                raise

    def rows(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query, read in one snapshot. Raises StoreError."""
        with self._lock, self._translated():
            return self._db.conn.execute(sql, dict(parameters or {})).fetchall()

    def stream(
        self,
        table: str,
        where: str,
        parameters: Mapping[str, Parameter],
        *,
        after: int = 0,
        limit: int | None = None,
        page: int,
    ) -> Iterator[tuple[int, str]]:
        """(position, payload) of the rows of `table` after a position, in order, read `page` at a time.

        No transaction stays open between pages, so rows that are saved meanwhile appear at the end.
        """
        left = limit
        while left is None or left > 0:
            count = page if left is None else min(page, left)
            rows = self.rows(
                f"SELECT position, payload FROM {table} WHERE position > :after AND {where}"
                " ORDER BY position LIMIT :count",
                {**parameters, "after": after, "count": count},
            )
            yield from ((position, payload) for position, payload in rows)
            if len(rows) < count:
                return
            after = rows[-1][0]
            left = None if left is None else left - count

    def check(self) -> None:
        """Read every page and index. Raises StoreError with the newest backup when something is damaged."""
        found = [str(row[0]) for row in self.rows("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise self._damaged(found[0])

    def backup(self, label: str) -> Path:
        """Copy the store, as of now, to `<file>.backup-<label>` while it is in use. Raises StoreError."""
        target = self._path.with_name(f"{self._path.name}.backup-{label}")
        temporary = temporary_beside(target)
        try:
            with self._translated():
                temporary.touch(mode=0o600)
                with (
                    closing(sqlite3.connect(self._path)) as source,
                    closing(sqlite3.connect(temporary)) as copy,
                ):
                    source.backup(copy)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(target)
                fsync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _set_up(self, connection: sqlite3.Connection) -> None:
        self._db.enable_wal()
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cell_size_check=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def _refuse_newer(self) -> None:
        with Database(memory=True, execute_plugins=False) as empty:
            known = {migration.name for migration in self._migrations.pending(empty)}
        unknown = [applied.name for applied in self._migrations.applied(self._db) if applied.name not in known]
        if unknown:
            raise StoreError(
                f"{self._path} was written by a newer sleepy-coder (it has the migration {unknown[-1]})",
                "Upgrade sleepy-coder, or name another store in the configuration",
            )

    def _migrate(self) -> None:
        if not self._migrations.pending(self._db):
            return
        with self.write():
            # Asked again under the write lock: another process may just have done it.
            pending = self._migrations.pending(self._db)
            if pending and self._migrations.applied(self._db):
                self.backup(f"before-{pending[0].name}")
            self._migrations.apply(self._db)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StoreError(f"{self._path}: {error}", "Check the folder, its owner and free space") from error

    def _explained(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(str(error))
        remedy = {
            sqlite3.SQLITE_FULL: "Free disk space; everything that was saved before is intact",
            sqlite3.SQLITE_IOERR: "Look for disk errors in the kernel's log (dmesg)",
            sqlite3.SQLITE_BUSY: "Another process holds the store; end it or wait for it",
            sqlite3.SQLITE_READONLY: "Make the store and its folder writable for this user",
            sqlite3.SQLITE_CANTOPEN: "Check the store's folder and its permissions",
            sqlite3.SQLITE_CONSTRAINT: "It contradicts what is stored: begin the night first, do it once",
        }.get(code, "Please report this with the store's schema (`sqlite3 FILE .schema`)")
        return StoreError(f"{self._path}: {error}", remedy)

    def _damaged(self, reason: str) -> StoreError:
        backups = sorted(self._path.parent.glob(f"{self._path.name}.backup-*"), key=lambda path: path.stat().st_mtime)
        aside = f"Stop the daemon, move {self._path.name}, -wal and -shm aside, then "
        remedy = f"copy {backups[-1]} in its place" if backups else "start anew and import an export (no backup found)"
        return StoreError(f"{self._path} is damaged ({reason})", aside + remedy)


@contextmanager
def _one_at_a_time(folder: Path) -> Generator[None]:
    """Let the processes that open stores in `folder` take turns.

    SQLite changes a file to WAL without waiting for others (it answers SQLITE_BUSY at once).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
