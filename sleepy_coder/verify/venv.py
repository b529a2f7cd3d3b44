"""The virtual environment of a user's project, which its tests need beside its files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

MARKER = "pyvenv.cfg"
_USUAL = (".venv", "venv")
_HOME = re.compile(r"^home\s*=\s*(/.*\S)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Venv:
    """The environment `folder` of the project in `project`, and under which names it finds the Python it was made of.

    `state` is what it held when it was found.
    """

    folder: Path
    project: Path
    bases: tuple[Path, ...]
    state: str

    @property
    def changed(self) -> bool:
        """Whether it holds something else now. Who may write into it decides what its pytest says."""
        return state_of(self.folder, *self.bases) != self.state

    def holds(self, tool: str) -> bool:
        """Whether `tool`, absolute or seen from the project, is a program of the environment."""
        path = Path(os.path.normpath(self.project / tool))
        return path.is_relative_to(self.folder) and os.access(path, os.X_OK)


def find_venv(project: Path, variables: Mapping[str, str]) -> Venv | None:
    """The environment of a project: the active one, unless that is sleepy-coder's own, or one that lies in it.

    Left alone are folders that hold the project itself or the user's home: all in them would be seen in the sandbox.
    """
    project = project.resolve()
    active = variables.get("VIRTUAL_ENV", "")
    usual = [project / name for name in _USUAL]
    for folder in [Path(active), *usual] if active and not _is_ours(Path(active)) else usual:
        bases = _bases_of(folder)
        if bases and not any(shows_too_much(seen, project) for seen in (folder, *bases)):
            return Venv(folder.absolute(), project, bases, state_of(folder.absolute(), *bases))
    return None


def _is_ours(folder: Path) -> bool:
    return folder.resolve() == Path(sys.prefix).resolve()


def _bases_of(folder: Path) -> tuple[Path, ...]:
    """Where the Python of an environment lies, by each name it is reached by; none where it is no environment."""
    marker, link = folder / MARKER, folder / "bin" / "python"
    if not marker.is_file() or not link.exists():
        return ()
    programs = [link.resolve()]
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        programs.append(link)
    said = _HOME.search(marker.read_text("utf-8", errors="replace"))
    folders = [*(program.parent for program in programs), *([Path(said[1])] if said else [])]
    found = dict.fromkeys(bin.parent for bin in folders if any(bin.parent.glob("lib/python3*/os.py")))
    return tuple(base for base in found if base != Path("/"))  # /bin and /lib, which are shown anyway


def shows_too_much(seen: Path, project: Path) -> bool:
    """Whether `seen` holds the project itself or the user's home."""
    return any(secret.is_relative_to(seen.resolve()) for secret in (project, Path.home().resolve()))


def state_of(*shown: Path, without: Callable[[Path], bool] = lambda _: False) -> str:
    """A hash over names, sizes and times of these files and all in these folders, but for the system's own.

    What Python compiles does not count, since it is not read, nor what is `without` meaning, or all below that.
    """
    own = [folder for folder in shown if not folder.is_relative_to("/usr")]
    found = hashlib.sha256(repr([folder.resolve() for folder in own]).encode())
    alone: tuple[str, list[str], list[str]] = ("/", [], [str(file) for file in own if file.is_file()])
    for path, folders, names in chain([alone], *map(os.walk, own)):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not without(Path(path, name)))
        for file in (Path(path, name) for name in sorted((*names, *folders))):
            now = file.lstat()
            if not stat.S_ISDIR(now.st_mode) and not without(file):
                found.update(repr((file, now.st_size, now.st_mtime_ns, now.st_ctime_ns)).encode())
    return found.hexdigest()
