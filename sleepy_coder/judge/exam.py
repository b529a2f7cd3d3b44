"""Can these tasks judge? What the checks say of each one's own fix and of its broken input, in words for its author."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from textwrap import indent
from typing import Final

from sleepy_coder.judge.case import Control
from sleepy_coder.judge.controls import ask_control, quarantined
from sleepy_coder.ports import Verifier
from sleepy_coder.serve.rollout import in_parallel
from sleepy_coder.types import Record, Task, Verdict

_NAMED: Final = 5
"""So many tasks are told of in full; the mistake is often the same in all."""


class TaskCheck(Record):
    """What the checks say of the task at `place`: `complaint` is why it cannot judge, empty when it can.

    `says` are the check's own words: of what is complained about, else of the broken input.
    """

    task: str
    place: str
    prompt: str
    control: Control
    complaint: str
    says: str

    @property
    def unsure(self) -> bool:
        """Nothing shows that the task can be passed here at all: it has no reference."""
        return not self.control.reference

    def told(self) -> str:
        """The complaint, with where the task stands and what the check says."""
        prompt = " ".join(self.prompt.split())[:80]
        return f"{self.place} ({self.task}, {prompt!r}): {self.complaint}\n{indent(self.says, '    ')}".rstrip()


def check_tasks(
    verifier: Verifier,
    placed: Sequence[tuple[str, Task]],
    repeats: int,
    concurrency: int,
    step: Callable[[int], object],
) -> tuple[TaskCheck, ...]:
    """Ask each task's controls; `step` hears, after each, how many there are. `placed` says where each task stands."""

    def one(at: tuple[str, Task]) -> TaskCheck:
        place, task = at
        control, fixed, broken = ask_control(verifier, task, repeats)
        step(len(placed))
        complaint, verdict = _complaint(control, fixed, broken)
        says = (verdict.feedback or verdict.detail).strip()
        return TaskCheck(task=task.id, place=place, prompt=task.prompt, control=control, complaint=complaint, says=says)

    return tuple(in_parallel(one, placed, concurrency))


def told_all(checks: Iterable[TaskCheck]) -> str:
    """The complaints of those that cannot judge, the first few in full; empty when all can."""
    bad = [check for check in checks if check.complaint]
    more = [f"... and {len(bad) - _NAMED} more"] if len(bad) > _NAMED else []
    return "\n".join([*(check.told() for check in bad[:_NAMED]), *more])


def _complaint(control: Control, fixed: Verdict | None, broken: Verdict) -> tuple[str, Verdict]:
    """Why the task is left out, and the verdict that shows it; that on the broken input where it is not."""
    if not quarantined([control]):
        return "", broken
    cannot = "it cannot be checked here"
    if fixed is not None and not fixed.passed:
        late = f" in run {len(control.reference)}, after it had passed" if len(control.reference) > 1 else ""
        return (cannot if control.reference.endswith("I") else f"its own reference fails{late}"), fixed
    return ("it passes as it stands" if broken.passed else cannot), broken
