"""The built-in agent: red, patch, green, with the compiler's words in between."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence

from sleepy_coder.config import AgentSettings
from sleepy_coder.dialogue import retry_messages
from sleepy_coder.errors import ContextTooLong, InfraError
from sleepy_coder.ports import Clock, ModelServer, Verifier
from sleepy_coder.serve.rollout import Hinter, Sampling, attempt, in_parallel, opening
from sleepy_coder.types import Attempt, Episode, Outcome, Task


def solve(
    task: Task,
    model: str,
    server: ModelServer,
    verifier: Verifier,
    settings: AgentSettings,
    clock: Clock,
    session: str,
    seed: int,
    hints: Hinter | None = None,
) -> Episode:
    """Work on `task` until it passes or the attempts are used up; every attempt is recorded.

    Each retry shows the model its last answer and what it led to; older failures are left out, so
    that the conversation stays short. INFRA ends the episode: the machine failed, not the model. So does a
    conversation that has outgrown the model's context: what was tried before it counts.
    """
    attempts: list[Attempt] = []
    try:
        first = messages = opening(verifier, task, hints)
    except InfraError as error:
        return _episode(task, model, clock, session, seed, attempts, Outcome.INFRA, error.message)
    for number in range(settings.attempts):
        temperature = settings.temperature if number == 0 else settings.retry_temperature
        sampling = Sampling(temperature, settings.max_tokens, seed + number)
        try:
            done = attempt(server, verifier, model, task, messages, sampling)
        except ContextTooLong:
            break
        except InfraError as error:
            return _episode(task, model, clock, session, seed, attempts, Outcome.INFRA, error.message)
        attempts.append(
            Attempt(
                messages=done.messages,
                completion=done.completion,
                verdict=done.verdict,
                served_by=done.served_by,
                thoughts=done.thoughts,
            )
        )
        if done.verdict.outcome is not Outcome.FAIL:
            break
        messages = retry_messages(first, done.completion, done.verdict.feedback)
    outcome = attempts[-1].verdict.outcome if attempts else Outcome.INFRA
    reason = "" if attempts else f"task {task.id} is longer than the model's context"
    return _episode(task, model, clock, session, seed, attempts, outcome, reason)


def _episode(
    task: Task,
    model: str,
    clock: Clock,
    session: str,
    seed: int,
    attempts: Sequence[Attempt],
    outcome: Outcome,
    reason: str,
) -> Episode:
    return Episode(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{session}/{task.id}/{seed}")),
        session=session,
        source="agent",
        task=task,
        attempts=tuple(attempts),
        outcome=outcome,
        outcome_source="verifier",
        served_by=model,
        created=clock.now(),
        reason=reason,
    )


def work_through(
    tasks: Sequence[Task],
    model: str,
    server: ModelServer,
    verifier: Verifier,
    settings: AgentSettings,
    clock: Clock,
    session: str,
    on_episode: Callable[[Episode], object],
    hints: Hinter | None = None,
) -> Iterator[Episode]:
    """Solve `tasks`, several at a time. `on_episode` saves each one before it is yielded, so that
    an interruption loses only what is in flight. `hints` are put into every prompt where they are given."""

    def one(task: Task) -> Episode:
        seed = int(hashlib.sha256(f"{session}/{task.id}".encode()).hexdigest()[:7], 16)
        episode = solve(task, model, server, verifier, settings, clock, session, seed, hints)
        on_episode(episode)
        return episode

    yield from in_parallel(one, tasks, settings.concurrency)
