"""What an answer earns when a recipe learns from its own answers: the verifier is the reward."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sleepy_coder.errors import InfraError
from sleepy_coder.ports import Verifier
from sleepy_coder.serve.rollout import in_parallel, verdict_on
from sleepy_coder.types import Outcome, Task, Verdict

_OPENS, _CLOSES = "<think>", "</think>"


def answer_in(said: str, opened: bool = False) -> str:
    """What follows the thought in `said`; nothing where one opens, there or in the prompt (`opened`), and never closes.

    By day a server with a reasoning parser sets thoughts apart, and the answer alone is judged.
    """
    _, closed, answer = said.rpartition(_CLOSES)
    return "" if _OPENS in answer or (opened and not closed) else answer


def reward_of(verdict: Verdict) -> float | None:
    """1 for PASS, 0 for FAIL, also for an answer that cannot be applied; -1 for a cheat; None when nobody could judge.

    A cheat earns less than an honest failure: where all answers of a group fail, it would else cost nothing.
    """
    if verdict.outcome is Outcome.INFRA:
        return None
    return -1.0 if verdict.stage == "cheat" else float(verdict.passed)


class Reward:
    """The verifier as TRL's reward function; TRL leaves out answers without a reward.

    `opened` says that the prompt begins the answer within a thought.
    """

    __name__ = "verifier"

    def __init__(self, verifier: Verifier, tasks: Sequence[Task], opened: bool = False) -> None:
        self._verifier = verifier
        self._tasks = {task.id: task for task in tasks}
        self._opened = opened

    def __call__(
        self, completions: Sequence[Sequence[Mapping[str, str]]], task: Sequence[str], **_: object
    ) -> list[float | None]:
        """One reward each for `completions`, conversations of one reply, to the tasks with the ids `task`.

        Raises InfraError when the machine could judge none of the answers that can be applied: without rewards a step
        would follow the KL alone, and unlearn what the nights before learned.
        """
        said = (answer_in(replies[0].get("content") or "", self._opened) for replies in completions)
        answers = [(self._tasks[name], answer) for name, answer in zip(task, said, strict=True)]

        def judge(answer: tuple[Task, str]) -> Verdict:
            return verdict_on(self._verifier, *answer)

        verdicts = list(in_parallel(judge, answers, os.cpu_count() or 1))
        tried = [verdict for verdict in verdicts if verdict.stage != "format"]
        if tried and all(verdict.outcome is Outcome.INFRA for verdict in tried):
            raise InfraError(f"no answer could be judged: {tried[-1].detail}", "see `sleepy-coder doctor`")
        return [reward_of(verdict) for verdict in verdicts]
