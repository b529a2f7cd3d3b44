"""Makefiles and CMake's lists, as far as they say what is tested: what an answer changed in them. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Literal

from sleepy_coder.verify.test_files import TEST_FILE

Change = Literal["", "build", "check"]
"""Nothing that matters; how the program is built, which may be honest; what is tested."""

_NAMES = ("GNUmakefile", "makefile", "Makefile")
_ASSIGNED = re.compile(r"(?:override |export )*\s*([\w.-]+)\s*(?:[:?+!]|::)?=\s*(.*)")
_RULE = re.compile(r"([^\t#:=][^:=]*)::?(?!=)([^=]*)$")
_PROGRAM = re.compile(r"(?:[\w@%./+-]|\$[({][\w.]+[)}])+\.(?:[cChs]|cc|cpp|cxx|f90|hh|hpp|hxx|o|obj|java|class|go)")
_CMAKE_TESTS = re.compile(
    r"\b((?:add_test|enable_testing|gtest_\w+|catch_discover_tests|doctest_discover_tests)\s*\([^()]*\)"
    r"|include\s*\(\s*CTest\s*\)|add_subdirectory\s*\([^()]*test[^()]*\))",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\w./+-]+")


def is_makefile(path: str) -> bool:
    """Whether make reads the file by itself, or is likely to be told to by one that it reads."""
    name = PurePosixPath(path).name
    return name in _NAMES or name.endswith(".mk")


def takes_makefiles_place(path: str, files: Iterable[str]) -> bool:
    """Whether a makefile of this name comes to lie beside one of another name: make reads one of them."""
    file = PurePosixPath(path)
    return path not in files and file.name in _NAMES and any(str(file.with_name(name)) in files for name in _NAMES)


class Makefile:
    """The lines of a makefile with the rule that each recipe belongs to; variables are put in where they are known."""

    def __init__(self, text: str) -> None:
        self.variables: dict[str, str] = {"CC": "cc", "CXX": "c++"}
        self.needs: dict[str, list[str]] = {}
        self.lines: list[tuple[str, str]] = []
        self._recipes: dict[str, list[str]] = {}
        targets: list[str] = []
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("\t"):
                self._add_recipe(targets, line.strip())
            elif (line := line.partition("#")[0].strip()) and not _ASSIGNED.match(line) and (rule := _RULE.match(line)):
                prerequisites, _, recipe = rule[2].partition(";")
                targets = rule[1].split()
                self.lines.append(("", f"{rule[1].strip()}: {prerequisites.strip()}"))
                for target in targets:
                    self.needs.setdefault(target, []).extend(prerequisites.split())
                if recipe.strip():
                    self._add_recipe(targets, recipe.strip())
            elif line:
                if set_to := _ASSIGNED.match(line):
                    self.variables[set_to[1]] = set_to[2]
                self.lines.append(("", line))

    def _add_recipe(self, targets: list[str], line: str) -> None:
        self.lines.append((" ".join(targets), line))
        for target in targets:
            self._recipes.setdefault(target, []).append(line)

    @property
    def first_goal(self) -> list[str]:
        """What make makes when it is not told."""
        return [next((target for target in self.needs if not target.startswith(".")), "")]

    def recipes(self, goals: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Target and line of what a shell is given on the way to `goals`, without make's own signs."""
        waiting, seen = list(goals), set[str]()
        while waiting:
            target = waiting.pop()
            if target in seen:
                continue
            seen.add(target)
            waiting.extend(self._expanded(" ".join(self.needs.get(target, ()))).split())
            yield from ((target, self._expanded(line).lstrip("@+-")) for line in self._recipes.get(target, ()))

    def _expanded(self, text: str) -> str:
        for _ in range(3):
            text = re.sub(r"\$[({]([\w.-]+)[)}]", lambda found: self.variables.get(found[1], found[0]), text)
        return text


def changed_makefile(before: str, after: str, goals: Iterable[str]) -> Change:
    """What was changed. More of the program's own files in a list is nothing, and so are rules for what is new."""
    old, new = Makefile(before), Makefile(after)
    # The file's first rule is what is made unless make is told, so another may not come before it.
    if _lost_test_files(before, after) or old.first_goal != new.first_goal:
        return "check"
    was, now = Counter(map(_normal, old.lines)), Counter(map(_normal, new.lines))
    lost, gained = was - now, now - was
    tests = set(goals)
    if any(not tests.isdisjoint(owner.split()) for owner, _ in lost):
        return "check"
    if any(not set(_kept(old.needs.get(goal, ()))) <= set(new.needs.get(goal, ())) for goal in tests):
        return "check"
    known = set(_WORD.findall(before))
    fresh = {" ".join(targets.split()) for targets in new.needs if targets not in known and _is_plain(targets)}
    harmless = all((owner or line.partition(":")[0].strip()) in fresh | {".PHONY"} for owner, line in gained)
    return "build" if lost or not harmless else ""


def _is_plain(target: str) -> bool:
    return not (target.startswith(".") or "%" in target or "$" in target or TEST_FILE.search(target))


def _normal(line: tuple[str, str]) -> tuple[str, str]:
    """A line without the names of the program's files; a rule's target stays, for it says which rule it is."""
    owner, text = line
    head, colon, rest = ("", "", text) if owner else text.partition(":") if ": " in text else ("", "", text)
    kept = " ".join(_kept(rest.split()))
    return owner, f"{head}{colon} {kept}" if colon else kept


def _kept(words: Iterable[str]) -> Iterator[str]:
    yield from (word for word in words if not _PROGRAM.fullmatch(word) or TEST_FILE.search(word))


def changed_cmake(before: str, after: str) -> Change:
    """What was changed: tests may be added, and none taken out. In a release nothing is asserted."""
    was, now = (Counter(" ".join(one.split()) for one in _CMAKE_TESTS.findall(text)) for text in (before, after))
    if was - now or _lost_test_files(before, after):
        return "check"
    return "build" if after.count("CMAKE_BUILD_TYPE") > before.count("CMAKE_BUILD_TYPE") else ""


def _lost_test_files(before: str, after: str) -> bool:
    was, now = (Counter(word for word in _WORD.findall(text) if TEST_FILE.search(word)) for text in (before, after))
    return bool(was - now)
