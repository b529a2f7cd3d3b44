"""What is installed for the check of a user's project beside its files: packages and tools."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sleepy_coder.verify.sandbox_mounts import SCRATCH
from sleepy_coder.verify.tools import Tools, find_tools
from sleepy_coder.verify.venv import Venv, find_venv, shows_too_much, state_of

_NODE = "node_modules"
_MAVENS_NOTES = re.compile(r"_remote\.repositories|resolver-status\.properties|maven-metadata-.*|.*\.lastUpdated")
_GOS_NOTES = re.compile(r"list|lock|latest|.*\.(?:lock|info)")
_MOST_FOLDERS = 100


@dataclass(frozen=True, slots=True)
class Installed:
    """The virtual environment of the project in `project`, the `packages` of other languages, and `tools`.

    `variables` tell the tools where their packages are; `state` is what packages and tools held when they were found.
    """

    project: Path
    venv: Venv | None
    packages: tuple[Path, ...]
    tools: Tools
    variables: Mapping[str, str]
    state: str

    @property
    def changed(self) -> str:
        """What holds something else now, "" where nothing does. Who may write there decides what a test says."""
        if self.venv and self.venv.changed:
            return str(self.venv.folder)
        if _state(self.packages, self.tools) != self.state:
            return " or ".join(map(str, (*self.packages, *self.tools.shown)))
        return ""

    @property
    def shown(self) -> tuple[Path, ...]:
        """All that the sandbox has to show. A link in a folder's place was put there since, and is not followed."""
        venv = (self.venv.folder, *self.venv.bases) if self.venv else ()
        packages = (folder for folder in self.packages if folder.is_dir() and folder.resolve() == folder)
        return (*venv, *packages, *(tool for tool in self.tools.shown if tool.exists()))


def find_installed(project: Path, variables: Mapping[str, str], command: Sequence[str]) -> Installed:
    """What the project's check may use: `command` names a tool that may lie anywhere on PATH."""
    project = project.resolve()
    found = {name: folder for name, folder in _caches(project, variables) if not shows_too_much(folder, project)}
    packages = (*islice(_node_modules(project), _MOST_FOLDERS), *found.values())
    tools = find_tools(variables.get("PATH", ""), project, command[:1])
    said = {name: text for name, folder in found.items() for name, text in _told(name, folder).items()}
    return Installed(project, find_venv(project, variables), packages, tools, said, _state(packages, tools))


def _node_modules(project: Path) -> Iterator[Path]:
    """The folders of Node's packages in the project, those of its workspaces too; none that is a link."""
    for path, folders, _ in os.walk(project):
        if _NODE in folders and not Path(path, _NODE).is_symlink():
            yield Path(path, _NODE)
        folders[:] = sorted(name for name in folders if name != _NODE and not name.startswith("."))


def _caches(project: Path, variables: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The user's folders of downloaded packages that the project's kind reads: Go's and Maven's, where they are."""
    home = Path(variables.get("HOME") or Path.home())
    gopath = variables.get("GOPATH", "").partition(os.pathsep)[0] or home / "go"
    go = Path(variables.get("GOMODCACHE") or Path(gopath, "pkg", "mod"))
    for manifest, name, folder in (("go.mod", "go", go), ("pom.xml", "maven", home / ".m2" / "repository")):
        if (project / manifest).is_file() and folder.is_absolute() and folder.is_dir():
            yield name, folder.resolve()


def _told(name: str, folder: Path) -> dict[str, str]:
    if name == "maven":
        return {"MAVEN_OPTS": f"-Dmaven.repo.local={folder}"}
    return {"GOMODCACHE": str(folder), "GOPROXY": "off", "GOTOOLCHAIN": "local"}


def _state(packages: Sequence[Path], tools: Tools) -> str:
    return state_of(*packages, *tools.shown, without=_is_noted)


def _is_noted(path: Path) -> bool:
    """Whether package managers and runners note something there that no program is made of."""
    if path.parent.name == _NODE and path.name.startswith("."):
        return path.name in SCRATCH or path.is_file()
    notes = _GOS_NOTES if "cache" in path.parts else _MAVENS_NOTES
    return notes.fullmatch(path.name) is not None
