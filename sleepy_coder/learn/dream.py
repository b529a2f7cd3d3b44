"""Dreaming: a verified answer for tasks that failed by day.

The model samples many answers, the compiler judges them, and the first that passes becomes a
training row. A task without one is parked. Failed output is never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.config import MixSettings
from sleepy_coder.errors import InfraError
from sleepy_coder.ports import ModelServer, Verifier
from sleepy_coder.serve.rollout import Rollout, Sampling, attempt, in_parallel, opening
from sleepy_coder.types import Example, ExampleKind, Outcome, Record, Task

WAVE = 4


class Dreams(Record):
    """The rows found, and the ids of the tasks for which nothing passed though everything could be judged."""

    found: tuple[Example, ...]
    unsolved: tuple[str, ...]


def verified_row(done: Rollout, task: Task, kind: ExampleKind, provenance: str, anchor: bool = False) -> Example | None:
    """The training row of a rollout; None unless it passed."""
    if not done.verdict.passed:
        return None
    return Example(
        messages=done.messages,
        completion=done.completion,
        kind=kind,
        task_id=task.id,
        family=task.family,
        provenance=provenance,
        anchor=anchor,
    )


def dream(
    tasks: Sequence[Task],
    models: Sequence[str],
    server: ModelServer,
    verifier: Verifier,
    settings: MixSettings,
    max_tokens: int,
    seed: int,
    concurrency: int,
) -> Dreams:
    """Up to `settings.dream_samples` answers per task from each of `models` in turn; first success wins.

    Samples go in waves of four over all open tasks, so the server's batch stays full and solved
    tasks cost nothing more.
    """
    found: dict[str, Example] = {}
    unjudged: set[str] = set()
    open_tasks = list({task.id: task for task in tasks}.values())
    for model in dict.fromkeys(models):
        for wave in range(0, settings.dream_samples, WAVE):
            jobs = [(task, wave + i) for task in open_tasks for i in range(min(WAVE, settings.dream_samples - wave))]

            def one(job: tuple[Task, int], model: str = model) -> Example | None:
                task, index = job
                sampling = Sampling(settings.dream_temperature, max_tokens, seed + index)
                try:
                    done = attempt(server, verifier, model, task, opening(verifier, task), sampling)
                except InfraError:
                    unjudged.add(task.id)
                    return None
                if done.verdict.outcome is Outcome.INFRA:
                    unjudged.add(task.id)
                return verified_row(done, task, "hard", f"dream:{task.id}")

            for row in in_parallel(one, jobs, concurrency):
                if row is not None:
                    found.setdefault(row.task_id, row)
            open_tasks = [task for task in open_tasks if task.id not in found]
    unsolved = tuple(task.id for task in open_tasks if task.id not in unjudged)
    return Dreams(found=tuple(found.values()), unsolved=unsolved)
