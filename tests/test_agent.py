"""The built-in agent: red, feedback, green, and every attempt on record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import BASE, FakeClock, FakeServer, FakeVerifier, make_task, right_answer, solver, tasks_of

from sleepy_coder.collect.agent import solve, work_through
from sleepy_coder.config import AgentSettings
from sleepy_coder.dialogue import first_messages, retry_messages
from sleepy_coder.errors import AnswerTimedOut, ServerError, ServerUnreachable
from sleepy_coder.store import Store
from sleepy_coder.types import Episode, Message, Outcome

SETTINGS = AgentSettings(attempts=3, temperature=0.1, retry_temperature=0.9, max_tokens=77, concurrency=4)


def green_after_feedback(messages: Sequence[Message], temperature: float, seed: int) -> str:
    said = messages[-1].content
    return right_answer(1) if "no such name in nonsense_1" in said else "1|nonsense_1"


def work_on(number: int, server: FakeServer, verifier: FakeVerifier | None = None) -> Episode:
    return solve(make_task(number), BASE, server, verifier or FakeVerifier(), SETTINGS, FakeClock(), "s", seed=40)


def test_a_red_answer_comes_back_with_the_compilers_words_and_turns_green() -> None:
    episode = work_on(1, FakeServer(green_after_feedback))
    assert [attempt.verdict.outcome for attempt in episode.attempts] == [Outcome.FAIL, Outcome.PASS]
    assert (episode.outcome, episode.outcome_source) == (Outcome.PASS, "verifier")
    assert (episode.served_by, episode.task) == (BASE, make_task(1))


def test_every_attempt_is_recorded_with_the_literal_messages_that_were_sent() -> None:
    server = FakeServer(green_after_feedback)
    first, second = work_on(1, server).attempts
    assert [first.messages, second.messages] == [call.messages for call in server.asked]
    assert first.messages == first_messages(make_task(1), "error: broken")
    assert second.messages == retry_messages(first.messages, first.completion, first.verdict.feedback)


def test_what_passes_though_it_was_cut_at_the_longest_length_is_a_pass_that_teaches_nothing(tmp_path: Path) -> None:
    server = FakeServer(solver([1]))
    server.ends = "length"
    with Store(tmp_path / "sleepy.db") as store:
        store.save_episodes([work_on(1, server)])
        assert (store.waiting().verified, store.waiting().trainable) == (1, 0)


def test_a_retry_shows_only_the_last_failure() -> None:
    attempts = work_on(1, FakeServer(solver([]))).attempts
    assert [len(attempt.messages) for attempt in attempts] == [2, 4, 4]


def test_there_are_at_most_as_many_attempts_as_set_and_then_the_task_has_failed() -> None:
    server = FakeServer(solver([]))
    episode = work_on(1, server)
    assert (len(episode.attempts), len(server.asked), episode.outcome) == (3, 3, Outcome.FAIL)


def test_attempts_differ_in_seed_and_retries_are_drawn_hotter() -> None:
    server = FakeServer(solver([]))
    work_on(1, server)
    assert [(call.seed, call.temperature, call.max_tokens) for call in server.asked] == [
        (40, 0.1, 77),
        (41, 0.9, 77),
        (42, 0.9, 77),
    ]


def test_a_failure_of_the_machine_ends_the_episode_and_is_not_the_models() -> None:
    server = FakeServer(solver([1]))
    episode = work_on(1, server, FakeVerifier({make_task(1).id: 1}))
    assert (len(episode.attempts), episode.outcome) == (1, Outcome.INFRA)


def test_a_conversation_that_outgrows_the_context_ends_the_episode_with_what_was_tried() -> None:
    server = FakeServer(solver([]))
    first = work_on(1, server).attempts[0].messages
    server.room = sum(len(message.content) for message in first)
    episode = work_on(1, server)
    assert (len(episode.attempts), episode.outcome) == (1, Outcome.FAIL)


def test_a_task_that_does_not_fit_the_context_is_not_the_models_failure() -> None:
    server = FakeServer(solver([1]))
    server.room = 10
    episode = work_on(1, server)
    assert (episode.attempts, episode.outcome) == ((), Outcome.INFRA)
    assert "longer than the model's context" in episode.reason


def test_a_task_whose_error_cannot_be_seen_is_not_given_to_the_model() -> None:
    server = FakeServer(solver([1]))
    episode = work_on(1, server, FakeVerifier(blind={make_task(1).id: 1}))
    assert (episode.attempts, episode.outcome, server.asked) == ((), Outcome.INFRA, [])
    assert f"task {make_task(1).id} could not be judged: " in episode.reason


def test_an_answer_without_an_edit_is_the_models_failure_and_it_is_told_so() -> None:
    server = FakeServer(lambda messages, temperature, seed: "I would rename it.")
    first, second, _ = work_on(1, server).attempts
    assert (first.verdict.outcome, first.verdict.stage) == (Outcome.FAIL, "format")
    assert "no valid edit" in second.messages[-1].content


def test_an_answer_from_another_model_is_an_error() -> None:
    server = FakeServer(solver([1]))
    server.answers_as = "somebody-else"
    with pytest.raises(ServerError, match="somebody-else answered"):
        work_on(1, server)


def test_working_through_saves_each_episode_and_yields_them_in_order() -> None:
    saved: list[Episode] = []
    tasks = tasks_of(range(8))
    found = list(
        work_through(
            tasks, BASE, FakeServer(solver(range(4))), FakeVerifier(), SETTINGS, FakeClock(), "s", saved.append
        )
    )
    assert [episode.task for episode in found] == list(tasks)
    assert [episode.outcome for episode in found] == [Outcome.PASS] * 4 + [Outcome.FAIL] * 4
    assert {episode.id for episode in saved} == {episode.id for episode in found}


def test_an_answer_on_which_the_server_fails_ends_its_episode_and_no_other() -> None:
    right = solver(range(4))

    def fail(messages: Sequence[Message], temperature: float, seed: int) -> str:
        if any("broken_1" in message.content for message in messages):
            raise AnswerTimedOut("it did not answer in time")
        return right(messages, temperature, seed)

    found = work_through(
        tasks_of(range(4)), BASE, FakeServer(fail), FakeVerifier(), SETTINGS, FakeClock(), "s", lambda _: None
    )
    one, *others = sorted(found, key=lambda episode: episode.outcome is Outcome.PASS)
    assert one.outcome is Outcome.INFRA and "did not answer in time" in one.reason
    assert [episode.outcome for episode in others] == [Outcome.PASS] * 3


def test_an_episode_saved_before_the_server_went_away_is_kept() -> None:
    server = FakeServer(solver(range(8)))
    saved: list[Episode] = []

    def save(episode: Episode) -> None:
        saved.append(episode)
        server.reachable = False

    one_at_a_time = SETTINGS.model_copy(update={"concurrency": 1})
    with pytest.raises(ServerUnreachable):
        list(work_through(tasks_of(range(8)), BASE, server, FakeVerifier(), one_at_a_time, FakeClock(), "s", save))
    assert [episode.task for episode in saved] == [make_task(0)]
