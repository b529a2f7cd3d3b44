"""One SQLite file that is safe from several threads and processes, and says what to do when it is not well.

WAL with synchronous=FULL: a transaction that returned is on the disk, because the log is synced at each
commit (sqlite.org/pragma.html#pragma_synchronous). Reads never keep a transaction open while the caller
works, so a slow reader holds up neither writers nor checkpoints.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sleepy_coder.errors import InfraError, StoreDamaged, StoreError
from sleepy_coder.files import TEMPORARY_SUFFIX, atomic_path, discard, fsync_folder, in_turn
from sleepy_coder.store_migrations import MIGRATIONS
from sleepy_coder.store_spare import SpareEpisodes
from sleepy_coder.store_sqlite import Database, Migrations

Parameter = str | int | float | None

_BUSY_TIMEOUT_MS: Final = 30_000
_BATCH: Final = 4096
_COARSE_NS: Final = 1_000_000_000  # file systems keep times less exactly than the clock does
_SPARE: Final = 3  # a copy leaves room for as much again as it takes, and for the store to grow


class StoreDatabase:
    """A migrated connection behind a lock. Every failure of SQLite leaves as a StoreError with a remedy."""

    def __init__(self, path: Path, migrations: Migrations = MIGRATIONS) -> None:
        """Open `path`, creating or migrating it. Raises StoreError (newer, corrupt, locked, unwritable)."""
        self._path = path
        self._migrations = migrations
        self._lock = threading.RLock()
        self.spare = SpareEpisodes(path)
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Episodes hold other people's code: only the owner may read them.
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._translated(), in_turn(path.parent):
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

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """All queries of the block see the file in one state. Raises StoreError."""
        with self._lock, self._translated():
            self._db.conn.execute("BEGIN")
            try:
                yield
            finally:
                self._db.conn.execute("COMMIT")

    def rows(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query, read in one snapshot. Raises StoreError."""
        with self._lock, self._translated():
            return self._db.conn.execute(sql, dict(parameters or {})).fetchall()

    def batches(self, sql: str, parameters: Mapping[str, Parameter]) -> Iterator[list[tuple[Any, ...]]]:
        """All rows of a query, in one snapshot and in lists, for results too long to hold as rows.

        Writers wait until the last list is taken: take them at once. Raises StoreError.
        """
        with self._lock, self._translated():
            cursor = self._db.conn.execute(sql, dict(parameters))
            while rows := cursor.fetchmany(_BATCH):
                yield rows

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
        self._copy_to(target)
        return target

    def keep_backup(self, label: str, keep: int) -> Path:
        """The same to `backups/<file>.backup-<label>`, proven to be whole; of these copies the `keep` latest stay.

        A copy that is there already is kept. One process at a time: half a copy is taken for one that a kill left.
        Raises InfraError when the disk has no room to spare, and StoreError when the store is damaged; then the older
        copies stay.
        """
        folder = self._path.parent / "backups"
        target = folder / f"{self._path.name}.backup-{label}"
        for half in folder.glob(f".{self._path.name}.backup-*{TEMPORARY_SUFFIX}"):
            discard(half)
        if target.exists():
            return target
        with self._translated():
            folder.mkdir(mode=0o700, exist_ok=True)
            size, free = self._path.stat().st_size, shutil.disk_usage(folder).free
        if free < _SPARE * size:
            raise InfraError(
                f"{free >> 20} MiB are free, too little to copy {self._path} ({size >> 20} MiB)", "Free some"
            )
        with self.write():  # whoever saves now has ended, and is in the copy
            self.spare.turn(label)
        self._copy_to(target, check=True)
        for old in _by_age(folder.glob(f"{self._path.name}.backup-*"))[:-keep]:
            discard(old)
        self.spare.forget()
        return target

    def _copy_to(self, target: Path, check: bool = False) -> None:
        """Raises StoreError, also when the copy is asked to be checked and is damaged; then there is none."""
        with self._translated():
            _date_to_now(backups_of(self._path))
            with (
                atomic_path(target) as temporary,
                closing(sqlite3.connect(self._path)) as source,
                closing(sqlite3.connect(temporary)) as copy,
            ):
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, without the write-ahead log's two
                if check and (found := copy.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                    raise self._damaged(str(found))

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
        backups = backups_of(self._path)
        with suppress(OSError):  # the disk may be what fails
            in_doubt(self._path).touch(mode=0o600)
        found = f"{backups[-1]} takes its place" if backups else "no backup found: a new store takes its place"
        how = "Restart the daemon, or stop it and run `sleepy-coder episodes rescue`"
        remedy = f"{how}: {found}, with each episode saved since"
        return StoreDamaged(f"{self._path} is damaged ({reason})", remedy)


def in_doubt(path: Path) -> Path:
    """The mark beside the store at `path` that somebody found it damaged; whoever opens it alone looks after it."""
    return path.with_name(f"{path.name}.in-doubt")


def backups_of(path: Path) -> list[Path]:
    """The backups of the store at `path`, oldest first."""
    pattern = f"{path.name}.backup-*"
    return _by_age([*path.parent.glob(pattern), *path.parent.glob(f"backups/{pattern}")])


def _date_to_now(backups: Iterable[Path]) -> None:
    """Have those that seem to come after now, made while the clock was ahead, come before what is made next."""
    now = time.time_ns() - _COARSE_NS
    ahead = (path for path in backups if path.stat().st_mtime_ns > now)
    for number, path in enumerate(ahead):  # in their order
        os.utime(path, ns=(now + number, now + number))


def _by_age(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))
