"""Whole writes and content hashes: what is on disk after a crash is the old file or the new one.

The order is the usual one (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014): write
under a temporary name in the same folder, fsync the file, rename, fsync the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sleepy_coder.errors import InfraError

TEMPORARY_SUFFIX = ".tmp"
_REMEDY: Final = "Check free space and permissions"
_FOLDER_REMEDY: Final = f"{_REMEDY}, or name another home: --home or $SLEEPY_CODER_HOME"


def temporary_beside(path: Path) -> Path:
    """An unused hidden name in the folder of `path`, so that a rename to `path` stays in one file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")


@contextmanager
def _explained(path: Path, remedy: str = _REMEDY) -> Generator[None]:
    """Raises InfraError when the disk refuses what is done to `path` (full, read-only, ...)."""
    try:
        yield
    except OSError as error:
        raise InfraError(f"{path} cannot be written ({error})", remedy) from error


def have_folder(folder: Path, mode: int = 0o777) -> None:
    """Have `folder`, made now with `mode` or before. Raises InfraError."""
    with _explained(folder, _FOLDER_REMEDY):
        folder.mkdir(mode, parents=True, exist_ok=True)


def private_folder(folder: Path) -> None:
    """Have `folder`, which nobody but its owner can look into; what is in it needs no rights of its own then.

    Raises InfraError.
    """
    have_folder(folder, 0o700)
    with _explained(folder, _FOLDER_REMEDY):
        found = folder.stat()
        if found.st_mode & 0o077 and found.st_uid == os.geteuid():
            folder.chmod(0o700)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` (creations, renames, removals) survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file under `folder`, and the folders themselves, survive a power loss."""
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    fsync_folder(folder)


@contextmanager
def in_turn(folder: Path) -> Generator[None]:
    """Let the processes that open databases in `folder` take turns.

    SQLite changes a file to WAL without waiting for others: it answers SQLITE_BUSY at once.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a file that nobody needs, if the disk lets us. Never raises: what went wrong before it matters more."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_writer(path: Path) -> Generator[BinaryIO]:
    """A file that becomes `path`, synced, when the block ends, and leaves nothing behind when it raises.

    Readers see the old content until then. Raises InfraError.
    """
    temporary = temporary_beside(path)
    try:
        with _explained(path):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync_folder(path.parent)
    finally:
        discard(temporary)


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """The same for who writes by name: an empty file, its owner's alone. OSErrors rise as they are."""
    temporary = temporary_beside(path)
    try:
        temporary.touch(mode=0o600)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        discard(temporary)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the content of `path` by `data` (text as UTF-8), whole. Raises InfraError."""
    with atomic_writer(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def folder_in_the_making(target: Path) -> Generator[Path]:
    """An empty hidden folder beside `target`, to be filled and published, else removed. Raises InfraError."""
    temporary = temporary_beside(target)
    try:
        with _explained(target):
            temporary.mkdir(parents=True)
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(made: Path, target: Path) -> None:
    """Give a finished folder its name, so that it appears whole and survives a power loss."""
    fsync_tree(made)
    made.rename(target)
    fsync_folder(target.parent)


def replace_folder(made: Path, target: Path) -> None:
    """Publish a finished folder in the place of one that may be there already."""
    shutil.rmtree(target, ignore_errors=True)
    publish_folder(made, target)


def refuse_full_disk(folder: Path, gib: float) -> None:
    """Raises InfraError when the disk of `folder` has less than `gib` GiB left for us."""
    free = shutil.disk_usage(folder).free / (1 << 30)
    if free < gib:
        raise InfraError(
            f"{free:.1f} GiB are free on the disk, and night.min_free_gib is {gib:g}",
            "Free some, or lower night.min_free_gib",
        )


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the bytes of `path`, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path]) -> str:
    """Hex SHA-256 over the names and contents of `paths`; their order and their folder do not matter."""
    lines = sorted(f"{path.name}\0{sha256_file(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
