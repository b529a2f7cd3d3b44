"""What an answer earns when a recipe learns from its own answers: the verifier is the reward."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sleepy_coder.ports import Verifier
from sleepy_coder.serve.rollout import in_parallel, verdict_on
from sleepy_coder.types import Outcome, Task, Verdict


def reward_of(verdict: Verdict) -> float | None:
    """1 for PASS, 0 for FAIL, also for an answer that cannot be applied; -1 for a cheat; None when nobody could judge.

    A cheat earns less than an honest failure: where all answers of a group fail, it would else cost nothing.
    """
    if verdict.outcome is Outcome.INFRA:
        return None
    return -1.0 if verdict.stage == "cheat" else float(verdict.passed)


class Reward:
    """The verifier as TRL's reward function; TRL leaves out answers without a reward."""

    __name__ = "verifier"

    def __init__(self, verifier: Verifier, tasks: Sequence[Task]) -> None:
        self._verifier = verifier
        self._tasks = {task.id: task for task in tasks}

    def __call__(
        self, completions: Sequence[Sequence[Mapping[str, str]]], task: Sequence[str], **_: object
    ) -> list[float | None]:
        """One reward each for `completions`, conversations of one reply, to the tasks with the ids `task`."""
        answers = [(self._tasks[name], replies[0]["content"]) for replies, name in zip(completions, task, strict=True)]

        def earn(answer: tuple[Task, str]) -> float | None:
            return reward_of(verdict_on(self._verifier, *answer))

        return list(in_parallel(earn, answers, os.cpu_count() or 1))
