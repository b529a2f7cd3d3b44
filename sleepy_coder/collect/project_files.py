"""The files of a user's project that its check may need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from sleepy_coder.errors import TaskFormatError
from sleepy_coder.tasks.loaders import text_of
from sleepy_coder.verify.sandbox_mounts import SOURCE_BYTES, SOURCE_FILES
from sleepy_coder.verify.venv import MARKER

_MAX_FILE_BYTES = 1 << 20
_INSTALLED = frozenset({"__pycache__", "node_modules"})
_BUILT = frozenset({"build", "dist", "target"})
# An agent may have written the repository's settings, and `core.fsmonitor` names a program that git would start.
_GIT = ("git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--exclude-standard")
_TRACKED = ("-co",)
_IGNORED = ("-oi", "--", "*.py")
_ALL_IGNORED = ("-oi", "--directory")
_GIT_SECONDS = 60
_MOST_NAMED = 5


def read_project(folder: Path, known: Iterable[str] = ()) -> dict[str, str]:
    """Path to text of what git knows or would add; without git, of all but hidden folders and what was built.

    Links are followed to files that are among these; others and what is no text are left out. `known` are files that it
    had before: they count whatever git ignores now. Raises TaskFormatError when that is more than the sandbox takes.
    """
    folder = folder.resolve()
    found: dict[str, str] = {}
    for name, file in _own_files(folder, known).items():
        text = text_of(file, _MAX_FILE_BYTES)
        if text is not None:
            found[name] = text
    _refuse_too_much(folder, found)
    return found


def left_out(folder: Path, read: Container[str] = ()) -> dict[str, str]:
    """The files of a project that its check may miss, and why each is left out; `read` is what it does see."""
    folder = folder.resolve()
    unread = ((name, file) for name, file in _own_files(folder).items() if name not in read)
    found = {name: why for name, file in unread if (why := _reason(file))}
    ignored = _git_lists(folder, *_ALL_IGNORED)
    files = (name for name in ignored if not name.endswith(("/", ".py", ".log")) and _is_made(name))
    texts = (name for name in files if not name.startswith(".") and text_of(folder / name, _MAX_FILE_BYTES) is not None)
    return found | dict.fromkeys(texts, "git ignores it")


def missing_words(folder: Path, read: Container[str] = ()) -> str:
    """What the check does not see of a project, in one line, "" where it sees all; `read` is what it does see."""
    found = [f"{name} ({why})" for name, why in left_out(folder, read).items()]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return f"the check will not see {', '.join(found[:_MOST_NAMED])}{more}" if found else ""


def _reason(file: Path) -> str:
    if file.is_symlink():
        return "a link that leads out of the project's files"
    if not file.is_file() or text_of(file, _MAX_FILE_BYTES) is not None:
        return ""
    if file.stat().st_size > _MAX_FILE_BYTES:
        return f"larger than {_MAX_FILE_BYTES >> 20} MiB"
    try:
        return "" if b"\0" in file.read_bytes() else "no UTF-8"
    except OSError:
        return "not readable"


def _own_files(folder: Path, known: Iterable[str] = ()) -> dict[str, Path]:
    """Name to where it is read: the file itself, or the other one of these that a link leads to."""
    listed = _in_git(folder) or list(_walked(folder))
    names = sorted({*(name for name in listed if not _is_installed(folder, name)), *known})
    # A folder on the way may be a link by now.
    own = {name: folder / name for name in names if (folder / name).parent.resolve() == (folder / name).parent}
    plain = {file: name for name, file in own.items() if not file.is_symlink()}
    for name, link in [(name, file) for name, file in own.items() if file.is_symlink()]:
        try:
            target = link.resolve()
        except (OSError, RuntimeError):  # a circle
            continue
        if target in plain:
            own[name] = target
        elif not link.is_relative_to(target) and (
            below := {f"{name}/{file.relative_to(target)}": file for file in plain if file.is_relative_to(target)}
        ):
            del own[name]
            own |= below
    return dict(sorted(own.items()))


def _in_git(folder: Path) -> list[str]:
    """What git lists; nothing where `folder` is in no work tree, or git is not here."""
    listed = _git_lists(folder, *_TRACKED)
    # A repository in the repository is told as its folder alone.
    inner = [name for name in listed if (folder / name / ".git").exists()]
    below = [f"{name.rstrip('/')}/{file}" for name in inner for file in _in_git(folder / name)]
    # What a build wrote into the program, such as its version, is ignored and needed.
    made = [name for name in _git_lists(folder, *_IGNORED) if _is_made(name)] if listed else []
    return [*listed, *below, *made]


def _git_lists(folder: Path, *options: str) -> list[str]:
    try:
        done = subprocess.run((*_GIT, *options), cwd=folder, capture_output=True, check=False, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else []


def _is_made(name: str) -> bool:
    folders = PurePosixPath(name).parts[:-1]
    return not any(part.startswith(".") or part in _BUILT for part in folders)


def _walked(folder: Path) -> Iterator[str]:
    for path, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if n not in _INSTALLED | _BUILT and not n.startswith(".")]
        yield from (Path(path, name).relative_to(folder).as_posix() for name in names)


def _is_installed(folder: Path, name: str) -> bool:
    """Whether the file belongs to packages that lie in the project: they are no part of it."""
    path = PurePosixPath(name)
    return not _INSTALLED.isdisjoint(path.parts) or any(_is_venv(folder / above) for above in path.parents[:-1])


@cache
def _is_venv(folder: Path) -> bool:
    return (folder / MARKER).is_file()


def _refuse_too_much(folder: Path, files: Mapping[str, str]) -> None:
    size = sum(map(len, files.values()))
    if size <= SOURCE_BYTES and len(files) <= SOURCE_FILES:
        return
    parts: dict[str, int] = {}
    for name, text in files.items():
        top = name.partition("/")[0]
        parts[top] = parts.get(top, 0) + len(text)
    most = max(parts, key=lambda top: parts[top])
    raise TaskFormatError(
        f"{folder} has {size / 2**20:.1f} MiB of text in {len(files)} files, more than the {SOURCE_BYTES >> 20} MiB in "
        f"{SOURCE_FILES} files that the sandbox takes; the most of it, {parts[most] / 2**20:.1f} MiB, is {most}",
        "Have git ignore what the check does not need, or start in the part of the project that you work on",
    )
