"""What the base model can do already, in its own words: the anchors, which every mix replays."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import TypeAdapter

from sleepy_coder.errors import InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.dream import verified_row
from sleepy_coder.material import recipe_of
from sleepy_coder.parts import Parts
from sleepy_coder.serve.rollout import Rollout, Sampling, attempt, in_parallel, opening
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Example, Outcome, Task

_EXAMPLES = TypeAdapter(tuple[Example, ...])


def write_anchors(parts: Parts) -> tuple[Example, ...]:
    """The base model's own verified answers to rehearsal tasks, written once per base model.

    Self-synthesised rehearsal (SSR: Huang et al., ACL 2024) without a judge model: the compiler
    decides which answers are worth keeping. None for a recipe that replays nothing.
    """
    if recipe_of(parts).rows != "mix":
        return ()
    tasks, file = _anchor_tasks(parts), _anchor_file(parts)
    if file.is_file():
        return known_anchors(parts)
    sampling = Sampling(0.0, parts.config.agent.max_tokens)

    def answer(task: Task) -> Rollout | None:
        with contextlib.suppress(InfraError):
            return attempt(
                parts.punctual, parts.verifier, parts.base.name, task, opening(parts.verifier, task), sampling
            )

    rows: list[Example] = []
    whole = True
    for number, done in enumerate(in_parallel(answer, tasks, parts.config.eval.concurrency)):
        parts.watcher.tick(number + 1, len(tasks))
        whole = whole and done is not None and done.verdict.outcome is not Outcome.INFRA
        if done and (row := verified_row(done, tasks[number], "replay", f"anchor:{tasks[number].id}", anchor=True)):
            rows.append(row)
    if whole:  # else what the machine withheld is asked again next night
        write_atomic(file, _EXAMPLES.dump_json(tuple(rows), round_trip=True))
    return tuple(rows)


def known_anchors(parts: Parts) -> tuple[Example, ...]:
    """The anchors that are written already; none before the first night of a base model."""
    file = _anchor_file(parts)
    return _EXAMPLES.validate_json(file.read_bytes()) if file.is_file() else ()


def _anchor_tasks(parts: Parts) -> tuple[Task, ...]:
    return parts.rehearsal[: parts.config.mix.anchors]


def _anchor_file(parts: Parts) -> Path:
    return parts.config.state / f"anchors-{parts.base.sha256[:12]}-{set_id(_anchor_tasks(parts))}.json"
