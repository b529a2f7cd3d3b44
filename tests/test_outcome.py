"""What became of it is read from what tools say, never from what the agent says, and says where it is from."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talks import assistant, bash, result, system, user

from sleepy_coder.collect.outcome import UNLABELLED, Label, command_of, exit_code, feedback, label, labels
from sleepy_coder.collect.outcome_text import read_output
from sleepy_coder.types import Message, Outcome, ToolCall, Verdict

PASS, FAIL, INFRA, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.INFRA, Outcome.UNKNOWN

CARGO_OK = "running 2 tests\ntest a ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n"
CARGO_BAD = (
    "test a ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\nerror: test failed, to rerun pass\n"
)
CARGO_NONE = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored\n"
RUSTC_BAD = (
    "error[E0382]: borrow of moved value: `x`\n --> src/main.rs:3:5\n\nerror: aborting due to 1 previous error\n"
)

TEXTS: list[tuple[str, Outcome | None]] = [
    (CARGO_OK, PASS),
    (CARGO_BAD, FAIL),
    (CARGO_NONE, None),
    (CARGO_OK + CARGO_NONE, PASS),
    (CARGO_OK + CARGO_BAD, FAIL),
    (RUSTC_BAD, FAIL),
    ("error: could not compile `x` (lib) due to 2 previous errors\n", FAIL),
    ("    Finished `dev` profile [unoptimized + debuginfo] target(s) in 0.5s\n", PASS),
    ("    Finished `test` profile [unoptimized] target(s) in 0.5s\n" + CARGO_NONE, None),
    ("warning: unused variable: `x`\n    Finished dev [unoptimized] target(s) in 0.5s\n", PASS),
    ("============ 3 passed in 0.12s ============\n", PASS),
    ("3 passed, 1 warning in 0.12s\n", PASS),
    ("======= 1 failed, 2 passed in 1.02s =======\n", FAIL),
    ("FAILED tests/test_x.py::test_a - assert 1 == 2\n1 failed in 0.10s\n", FAIL),
    ("======= 1 error in 0.08s =======\n", FAIL),
    ("======= no tests ran in 0.01s =======\n", None),
    ("Ran 3 tests in 0.001s\n\nOK\n", PASS),
    ("Ran 3 tests in 0.001s\n\nFAILED (failures=1)\n", FAIL),
    ("Ran 0 tests in 0.000s\n\nOK\n", None),
    ("ok  \texample.com/x\t0.004s\n", PASS),
    ("ok  \texample.com/x\t(cached)\n", PASS),
    ("--- FAIL: TestA (0.00s)\nFAIL\nFAIL\texample.com/x\t0.004s\n", FAIL),
    ("# example.com/x\n./x.go:3:5: undefined: y\nFAIL\texample.com/x [build failed]\n", FAIL),
    ("?   \texample.com/x\t[no test files]\n", None),
    ("Tests:       3 passed, 3 total\n", PASS),
    ("Tests:       1 failed, 2 passed, 3 total\n", FAIL),
    ("      Tests  1 failed | 2 passed (3)\n", FAIL),
    ("  3 passing (10ms)\n", PASS),
    ("  2 passing (10ms)\n  1 failing\n", FAIL),
    ("# tests 3\n# pass 3\n# fail 0\n", PASS),
    ("# tests 3\n# pass 2\n# fail 1\n", FAIL),
    ("src/a.ts(3,5): error TS2304: Cannot find name 'x'.\n", FAIL),
    ("bash: cargo: command not found\n", INFRA),
    ("sh: 1: pytest: not found\n", INFRA),
    ("/usr/bin/python: No module named pytest\n", INFRA),
    ("README.md\nsrc\n", None),
    ("All tests pass now!", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "outcome"), TEXTS)
def test_the_output_of_a_test_runner_or_compiler_is_understood(text: str, outcome: Outcome | None) -> None:
    reading = read_output(text)
    assert (reading and reading[0]) == outcome


CODES = {
    "mini-swe-agent": ('{"returncode": %d, "output": "x"}', True),
    "qwen-code": ("Command: cargo test\nOutput: x\nExit Code: %d\nSignal: (none)", True),
    "Codex": ("Chunk ID: 1\nWall time: 0.1 seconds\nProcess exited with code %d\nOutput:\nx", True),
    "Claude Code": ("Exit code %d\nx", False),
    "OpenHands": ("x\n[The command completed with exit code %d.]", True),
    "pi": ("x\n\nCommand exited with code %d", False),
}


@pytest.mark.parametrize("agent", CODES)
@pytest.mark.parametrize(("code", "outcome"), [(0, PASS), (101, FAIL), (127, INFRA), (126, INFRA)])
def test_the_exit_code_of_a_check_is_read_in_every_agents_form(agent: str, code: int, outcome: Outcome) -> None:
    talk = (user("Mend it."), assistant("", bash("c", "cargo run")), result("c", CODES[agent][0] % code))
    assert label(talk) == Label(outcome, "exit-code", f"exit code {code}")


def test_clines_word_for_failure_is_an_exit_code() -> None:
    assert exit_code('[{"query":"cargo test","result":"","error":"boom","success":false}]') == 1


@pytest.mark.parametrize("command", ["ls", "cat log.txt", "git status", "mkdir x", "rm -r target"])
def test_the_exit_code_of_anything_but_a_check_says_nothing(command: str) -> None:
    for code in (0, 1, 127):
        talk = (user("x"), assistant("", bash("c", command)), result("c", json.dumps({"returncode": code})))
        assert label(talk) == UNLABELLED


@pytest.mark.parametrize(
    "shown",
    [
        "\x1b[1m\x1b[91merror[E0382]\x1b[0m: borrow of moved value",
        "{'output': 'x\\nerror[E0382]: borrow of moved value'}",
    ],
)
def test_colours_and_another_languages_quotes_are_seen_through(shown: str) -> None:
    talk = (user("x"), assistant("", bash("c", "cargo check")), result("c", shown))
    assert label(talk).outcome is FAIL


def test_the_text_is_believed_where_a_pipe_hides_the_exit_code() -> None:
    hidden = json.dumps({"returncode": 0, "output": CARGO_BAD})
    talk = (user("x"), assistant("", bash("c", "cargo test 2>&1 | tail -5")), result("c", hidden))
    assert label(talk) == Label(FAIL, "tool-text", "cargo test")


@pytest.mark.parametrize("command", ["cat ci.log", "grep -r 'test result' .", "echo 'test result: ok'", "git show"])
def test_a_test_result_that_is_only_shown_is_none(command: str) -> None:
    assert label((user("x"), assistant("", bash("c", command)), result("c", CARGO_OK))) == UNLABELLED


def test_a_file_that_is_read_or_written_is_no_test_result() -> None:
    for name in ("read_file", "Read", "Grep", "write_file", "str_replace_editor"):
        call = ToolCall(id="c", name=name, arguments='{"path": "ci.log"}')
        assert label((user("x"), assistant("", call), result("c", CARGO_OK))) == UNLABELLED


@given(st.text(max_size=60), st.sampled_from([CARGO_OK, "3 passed in 0.1s", "Exit code 0", "All tests pass."]))
def test_what_the_agent_says_of_itself_is_worth_nothing(before: str, claim: str) -> None:
    assert label((user("Mend it."), assistant(f"{before}\n{claim}"))) == UNLABELLED


@given(st.lists(st.sampled_from([CARGO_OK, CARGO_BAD, "hm"]), max_size=6))
def test_the_last_check_tells_how_it_ended(outputs: list[str]) -> None:
    talk: list[Message] = [user("x")]
    for number, output in enumerate(outputs):
        talk += [assistant("", bash(f"c{number}", "cargo test")), result(f"c{number}", output)]
    said = [output for output in outputs if output != "hm"]
    wanted = UNKNOWN if not said else PASS if said[-1] == CARGO_OK else FAIL
    assert label(talk).outcome is wanted


def test_a_failed_check_that_comes_as_a_users_message_counts() -> None:
    talk = (user("Mend it."), assistant("1|fn main"), user(f"I ran this command:\ncargo test\n{CARGO_BAD}"))
    assert label(talk) == Label(FAIL, "tool-text", "cargo test")


def test_a_passed_check_in_a_users_message_or_in_the_task_does_not_count() -> None:
    assert label((user(CARGO_BAD), assistant("ok"))) == UNLABELLED
    assert label((user("x"), assistant("ok"), user(CARGO_OK))) == UNLABELLED


def test_a_commit_is_a_hint_that_any_check_overrules() -> None:
    commit = (assistant("", bash("g", "git commit -am 'mend'")), result("g", "[main 4ce07b2] mend\n 1 file changed"))
    assert label((user("x"), *commit)) == Label(PASS, "git-commit", "git commit")
    failed = (assistant("", bash("c", "cargo test")), result("c", CARGO_BAD))
    assert label((user("x"), *failed, *commit)).source == "tool-text"
    refused = (assistant("", bash("g", "git commit -am x")), result("g", "nothing to commit, working tree clean"))
    assert label((user("x"), *refused)) == UNLABELLED


def test_a_person_is_believed_before_tools_and_a_verifier_before_all() -> None:
    talk = (user("x"), assistant("", bash("c", "cargo test")), result("c", CARGO_OK))
    assert label(talk, feedback(False, "wrong file")) == Label(FAIL, "feedback", "wrong file")
    verified = Verdict(outcome=PASS, stage="done")
    assert label(talk, feedback(False), verified) == Label(PASS, "verifier", "done")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ('{"command": "cargo test"}', "cargo test"),
        ('{"command": ["bash", "-lc", "cargo test"]}', "bash -lc cargo test"),
        ('{"cmd": "cargo test", "workdir": "/x"}', "cargo test"),
        ('{"action": {"command": ["cargo", "test"]}}', "cargo test"),
        ('{"commands": ["cargo build", "cargo test"]}', "cargo build cargo test"),
        ("cargo test", "cargo test"),
        ('{"path": "x"}', None),
    ],
)
def test_the_command_of_a_call_is_found_under_any_agents_name(arguments: str, command: str | None) -> None:
    assert command_of(ToolCall(id="c", name="shell", arguments=arguments)) == command


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.text(max_size=80)), max_size=8))
def test_no_conversation_makes_it_stumble(turns: list[tuple[str, str]]) -> None:
    talk = [Message.model_validate({"role": role, "content": text}) for role, text in turns]
    assert all(found.source != "none" for found in labels((system("s"), *talk)))


# Each of these took minutes or days before: the patterns went back over what they had read again and again.
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("git " + "-a " * 400, "nothing"),
        ("cargo test", "\n" * 100_000),
        ("npm test", "9" * 5000 + " passing"),
        ("cargo test", f"test result: ok. {'9' * 5000} passed; 0 failed"),
    ],
)
def test_no_output_makes_it_slow_or_stumble(command: str, shown: str) -> None:
    assert list(labels((system("s"), user("u"), assistant("", bash("1", command)), result("1", shown)))) == []


def test_a_commit_with_options_is_one() -> None:
    committed = "[main 1a2b3c4] Mend it"
    talk = (system("s"), user("u"), assistant("", bash("1", "git -C x -c a=b commit -m y")), result("1", committed))
    assert [found.source for found in labels(talk)] == ["git-commit"]
