"""Hints: what helps with an error is found by the error, and never comes from the task itself or a frozen one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import BASE, FROZEN, FakeVerifier, make_task, right_answer
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.dialogue import HINTS, feedback_in, first_messages, retry_messages, with_hints, without_hints
from sleepy_coder.learn.hints import FACTS, Hints, change, suggestions
from sleepy_coder.serve.rollout import opening
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import Attempt, Episode, Message, Outcome, Task, Verdict
from sleepy_coder.verify.command import verifier

MOVED = "error[E0382]: borrow of moved value: `x`\n1: value moved here"
FAILED = Verdict(outcome=Outcome.FAIL, stage="compile", feedback=MOVED)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        yield opened


def solved(number: int, feedback: str = MOVED, answer: str | None = None, task: Task | None = None) -> Episode:
    """The built-in agent's episode on task `number`, solved at once."""
    task = task or make_task(number)
    attempt = Attempt(
        messages=first_messages(task, feedback),
        completion=right_answer(number) if answer is None else answer,
        verdict=Verdict(outcome=Outcome.PASS, stage="done"),
        served_by=BASE,
    )
    return Episode(
        id=f"solved-{number}",
        session="s",
        source="agent",
        task=task,
        attempts=(attempt,),
        outcome=Outcome.PASS,
        outcome_source="verifier",
        served_by=BASE,
        created="2026-11-24T00:00:00Z",  # pyright: ignore[reportArgumentType]
    )


def hints(store: Store, frozen: tuple[Task, ...] = ()) -> Hints:
    return Hints(store, LeakIndex(frozen))


def test_a_fix_of_the_same_mistake_elsewhere_is_a_hint(store: Store) -> None:
    store.save_episodes([solved(1), solved(2, "error[E0425]: cannot find value `y` in this scope")])
    said = hints(store)(make_task(3), FAILED)
    assert "`const LIMIT: [i64; 2] = [3, broken_1];` became `const LIMIT: [i64; 2] = [3, mended_1];`" in said
    assert "mended_2" not in said
    assert FACTS["E0382"] in said


def test_where_no_fix_mends_the_same_mistake_one_of_its_code_is_taken(store: Store) -> None:
    store.save_episodes([solved(1, "error[E0382]: use of moved value: `y`")])
    assert "mended_1" in hints(store)(make_task(3), FAILED)


def test_a_tasks_own_answer_is_no_hint_for_it(store: Store) -> None:
    store.save_episodes([solved(1)])
    assert "mended_1" not in hints(store)(make_task(1), FAILED)


def test_what_is_close_to_a_frozen_task_is_no_hint(store: Store) -> None:
    frozen = make_task(FROZEN[0])
    copy = frozen.model_copy(update={"id": "renamed-copy"})
    store.save_episodes([solved(FROZEN[0], task=copy)])
    assert "mended" in hints(store)(make_task(3), FAILED)
    assert "mended" not in hints(store, (frozen,))(make_task(3), FAILED)


def test_a_shortcut_is_no_hint(store: Store) -> None:
    store.save_episodes([solved(1, answer="1|const LIMIT: [i64; 2] = todo!();")])
    assert "todo" not in hints(store)(make_task(3), FAILED)


def test_the_likest_fix_comes_first_and_there_are_two_at_most(store: Store) -> None:
    near = "error[E0382]: borrow of moved value: `x`\n1: value moved here"
    far = "error[E0382]: borrow of moved value: `other`\n7: something else entirely"
    store.save_episodes([solved(number, far) for number in (11, 12)])
    store.save_episodes([solved(21, near)])
    store.save_episodes([solved(number, far) for number in (13, 14)])
    told = [line for line in hints(store)(make_task(31), FAILED).split("\n") if line.startswith("like:")]
    assert len(told) == 2
    assert "mended_21" in told[0]


def test_rustc_itself_suggests_the_edits() -> None:
    tasks = [task for task in load_split("day") if task.family == "compare_reference"][:1]
    judge = verifier()
    for task in tasks:
        edits = list(suggestions(judge.verify(task, task.files).detail))
        assert edits
        assert all(edit.partition("|")[0].isdigit() for edit in edits)


def test_the_first_difference_is_told_in_one_line() -> None:
    assert change("a\n b\nc\n", "a\n d\nc\n") == "like: `b` became `d`"
    assert change("a\n", "x\na\n") == "like: add `x`"
    assert change("a\nb\n", "a\n") == "like: drop `b`"
    assert change("a\n", "a\n") == ""
    assert change("".join(f"{n}\n" for n in range(9)), "".join(f"x{n}\n" for n in range(9))) == ""


@given(TEXTS, TEXTS.filter(str.strip), TEXTS)
def test_hints_are_taken_out_again_without_a_trace(feedback: str, said: str, failed: str) -> None:
    first = first_messages(make_task(1), feedback)
    for plain in (first, retry_messages(first, failed, "no")):
        assert without_hints(plain) == without_hints(with_hints(plain, said)) == plain


def test_a_prompt_and_a_compiler_may_speak_of_hints_themselves() -> None:
    task = make_task(1).model_copy(update={"prompt": f"Mend it.\n{HINTS}\nmind the unit."})
    plain = first_messages(task, f"error: no\n{HINTS}\n{HINTS}\nuse a box")
    assert without_hints(plain) == without_hints(with_hints(plain, f"a\n{HINTS}\nb")) == plain
    assert "mind the unit." in plain[1].content


def test_a_users_own_words_are_not_taken_for_hints() -> None:
    asked = (Message(role="user", content=f"Do it.\n{HINTS}\nbe quick"),)
    assert without_hints(asked) == asked


def test_a_prompt_tells_what_the_compiler_said_hints_or_not() -> None:
    first = first_messages(make_task(1), MOVED)
    assert feedback_in(first) == feedback_in(with_hints(first, "x")) == MOVED
    assert feedback_in((Message(role="user", content="no program"),)) == feedback_in(()) == ""


def test_an_opening_without_a_hint_is_the_plain_one() -> None:
    plain = opening(FakeVerifier(), make_task(1))
    assert opening(FakeVerifier(), make_task(1), lambda task, verdict: "") == plain
    assert HINTS in opening(FakeVerifier(), make_task(1), lambda task, verdict: "x")[1].content


def test_only_the_sources_that_are_asked_for_are_used(store: Store) -> None:
    store.save_episodes([solved(1)])
    frozen = LeakIndex(())
    assert Hints(store, frozen, ("facts",))(make_task(3), FAILED) == FACTS["E0382"]
    assert Hints(store, frozen, ("fixes",))(make_task(3), FAILED).startswith("like: ")
    assert Hints(store, frozen, ("suggestions",))(make_task(3), FAILED) == ""
