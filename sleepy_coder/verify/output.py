"""What a command's output says that its status does not. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from sleepy_coder.types import Outcome, Verdict
from sleepy_coder.verify.diagnostics import one_line

NO_TESTS = "no tests were found"

_FEEDBACK_LINES = 5
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TELLING = re.compile(
    r"(?:^|\s|\w)[Ee]rror: (?!\|)|^not ok\b|^--- FAIL\b|\bAssertion(?:Error)?\b(?!')"
    r"|\bFAIL(?:ED|URE!)|\*\*\*Failed|\(Failed\)|^\W*(?i:expected|received|actual)\b"
)
_PASSED = re.compile(r"^test result: ok\. (\d+) passed", re.MULTILINE)

# Each names what is missing in its one group that matches.
_MISSING = re.compile(
    r"no matching package named `(?P<crate>[^`\n]+)`"
    r"|ModuleNotFoundError: No module named '(?P<module>[^'\n]+)'"
    r"|^(?:\S+: (?:line )?\d+|make(?:\[\d+\])?|\S*env): [‘'`]?(?P<tool>[\w.+@-]+)[’']?: "
    r"(?:(?:command )?not found|No such file or directory)$"
    r"|Cannot find (?:module|package) '(?P<node>(?![./~#]|@/)[^'\n]+)'"
    r"|fatal error: '?(?P<header>[^\s:']+)'?(?:: No such file or directory| file not found)"
    r"|ld: cannot find -l(?P<library>[^\s:]+)"
    r"|^CMake Error at [^\n]+:\n\s+(?:Could NOT find |By not providing \"Find)(?P<cmake>\w+)"
    r"|(?:no required module provides|cannot find module providing) package (?P<go>[^\s;:]+)"
    r"|error: package (?P<java>[\w.]+) does not exist"
    r"|(?:artifact|Plugin) (?P<maven>[\w.-]+:[\w.:-]+)[^\n]*(?:resolved|offline|transfer|find)"
    r"|No cached version of (?P<gradle>\S+) available"
    r"|(?P<network>EAI_AGAIN|Temporary failure in name resolution|Could not resolve host|dial tcp: lookup)",
    re.MULTILINE,
)

# How compilers, linkers, make and runtimes say that memory or disk ran out, or that something killed a tool.
_EXHAUSTED = re.compile(
    r"No space left on device|Disk quota exceeded|Cannot allocate memory|ENOSPC: no space|ENOMEM: not enough"
    r"|signal: 9\b|terminated with signal 9\b|Killed signal terminated program|^make(?:\[\d+\])?: \*\*\* .*\bKilled$",
    re.MULTILINE,
)

# What runners say where there is no test: those that end with an error by it, those that end well, and what one that
# ran some says.
_SAYS_NONE = re.compile(
    r"^[^\w\n]*(?:No tests were found!!!|(?:Error: )?No test files found|No tests found, exiting)", re.MULTILINE
)
_RAN_NONE = re.compile(
    r"^(?:#|ℹ) tests 0$|^[ \t]*0 passing\b|\[no test files\]$|\[no tests to run\]$|matched no packages$"
    r"|^no packages to test|^> Task \S*:test NO-SOURCE$|No tests to run\.|^No test is available in ",
    re.MULTILINE,
)
_RAN_SOME = re.compile(
    r"^(?:#|ℹ) tests [1-9]|^[ \t]*[1-9]\d* (?:passing|failing|passed|failed)\b"
    r"|^[ \t]*Tests:?[ \t]+(?:\S+ \w+(?:, | \| ))*[1-9]\d* (?:passed|failed)\b"
    r"|^=+ (?:\d+ \w+, )*[1-9]\d* (?:passed|failed)\b"
    r"|^Ran [1-9]\d* tests? in |^ok[ \t]+\S+[ \t]+(?!.*\[no tests to run\]$)|^> Task \S*[tT]est(?: FAILED)?$"
    r"|Tests run: [1-9]|Total tests: [1-9]|tests passed, |Passed!",
    re.MULTILINE,
)
_UNITTEST_NONE = re.compile(r"^Ran 0 tests in ", re.MULTILINE)
_MADE_NOTHING = re.compile(
    r"make(?:\[\d+\])?: (?:Nothing to be done for .*|.* is up to date\.|(?:Entering|Leaving) directory .*)"
)
_FOUND_NONE = 5
"""The status of pytest, and of unittest since Python 3.12, where there is no test."""


def plain(said: str) -> str:
    """What was said, without colours."""
    return _COLOUR.sub("", said)


def found_no_test(argv: Sequence[str], status: int, said: str) -> bool:
    """Whether the check's runner found no test: by pytest's status, or in a runner's words where it ends well then."""
    if any(PurePosixPath(word).name == "pytest" for word in argv) and status == _FOUND_NONE:
        return True
    if _SAYS_NONE.search(said) or (status in (0, _FOUND_NONE) and _UNITTEST_NONE.search(said)):
        return not _RAN_SOME.search(said)
    if status != 0:
        return False
    lines = said.splitlines()
    idle = bool(lines) and all(map(_MADE_NOTHING.fullmatch, lines))
    return idle or (bool(_RAN_NONE.search(said)) and not _RAN_SOME.search(said))


def nothing_tested(argv: Sequence[str], said: str, files: Mapping[str, str]) -> bool:
    """Whether cargo was to run the tests of this project and ran none: it says that all is well then."""
    there = any(path.endswith(".rs") and "#[test]" in text for path, text in files.items())
    return tuple(argv[:2]) == ("cargo", "test") and there and not any(map(int, _PASSED.findall(said)))


def lacking(failed: Verdict, files: Mapping[str, str]) -> str:
    """What is not here that the check needs, a tool, a package or any test at all; "" when nothing says so.

    `files` are those of the task: a module that is among them is not missing, but looked for in the wrong place.
    """
    if failed.detail == NO_TESTS:
        return NO_TESTS
    for found in _MISSING.finditer(failed.detail):
        kind, name = str(found.lastgroup), found[str(found.lastgroup)]
        is_part = _is_part(kind, name, files)
        if kind == "module" and is_part:
            where = "`python -m pytest` looks for it in the project's folder"
            return f"{found[0]}, which is a part of the project: {where}"
        if not is_part:
            said = f"{name}: not found" if kind == "tool" else found[0]
            return f"{said}: the sandbox has no network and no such {'tool' if kind == 'tool' else 'package'}"
    return ""


def exhausted(failed: Verdict, files: Mapping[str, str]) -> bool:
    """Whether a failure is one for lack of memory or disk, or of a tool that was killed, as far as its words tell.

    `files` are those of the task: what stands in them may be what its tests are about.
    """
    if failed.outcome is not Outcome.FAIL:
        return False
    said = _EXHAUSTED.findall(f"{failed.feedback}\n{failed.detail}")
    return any(not any(words in text for text in files.values()) for words in said)


def _is_part(kind: str, name: str, files: Mapping[str, str]) -> bool:
    """Whether what is missing is a file or a folder of the project."""
    paths = map(PurePosixPath, files)
    match kind:
        case "module":
            return any(name.partition(".")[0] in path.with_suffix("").parts for path in paths)
        case "header":
            return any(path.name == PurePosixPath(name).name for path in paths)
        case "java":
            return any(f"/{name.replace('.', '/')}/" in f"/{path}" for path in paths)
        case _:
            return False


def tail(stdout: str, stderr: str) -> str:
    """The lines of a command's output that matter most: pytest's `E` lines, else those that tell what is wrong before
    the last ones."""
    lines = [one_line(line) for line in f"{stderr}\n{stdout}".splitlines() if line.strip()]
    errors = [line.removeprefix("E ").strip() for line in lines if line.startswith("E ")]
    if errors:
        return "\n".join(errors[:_FEEDBACK_LINES])
    telling = [line for line in lines if _TELLING.search(line)][:_FEEDBACK_LINES]
    others = [line for line in lines if line not in telling]
    return "\n".join((*telling, *others[max(0, len(others) + len(telling) - _FEEDBACK_LINES) :]))
