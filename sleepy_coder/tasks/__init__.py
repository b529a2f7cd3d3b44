"""Tasks: what is practised by day and what is asked in the exam, with ids that are content hashes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, get_args

from pydantic import ValidationError

from sleepy_coder.errors import SleepyError, TaskFormatError
from sleepy_coder.types import Task

__all__ = ["SPLITS", "TaskSplit", "choose_tasks", "load_split", "set_id", "task_id", "tasks_in"]

TaskSplit = Literal["day", "dev", "rehearsal", "frozen"]
"""`day` is practised, `dev` tunes settings, `rehearsal` keeps old skills alive, `frozen` judges."""

SPLITS: tuple[TaskSplit, ...] = get_args(TaskSplit)


def task_id(
    files: Mapping[str, str],
    prompt: str,
    command: Sequence[str],
    expected_stdout: str | None,
    hidden_tests: str,
) -> str:
    """`k` and 12 hex digits of the SHA-256 of everything that decides whether an answer passes.

    The order of `files` counts: edits without a path go to the first program.
    """
    content = [list(files.items()), prompt, list(command), expected_stdout, hidden_tests]
    canonical = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return "k" + hashlib.sha256(canonical.encode()).hexdigest()[:12]


def set_id(tasks: Iterable[Task]) -> str:
    """16 hex digits over the contents of a task set, whatever its order."""
    digest = hashlib.sha256()
    for line in sorted(f"{task.id} {task.model_dump_json()}" for task in tasks):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def tasks_in(text: str) -> tuple[Task, ...]:
    """The tasks of JSON lines as they are written here. Raises ValidationError.

    A line ends at a newline only: JSON holds the other separators, such as U+2028, as they are.
    """
    return tuple(Task.model_validate_json(line) for line in text.split("\n") if line)


@cache
def load_split(name: TaskSplit) -> tuple[Task, ...]:
    """The tasks of a packaged split, in file order.

    Raises TaskFormatError when the split is missing or a line of it is not a Task.
    """
    file = resources.files(__name__) / "data" / f"{name}.jsonl"
    remedy = "Rebuild the splits with `python -m sleepy_coder.tasks.build`"
    if not file.is_file():
        raise TaskFormatError(f"the packaged task set {name}.jsonl is missing", remedy)
    try:
        return tasks_in(file.read_text("utf-8"))
    except ValidationError as error:
        raise TaskFormatError(f"the packaged task set {name}.jsonl is damaged: {error}", remedy) from error


def choose_tasks(tasks: Iterable[Task], met: Collection[str], count: int, family: str | None, seed: int) -> list[Task]:
    """`count` tasks in a seeded order, unmet ones first.

    Raises SleepyError when there is no task of `family`.
    """
    fitting = [task for task in tasks if family in (None, task.family)]
    if not fitting:
        raise SleepyError(f"there is no task of family {family}", "`sleepy-coder koans list` shows the families")
    random.Random(seed).shuffle(fitting)
    return sorted(fitting, key=lambda task: task.id in met)[:count]
