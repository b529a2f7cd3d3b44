"""The tools of this machine that a command may use: where they lie, and whether they are still the same."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sleepy_coder.verify.check_lines import SHELLS
from sleepy_coder.verify.venv import shows_too_much

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")

_KNOWN = ("node", "npm", "go", "java", "javac", "mvn", "gradle", "cmake", "make", "gcc", "g++", "clang")
_IN_NODE = ("node",)
_IN_JAVA = ("java", "javac")
_IN_C = ("make", "cmake", "gcc", "g++", "clang")
_USES = {
    **dict.fromkeys(("npm", "npx", "pnpm", "yarn", "node", "jest", "vitest", "mocha", "tsc"), _IN_NODE),
    **dict.fromkeys(("java", "javac", "mvn", "gradle"), _IN_JAVA),
    **dict.fromkeys(("gcc", "g++", "cc", "c++", "clang", "cmake", "ctest"), _IN_C),
    **dict.fromkeys((*SHELLS, "make"), _KNOWN),  # what they start is written elsewhere
}

# By what an installation that holds nothing else is known, seen from its folder.
_INSTALLATIONS = ("pkg/tool", "lib/modules", "boot/plexus-classworlds*.jar", "lib/gradle-*.jar")


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools outside the system's folders: the `folders` to look for programs in, and all that has to be `shown`."""

    folders: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()


def find_tools(path: str, project: Path, more: Sequence[str] = ()) -> Tools:
    """Where the known tools and those in `more` lie on `path`, unless the system's folders have them.

    Folders that hold the project itself or the user's home are left alone: all in them would be seen in the sandbox.
    """
    folders: dict[Path, None] = {}
    shown: dict[Path, None] = {}
    for name in dict.fromkeys((*_KNOWN, *(Path(tool).name for tool in more if tool))):
        tool = Path(shutil.which(name, path=path) or "")
        if not tool.is_absolute() or str(tool.parent) in SYSTEM_PATH:
            continue
        needed = [tool.parent, *_installation(tool.resolve())]
        if not any(shows_too_much(folder, project) for folder in needed):
            folders[tool.parent] = None
            shown |= dict.fromkeys(needed)
    return Tools(tuple(folders), tuple(shown))


def _installation(program: Path) -> list[Path]:
    """What a program needs beside the folder that it is found in: its package of npm, all that it came with where that
    lies apart, else what a link to it leads to."""
    for folder in program.parents:
        if "node_modules" in (folder.parent.name, folder.parent.parent.name) and (folder / "package.json").is_file():
            return [folder]
    root = program.parent.parent
    return [root if any(any(root.glob(mark)) for mark in _INSTALLATIONS) else program]


def identity(argv: Sequence[str], path: str) -> str:
    """Which tools of `path` the command uses, by place, size and time: another one may come to another verdict.

    None of them is started: what lies on a path is only trusted within the sandbox.
    """
    words = dict.fromkeys(word for text in argv for word in re.findall(r"[\w+-]+", text))
    names = dict.fromkeys(name for word in words for name in _USES.get(word, ()))
    return "\n".join(_identity(name, path) for name in names)


def _identity(name: str, path: str) -> str:
    found = shutil.which(name, path=path)
    if found is None:
        return f"no {name}"
    program = Path(found).resolve()
    status = program.stat()
    return f"{name} {program} {status.st_size} {status.st_mtime_ns}"


def path_of(*folders: Path) -> str:
    """PATH: these folders before the system's."""
    return os.pathsep.join((*map(str, folders), *SYSTEM_PATH))
