"""The `episodes/` inbox: whatever tool drops a file there has its episodes in the store a moment later.

A file is taken when it is whole: renamed into the folder, closed after writing, or, when nobody saw that, of the
same size in two looks and open for writing nowhere. Taking it is one rename into `.working/`; from there its
episodes are stored, and only then it is deleted (kept, it would keep the secrets that were taken out) or, with bad
entries in it, moved to `quarantine/` with the reasons beside it. Whoever is killed in between leaves it in
`.working/`, where the next start takes it up again: episodes have the same ids then, and are stored once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from sleepy_coder import log
from sleepy_coder.collect.intake import BadEntry, entries, written
from sleepy_coder.errors import InfraError, SleepyError
from sleepy_coder.files import fsync_folder, write_atomic
from sleepy_coder.types import Episode

SUFFIXES: Final = (".json", ".jsonl")
WORKING, QUARANTINE = ".working", "quarantine"
_BATCH: Final = 256
_MOST_REASONS: Final = 100
_LONGEST_STEM: Final = 200
_SOON_SECONDS: Final = 0.05
_MOMENT_SECONDS: Final = 2.0
_log = log.get("inbox")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one file."""

    name: str
    recorded: int
    known: int
    bad: int


class Inbox:
    """One folder, one process at a time (a lock sees to it). `save` stores episodes and says how many were new."""

    def __init__(
        self,
        folder: Path,
        save: Callable[[Sequence[Episode]], int],
        redact: Callable[[str], str],
        settle_seconds: float = 2.0,
    ) -> None:
        self._folder = folder
        self._save = save
        self._redact = redact
        self._settle = settle_seconds
        self._closed: dict[str, float] = {}  # when it was heard that a file was closed, by time.monotonic
        self._soon = False
        self._looks: dict[str, tuple[int, int, int]] = {}
        self._wake = threading.Event()
        for sub in ("", WORKING, QUARANTINE):
            (folder / sub).mkdir(parents=True, exist_ok=True)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Files are looked at when something happens to them, and now and then anyway.

        Raises InfraError when another process has the inbox.
        """
        with self._alone(), self._watching():
            while not stop.is_set():
                try:
                    self.scan()
                except (SleepyError, OSError) as error:  # nothing is lost: the file waits, and is tried again
                    _log.error("inbox.waiting", reason=str(error))
                self._wake.wait(_SOON_SECONDS if self._soon else self._settle)
                self._wake.clear()

    def wake(self) -> None:
        """Have `run` look now, for instance because it is to stop."""
        self._wake.set()

    def scan(self) -> tuple[Taken, ...]:
        """Take in all that is whole, what an earlier run left first. Raises StoreError or InfraError."""
        self._soon = False
        done = [self._take_in(path) for path in sorted((self._folder / WORKING).iterdir())]
        heard = dict(self._closed)  # what is heard of from here on stays for the next look
        there = sorted(self._folder.iterdir())
        names = {path.name for path in there}
        for name, closed in heard.items():
            if name not in names and self._closed.get(name) == closed:
                self._closed.pop(name, None)
        self._looks = {name: look for name, look in self._looks.items() if name in names}
        for path in there:
            if not path.name.startswith(".") and path.name.endswith(SUFFIXES):
                claimed = self._claim(path)
                if claimed is not None:
                    done.append(self._take_in(claimed))
        return tuple(done)

    # Whole or not

    def _claim(self, path: Path) -> Path | None:
        """Move a whole file out of everybody's reach; None when it is not whole, or gone."""
        try:
            found = path.lstat()
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        if stat.S_ISREG(found.st_mode) and not self._is_whole(path, found):
            return None
        target = self._folder / WORKING / path.name
        with suppress(FileNotFoundError):
            path.rename(target)
            self._closed.pop(path.name, None)
            self._looks.pop(path.name, None)
            return target
        return None

    def _is_whole(self, path: Path, found: os.stat_result) -> bool:
        look = (found.st_ino, found.st_size, found.st_mtime_ns)
        same = self._looks.get(path.name) == look
        self._looks[path.name] = look
        closed = self._closed.get(path.name)
        if closed is None and not same:
            return False
        if _is_open_for_writing(path):
            # The kernel says that a file is closed a moment before it is; later, somebody else has it open.
            self._soon |= closed is not None and time.monotonic() - closed < _MOMENT_SECONDS
            return False
        return True

    # Taking in

    def _take_in(self, path: Path) -> Taken:
        """Store a claimed file's episodes and be done with the file."""
        while True:
            before = path.lstat()
            if not stat.S_ISREG(before.st_mode):
                return self._put_aside(
                    path, [BadEntry("the file", "it is not a regular file but a link or a device")], 0, 0
                )
            try:
                recorded, known, bad = self._store(path)
            except PermissionError as error:
                return self._put_aside(path, [BadEntry("the file", f"it cannot be read ({error.strerror})")], 0, 0)
            except (SleepyError, OSError):
                raise
            except Exception as error:  # noqa: BLE001 - else this file would end every look at the inbox
                why = f"it cannot be imported ({type(error).__name__}: {error})"
                return self._put_aside(path, [BadEntry("the file", why)], 0, 0)
            # Somebody may have had it open all along: what was added is read as well.
            if _same(before, path.lstat()):
                break
        if bad:
            return self._put_aside(path, bad, recorded, known)
        path.unlink()
        fsync_folder(path.parent)
        _log.info("episode.recorded", file=_shown(path), recorded=recorded, known=known)
        return Taken(path.name, recorded, known, 0)

    def _store(self, path: Path) -> tuple[int, int, list[BadEntry]]:
        recorded = known = 0
        bad: list[BadEntry] = []
        batch: list[Episode] = []

        def flush() -> None:
            nonlocal recorded, known
            new = self._save(batch)
            recorded, known = recorded + new, known + len(batch) - new
            batch.clear()

        with _opened(path) as file:
            when = written(file)
            for entry in entries(file, lines=path.name.endswith(".jsonl"), redact=self._redact, when=when):
                if isinstance(entry, BadEntry):
                    bad.append(entry)
                else:
                    batch.append(entry)
                if len(batch) >= _BATCH:
                    flush()
        flush()
        if not (recorded or known or bad):
            bad.append(BadEntry("the file", "it is empty"))
        return recorded, known, bad

    def _put_aside(self, path: Path, bad: Sequence[BadEntry], recorded: int, known: int) -> Taken:
        """Move a file with bad entries to the quarantine; the reasons are there before it is."""
        target = _free_name(self._folder / QUARANTINE, path.name)
        reasons = [f"{entry.place}: {entry.reason}" for entry in bad[:_MOST_REASONS]]
        if len(bad) > len(reasons):
            reasons.append(f"and {len(bad) - len(reasons)} more")
        if recorded or known:
            reasons.append(f"The other {recorded + known} episodes of this file are in the store.")
        write_atomic(target.with_name(target.name + ".reason.txt"), "\n".join(reasons) + "\n")
        path.rename(target)
        fsync_folder(target.parent)
        fsync_folder(path.parent)
        _log.warning("episode.quarantined", file=_shown(target), bad=len(bad), recorded=recorded, reason=reasons[0])
        return Taken(path.name, recorded, known, len(bad))

    # Watching

    @contextmanager
    def _alone(self) -> Generator[None]:
        with (self._folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InfraError(f"{self._folder} is in use by another process", "Stop the other sleepyd") from error
            yield

    @contextmanager
    def _watching(self) -> Generator[None]:
        """Hear of files at once. Where the system will not tell, the regular looks still find them."""
        observer = Observer()
        observer.schedule(_Ear(self._heard), str(self._folder), recursive=False)
        try:
            observer.start()
        except OSError:
            yield
            return
        try:
            yield
        finally:
            observer.stop()
            observer.join()

    def _heard(self, path: Path) -> None:
        if path.parent == self._folder:
            self._closed[path.name] = time.monotonic()
            self._wake.set()


class _Ear(FileSystemEventHandler):
    """Passes on which files were closed after writing or renamed into the folder."""

    def __init__(self, heard: Callable[[Path], None]) -> None:
        self._heard = heard

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileClosedEvent):
            self._heard(Path(os.fsdecode(event.src_path)))
        elif isinstance(event, FileMovedEvent):
            self._heard(Path(os.fsdecode(event.dest_path)))


@contextmanager
def _opened(path: Path) -> Generator[BinaryIO]:
    """The file itself, never what a link points to."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        yield file


def _is_open_for_writing(path: Path) -> bool:
    """Whether somebody still writes: the kernel grants a lease on reading only when nobody does.

    It is given back at once. Should a writer come in that moment, the kernel sends a signal, and the usual one
    would end the process; SIGURG does nothing. Where there are no leases the answer is no.
    """
    try:
        with _opened(path) as file:
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _shown(path: Path) -> str:
    """The name for a log: names may be any bytes."""
    return path.name.encode(errors="backslashreplace").decode()


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)


def _free_name(folder: Path, name: str) -> Path:
    """`name` in `folder`, with a number where it is taken, and short enough for the reason's name beside it."""
    stem, dot, suffix = name.rpartition(".")
    stem = os.fsdecode(os.fsencode(stem)[:_LONGEST_STEM])
    number = 1
    while True:
        target = folder / (f"{stem}{dot}{suffix}" if number == 1 else f"{stem}-{number}{dot}{suffix}")
        if not target.exists() and not target.is_symlink():
            return target
        number += 1
