"""The command that checks a folder: as somebody typed it, or what its manifests make plain."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sleepy_coder.errors import ConfigError
from sleepy_coder.tasks.loaders import text_of
from sleepy_coder.verify.check_lines import is_operator, object_in, shell_tokens, texts_in
from sleepy_coder.verify.languages import JS, JVM, PYTHON, C
from sleepy_coder.verify.makefiles import Makefile
from sleepy_coder.verify.tools import SYSTEM_PATH

_CARGO = ("cargo", "test", "--offline")
_PYTEST = ("pytest", "-q")
_DJANGO = ("python", "manage.py", "test")
_NPM = ("npm", "test")
_GO = ("go", "test", "./...")
_MAVEN = ("mvn", "-o", "-q", "test")
_CMAKE = (
    "sh",
    "-c",
    "cmake -S . -B /tmp/build && cmake --build /tmp/build && "
    "ctest --test-dir /tmp/build --output-on-failure --no-tests=error",
)
_SETS_PYTEST_UP = (
    ("pytest.ini", ""),
    ("pyproject.toml", "[tool.pytest"),
    ("setup.cfg", "[tool:pytest]"),
    ("tox.ini", "[pytest]"),
)
_PYTHON = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "requirements*.txt")
_NO_NPM_TEST = "no test specified"
"""What `npm init` writes."""
_CMAKE_TESTS = ("enable_testing", "include(CTest)")
_BYTES = 1 << 20
_SHELL_WORDS = re.compile(r"^\s*(?:[A-Za-z_]\w*=|!\s)|(?:^|\s)~/|[$`\n]")
_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"|\\.")
_GLOB = re.compile(r"[*?]|\[[^\]\s]+\]")

_SPEAKS: dict[tuple[str, ...], frozenset[str]] = {
    _CARGO: frozenset({".rs"}) | C,
    _PYTEST: PYTHON,
    _DJANGO: PYTHON,
    _NPM: JS,
    _GO: frozenset({".go"}) | C,
    _MAVEN: JVM,
}
_LANGUAGES = frozenset[str]().union(*_SPEAKS.values(), (".cs", ".php", ".rb", ".swift"))


@dataclass(frozen=True, slots=True)
class Default:
    """The command that checks a project, or why none is taken."""

    command: tuple[str, ...] | None
    why: str = ""


def typed(text: str) -> tuple[str, ...]:
    """The command that somebody typed; a shell's where it means one: `A && B`, `NAME=1 A`, `A > file`.

    Raises ConfigError where its quotes do not close.
    """
    try:
        operators = {token for token in shell_tokens(text) if token and is_operator(token)}
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"the check's quotes do not close: {text}", "Close them, or write \\' for a quote") from error
    if "|" in operators or "|&" in operators:
        # Or the check would pass by what its last command says, such as `tail`.
        return ("bash", "-o", "pipefail", "-c", text)
    needs_shell = _SHELL_WORDS.search(text) or _GLOB.search(_QUOTED.sub("", text))
    return ("sh", "-c", text) if operators or needs_shell else words


def lacks_tool(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> bool:
    """Whether the program that `command` starts is nowhere that the sandbox may look for it."""
    tool = command[0]
    if "/" in tool:
        return not (folder / tool).exists()
    places = (*(str(folder / name / "bin") for name in (".venv", "venv")), f"{sys.prefix}/bin")
    active = f"{variables['VIRTUAL_ENV']}/bin" if variables.get("VIRTUAL_ENV") else ""
    return shutil.which(tool, path=":".join((*places, active, variables.get("PATH", ""), *SYSTEM_PATH))) is None


def check_of(folder: Path) -> Default:
    """What the folder itself says; nothing where there are manifests of several languages, for which no test speaks."""
    if (folder / "Cargo.toml").is_file():
        return Default(_CARGO)
    settings = ((_text(folder, name), words) for name, words in _SETS_PYTEST_UP)
    if any(text is not None and words in text for text, words in settings):
        return Default(_PYTEST)
    if (folder / "manage.py").is_file():
        return Default(_DJANGO)
    found = dict(_manifests(folder))
    if len(found) > 1:
        return Default(None, f"{' and '.join(found)} are of several languages")
    for command in found.values():
        if command:
            return Default(command)
    goals = Makefile(_text(folder, "Makefile") or "").needs
    goal = next((goal for goal in ("test", "check") if goal in goals), None)
    return Default(("make", goal)) if goal else Default(None, "nothing here says how to check it")


def _manifests(folder: Path) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """The manifests that there are, one for each language, and how each is checked."""
    for name in _PYTHON:
        if there := sorted(folder.glob(name)):
            yield there[0].name, _PYTEST
            break
    if _has_npm_test(_text(folder, "package.json")):
        yield "package.json", _NPM
    if (folder / "go.mod").is_file():
        yield "go.mod", _GO
    if (folder / "pom.xml").is_file():
        yield "pom.xml", _MAVEN
    if (lists := _text(folder, "CMakeLists.txt")) is not None:
        yield "CMakeLists.txt", _CMAKE if any(words in lists for words in _CMAKE_TESTS) else None


def _has_npm_test(package: str | None) -> bool:
    test = texts_in(object_in(package or "").get("scripts")).get("test", "")
    return bool(test.strip()) and _NO_NPM_TEST not in test


def _text(folder: Path, name: str) -> str | None:
    return text_of(folder / name, _BYTES)


def speaks_of(command: tuple[str, ...], programs: Iterable[str]) -> bool:
    """Whether a default check may say anything of these files: pytest passes whatever a Go program does."""
    spoken = _SPEAKS.get(command)
    suffixes = {PurePosixPath(name).suffix.lower() for name in programs}
    return bool(suffixes) and (spoken is None or not (suffixes & _LANGUAGES) or bool(suffixes & spoken))
