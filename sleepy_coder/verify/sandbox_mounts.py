"""What is seen inside the sandbox: the system, the files of a task, and nothing else. Starts nothing."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from sleepy_coder.errors import InfraError

HOME = "/box"
"""Where the files lie inside: a name that no host folder to be mounted is likely to have."""

SOURCE_BYTES = 8 << 20
SOURCE_FILES = 5000
_WORK_BYTES = 512 << 20
_TMP_BYTES = 128 << 20
_SCRATCH_BYTES = 64 << 20

SCRATCH = (".cache", ".tmp", ".vite", ".vite-temp")
"""Folders among Node's packages that tools write into as they run: empty inside, and writable where they are there."""

# What their wrappers in /usr read there; not Maven's settings, which may hold passwords.
_SETTINGS_OF_TOOLS = ("java*", "maven/m2.conf", "maven/logging", "ssl/certs/java")


def system_mounts(read_only: Iterable[Path], stands_for: Path | None) -> tuple[str, ...]:
    """bwrap's arguments for all that is the same in every run; later mounts cover earlier ones."""
    args = ["--ro-bind", "/usr", "/usr", "--perms", "0755", "--dir", "/etc"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            args += ["--ro-bind", name, name]
    settings = (file for name in _SETTINGS_OF_TOOLS for file in sorted(Path("/etc").glob(name)))
    for path in (Path("/etc/alternatives"), Path("/etc/ld.so.cache"), *settings):
        args += [*_parents(path), "--ro-bind-try", str(path), str(path)]
    # /dev itself is made read-only: its shm folder would be writable and without a bound.
    args += ["--dev", "/dev", "--remount-ro", "/dev"]
    args += ["--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"]
    shown = [path for path in dict.fromkeys(path.absolute() for path in read_only) if not path.is_relative_to("/usr")]
    if stands_for is not None and any(map(stands_for.is_relative_to, (Path("/usr"), *shown))):
        stands_for = None  # its path is seen already
    inner = [path for path in shown if stands_for is not None and path.is_relative_to(stands_for)]
    for path in (path for path in shown if path not in inner):
        args += [*_parents(path), "--ro-bind", str(path), str(path)]
    args += ["--perms", "0777", "--size", str(_WORK_BYTES), "--tmpfs", HOME]
    if stands_for is not None:
        args += [*_parents(stands_for), "--symlink", HOME, str(stands_for)]
        for path in inner:
            inside = Path(HOME, path.relative_to(stands_for))
            args += [*_parents(inside, "0777"), "--ro-bind", str(path), str(inside)]
            for name in (name for name in SCRATCH if (path / name).is_dir() and not (path / name).is_symlink()):
                args += ["--perms", "0777", "--size", str(_SCRATCH_BYTES), "--tmpfs", str(inside / name)]
    return tuple(args)


def names_known(user: int, group: int, host: str) -> dict[str, str]:
    """The files by which programs find names: of the one user there is inside, and of this machine, which has no other
    to talk to."""
    return {
        "/etc/passwd": f"box:x:{user}:{group}:box:{HOME}:/bin/sh\n",
        "/etc/group": f"box:x:{group}:\n",
        "/etc/hosts": f"127.0.0.1 localhost {host}\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }


def _parents(path: Path, mode: str = "0755") -> Iterator[str]:
    """bwrap's arguments for the folders above `path`: those it makes by itself are closed to who root turns into."""
    for parent in reversed(path.parents[:-1]):
        yield from ("--perms", mode, "--dir", str(parent))


def check_files(files: Mapping[str, str]) -> None:
    """Raises InfraError for files that cannot or must not be placed in the sandbox's folder."""
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
            raise InfraError(f"{name!r} is not a path inside the task's folder", "Use relative paths without `..`")
        if any(str(parent) in files for parent in path.parents):
            raise InfraError(f"{name!r} lies below what is a file", "Leave one of them out")
    if len(files) > SOURCE_FILES or sum(map(len, files.values())) > SOURCE_BYTES:
        raise InfraError(
            f"the task has {len(files)} files of {sum(map(len, files.values()))} characters in all",
            f"Keep tasks under {SOURCE_FILES} files and {SOURCE_BYTES} characters",
        )


def in_memory(text: str) -> IO[bytes]:
    """A file in memory, at its beginning."""
    file = os.fdopen(os.memfd_create("text"), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def packed(files: Mapping[str, str]) -> IO[bytes]:
    """An archive in memory, at its beginning, of files that everyone may write; scripts can run."""
    file = os.fdopen(os.memfd_create("files"), "w+b")
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path, text in files.items():
            data = text.encode(errors="surrogateescape")
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime = len(data), int(time.time())
            entry.mode = 0o777 if text.startswith("#!") else 0o666
            archive.addfile(entry, io.BytesIO(data))
    file.seek(0)
    return file
