"""Controls: every task has to tell its own fix from its broken input, or it judges nobody.

A task whose reference does not pass every time, or whose broken input passes, says more about tonight's machine
than about a model. It is left out for all arms alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sleepy_coder.judge.case import LETTERS, Control
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.ports import Verifier
from sleepy_coder.serve.rollout import in_parallel
from sleepy_coder.types import Task, Verdict

NIGHTS: Final = 10
"""Every task is asked anew, several times, once in so many nights; a tenth of the set each night."""


def nightly_controls(
    verifier: Verifier,
    witness: Verifier,
    tasks: Sequence[Task],
    cycle: int,
    repeats: int,
    concurrency: int,
    on_task: Callable[[], object],
) -> tuple[Control, ...]:
    """The controls of night `cycle`: a tenth of the set by `witness`, which remembers nothing, the reference `repeats`
    times; the others once, by `verifier`, which may remember.

    The tenth says how the machine is tonight, and in turn finds tasks whose outcome depends on luck. What the others
    are remembered to have given is as good as what the arms' answers are judged by: equal answers to one task are
    compiled once, and the machine of tonight has no say in them. `verifier` must not remember that a control failed:
    one bad night would leave the task out for good.
    """
    ids = sorted(task.id for task in tasks)
    anew = {task for number, task in enumerate(ids) if number % NIGHTS == cycle % NIGHTS}

    def one(task: Task) -> Control:
        found = run_control(witness, task, repeats) if task.id in anew else run_control(verifier, task, 1)
        on_task()
        return found

    return tuple(in_parallel(one, tasks, concurrency))


def run_control(verifier: Verifier, task: Task, repeats: int) -> Control:
    """Verify the task's reference `repeats` times, until it fails, and its broken files once."""
    return ask_control(verifier, task, repeats)[0]


def ask_control(verifier: Verifier, task: Task, repeats: int) -> tuple[Control, Verdict | None, Verdict]:
    """`run_control`, with the last verdict on the reference, where there is one, and that on the broken files."""
    fixed = {**task.files, **task.reference} if task.reference else None
    last: Verdict | None = None
    reference = ""
    while fixed and len(reference) < repeats and not reference.strip("P"):
        last = verifier.verify(task, fixed)
        reference += LETTERS[last.outcome]
    broken = verifier.verify(task, task.files)
    return Control(task=task.id, reference=reference, broken=LETTERS[broken.outcome]), last, broken


def quarantined(controls: Iterable[Control]) -> frozenset[str]:
    """The tasks that are left out tonight. A task without a reference is judged by its broken input alone."""
    return frozenset(c.task for c in controls if c.broken != "F" or c.reference.strip("P"))


def without(clusters: Iterable[Cluster], out: frozenset[str]) -> tuple[Cluster, ...]:
    """The clusters without the tasks in `out`; those that have no other task are gone."""
    kept = (c.model_copy(update={"tasks": tuple(t for t in c.tasks if t not in out)}) for c in clusters)
    return tuple(cluster for cluster in kept if cluster.tasks)
