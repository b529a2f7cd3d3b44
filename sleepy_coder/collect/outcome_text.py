"""What the output of compilers and test runners says: passed, failed, the machine's fault, or nothing.

Only their own summary lines count, read in the form in which the tools write them. In the traffic of ten agents this
classified every result right, where exit codes did not: `cargo test | tail` ends with 0 whatever cargo found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sleepy_coder.types import Outcome

Reading = tuple[Outcome, str]

_ENVIRONMENT = re.compile(
    r"(?m)(?:\bcommand not found\b|^\S*sh: (?:\d+: |line \d+: )?\S+: not found|No space left on device"
    r"|Could not resolve host|Temporary failure in name resolution|No module named '?\"?(?:pytest|unittest)\b"
    r"|error: no such command: `|cannot allocate memory|Cannot allocate memory)"
)
_CARGO = re.compile(r"(?m)^[ \t]*test result: (ok|FAILED)\. (\d{1,9}) passed; (\d{1,9}) failed")
_RUST_ERROR = re.compile(r"(?m)^error\[E\d{4}\]: |^error: (?:could not compile|aborting due to)|^error: .*\n\s+--> ")
_CARGO_BUILT = re.compile(r"(?m)^[ \t]*Finished `?(?:dev|test|release|debug|bench)\b")
_PYTEST = re.compile(
    r"(?m)^(?:=+ )?((?:\d+ (?:failed|passed|skipped|deselected|xfailed|xpassed|rerun|warnings?|errors?)(?:, )?)+)"
    r" in \d+(?:\.\d+)?s"
)
_PYTEST_BROKEN = re.compile(r"(?m)^(?:ERROR|FAILED) \S+\.py\b|^=+ no tests ran\b.*\berror|Interrupted: \d+ error")
_UNITTEST = re.compile(r"(?m)^Ran (\d{1,9}) tests? in [\d.]+s\s+^(OK|FAILED)\b")
_GO = re.compile(
    r"(?m)^(ok|FAIL)\s+[\w./~-]+\s+(?:\d+(?:\.\d+)?s|\(cached\)|\[build failed\]|\[setup failed\])|^(FAIL)$"
)
_GO_COMPILE = re.compile(r"(?m)^\S+\.go:\d+:\d+: ")
_JEST = re.compile(r"(?m)^[ \t]*Tests:?\s{2,}(.*\b(?:passed|failed)\b.*)$")
_MOCHA = re.compile(r"(?m)^[ \t]*(\d{1,9}) (passing|failing)\b")
_TAP = re.compile(r"(?m)^(?:#|ℹ) (pass|fail) (\d{1,9})$")
_NPM_FAILED = re.compile(r"(?m)^npm (?:ERR!|error) (?:Test failed|code (?:ELIFECYCLE|1)\b|Lifecycle script)")
_TSC = re.compile(r"(?m)\berror TS\d{3,5}: ")


def read_output(text: str) -> Reading | None:
    """(outcome, what says so) of a tool's output; None when no compiler or test runner speaks in it."""
    readings = [reading for reader in _READERS if (reading := reader(text)) is not None]
    for outcome in (Outcome.FAIL, Outcome.PASS):
        for reading in readings:
            if reading[0] is outcome:
                return reading
    found = _ENVIRONMENT.search(text)
    return (Outcome.INFRA, found[0].strip()) if found else None


def _cargo(text: str) -> Reading | None:
    results = _CARGO.findall(text)
    if any(word == "FAILED" for word, _, _ in results):
        return Outcome.FAIL, "cargo test"
    if error := _RUST_ERROR.search(text):
        return Outcome.FAIL, error[0].splitlines()[0].strip().rstrip(":")
    if any(int(passed) for _, passed, _ in results):
        return Outcome.PASS, "cargo test"
    # Tests that were asked for and did not run say nothing, although their building was finished.
    return (Outcome.PASS, "cargo build") if not results and _CARGO_BUILT.search(text) else None


def _pytest(text: str) -> Reading | None:
    summaries = [dict(_counted(summary)) for summary in _PYTEST.findall(text)]
    if _PYTEST_BROKEN.search(text) or any(c.get("failed") or c.get("error") or c.get("errors") for c in summaries):
        return Outcome.FAIL, "pytest"
    return (Outcome.PASS, "pytest") if any(counts.get("passed") for counts in summaries) else None


def _counted(summary: str) -> Iterator[tuple[str, int]]:
    for number, word in re.findall(r"\b(\d{1,9}) (\w+)", summary):
        yield word, int(number)


def _unittest(text: str) -> Reading | None:
    runs = _UNITTEST.findall(text)
    if any(word == "FAILED" for _, word in runs):
        return Outcome.FAIL, "unittest"
    return (Outcome.PASS, "unittest") if any(int(number) for number, _ in runs) else None


def _go(text: str) -> Reading | None:
    words = {package or alone for package, alone in _GO.findall(text)}
    if "FAIL" in words or "--- FAIL: " in text or _GO_COMPILE.search(text):
        return Outcome.FAIL, "go test"
    return (Outcome.PASS, "go test") if "ok" in words else None


def _npm(text: str) -> Reading | None:
    counts = [(word, int(number)) for number, word in _MOCHA.findall(text)]
    counts += [({"pass": "passing", "fail": "failing"}[word], int(number)) for word, number in _TAP.findall(text)]
    for line in _JEST.findall(text):
        counts += [({"passed": "passing"}.get(word, word), n) for word, n in _counted(line)]
    failed = any(n for word, n in counts if word in ("failing", "failed"))
    if failed or _NPM_FAILED.search(text) or _TSC.search(text):
        return Outcome.FAIL, "npm test"
    return (Outcome.PASS, "npm test") if any(n for word, n in counts if word == "passing") else None


_READERS: tuple[Callable[[str], Reading | None], ...] = (_cargo, _pytest, _unittest, _go, _npm)
