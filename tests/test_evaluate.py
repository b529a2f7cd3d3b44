"""Measuring a model: paired seeds, proof of who answered, and machine failures set apart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fakes import BASE, Answer, FakeServer, FakeVerifier, make_task, solver, tasks_of

from sleepy_coder.config import EvalSettings
from sleepy_coder.errors import AnswerTimedOut, ServerError, ServerUnreachable
from sleepy_coder.judge.evaluate import Arm, evaluate, stack_id
from sleepy_coder.types import EvalReport, Message, Outcome

SETTINGS = EvalSettings(samples=3, temperature=0.7, concurrency=4, seed=900)
NUMBERS = range(1000, 1006)


def measure(
    server: FakeServer, model: str = BASE, arm: Arm = "baseline", verifier: FakeVerifier | None = None
) -> EvalReport:
    return evaluate(server, verifier or FakeVerifier(), model, arm, "w", tasks_of(NUMBERS), SETTINGS, "stack")


def test_every_arm_is_asked_the_same_with_the_same_seeds() -> None:
    server = FakeServer(solver(NUMBERS), adapter=solver([]))
    reports = [measure(server), measure(server, "adapter", "candidate")]
    asked = [
        sorted((c.messages[1].content, c.seed, c.temperature, c.max_tokens) for c in server.asked if c.model == model)
        for model in (BASE, "adapter")
    ]
    assert asked[0] == asked[1]
    keys = [[(s.task_id, s.index, s.seed) for s in report.samples] for report in reports]
    assert keys[0] == keys[1]


def test_no_two_tasks_share_a_seed_which_would_make_them_lucky_together() -> None:
    report = measure(FakeServer(solver(NUMBERS)))
    seeds = {(s.task_id, s.index): s.seed for s in report.samples}
    assert len(set(seeds.values())) == len(seeds)


def test_the_report_names_every_sample_and_who_answered() -> None:
    report = measure(FakeServer(solver([1000, 1001, 1002])))
    green = {sample.task_id for sample in report.samples if sample.outcome is Outcome.PASS}
    assert green == {make_task(number).id for number in (1000, 1001, 1002)}
    assert {sample.served_by for sample in report.samples} == {BASE}
    assert (report.pass_rate, len(report.samples), report.weights_sha256) == (0.5, 18, "w")


def test_a_reply_under_another_name_is_never_credited() -> None:
    server = FakeServer(solver(NUMBERS), adapter=solver(NUMBERS))
    server.answers_as = BASE
    with pytest.raises(ServerError, match=f"asked for adapter, but {BASE} answered"):
        measure(server, "adapter", "candidate")


def test_a_server_that_is_gone_ends_the_measurement() -> None:
    server = FakeServer(solver(NUMBERS))
    server.reachable = False
    with pytest.raises(ServerUnreachable):
        measure(server)


def failing(error: ServerError, number: int | None = None) -> Answer:
    """The right answers, but for one number's task, or all of them, on which the server fails."""
    answer = solver(NUMBERS)

    def fail(messages: Sequence[Message], temperature: float, seed: int) -> str:
        if number is None or any(f"broken_{number}" in message.content for message in messages):
            raise error
        return answer(messages, temperature, seed)

    return fail


ALONE = (AnswerTimedOut("it did not answer in time"), ServerError("CUDA error", status=500))


@pytest.mark.parametrize("error", ALONE)
def test_an_answer_that_fails_alone_is_no_failure_of_the_server(error: ServerError) -> None:
    report = measure(FakeServer(failing(error, 1000)))
    assert {s.task_id for s in report.samples if s.outcome is Outcome.INFRA} == {make_task(1000).id}
    assert report.pass_rate == 1.0


@pytest.mark.parametrize("error", ALONE)
def test_a_server_that_fails_every_answer_ends_the_measurement(error: ServerError) -> None:
    with pytest.raises(type(error), match=error.message):
        measure(FakeServer(failing(error)))


def test_a_request_that_the_server_refuses_ends_the_measurement() -> None:
    with pytest.raises(ServerError, match="no such parameter"):
        measure(FakeServer(failing(ServerError("no such parameter", status=400), 1000)))


def test_a_passing_trouble_of_the_machine_leaves_no_trace() -> None:
    verifier = FakeVerifier({make_task(1000).id: 3})
    report = measure(FakeServer(solver(NUMBERS)), verifier=verifier)
    assert {sample.outcome for sample in report.samples} == {Outcome.PASS}


def test_a_lasting_trouble_of_the_machine_is_no_failure_of_the_model() -> None:
    server = FakeServer(solver(NUMBERS))
    report = measure(server, verifier=FakeVerifier({make_task(1000).id: 1000}))
    infra = {sample.task_id for sample in report.samples if sample.outcome is Outcome.INFRA}
    assert infra == {make_task(1000).id}
    assert report.pass_rate == 1.0
    assert sum("broken_1000" in call.messages[1].content for call in server.asked) == 3 * 4


def test_the_model_is_never_asked_without_the_compilers_words() -> None:
    server = FakeServer(solver(NUMBERS))
    report = measure(server, verifier=FakeVerifier(blind={make_task(1000).id: 1000, make_task(1001).id: 3}))
    infra = {sample.task_id for sample in report.samples if sample.outcome is Outcome.INFRA}
    assert infra == {make_task(1000).id}
    assert all("error: broken" in call.messages[1].content for call in server.asked)


def test_each_finished_sample_is_told() -> None:
    told: list[None] = []
    evaluate(
        FakeServer(solver(NUMBERS)), FakeVerifier(), BASE, "other", "w", tasks_of(NUMBERS), SETTINGS, "stack",
        lambda: told.append(None),
    )  # fmt: skip
    assert len(told) == 18


@pytest.mark.parametrize("field", ["temperature", "max_tokens", "seed"])
def test_reports_drawn_otherwise_have_another_stack(field: str) -> None:
    other = SETTINGS.model_copy(update={field: getattr(SETTINGS, field) + 1})
    assert stack_id(SETTINGS, "vllm") != stack_id(other, "vllm")


def test_reports_of_other_surroundings_have_another_stack() -> None:
    assert measure(FakeServer(solver([]))).stack == stack_id(SETTINGS, "stack") != stack_id(SETTINGS, "another")


@pytest.mark.parametrize("field", ["concurrency", "samples", "baseline_samples"])
def test_how_many_are_drawn_or_in_flight_does_not_change_the_stack(field: str) -> None:
    assert stack_id(SETTINGS, "vllm") == stack_id(SETTINGS.model_copy(update={field: 1}), "vllm")
