"""The frozen sets of a home: the packaged one first, then one file for each time that it was renewed.

A file is never changed: its name ends with the id of the set that it holds. The latest judges; those before it are
retired, and are kept out of training as well, so that what they said stays comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from sleepy_coder.errors import TaskFormatError
from sleepy_coder.files import write_atomic
from sleepy_coder.tasks import load_split, set_id, tasks_in
from sleepy_coder.types import Task


@dataclass(frozen=True, slots=True)
class FrozenSets:
    """The sets in `folder` (the home's state), as `frozen-<number>-<id>.jsonl`; dev tasks are in `dev-<the same>`.

    Every method may raise TaskFormatError.
    """

    folder: Path

    def all(self) -> tuple[tuple[Task, ...], ...]:
        """Every set that has judged or judges, oldest first."""
        return (load_split("frozen"), *map(_read, sorted(self.folder.glob("frozen-*.jsonl"))))

    def current(self) -> tuple[Task, ...]:
        """The set that judges."""
        renewed = sorted(self.folder.glob("frozen-*.jsonl"))
        return _read(renewed[-1]) if renewed else load_split("frozen")

    def retired(self) -> tuple[Task, ...]:
        """The tasks of earlier sets that are not in the current one."""
        *earlier, current = self.all()
        kept = {task.id for task in current}
        return tuple({task.id: task for tasks in earlier for task in tasks if task.id not in kept}.values())

    def dev(self) -> tuple[Task, ...]:
        """On what a night's weights are chosen before the current set judges them; may be empty.

        What was given with the set, else the packaged dev koans where koans judge: about other code they say nothing,
        and a candidate that is better at that would be dropped because it gains no koans.
        """
        renewed = sorted(self.folder.glob("frozen-*.jsonl"))
        if renewed and (given := _dev_of(renewed[-1])).exists():
            return _tasks_in(given, "the dev set", "restore it from a backup, or delete it to choose nothing")
        return load_split("dev") if any(task.origin == "koan" for task in self.current()) else ()

    def all_dev(self) -> tuple[Task, ...]:
        """Every task that was given to choose weights on, with this set or an earlier one."""
        files = sorted(self.folder.glob("dev-*.jsonl"))
        return tuple(task for file in files for task in _tasks_in(file, "the dev set", "restore it from a backup"))

    def add(self, tasks: tuple[Task, ...], dev: tuple[Task, ...] = ()) -> Path:
        """Make `tasks` the set that judges, with `dev` to choose on; its file."""
        number = len(list(self.folder.glob("frozen-*.jsonl"))) + 1
        path = self.folder / f"frozen-{number:04d}-{set_id(tasks)}.jsonl"
        if dev:  # first: a set without its dev tasks would be complete
            _write(_dev_of(path), dev)
        _write(path, tasks)
        return path


def _dev_of(frozen: Path) -> Path:
    return frozen.with_name(frozen.name.replace("frozen-", "dev-", 1))


def _write(path: Path, tasks: tuple[Task, ...]) -> None:
    write_atomic(path, "".join(f"{task.model_dump_json()}\n" for task in tasks))


def _read(path: Path) -> tuple[Task, ...]:
    remedy = "restore it from a backup; without it no verdict on this set can be compared"
    tasks = _tasks_in(path, "the frozen set", remedy)
    if not path.stem.endswith(f"-{set_id(tasks)}"):
        raise TaskFormatError(f"the frozen set {path} is not the one that was written", remedy)
    return tasks


def _tasks_in(path: Path, what: str, remedy: str) -> tuple[Task, ...]:
    try:
        return tasks_in(path.read_text("utf-8"))
    except (OSError, ValidationError) as error:
        raise TaskFormatError(f"{what} {path} cannot be read ({error})", remedy) from error
