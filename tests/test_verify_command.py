"""Any command as a check, and the dispatcher in front of all checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sleepy_coder.ports import Completed, Limits
from sleepy_coder.tasks import load_split
from sleepy_coder.types import Outcome, Task, Verdict
from sleepy_coder.verify.cache import VerdictCache
from sleepy_coder.verify.command import CommandVerifier, TaskVerifier, verifier
from sleepy_coder.verify.output import exhausted, found_no_test, lacking, nothing_tested, tail
from sleepy_coder.verify.tools import find_tools, identity

MANIFEST = '[package]\nname = "sum"\nversion = "0.1.0"\nedition = "2021"\n'
RUST = """\
pub fn sum(a: i32, b: i32) -> i32 {
    a + b
}
#[cfg(test)]
mod tests {
    #[test]
    fn sums() {
        assert_eq!(super::sum(1, 2), 3);
    }
}
"""
PYTHON = "def add(a, b):\n    return a + b\n"
PYTHON_TEST = "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskVerifier]:
    with closing(verifier(tmp_path_factory.mktemp("cache") / "verdicts.db")) as real:
        yield real


def task(command: tuple[str, ...], files: Mapping[str, str], **more: object) -> Task:
    fields: dict[str, object] = {
        "id": "t",
        "family": "f",
        "category": "c",
        "language": "any",
        "files": files,
        "prompt": "",
        "command": command,
        "origin": "test",
        "cluster": "",
    }
    return Task.model_validate({**fields, **more})


def test_cargo_tests_offline(real: TaskVerifier):
    files = {"Cargo.toml": MANIFEST, "src/lib.rs": RUST}
    cargo = task(("cargo", "test"), files)
    assert real.verify(cargo, files).passed
    wrong = real.verify(cargo, {**files, "src/lib.rs": RUST.replace("a + b", "a - b")})
    assert (wrong.outcome, wrong.stage) == (Outcome.FAIL, "test")
    assert wrong.feedback == "test sums failed: assertion `left == right` failed left: -1 right: 3"
    broken = real.verify(cargo, {**files, "src/lib.rs": RUST.replace("a + b", "a + c")})
    assert broken.feedback == "error[E0425]: cannot find value `c` in this scope\nsrc/lib.rs:2:"


def test_a_line_separator_in_a_cargo_project_does_not_hide_its_errors(real: TaskVerifier):
    files = {"Cargo.toml": MANIFEST, "src/lib.rs": 'pub const A: i32 = "q\u2028w";\n'}
    assert real.verify(task(("cargo", "test"), files), files).feedback.startswith("error[E0308]: mismatched types\n")


def test_cargo_that_runs_none_of_the_tests_there_are_has_shown_nothing(real: TaskVerifier):
    off = RUST.replace("#[test]", "#[test]\n    #[cfg(any())]")
    files = {"Cargo.toml": MANIFEST, "src/lib.rs": off}
    found = real.verify(task(("cargo", "test"), files), files)
    assert (found.outcome, found.feedback) == (Outcome.FAIL, "no test ran, though there are some")


def test_a_check_that_is_a_script_of_the_project_can_be_run(real: TaskVerifier):
    files = {"check.sh": "#!/bin/sh\ngrep -q good a.txt\n", "a.txt": "good\n"}
    given = task(("./check.sh",), files)
    assert real.verify(given, files).passed
    assert real.verify(given, {**files, "a.txt": "bad\n"}).outcome is Outcome.FAIL


def test_pytest_works_with_this_environments_packages(real: TaskVerifier):
    files = {"calc.py": PYTHON, "test_calc.py": PYTHON_TEST}
    check = task(("pytest", "-q"), files)
    assert real.verify(check, files).passed
    wrong = real.verify(check, {**files, "calc.py": PYTHON.replace("+", "-")})
    assert wrong.outcome is Outcome.FAIL
    assert "assert -1 == 3" in wrong.feedback


def test_a_missing_tool_is_the_machines_fault(real: TaskVerifier):
    assert real.verify(task(("no-such-tool",), {"a": "b"}), {"a": "c"}).outcome is Outcome.INFRA


def test_a_program_that_ends_like_a_missing_tool_has_failed_itself(real: TaskVerifier):
    files = {"calc.py": "import os\nos._exit(127)\n"}
    assert real.verify(task(("python", "calc.py"), files), files).outcome is Outcome.FAIL


def test_a_cheat_fails_without_being_run(real: TaskVerifier):
    verdict = real.verify(task(("false",), {"test_a.py": "assert add(1, 2) == 3"}), {"test_a.py": ""})
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "cheat")
    assert verdict.feedback == "not allowed: changes the test file `test_a.py`"


def test_a_known_answer_is_not_run_again(real: TaskVerifier):
    files = {"main.rs": 'fn main() {\n    println!("a");\n}\n'}
    for expected in ("a\n", "b\n"):
        check = task(("rust-run",), {"main.rs": "fn main() {\n}\n"}, expected_stdout=expected)
        first, second = real.verify(check, files), real.verify(check, files)
        assert (first.cached, second.cached) == (False, True)
        assert second == first.model_copy(update={"cached": True})


def test_equal_answers_that_come_at_the_same_time_are_run_once(tmp_path: Path):
    sandbox = CountingSandbox()
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache)
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(pool.map(lambda _: dispatcher.verify(task(("x",), {}), {"a": "b"}), range(24)))
    assert all(verdict.passed for verdict in verdicts)
    assert sandbox.runs == 1


class CountingSandbox:
    """A sandbox that runs nothing and remembers how many runs overlapped."""

    def __init__(self, returncode: int = 0) -> None:
        self.runs = self.now = self.most = 0
        self.returncode = returncode
        self.lock = threading.Lock()

    level = "fake"

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        with self.lock:
            self.runs, self.now = self.runs + 1, self.now + 1
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        with self.lock:
            self.now -= 1
        return Completed(self.returncode, "", "", 0.0)


def test_no_more_sandboxes_run_at_once_than_there_are_workers():
    sandbox = CountingSandbox()
    dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), workers=2)
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda i: dispatcher.verify(task(("x",), {}), {"a": str(i)}), range(24)))
    assert all(verdict.passed for verdict in verdicts)
    assert (sandbox.runs, sandbox.most) == (24, 2)


def test_a_failure_of_the_machine_is_tried_again(tmp_path: Path):
    sandbox = CountingSandbox(returncode=127)
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache)
        for _ in range(2):
            verdict = dispatcher.verify(task(("x",), {}), {"a": "b"})
            assert (verdict.outcome, verdict.cached) == (Outcome.INFRA, False)
    assert sandbox.runs == 2


def test_rust_tasks_without_rust_are_the_machines_fault():
    sandbox = CountingSandbox()
    dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()))
    assert dispatcher.verify(task(("rust-run",), {}), {"main.rs": ""}).outcome is Outcome.INFRA


@pytest.mark.parametrize(("status", "none"), [(0, True), (5, True), (1, False)])
def test_a_run_of_no_test_is_what_ended_well_or_says_so_by_its_status(status: int, none: bool):
    assert found_no_test(("python", "manage.py", "test"), status, "\nRan 0 tests in 0.000s\n") is none


@pytest.mark.parametrize(("program", "nothing"), [("pub fn one() {}", False), ("#[test]\nfn one() {}", True)])
def test_cargo_that_runs_no_test_has_shown_nothing_only_where_there_are_tests(program: str, nothing: bool):
    said = "test result: ok. 0 passed; 0 failed\n"
    assert nothing_tested(("cargo", "test"), said, {"src/lib.rs": program}) is nothing


def test_the_tail_prefers_what_pytest_marks_as_errors():
    assert tail("one\nE   assert 1 == 2\ntwo\n", "") == "assert 1 == 2"
    assert tail("\n".join(map(str, range(9))), "") == "4\n5\n6\n7\n8"


class Clocked(CountingSandbox):
    """Whatever runs times out, but for the files in `fast`."""

    def __init__(self, *fast: str) -> None:
        super().__init__()
        self.fast = fast

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        done = super().run(argv, files, limits, env)
        return done if files["a"] in self.fast else Completed(124, "", "", 1.0, killed="time")


@pytest.mark.parametrize(("fast", "outcome"), [(("right",), Outcome.FAIL), ((), Outcome.INFRA)])
def test_a_timeout_is_a_failure_only_while_the_tasks_own_fix_passes(
    tmp_path: Path, fast: tuple[str, ...], outcome: Outcome
):
    sandbox = Clocked(*fast)
    fixable = task(("x",), {"a": "broken"}, reference={"a": "right"})
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache)
        first, second = dispatcher.verify(fixable, {"a": "slow"}), dispatcher.verify(fixable, {"a": "slow"})
    assert first.outcome is second.outcome is outcome
    assert second.cached is (outcome is Outcome.FAIL)


@pytest.mark.parametrize(("fast", "outcome"), [(("broken",), Outcome.FAIL), ((), Outcome.INFRA)])
def test_without_a_known_fix_a_timeout_is_a_failure_only_while_the_input_ends_in_time(
    tmp_path: Path, fast: tuple[str, ...], outcome: Outcome
):
    sandbox = Clocked(*fast)
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache)
        first, second = (dispatcher.verify(task(("x",), {"a": "broken"}), {"a": "slow"}) for _ in range(2))
    assert first.outcome is second.outcome is outcome
    assert second.cached is (outcome is Outcome.FAIL)


def test_an_input_that_times_out_by_itself_has_failed(tmp_path: Path):
    sandbox = Clocked()
    dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), None)
    assert dispatcher.verify(task(("x",), {"a": "broken"}), {"a": "broken"}).outcome is Outcome.FAIL


@pytest.mark.parametrize(("status", "files"), [(1, {"a": "right"}), (0, {"a": "broken"})])
def test_a_control_that_failed_is_asked_again_and_what_it_says_then_is_remembered(
    tmp_path: Path, status: int, files: dict[str, str]
):
    sandbox = CountingSandbox(returncode=status)
    fixable = task(("x",), {"a": "broken"}, reference={"a": "right"})
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        dispatcher = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache)
        in_the_bad_night = dispatcher.verify(fixable, files)
        sandbox.returncode = 1 - status
        later = [dispatcher.verify(fixable, files) for _ in range(2)]
    assert in_the_bad_night.passed is (status == 0)
    assert [(verdict.passed, verdict.cached) for verdict in later] == [(status == 1, False), (status == 1, True)]


def test_a_verifier_without_memory_asks_again_and_shares_the_room_for_sandboxes(tmp_path: Path):
    sandbox = CountingSandbox()
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        remembers = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()), cache, workers=1)
        forgets = remembers.forgetful()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: forgets.verify(task(("x",), {}), {"a": "b"}), range(4)))
            list(pool.map(lambda _: remembers.verify(task(("x",), {}), {"a": "b"}), range(4)))
    assert (sandbox.runs, sandbox.most) == (5, 1)


def test_a_package_that_was_never_here_is_the_machines_fault(real: TaskVerifier):
    files = {"calc.py": "import no_such_package\n", "test_calc.py": PYTHON_TEST}
    verdict = real.verify(task(("pytest", "-q"), files), {**files, "calc.py": "import no_such_package\n" + PYTHON})
    assert (verdict.outcome, "No module named 'no_such_package'" in verdict.detail) == (Outcome.INFRA, True)


def test_a_package_that_an_answer_asks_for_is_its_own_fault(real: TaskVerifier):
    files = {"calc.py": PYTHON.replace("+", "-"), "test_calc.py": PYTHON_TEST}
    answer = {**files, "calc.py": "import no_such_package\n" + PYTHON}
    assert real.verify(task(("pytest", "-q"), files), answer).outcome is Outcome.FAIL


@pytest.mark.parametrize("command", [("pytest", "-q"), ("python", "-m", "unittest")])
def test_a_project_without_tests_is_neither_right_nor_wrong(real: TaskVerifier, command: tuple[str, ...]):
    files = {"calc.py": PYTHON}
    verdict = real.verify(task(command, files), {"calc.py": PYTHON.replace("+", "-")})
    assert (verdict.outcome, verdict.detail) == (Outcome.INFRA, "no tests were found")


def test_a_folder_of_the_project_that_is_not_found_is_no_missing_package(real: TaskVerifier):
    files = {"calc/__init__.py": PYTHON, "tests/test_calc.py": PYTHON_TEST}
    changed = {**files, "calc/__init__.py": PYTHON.replace("+", "-")}
    verdict = real.verify(task(("pytest", "-q"), files), changed)
    assert (verdict.outcome, "`python -m pytest`" in verdict.detail) == (Outcome.INFRA, True)
    assert real.verify(task(("python", "-m", "pytest", "-q"), files), files).passed


class Pytest(CountingSandbox):
    """pytest's status where the only test is in `test_calc.py`."""

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        return Completed(0 if "test_calc.py" in files else 5, "", "", 0.0)


def test_an_answer_that_makes_all_tests_disappear_has_failed():
    check = task(("pytest", "-q"), {"test_calc.py": PYTHON_TEST})
    assert CommandVerifier(Pytest(), None, Limits()).verify(check, {"calc.py": PYTHON}).outcome is Outcome.FAIL


def test_another_python_is_another_machine_to_tasks_with_a_command_and_no_others(monkeypatch: pytest.MonkeyPatch):
    sandbox = CountingSandbox()
    judge = TaskVerifier(sandbox, None, CommandVerifier(sandbox, None, Limits()))
    koans, own = load_split("frozen"), task(("pytest", "-q"), {"calc.py": PYTHON})
    before = judge.fingerprint_of(koans), judge.fingerprint_of((*koans, own))
    monkeypatch.setattr("sleepy_coder.verify.command._python_environment", lambda: "another pytest")
    assert before[0] == judge.fingerprint_of(koans) == f"{sandbox.level}\nno rustc"
    assert before[1] != judge.fingerprint_of((*koans, own))


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("> test\n> jest\n\nsh: 1: jest: not found", "jest: not found"),
        ("bash: line 1: jest: command not found", "jest: not found"),
        ("make: valgrind: No such file or directory\nmake: *** [Makefile:2: test] Error 127", "valgrind: not found"),
        ("/usr/bin/env: ‘node’: No such file or directory", "node: not found"),
        ("Error: Cannot find module '@babel/core'\nRequire stack:", "'@babel/core'"),
        ("Error: Cannot find module './add'", ""),
        ("Error: Cannot find module '/box/add.js'", ""),
        ("t.cc:1:10: fatal error: gtest/gtest.h: No such file or directory", "gtest/gtest.h"),
        ("t.c:1:10: fatal error: add.h: No such file or directory", ""),
        ("a.go:3:8: no required module provides package github.com/x/y; to add it:", "github.com/x/y"),
        ("AddTest.java:1: error: package org.junit does not exist", "org.junit"),
        ("A.java:1: error: package com.own does not exist", ""),
        ("Error: getaddrinfo EAI_AGAIN registry.npmjs.org", "EAI_AGAIN"),
        ("make: ./t: No such file or directory", ""),
        ("assert add(1, 2) == 3", ""),
    ],
)
def test_what_a_check_lacks_is_read_from_what_it_said_in_any_language(said: str, missing: str):
    failed = Verdict(outcome=Outcome.FAIL, stage="test", detail=said)
    found = lacking(failed, {"src/add.h": "", "src/com/own/A.java": ""})
    assert (missing in found) if missing else found == ""


def test_a_tool_behind_a_script_that_was_never_here_is_the_machines_fault(real: TaskVerifier):
    files = {"check.sh": "no-such-tool a.txt || exit 1\n", "a.txt": ""}
    verdict = real.verify(task(("sh", "check.sh"), files), {**files, "a.txt": "b"})
    assert (verdict.outcome, "no-such-tool: not found" in verdict.detail) == (Outcome.INFRA, True)


SAYS_FULL = "grep -q good a.txt && exit 0; grep -q small a.txt || printf 'ld: No space left on %s' device; exit 1\n"


@pytest.mark.parametrize(
    ("input_says", "reference", "outcome"),
    [
        ("big", None, Outcome.INFRA),
        ("small", None, Outcome.FAIL),
        ("small", "big too", Outcome.INFRA),
        ("big", "good", Outcome.FAIL),
    ],
)
def test_a_full_disk_is_the_machines_fault_where_the_control_meets_it_too(
    real: TaskVerifier, input_says: str, reference: str | None, outcome: Outcome
):
    files = {"check.sh": SAYS_FULL, "a.txt": input_says}
    check = task(("sh", "check.sh"), files, reference={"a.txt": reference} if reference else None)
    verdict = real.verify(check, {**files, "a.txt": f"{outcome} {len(reference or '')}"})
    assert (verdict.outcome, "No space left on device" in verdict.detail) == (outcome, True)


@pytest.mark.parametrize(
    ("said", "is_exhausted"),
    [
        ("error: linking with `cc` failed: signal: 9 (SIGKILL)", True),
        ("process didn't exit successfully: `rustc` (signal: 9, SIGKILL: kill)", True),
        ("collect2: fatal error: ld terminated with signal 9 [Killed]", True),
        ("c++: fatal error: Killed signal terminated program cc1plus", True),
        ("OSError: [Errno 28] No space left on device", True),
        ("Error: ENOSPC: no space left on device, write", True),
        ("fork: Cannot allocate memory", True),
        ("make: *** [Makefile:2: test] Killed", True),
        ("sh: line 1:    12 Killed                  ./t", False),
        ("assertion failed: Killed", False),
        ("FAIL: write_reports_ENOSPC", False),
        ("expected signal 9 got 15", False),
        ("signal: 6, SIGABRT: process abort signal", False),
    ],
)
def test_what_ran_out_is_read_from_what_a_tool_said(said: str, is_exhausted: bool):
    assert exhausted(Verdict(outcome=Outcome.FAIL, stage="test", detail=said), {}) is is_exhausted


def test_words_of_a_tasks_own_files_tell_of_no_lack():
    failed = Verdict(outcome=Outcome.FAIL, stage="test", detail="expected 'No space left on device'")
    assert not exhausted(failed, {"test_log.py": "assert 'No space left on device' in said"})


class Linker:
    """Checks as `RustVerifier` does where its linker fails: `fails` are the texts that it cannot link."""

    fingerprint = "linker"

    def __init__(self, *fails: str, control: Outcome = Outcome.FAIL) -> None:
        self.fails, self.control = fails, control

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        text = files["main.rs"]
        if text not in self.fails:
            return Verdict(outcome=Outcome.PASS, stage="done")
        if text != "answer" and self.control is Outcome.INFRA:
            return Verdict.infra("the command was killed from outside its limits")
        said = "error: linking with `cc` failed: signal: 9 (SIGKILL)"
        return Verdict(outcome=Outcome.FAIL, stage="compile", feedback=said)


@pytest.mark.parametrize(
    ("linker", "outcome"),
    [
        (Linker("answer"), Outcome.FAIL),
        (Linker("answer", "right"), Outcome.INFRA),
        (Linker("answer", "right", control=Outcome.INFRA), Outcome.INFRA),
    ],
    ids=["the answer alone", "the control too", "the control is killed"],
)
def test_a_linker_that_is_killed_is_the_machines_fault_where_the_tasks_own_fix_does_not_link_either(
    tmp_path: Path, linker: Linker, outcome: Outcome
):
    check = task(("rust-run",), {"main.rs": "broken"}, reference={"main.rs": "right"})
    with closing(VerdictCache(tmp_path / "v.db")) as cache:
        judge = TaskVerifier(CountingSandbox(), linker, CommandVerifier(CountingSandbox(), None, Limits()), cache)
        found = [judge.verify(check, {"main.rs": "answer"}) for _ in range(2)]
    assert [verdict.outcome for verdict in found] == [outcome] * 2
    assert found[1].cached is (outcome is Outcome.FAIL)


def test_a_program_that_is_too_large_for_the_sandbox_is_its_own_fault(real: TaskVerifier):
    koan = next(task for task in load_split("day") if task.command == ("rust-run",))
    large = 'static X: [u8; 80 << 20] = [1; 80 << 20];\nfn main() { println!("{}", X[3]); }\n'
    assert real.verify(koan, {"main.rs": large}).outcome is Outcome.FAIL


def test_what_the_tasks_own_fix_puts_there_is_not_missing_on_the_machine(real: TaskVerifier):
    files = {"check.sh": "PATH=.:$PATH\nmended || exit 1\n", "a.txt": ""}
    fix = {"mended": "#!/bin/sh\n"}
    check = task(("sh", "check.sh"), files, reference=fix)
    assert real.verify(check, {**files, "a.txt": "b"}).outcome is Outcome.FAIL
    assert real.verify(check, {**files, **fix}).passed


@pytest.mark.parametrize(
    ("status", "said", "none"),
    [
        (0, "Test project /box/b\nNo tests were found!!!", True),
        (8, "No tests were found!!!", True),
        (0, "make: Nothing to be done for 'test'.", True),
        (0, "make: 'test' is up to date.", True),
        (0, "make[1]: 'lib.a' is up to date.\n./t\nall well", False),
        (0, "1..0\n# tests 0\n# pass 0", True),
        (0, "ok 1 - adds\n# tests 1\n# pass 1", False),
        (0, "?   \ta/b\t[no test files]", True),
        (0, "?   \ta/b\t[no test files]\nok  \ta/c\t0.01s", False),
        (0, "ok  \ta/c\t0.01s [no tests to run]", True),
        (1, "?   \ta/b\t[no test files]\nFAIL\ta/c [build failed]", False),
        (0, "> Task :test NO-SOURCE\nBUILD SUCCESSFUL", True),
        (0, "> Task :a:test NO-SOURCE\n> Task :b:test\nBUILD SUCCESSFUL", False),
        (0, "[INFO] No tests to run.", True),
        (0, "[INFO] No tests to run.\nTests run: 3, Failures: 0", False),
        (1, "No tests found, exiting with code 1", True),
        (0, "  0 passing (1ms)", True),
        (0, "No tests found, exiting with code 0\nTests:       1 passed, 1 total", False),
        (1, "No tests found, exiting with code 0\nTests:       1 failed, 2 passed, 3 total", False),
        (0, "No test files found\n      Tests  3 passed (3)", False),
        (0, "?   \ta/b\t[no test files]\n=== 3 passed in 0.1s ===", False),
        (0, "  0 passing (1ms)\nRan 12 tests in 0.1s", False),
        (0, "", False),
    ],
)
def test_a_runner_of_any_language_that_found_no_test_is_understood(status: int, said: str, none: bool):
    assert found_no_test(("npm", "test"), status, said) is none


@pytest.mark.parametrize("said", ["\n" * 200_000, ". " * 100_000 + "\n", (" " * 400 + "\n") * 500])
def test_output_without_words_is_read_in_one_pass(said: str):
    """With a pattern that begins anew at each line this takes minutes, and the suite's time limit ends it."""
    assert not found_no_test(("npm", "test"), 1, said)


def test_the_tail_puts_first_what_tells_what_is_wrong():
    node = "not ok 1 - adds\n  error: |-\n  expected: 3\n  actual: -1\n# fail 1\n# cancelled 0\n# skipped 0\n# todo 0\n"
    assert tail(node, "").splitlines()[:3] == ["not ok 1 - adds", "expected: 3", "actual: -1"]
    gcc = "t.c:1:10: fatal error: x.h: No such file\n" + "context\n" * 6
    assert tail("", gcc).startswith("t.c:1:10: fatal error: x.h")


def test_another_tool_is_another_machine_to_the_commands_that_use_it_and_no_others(tmp_path: Path):
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    before = [identity(argv, str(tmp_path)) for argv in (("npm", "test"), ("pytest", "-q"), ("sh", "-c", "node a.js"))]
    node.write_text("#!/bin/sh\n# another one\n")
    after = [identity(argv, str(tmp_path)) for argv in (("npm", "test"), ("pytest", "-q"), ("sh", "-c", "node a.js"))]
    assert [was == now for was, now in zip(before, after, strict=True)] == [False, True, False]


def test_a_tool_off_the_systems_path_is_found_and_nothing_beside_it_is_shown(tmp_path: Path):
    (tmp_path / "v20" / "bin").mkdir(parents=True)
    (tmp_path / "v20" / "private").mkdir()
    package = tmp_path / "v20" / "lib" / "node_modules" / "runner"
    package.mkdir(parents=True)
    (package / "package.json").write_text("{}")
    (package / "cli.js").write_text("#!/usr/bin/env node\n")
    (package / "cli.js").chmod(0o755)
    (tmp_path / "v20" / "bin" / "runner").symlink_to("../lib/node_modules/runner/cli.js")
    tools = find_tools(str(tmp_path / "v20" / "bin"), tmp_path / "project", ("runner",))
    assert tools.folders == (tmp_path / "v20" / "bin",)
    assert set(tools.shown) == {tmp_path / "v20" / "bin", package}
    assert find_tools(str(tmp_path / "v20" / "bin"), tmp_path / "v20" / "bin" / "project", ("runner",)).shown == ()
