"""Rows from episodes that a verifier passed: chosen by numbers, and read only when they are drawn."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sleepy_coder.dialogue import without_hints
from sleepy_coder.learn.mix import by_weight
from sleepy_coder.store import Store
from sleepy_coder.store_practice import Answers
from sleepy_coder.types import Attempt, Episode, Example, Thoughts

WEIGHT_FLOOR = 0.2


@dataclass(frozen=True, slots=True)
class PassedRows:
    """`mix.Pool` of the different answers that passed, oldest first.

    The weight is sqrt(p(1-p)) of the task's pass rate p, at least 0.2: tasks passed sometimes teach most.
    """

    store: Store
    answers: Answers

    def __len__(self) -> int:
        return len(self.answers.positions)

    def draw(self, count: int, chooser: random.Random) -> Sequence[int]:
        return by_weight(map(_weight, self.answers.passed, self.answers.tried), count, chooser)

    def rows(self, numbers: Sequence[int]) -> list[Example]:
        answers = self.answers
        episodes = self.store.episodes_at(answers.positions[number] for number in numbers)
        return [
            _row(episode, _weight(answers.passed[number], answers.tried[number]))
            for number, episode in zip(numbers, episodes, strict=True)
        ]


def passed_rows(
    store: Store, until: int, per_task: int, without: Collection[str] = (), leave: Collection[str] = ()
) -> PassedRows:
    """The rows of the unused episodes up to the position `until`, on tasks not in `without`. Raises StoreError.

    Those of the episodes `leave` are left.

    Equal answers to a task count once, and one task gives at most `per_task`, the first ones.
    """
    found = store.answers(until, per_task, without)
    if not leave:
        return PassedRows(store, found)
    out = store.positions_of(leave)
    kept = [number for number, position in enumerate(found.positions) if position not in out]
    columns = (found.positions, found.passed, found.tried)
    return PassedRows(store, Answers(*(array("q", (column[number] for number in kept)) for column in columns)))


def _weight(passed: int, tried: int) -> float:
    rate = passed / tried
    return max(WEIGHT_FLOOR, math.sqrt(rate * (1 - rate)))


def _row(episode: Episode, weight: float) -> Example:
    """The first prompt with the completion that passed.

    A fix found on attempt k > 1 is paired with the first prompt (hindsight), so the model learns to give it at
    once; hints that it was asked with are left out, for the same reason. Another agent's conversation on a task teaches
    all of its turns.
    """
    assert episode.task is not None
    first, last = episode.attempts[0], episode.attempts[-1]
    return Example(
        messages=without_hints(first.messages),
        completion=last.completion,
        kind="passed",
        task_id=episode.task.id,
        family=episode.task.family,
        provenance=episode.id,
        weight=weight,
        reply=last.reply,
        tools=last.tools,
        first_turn=last.first_turn,
        thoughts=_thoughts(first, last),
    )


def _thoughts(first: Attempt, last: Attempt) -> Thoughts | None:
    """Those of the last attempt, whose answer stands behind the first one's prompt."""
    if last is first or not last.thoughts:
        return last.thoughts
    return {len(first.messages): last.thoughts.get(len(last.messages), "")}
