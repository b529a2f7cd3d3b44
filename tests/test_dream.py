"""Dreaming: only what the verifier passed becomes a row, and solved tasks cost nothing more."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from fakes import BASE, Answer, FakeServer, FakeVerifier, make_task, right_answer, solver, tasks_of

from sleepy_coder.config import MixSettings
from sleepy_coder.learn.dream import WAVE, Dreams, dream
from sleepy_coder.types import Message


def dream_of(numbers: Sequence[int], server: FakeServer, models: Sequence[str] = (BASE,), samples: int = 16) -> Dreams:
    settings = MixSettings(dream_samples=samples)
    return dream(tasks_of(numbers), models, server, FakeVerifier(), settings, 64, seed=500, concurrency=4)


def after(tries: int) -> Answer:
    """A model that is right from its `tries`-th answer to the same prompt on."""
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def answer(messages: Sequence[Message], temperature: float, seed: int) -> str:
        with lock:
            count = seen[messages[1].content] = seen.get(messages[1].content, 0) + 1
        return solver(range(100) if count >= tries else ())(messages, temperature, seed)

    return answer


def test_the_first_verified_answer_of_a_failed_task_becomes_a_hard_row() -> None:
    dreams = dream_of([1, 2], FakeServer(solver([1])))
    (row,) = dreams.found
    task = make_task(1)
    assert (row.completion, row.kind, row.task_id) == (right_answer(1), "hard", task.id)
    assert row.provenance == f"dream:{task.id}"
    assert "error: broken" in row.messages[-1].content
    assert dreams.unsolved == (make_task(2).id,)


def test_an_answer_that_fails_is_never_a_row() -> None:
    dreams = dream_of(range(6), FakeServer(solver([])))
    assert dreams.found == ()
    assert set(dreams.unsolved) == {task.id for task in tasks_of(range(6))}


def test_a_solved_task_is_asked_about_no_more_after_its_wave() -> None:
    server = FakeServer(after(2))
    assert len(dream_of([1], server).found) == 1
    assert len(server.asked) == WAVE


def test_an_unsolved_task_gets_all_its_samples_each_with_its_own_seed() -> None:
    server = FakeServer(solver([]))
    dream_of([1], server, samples=6)
    assert sorted(call.seed for call in server.asked) == list(range(500, 506))
    assert {call.temperature for call in server.asked} == {0.8}


def test_the_second_model_dreams_only_about_what_the_first_did_not_solve() -> None:
    server = FakeServer(solver([1, 2]), adapter=solver([1]))
    dreams = dream_of([1, 2], server, ["adapter", BASE], samples=4)
    assert dreams.unsolved == ()
    asked_of_base = {call.messages[1].content for call in server.asked if call.model == BASE}
    assert len(asked_of_base) == 1 and "broken_2" in asked_of_base.pop()


def test_a_task_that_failed_twice_is_dreamed_of_once() -> None:
    dreams = dream_of([3, 3, 3], FakeServer(solver([3])), samples=1)
    assert len(dreams.found) == 1


@pytest.mark.parametrize("fails", ["infra", "blind"])
def test_a_task_that_could_not_be_judged_is_neither_solved_nor_unsolved(fails: str) -> None:
    verifier = FakeVerifier(**{fails: {make_task(1).id: 1000}})
    settings = MixSettings(dream_samples=2)
    dreams = dream(tasks_of([1, 2]), [BASE], FakeServer(solver([1])), verifier, settings, 64, 0, concurrency=2)
    assert dreams == Dreams(found=(), unsolved=(make_task(2).id,))
