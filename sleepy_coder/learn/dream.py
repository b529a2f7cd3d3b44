"""Dreaming: a verified answer for tasks that failed by day.

Four stages, and the first that finds an answer wins: many samples; another try with what the compiler says of the
failed ones; samples with hints in the prompt; what somebody else answered. The row is always the plain first prompt
with the answer: neither what came in between nor a hint is learned. A task without an answer is parked. Failed output
is never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from sleepy_coder.config import MixSettings
from sleepy_coder.dialogue import ReplyFormatError, apply_reply, reply_between, retry_messages, without_hints
from sleepy_coder.errors import ContextTooLong, InfraError
from sleepy_coder.ports import ModelServer, Verifier
from sleepy_coder.serve.rollout import Hinter, Rollout, Sampling, attempt, in_parallel, opening
from sleepy_coder.types import Episode, Example, ExampleKind, Outcome, Record, Task

WAVE: Final = 4
CHAINS: Final = 4
"""Different failed answers to one task that are gone on with."""

Stage = Literal["samples", "feedback", "hints", "others"]
_SEEDS: Final = 100  # from one way of asking to the next


class Dreams(Record):
    """The rows found, and the ids of the tasks for which nothing passed though everything could be judged.

    `stages` says how many of the rows each stage found.
    """

    found: tuple[Example, ...]
    unsolved: tuple[str, ...]
    stages: dict[str, int] = {}


def verified_row(done: Rollout, task: Task, kind: ExampleKind, provenance: str, anchor: bool = False) -> Example | None:
    """The training row of a rollout; None unless it passed and was ended by the model."""
    if not done.verdict.passed or done.cut:
        return None
    return Example(
        messages=without_hints(done.messages),
        completion=done.completion,
        kind=kind,
        task_id=task.id,
        family=task.family,
        provenance=provenance,
        anchor=anchor,
        thoughts=done.thoughts,
    )


@dataclass(frozen=True, slots=True)
class Dreamer:
    """Whom dreaming asks, and how: each of `models` in turn.

    `hints` are ways to give hints, each tried in turn. Without any, only samples are drawn and others' answers looked
    at; `answered` gives an episode that passed for each of some tasks that has one.
    """

    models: Sequence[str]
    server: ModelServer
    verifier: Verifier
    settings: MixSettings
    max_tokens: int
    seed: int
    concurrency: int
    hints: Sequence[Hinter] = ()
    answered: Callable[[Collection[str]], Iterable[Episode]] = lambda _: ()


def dream(tasks: Sequence[Task], dreamer: Dreamer) -> Dreams:
    """Answers to `tasks`, each dreamed about once. Solved tasks cost nothing more."""
    night = _Night(dreamer, list({task.id: task for task in tasks}.values()))
    night.sample("samples", dreamer.settings.dream_samples)
    if dreamer.hints:
        night.go_on(dreamer.settings.dream_turns)
    for number, hints in enumerate(dreamer.hints):
        night.sample("hints", dreamer.settings.dream_hinted, hints, seeds=(number + 1) * _SEEDS)
    night.look_at_others()
    unsolved = tuple(task.id for task in night.open if task.id not in night.unjudged)
    return Dreams(found=tuple(night.found.values()), unsolved=unsolved, stages=night.stages)


@dataclass(frozen=True, slots=True)
class _Question:
    task: Task
    model: str
    seed: int
    hints: Hinter | None = None
    failed: Rollout | None = None


@dataclass(slots=True)
class _Night:
    """What is known of the tasks so far. `failed` holds, by task, the rollouts of different answers that failed."""

    dreamer: Dreamer
    open: list[Task]
    found: dict[str, Example] = field(default_factory=dict[str, Example])
    stages: dict[str, int] = field(default_factory=dict[str, int])
    unjudged: set[str] = field(default_factory=set[str])
    failed: dict[str, dict[str, Rollout]] = field(default_factory=dict[str, dict[str, Rollout]])

    def sample(self, stage: Stage, samples: int, hints: Hinter | None = None, seeds: int = 0) -> None:
        """Up to `samples` answers per task and model, in waves over all open tasks, so that batches stay full."""
        for model in dict.fromkeys(self.dreamer.models):
            for wave in range(0, samples, WAVE):
                numbers = range(wave, min(wave + WAVE, samples))
                seed = self.dreamer.seed + seeds
                self._ask(stage, [_Question(t, model, seed + n, hints) for t in self.open for n in numbers])

    def go_on(self, turns: int) -> None:
        """Tell the model what its failed answers led to, up to `turns` times, as the built-in agent does by day."""
        for turn in range(turns):
            last = {task.id: list(self.failed.pop(task.id, {}).values())[:CHAINS] for task in self.open}
            seed = self.dreamer.seed + (turn + 4) * _SEEDS
            self._ask(
                "feedback",
                [
                    _Question(task, rollout.served_by, seed + number, failed=rollout)
                    for task in self.open
                    for number, rollout in enumerate(last[task.id])
                ],
            )

    def look_at_others(self) -> None:
        """What passed on the same task in another episode, a person's or another model's, in our form of answer."""
        open_tasks = {task.id: task for task in self.open}
        if not open_tasks:
            return
        for episode in self.dreamer.answered(open_tasks.keys()):
            if episode.task is not None and (row := self._of_other(open_tasks[episode.task.id], episode)):
                self._keep("others", row)
        self.open = [task for task in self.open if task.id not in self.found]

    def _of_other(self, task: Task, episode: Episode) -> Example | None:
        verifier = self.dreamer.verifier
        try:
            files = apply_reply(episode.attempts[-1].completion, task.files)
            verdict, messages = verifier.verify(task, files), opening(verifier, task)
        except (ReplyFormatError, InfraError):
            return None
        answer = Rollout(messages, reply_between(task.files, files), verdict, episode.served_by)
        return verified_row(answer, task, "hard", f"dream-others:{task.id}")

    def _ask(self, stage: Stage, questions: Sequence[_Question]) -> None:
        answers = in_parallel(self._answer, questions, self.dreamer.concurrency)
        for question, done in zip(questions, answers, strict=True):
            task = question.task
            if done is None:
                continue
            if done.verdict.outcome is Outcome.INFRA:
                self.unjudged.add(task.id)
            provenance = f"dream:{task.id}" if stage == "samples" else f"dream-{stage}:{task.id}"
            if row := verified_row(done, task, "hard", provenance):
                self._keep(stage, row)
            elif done.verdict.outcome is Outcome.FAIL:
                self.failed.setdefault(task.id, {}).setdefault(done.completion, done)
        self.open = [task for task in self.open if task.id not in self.found]

    def _keep(self, stage: Stage, row: Example) -> None:
        if row.task_id not in self.found:
            self.found[row.task_id] = row
            self.stages[stage] = self.stages.get(stage, 0) + 1

    def _answer(self, question: _Question) -> Rollout | None:
        """None where the machine failed, or where the conversation outgrew the context: then there is no answer."""
        dreamer, task = self.dreamer, question.task
        sampling = Sampling(dreamer.settings.dream_temperature, dreamer.max_tokens, question.seed)
        try:
            first = messages = opening(dreamer.verifier, task, question.hints)
            if (failed := question.failed) is not None:
                messages = retry_messages(first, failed.completion, failed.verdict.feedback)
            done = attempt(dreamer.server, dreamer.verifier, question.model, task, messages, sampling)
        except ContextTooLong:
            return None
        except InfraError:
            self.unjudged.add(task.id)
            return None
        return replace(done, messages=first)
