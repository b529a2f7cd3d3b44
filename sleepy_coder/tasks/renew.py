"""Unseen tasks for a new frozen set: koans that no set of this home has held, each proved by the real compiler."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from sleepy_coder.errors import TaskFormatError
from sleepy_coder.tasks.build import PER_FAMILY, SEED, Drawn, generate, prove_all, to_task
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.leaks import find_leaks, task_texts
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.types import Task

Rows = Iterable[tuple[str, str]]
"""Provenance and text of what was or may be trained on."""


def draw_unseen(number: int, seen: Collection[str], rows: Rows, families: Sequence[str]) -> list[Drawn]:
    """Programs for the `number`-th renewed set, whose clusters are not in `seen`, none too close to one of `rows`.

    The templates are the packaged set's; the programs are others. Raises SleepyError when a family has no more.
    """
    drawn = [
        program
        for family in families
        for program in generate(family, "frozen", PER_FAMILY["frozen"], SEED + number, lambda d: d.cluster not in seen)
    ]
    leaking = {leak.task_id for leak in find_leaks(rows, [to_task(program, "") for program in drawn])}
    return [program for program in drawn if to_task(program, "").id not in leaking]


def unseen_koans(
    number: int,
    seen: Collection[str],
    rows: Rows,
    rustc: Rustc,
    step: Callable[[int], object] = lambda total: None,
    families: Sequence[str] = (),
) -> tuple[Task, ...]:
    """These programs as tasks; `step` hears, after each proof, how many there are. Raises ProofError."""
    drawn = draw_unseen(number, seen, rows, families or sorted(FAMILIES))
    return tuple(prove_all(drawn, rustc, lambda: step(len(drawn))))


def own_frozen(placed: Sequence[tuple[str, Task]], rows: Rows) -> tuple[Task, ...]:
    """A user's own tasks as a frozen set, each once, by id; `placed` says where each of them stands.

    Raises TaskFormatError when one of them is, or is too close to, what was trained on or may be.
    """
    found = tuple(sorted({task.id: task for _, task in placed}.values(), key=lambda task: task.id))
    leaks = {leak.task_id for leak in find_leaks(rows, found)}
    if leaking := [f"{place} ({task.id})" for place, task in placed if task.id in leaks]:
        raise TaskFormatError(
            f"{len(leaking)} tasks are too close to what is practised or was trained on: {'; '.join(leaking)}",
            "leave them out: a task that was practised cannot judge",
        )
    return found


def programs_of(tasks: Sequence[Task], judged: Iterable[Task]) -> list[str]:
    """The program (`Task.cluster`) of each task, or that of the last one in `judged` that it is too close to.

    So an exam that is written down a little differently is still the exam that has judged.
    """
    rows = [(task.cluster, text) for task in judged for text in task_texts(task)]
    copied = {leak.task_id: leak.provenance for leak in find_leaks(rows, tasks)}
    return [copied.get(task.id, task.cluster) for task in tasks]
