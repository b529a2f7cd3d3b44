"""Measure one model on one task set, through the server that will serve it."""

from __future__ import annotations

import contextlib
import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from sleepy_coder.config import EvalSettings
from sleepy_coder.errors import InfraError
from sleepy_coder.ports import ModelServer, Verifier
from sleepy_coder.serve.rollout import Hinter, Rollout, Sampling, attempt, in_parallel, opening
from sleepy_coder.tasks import set_id
from sleepy_coder.types import EvalReport, Outcome, Sample, Task

TRIES = 4
HEAT: Final = 0.8
"""The temperature of several samples a task, where nothing else is said."""
Arm = Literal["baseline", "current", "candidate", "other"]


def stack_id(settings: EvalSettings, environment: str) -> str:
    """Short hash of all that must be equal for two reports to be comparable: how each answer is drawn (not how many
    are), and the `environment` (server, sandbox level, compiler, prompt)."""
    drawn = f"{settings.temperature}/{settings.max_tokens}/{settings.seed}"
    if settings.temperature:  # a greedy answer has no luck to share
        drawn += "/seeded by task"
    return hashlib.sha256(f"{drawn}\n{environment}".encode()).hexdigest()[:16]


def seed_of(task: Task, index: int, settings: EvalSettings) -> int:
    """The seed of a sample: the same in all arms, and another for each task.

    Tasks with one seed would be answered with the same random numbers, and so be lucky or unlucky together.
    """
    return settings.seed + index + zlib.crc32(task.id.encode()) % 2**30


def _measured(work: Callable[[], Rollout]) -> Rollout | None:
    """The rollout, asked again while the machine fails; None when it fails to the end."""
    for _ in range(TRIES):
        with contextlib.suppress(InfraError):
            done = work()
            if done.verdict.outcome is not Outcome.INFRA:
                return done
    return None


def evaluate(
    server: ModelServer,
    verifier: Verifier,
    model: str,
    arm: Arm,
    weights_sha256: str,
    tasks: Sequence[Task],
    settings: EvalSettings,
    environment: str,
    on_sample: Callable[[], object] = lambda: None,
    hints: Hinter | None = None,
) -> EvalReport:
    """First-attempt samples of `model` on every task, with the same seeds whatever the model.

    A machine failure is asked again, TRIES times in all, and then stands as INFRA. Raises ServerError
    when the server fails or answers with another model than `model`.
    """
    jobs = [(task, index) for task in tasks for index in range(settings.samples)]
    started = time.monotonic()

    def one(job: tuple[Task, int]) -> Sample:
        task, index = job
        seed = seed_of(task, index, settings)
        sampling = Sampling(settings.temperature, settings.max_tokens, seed)
        done = _measured(lambda: attempt(server, verifier, model, task, opening(verifier, task, hints), sampling))
        on_sample()
        return Sample(
            task_id=task.id,
            family=task.family,
            category=task.category,
            index=index,
            seed=seed,
            outcome=done.verdict.outcome if done else Outcome.INFRA,
            served_by=done.served_by if done else model,
            error_signature=done.verdict.error_signature if done else "",
            completion=done.completion if done else "",
        )

    samples = tuple(in_parallel(one, jobs, settings.concurrency))
    return EvalReport(
        model=model,
        arm=arm,
        weights_sha256=weights_sha256,
        set_id=set_id(tasks),
        stack=stack_id(settings, environment),
        samples=samples,
        seconds=round(time.monotonic() - started, 3),
    )


def joined(one: EvalReport, other: EvalReport, tasks: Sequence[Task]) -> EvalReport:
    """What one arm answered in two goes; `tasks` are those of both."""
    samples, seconds = one.samples + other.samples, round(one.seconds + other.seconds, 3)
    return one.model_copy(update={"samples": samples, "seconds": seconds, "set_id": set_id(tasks)})


def restricted(report: EvalReport, tasks: Sequence[Task]) -> EvalReport:
    """The part of a report that is about `tasks`."""
    ids = {task.id for task in tasks}
    samples = tuple(sample for sample in report.samples if sample.task_id in ids)
    return report.model_copy(update={"samples": samples, "set_id": set_id(tasks)})
