"""What a command's output says that its status does not. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from sleepy_coder.types import Verdict
from sleepy_coder.verify.diagnostics import one_line

NO_TESTS = "no tests were found"

_FEEDBACK_LINES = 5
_PASSED = re.compile(r"^test result: ok\. (\d+) passed", re.MULTILINE)
_NO_PACKAGE = re.compile(r"no matching package named `[^`\n]+`|ModuleNotFoundError: No module named '([^'\n]+)'")
_RAN_NONE = re.compile(r"^Ran 0 tests in ", re.MULTILINE)
_FOUND_NONE = 5
"""The status of pytest, and of unittest since Python 3.12, where there is no test."""


def found_no_test(argv: Sequence[str], status: int, said: str) -> bool:
    """Whether pytest says so by its status, or unittest, which may end well then as Django's does, in words."""
    is_pytest = any(PurePosixPath(word).name == "pytest" for word in argv)
    return (is_pytest and status == _FOUND_NONE) or (status in (0, _FOUND_NONE) and bool(_RAN_NONE.search(said)))


def tested_nothing(argv: Sequence[str], said: str, files: Mapping[str, str]) -> bool:
    """Whether cargo was to run the tests of this project and ran none: it says that all is well then."""
    there = any(path.endswith(".rs") and "#[test]" in text for path, text in files.items())
    return tuple(argv[:2]) == ("cargo", "test") and there and not any(map(int, _PASSED.findall(said)))


def lacking(failed: Verdict, files: Mapping[str, str]) -> str:
    """What is not here that the check needs, a package or any test at all; "" when nothing says so.

    `files` are those of the task: a module that is among them is not missing, but looked for in the wrong place.
    """
    if failed.detail == NO_TESTS:
        return NO_TESTS
    found = _NO_PACKAGE.search(failed.detail)
    if not found:
        return ""
    module = (found[1] or "").partition(".")[0]
    if any(module in PurePosixPath(path).with_suffix("").parts for path in files):
        return f"{found[0]}, which is a part of the project: `python -m pytest` looks for it in the project's folder"
    return f"{found[0]}: the sandbox has no network and no such package"


def tail(stdout: str, stderr: str) -> str:
    """The lines of a command's output that matter most: pytest's `E` lines, else the last ones."""
    lines = [one_line(line) for line in f"{stderr}\n{stdout}".splitlines() if line.strip()]
    errors = [line.removeprefix("E ").strip() for line in lines if line.startswith("E ")]
    return "\n".join(errors[:_FEEDBACK_LINES] or lines[-_FEEDBACK_LINES:])
