"""Dreaming: only what the verifier passed becomes a row, and solved tasks cost nothing more."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from fakes import BASE, Answer, FakeServer, FakeVerifier, make_episode, make_task, right_answer, solver, tasks_of

from sleepy_coder.config import MixSettings
from sleepy_coder.dialogue import HINTS, first_messages
from sleepy_coder.learn.dream import CHAINS, WAVE, Dreamer, Dreams, dream
from sleepy_coder.types import Episode, Example, Message, Outcome, Task, Verdict


def dream_of(numbers: Sequence[int], server: FakeServer, models: Sequence[str] = (BASE,), samples: int = 16) -> Dreams:
    settings = MixSettings(dream_samples=samples)
    return dream(tasks_of(numbers), Dreamer(models, server, FakeVerifier(), settings, 64, seed=500, concurrency=4))


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


def test_an_answer_that_was_cut_at_the_longest_length_is_never_a_row() -> None:
    server = FakeServer(solver([1]))
    server.ends = "length"
    assert dream_of([1], server).found == ()


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
    dreams = dream(tasks_of([1, 2]), Dreamer([BASE], FakeServer(solver([1])), verifier, settings, 64, 0, concurrency=2))
    assert dreams == Dreams(found=(), unsolved=(make_task(2).id,))


# Beyond samples


def hint(task: Task, verdict: Verdict) -> str:
    return f"like: `broken` became `mended` in {task.family}"


def staged(
    numbers: Sequence[int],
    server: FakeServer,
    models: Sequence[str] = (BASE,),
    answered: Sequence[Episode] = (),
    **settings: int,
) -> Dreams:
    few = MixSettings(**{"dream_samples": 2, "dream_turns": 2, "dream_hinted": 2, **settings})
    known = {episode.task.id: episode for episode in answered if episode.task}
    dreamer = Dreamer(
        *(models, server, FakeVerifier(), few, 64, 500, 4),
        hints=[hint],
        answered=lambda wanted: [known[id] for id in wanted if id in known],
    )
    return dream(tasks_of(numbers), dreamer)


def after_feedback(turns: int) -> Answer:
    """A model that is right in its answer to the `turns`-th feedback, and wrong in a new way each time."""

    def answer(messages: Sequence[Message], temperature: float, seed: int) -> str:
        failures = sum("1|nonsense" in message.content for message in messages) + sum(
            f"turn_{turn}" in message.content for message in messages for turn in range(9)
        )
        said = messages[-1].content
        turn = 0 if len(messages) == 2 else 1 + int(said.partition("turn_")[2][:1] or 0)
        assert failures <= 2, "older failures are left out"
        return right_answer(1) if turn == turns else f"1|turn_{turn}"

    return answer


@pytest.mark.parametrize("turns", [1, 2])
def test_an_answer_after_feedback_is_paired_with_the_first_prompt(turns: int) -> None:
    server = FakeServer(after_feedback(turns))
    dreams = staged([1], server)
    (row,) = dreams.found
    assert (row.completion, row.provenance) == (right_answer(1), f"dream-feedback:{make_task(1).id}")
    assert row.messages == first_messages(make_task(1), "error: broken")
    assert dreams.stages == {"feedback": 1}


def test_feedback_ends_after_its_turns_and_equal_failures_are_gone_on_with_once() -> None:
    server = FakeServer(solver([]))
    dreams = staged([1], server, dream_hinted=0)
    assert dreams.unsolved == (make_task(1).id,)
    assert [len(call.messages) for call in server.asked] == [2, 2, 4, 4]


def test_feedback_goes_on_with_a_few_of_many_different_failures() -> None:
    server = FakeServer(lambda messages, temperature, seed: f"1|nonsense_{seed}")
    staged([1], server, dream_samples=2 * CHAINS, dream_turns=1, dream_hinted=0)
    assert [len(call.messages) for call in server.asked].count(4) == CHAINS


def test_each_model_is_told_what_became_of_its_own_answers() -> None:
    server = FakeServer(lambda *_: "1|bases", adapter=lambda *_: "1|adapters")
    staged([1], server, ["adapter", BASE], dream_turns=1, dream_hinted=0)
    told = {(call.model, call.messages[2].content) for call in server.asked if len(call.messages) == 4}
    assert told == {("adapter", "1|adapters"), (BASE, "1|bases")}


def only_with_hints(messages: Sequence[Message], temperature: float, seed: int) -> str:
    return right_answer(1) if HINTS in messages[1].content else "1|nonsense"


def test_hints_are_in_the_prompt_that_finds_the_answer_and_not_in_the_row() -> None:
    server = FakeServer(only_with_hints)
    dreams = staged([1], server)
    (row,) = dreams.found
    assert dreams.stages == {"hints": 1}
    assert row.messages == first_messages(make_task(1), "error: broken")
    assert any(HINTS in call.messages[1].content for call in server.asked)


def test_no_hint_is_in_any_row_whichever_stage_found_it() -> None:
    def mixed(messages: Sequence[Message], temperature: float, seed: int) -> str:
        number = int(messages[1].content.partition("broken_")[2].partition("]")[0])
        ways = (True, len(messages) > 2, HINTS in messages[1].content, False)
        return right_answer(number) if ways[number % 4] else f"1|nonsense_{number}"

    others = [saying(make_episode(number, Outcome.PASS), right_answer(number)) for number in (3, 7)]
    dreams = staged(range(8), FakeServer(mixed), answered=others)
    assert dreams.stages == {"samples": 2, "feedback": 2, "hints": 2, "others": 2}
    assert not [row for row in dreams.found if "mended" in "".join(m.content for m in row.messages)]
    assert all(row.messages == first_messages(make_task(n), "error: broken") for n, row in numbered(dreams))


def numbered(dreams: Dreams) -> list[tuple[int, Example]]:
    numbers = {make_task(number).id: number for number in range(8)}
    return [(numbers[row.task_id], row) for row in dreams.found]


def saying(episode: Episode, completion: str) -> Episode:
    attempt = episode.attempts[0].model_copy(update={"completion": completion})
    return episode.model_copy(update={"attempts": (attempt,)})


def test_another_ones_answer_is_verified_again_and_told_in_our_form() -> None:
    whole = (make_task(2).reference or {})["main.rs"]
    bad = saying(make_episode(1, Outcome.PASS), "1|nonsense")
    good = saying(make_episode(2, Outcome.PASS), f"Here it is:\n```rust\n{whole}```\n")
    dreams = staged([1, 2], FakeServer(solver([])), answered=[bad, good])
    (row,) = dreams.found
    assert (row.task_id, row.completion) == (make_task(2).id, right_answer(2))
    assert dreams.unsolved == (make_task(1).id,)


def test_without_hints_nothing_but_samples_is_asked_for() -> None:
    server = FakeServer(solver([]))
    dream_of([1], server, samples=4)
    assert {len(call.messages) for call in server.asked} == {2}
    assert not any(HINTS in call.messages[1].content for call in server.asked)


def test_a_conversation_that_outgrows_the_context_has_no_answer_and_is_parked() -> None:
    server = FakeServer(solver([]))
    server.room = sum(len(message.content) for message in first_messages(make_task(1), "error: broken"))
    assert staged([1], server).unsolved == (make_task(1).id,)


def test_each_way_to_give_hints_is_tried_in_turn_and_an_answer_ends_it() -> None:
    server = FakeServer(solver([]))
    dreamer = Dreamer(
        *([BASE], server, FakeVerifier(), MixSettings(dream_samples=0, dream_turns=0, dream_hinted=2), 64, 500, 4),
        hints=[lambda task, verdict: "first way", lambda task, verdict: "second way"],
    )
    assert dream(tasks_of([1]), dreamer).found == ()
    assert ["first way" in call.messages[1].content for call in server.asked] == [True, True, False, False]
    assert len({call.seed for call in server.asked}) == 4
