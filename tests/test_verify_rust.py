"""Verdicts of the real rustc in the real sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from sleepy_coder.ports import Limits
from sleepy_coder.types import Outcome, Task, Verdict
from sleepy_coder.verify.rust import RustVerifier, Toolchain, wrong_output
from sleepy_coder.verify.sandbox import BubblewrapSandbox

TESTS = """
#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn adds() {
        assert_eq!(add(1, 2), 3);
    }
}
"""
ADD = "fn add(a: i32, b: i32) -> i32 {\n    a + b\n}\nfn main() {}\n"
WRONG = ADD.replace("a + b", "a - b")


@pytest.fixture(scope="module")
def rust() -> RustVerifier:
    toolchain = Toolchain.find()
    return RustVerifier(BubblewrapSandbox([toolchain.sysroot]), toolchain, run_seconds=1)


def task(command: str, stdout: str | None = None, tests: str = "", **files: str) -> Task:
    return Task(
        id="t",
        family="f",
        category="c",
        language="rust",
        files=files or {"main.rs": ""},
        prompt="",
        command=(command,),
        origin="test",
        cluster="",
        expected_stdout=stdout,
        hidden_tests=tests,
    )


def run(rust: RustVerifier, source: str, stdout: str | None = None) -> Verdict:
    return rust.verify(task("rust-run", stdout), {"main.rs": source})


def check(rust: RustVerifier, source: str) -> Verdict:
    return rust.verify(task("rust-test", tests=TESTS), {"main.rs": source})


def test_a_program_that_prints_what_is_expected_passes(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    println!("hi");\n}\n', "hi\n")
    assert (verdict.outcome, verdict.stage) == (Outcome.PASS, "done")


def test_a_program_that_prints_something_else_fails(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    println!("ho");\n}\n', "hi\n")
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "run")
    assert verdict.feedback == 'wrong output: expected "hi" but got "ho"'


def test_a_use_after_move_is_shown_with_its_lines(rust: RustVerifier):
    source = 'fn main() {\n    let page = String::new();\n    let b = page;\n    println!("{page}{b}");\n}\n'
    verdict = run(rust, source)
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "compile")
    assert verdict.error_signature == "E0382: borrow of moved value: _"
    assert verdict.feedback.splitlines() == [
        "error[E0382]: borrow of moved value: `page`",
        "4: value borrowed here after move",
        "3: value moved here",
        "2: move occurs because `page` has type `String`, which does not implement the `Copy` trait",
    ]


def test_errors_of_a_second_file_name_it(rust: RustVerifier):
    files = {"main.rs": "mod shapes;\nfn main() {}\n", "shapes.rs": "fn f() -> i32 {\n    true\n}\n"}
    verdict = rust.verify(task("rust-run", **files), files)
    assert "shapes.rs:2: expected `i32`, found `bool`" in verdict.feedback


def test_a_line_separator_in_a_program_does_not_hide_its_errors(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    let _b: i32 = "q\u2028w";\n}\n')
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "compile")
    assert verdict.error_signature == "E0308: mismatched types"


def test_warnings_do_not_fail_and_denied_lints_do(rust: RustVerifier):
    assert run(rust, "fn unused() {}\nfn main() {}\n").passed
    assert run(rust, "fn main() {\n    let _x: u8 = 256;\n}\n").feedback.startswith("error: literal out of range")


def test_a_panic_is_quoted(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    panic!("no such page");\n}\n')
    assert (verdict.stage, verdict.feedback) == ("run", "panicked: no such page")


def test_an_error_returned_from_main_is_quoted(rust: RustVerifier):
    verdict = run(rust, 'fn main() -> Result<(), String> {\n    Err("no".into())\n}\n')
    assert verdict.feedback == 'exit code 1: Error: "no"'


def test_an_endless_loop_times_out(rust: RustVerifier):
    verdict = run(rust, "fn main() {\n    loop {}\n}\n")
    assert (verdict.outcome, verdict.stage, verdict.feedback) == (Outcome.FAIL, "run", "timed out after 1 s")


def test_a_program_that_wants_too_much_memory_fails(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    let v = vec![1u8; 8 << 30];\n    println!("{}", v.len());\n}\n')
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "run")
    assert "crashed" in verdict.feedback


def test_checking_only_compiles(rust: RustVerifier):
    assert rust.verify(task("rust-check"), {"lib.rs": "pub fn f() {}\n"}).passed
    assert rust.verify(task("rust-check"), {"main.rs": "fn main() {\n    panic!();\n}\n"}).passed
    assert rust.verify(task("rust-check"), {"lib.rs": "pub fn f() -> i32 {}\n"}).stage == "compile"


def test_hidden_tests_decide(rust: RustVerifier):
    assert check(rust, ADD).passed
    verdict = check(rust, WRONG)
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "test")
    assert verdict.feedback == "test adds failed: assertion `left == right` failed left: -1 right: 3"


def test_hidden_tests_do_not_show_in_the_feedback(rust: RustVerifier):
    verdict = check(rust, "fn main() {}\n")
    assert verdict.stage == "compile"
    assert verdict.feedback == "error[E0425]: cannot find function `add` in this scope"


@pytest.mark.parametrize(
    "trick",
    [
        "#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {}\n}\n",
        "#[macro_export]\nmacro_rules! assert_eq {\n    ($($t:tt)*) => {};\n}\n",
        "macro_rules! assert_eq {\n    ($($t:tt)*) => {};\n}\n",
        "/*",
        "#[cfg(any())]\n",
        "mod off {\n",
    ],
)
def test_no_text_before_the_hidden_tests_wins_against_them(rust: RustVerifier, trick: str):
    assert check(rust, WRONG + trick).outcome is Outcome.FAIL


def test_leaving_out_everything_under_test_does_not_pass(rust: RustVerifier):
    assert check(rust, "#![cfg(not(test))]\n" + WRONG).outcome is Outcome.FAIL


def test_ending_the_process_inside_a_test_does_not_pass(rust: RustVerifier):
    verdict = check(rust, WRONG.replace("a - b", "std::process::exit(a - b + 1)"))
    assert (verdict.outcome, verdict.feedback) == (Outcome.FAIL, "test adds did not run")


def test_a_test_task_without_tests_is_no_pass(rust: RustVerifier):
    assert rust.verify(task("rust-test"), {"main.rs": ADD}).outcome is Outcome.INFRA


NO_LINKER = '{"message": "linker `cc` not found", "level": "error", "spans": []}'


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 101", 101), ("kill -SEGV $$", 139), ("exit 1", 1), (f"echo '{NO_LINKER}' >&2; exit 1", 1)],
)
def test_a_crash_of_rustc_is_the_machines_fault(tmp_path: Path, script: str, status: int):
    tmp_path.chmod(0o755)  # root becomes another user inside
    (tmp_path / "bin").mkdir()
    rustc = tmp_path / "bin" / "rustc"
    rustc.write_text(f"#!/bin/sh\n{script}\n")
    rustc.chmod(0o755)
    crashing = Toolchain(tmp_path, tmp_path, "crashing")
    verdict = run(RustVerifier(BubblewrapSandbox([tmp_path]), crashing), ADD)
    assert (verdict.outcome, verdict.stage) == (Outcome.INFRA, "infra")
    assert f"status {status}" in verdict.detail


def test_a_missing_rustc_is_the_machines_fault(rust: RustVerifier, tmp_path: Path):
    verdict = run(RustVerifier(rust.sandbox, Toolchain(tmp_path, tmp_path, "none")), ADD)
    assert (verdict.outcome, verdict.stage) == (Outcome.INFRA, "infra")


def test_a_compiler_that_does_not_get_its_time_is_the_machines_fault(rust: RustVerifier):
    verdict = run(RustVerifier(rust.sandbox, rust.toolchain, Limits(wall_seconds=0.001)), ADD)
    assert verdict.outcome is Outcome.INFRA


def test_wrong_output_shows_the_first_line_that_differs():
    assert wrong_output("a\nb\n", "a\nc\n") == 'wrong output: expected "b" but got "c"'
    assert wrong_output("a", "a\n") == 'wrong output: expected no more lines but got ""'
    assert len(wrong_output("x" * 500, "y" * 500)) <= 180


MODULES = """
mod helpers {
    pub fn two() -> i32 { 2 }
}
mod first {
    use super::*;
    #[test]
    fn adds() { assert_eq!(add(1, helpers::two()), 3); }
    mod inner {
        use super::*;
        #[test]
        fn adds() { assert_eq!(add(1, 1), 2); }
    }
}
"""


def test_tests_in_several_modules_all_have_to_pass(rust: RustVerifier):
    assert rust.verify(task("rust-test", tests=MODULES), {"main.rs": ADD}).passed
    wrong = rust.verify(task("rust-test", tests=MODULES), {"main.rs": ADD.replace("+", "-")})
    assert (wrong.outcome, wrong.stage) == (Outcome.FAIL, "test")


def test_a_file_that_an_answer_includes_and_that_is_not_there_is_its_own_fault(rust: RustVerifier):
    verdict = run(rust, 'fn main() {\n    print!("{}", include_str!("no.txt"));\n}\n')
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "compile")
