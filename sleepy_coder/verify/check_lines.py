"""What a check runs: the files of a project that are the check, not the program; npm's scripts; make's goals. Pure."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from sleepy_coder.verify.makefiles import Makefile, is_makefile

SHELLS = frozenset({"sh", "bash", "dash", "zsh"})
_CHECK = re.compile(
    r"(?:^|[/_.-])(?:check|test|verify|validate|spec|ci)s?(?:[_.:-]|$)|(?:^|/)manage\.py$", re.IGNORECASE
)
"""Names by which a script is told from the program, where an interpreter may run either."""
_TOOLS = frozenset({"ci", "hack", "script", "scripts", "tool", "tools"})
"""Folders of scripts: what a line of commands runs from there is no program."""
_INTERPRETER = re.compile(r"(?:python|pypy|node|nodejs|ruby|perl|php|lua|deno|bun|tsx|ts-node)[\d.]*|run|source|\.")
_COMPILED = frozenset(
    {
        *(".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".m", ".mm", ".s", ".rs", ".go", ".zig", ".f90"),
        *(".cs", ".java", ".kt", ".scala", ".swift", ".ts", ".tsx"),
    }
)
_READERS = frozenset({"biome", "black", "eslint", "flake8", "mypy", "prettier", "pylint", "pyright", "ruff", "tsc"})
"""They look at programs and run none."""
_COMPARES = frozenset({"cmp", "diff"})
_BEFORE = frozenset(
    {"!", "command", "cross-env", "do", "elif", "else", "env", "exec", "if", "nice", "nohup", "then", "time", "while"}
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_NPM = frozenset({"bun", "npm", "npm-run-all", "npm-run-all2", "pnpm", "run-p", "run-s", "yarn"})
_TAKES_ONE = frozenset({"-C", "--directory", "-f", "--file", "--makefile", "-I", "-o", "-W"})


@dataclass(slots=True)
class Check:
    """What is found of a check. `scripts` are those of npm that it runs, `goals` what it has make make."""

    files: set[str] = field(default_factory=set[str])
    scripts: set[str] = field(default_factory=set[str])
    goals: set[str] = field(default_factory=set[str])
    uses_make: bool = False


def read_check(command: Sequence[str], files: Mapping[str, str]) -> Check:
    """What `command` runs among `files`, be it by itself, in a shell's line, in a recipe or in a script of npm's."""
    reader = _Reader(files)
    reader.read(command)
    return reader.found


class _Reader:
    def __init__(self, files: Mapping[str, str]) -> None:
        self.found = Check()
        self._files = files
        self._seen: set[str] = set()

    def read(self, command: Sequence[str], *, is_last: bool = False, program: frozenset[str] | None = None) -> None:
        """One simple command. `is_last` is the last of a line that runs a script, and `program` what a package names
        as its own, where a script of npm's has the line."""
        words = _without_prefix(command)
        tool = PurePosixPath(words[0]).name if words else ""
        if tool in SHELLS:
            self._shell(words)
        elif tool in ("make", "gmake"):
            self._make(words[1:])
        elif tool in _NPM:
            self._npm(words[1:], program is not None)
        self.found.files.update(self._named(words, tool, is_last, program))

    def _line(self, line: str, *, is_check: bool = True, program: frozenset[str] | None = None) -> None:
        """What comes before the last script, and what make does for other goals, builds what is tested."""
        commands = list(simple_commands(line)) if line not in self._seen else []
        self._seen.add(line)
        running = [at for at, words in enumerate(commands) if any(map(_interprets, words))]
        for at, words in enumerate(commands):
            self.read(words, is_last=is_check and at in running[-1:], program=program)

    def _shell(self, words: Sequence[str]) -> None:
        for at, word in enumerate(words[1:], 1):
            if re.fullmatch(r"-[a-z]*c", word):
                return self._line(" ".join(words[at + 1 : at + 2]))
            if (path := _path(word)) in self._files:
                self.found.files.add(path)
                return None
        return None

    def _make(self, words: Sequence[str]) -> None:
        self.found.uses_make = True
        skipped = {at + 1 for at, word in enumerate(words) if word in _TAKES_ONE}
        plain = (word for at, word in enumerate(words) if at not in skipped and not word.startswith("-"))
        goals = [word for word in plain if "=" not in word]
        for path in filter(is_makefile, self._files):
            makefile = Makefile(self._files[path])
            wanted = goals or makefile.first_goal
            self.found.goals.update(wanted)
            for target, line in makefile.recipes(wanted):
                self._line(line, is_check=target in wanted)

    def _npm(self, words: Sequence[str], is_nested: bool) -> None:
        named = ["test" if word in ("t", "tst") else word for word in words if not word.startswith("-")]
        for path in self._files:
            if PurePosixPath(path).name != "package.json":
                continue
            settings = object_in(self._files[path])
            scripts = texts_in(settings.get("scripts"))
            wanted = [f"{when}{name}" for name in named if name in scripts for when in ("pre", "", "post")]
            # What builds the program is the program's, also where the tests begin with it.
            self.found.scripts.update(name for name in wanted if not is_nested or _CHECK.search(name))
            for line in (scripts[name] for name in wanted if name in scripts):
                self._line(line, program=_program(settings, scripts))

    def _named(self, words: Sequence[str], tool: str, is_last: bool, program: frozenset[str] | None) -> Iterator[str]:
        """The files among the words of a simple command that are the check."""
        running = False
        for at, word in enumerate(words):
            path = _path(word)
            if path not in self._files:
                running = running or _interprets(word)
                continue
            is_check = bool(_CHECK.search(path)) and tool not in _READERS and (running or not _is_compiled(path))
            is_script = running and is_last and _is_script(path, program)
            if at == 0 or is_check or is_script or (tool in _COMPARES and not _is_source(path)):
                yield path
            running = running and is_check  # after a program come its arguments


def shell_tokens(line: str) -> list[str]:
    """The words and operators of a line for a shell. Raises ValueError where its quotes do not close."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


def is_operator(token: str) -> bool:
    """Whether a token of a shell's line joins commands or leads their input and output."""
    return set(token) <= set("();<>|&")


def simple_commands(line: str) -> Iterator[list[str]]:
    """The simple commands of a line for a shell, each by its words; what is read from a file is one of its own."""
    try:
        # What make and the shell put in is not known: a word that is no file stands for it.
        tokens = shell_tokens(re.sub(r"\$[({][^(){}]*[)}]", "$", line))
    except ValueError:
        tokens = line.split()
    words: list[str] = []
    for token in (*tokens, ";"):
        if is_operator(token):
            if words:
                yield words
            words = []
        else:
            words.append(token)


def _without_prefix(command: Sequence[str]) -> list[str]:
    words = list(command)
    while words and (words[0] in _BEFORE or _ASSIGNMENT.match(words[0])):
        del words[0]
    if words[:1] == ["timeout"]:
        del words[: next((at + 1 for at, word in enumerate(words[1:], 1) if word[:1].isdigit()), 1)]
    return words


def _interprets(word: str) -> bool:
    return bool(_INTERPRETER.fullmatch(PurePosixPath(word).name or word))


def _path(word: str) -> str:
    return posixpath.normpath(word) if word else ""


def _is_script(path: str, program: frozenset[str] | None) -> bool:
    """Whether what a line runs is the check: by its folder, or since a package that has it as its test names another
    file as its program."""
    if program is not None:
        return path not in program and path.partition(".")[0] not in program
    return not _TOOLS.isdisjoint(PurePosixPath(path).parts[:-1])


def _is_compiled(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _COMPILED


def _is_source(path: str) -> bool:
    return _is_compiled(path) or PurePosixPath(path).suffix in (".js", ".cjs", ".mjs", ".jsx", ".py", ".rb", ".php")


def _program(settings: Mapping[str, Any], scripts: Mapping[str, str]) -> frozenset[str]:
    """What a package names as its program, with suffixes and where they may be left out without."""
    bins = settings.get("bin")
    named = [settings.get("main", "index.js"), settings.get("module"), bins, *texts_in(bins).values()]
    named += [word for words in simple_commands(scripts.get("start", "")) for word in words[1:]]
    return frozenset(_path(name) for name in named if isinstance(name, str))


def object_in(text: str) -> dict[str, Any]:
    """The JSON object in `text`; an empty one where there is none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def texts_in(value: Any) -> dict[str, str]:
    """The texts by name of what should be an object."""
    pairs = cast("dict[str, Any]", value).items() if isinstance(value, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}
