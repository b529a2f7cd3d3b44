"""A new frozen set in place of one that has judged its share of candidates: what `sleepy-coder gate renew` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import Config
from sleepy_coder.errors import SleepyError, TaskFormatError
from sleepy_coder.judge.clusters import Crowd, form_crowd
from sleepy_coder.judge.exam import check_tasks, told_all
from sleepy_coder.judge.spending import prices
from sleepy_coder.learn.own_rows import own_rows
from sleepy_coder.ports import Verifier
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split, set_id
from sleepy_coder.tasks.frozen import FrozenSets
from sleepy_coder.tasks.leaks import LeakIndex, example_rows, task_texts
from sleepy_coder.tasks.loaders import placed_tasks
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.tasks.renew import Rows, own_frozen, programs_of, unseen_koans
from sleepy_coder.types import Record, Task


class Renewed(Record):
    """The set that judges from now on, and how many tasks a night's weights are chosen on.

    `retired` is how many tasks of the set before it are not in it; of `unsure` tasks, which have no reference, nothing
    shows that they can be passed here; `crowd` is the largest cluster, where there are
    fewer than half as many clusters as tasks.
    """

    path: Path
    set_id: str
    tasks: int
    dev: int
    clusters: int
    retired: int
    unsure: int = 0
    crowd: Crowd | None = None


def renew(
    config: Config,
    store: Store,
    sets: FrozenSets,
    witness: Verifier,
    source: Path | None,
    early: bool,
    step: Callable[[int], object],
    practice: Sequence[Task],
    dev: Path | None = None,
) -> Renewed:
    """Put unseen koans, or the tasks in `source`, in the place of the frozen set; weights are chosen on those in `dev`.

    The next judged night begins an epoch.

    `witness` verifies without memory; `practice` are the packaged tasks that are trained on; `step` hears, after each
    task, how many there are. Raises SleepyError while a night is unfinished, and while the epoch has openings left
    unless `early`; TaskFormatError for tasks that cannot judge.
    """
    _refuse_early(config, store, early)
    rows = list(_practised(config, store, practice))
    # A task that was practised chooses what is known by heart.
    chosen_on = _own(config, witness, dev, rows, step) if dev else ()
    rows += ((task.id, text) for task in (*chosen_on, *sets.all_dev()) for text in task_texts(task))
    if source is None:
        seen = {task.cluster for tasks in sets.all() for task in tasks}
        tasks = unseen_koans(len(sets.all()), seen, rows, Rustc.find(), step)
        programs = [task.cluster for task in tasks]  # new ones, though of the same templates
    else:
        tasks = _own(config, witness, source, rows, step)
        judged = store.judged_programs()
        programs = programs_of(tasks, [task for task in chain(*sets.all()) if task.cluster in judged])
    if not store.begins_epoch(programs):
        raise TaskFormatError(
            "more than half of these programs, or near copies of them, have judged before, "
            "or more than half of the last set are kept",
            "take tasks that have not judged yet; otherwise the epoch goes on, and its budget with it",
        )
    before = {task.id for task in sets.current()}
    path = sets.add(tasks, chosen_on)
    clusters, crowd = form_crowd(tasks)
    return Renewed(
        path=path,
        set_id=set_id(tasks),
        tasks=len(tasks),
        dev=len(sets.dev()),
        clusters=len(clusters),
        retired=len(before - {task.id for task in tasks}),
        unsure=sum(not task.reference for task in (*tasks, *chosen_on)),
        crowd=crowd,
    )


def _refuse_early(config: Config, store: Store, early: bool) -> None:
    if (night := store.unfinished_night()) is not None:
        raise SleepyError(
            f"night {night} is not finished, and is judged on the current set",
            "run `sleepy-coder night`, or end it with `sleepy-coder night --abandon`",
        )
    (_, used), left = store.openings_used(), store.openings_left(prices(config.gate))
    if used and left > 0 and not early:
        raise SleepyError(
            f"the epoch has {left} of {config.gate.openings} openings left",
            f"go on with it: every epoch may promote falsely with a chance of {config.gate.alpha:g}; or use --early",
        )


def practice_tasks() -> tuple[Task, ...]:
    """The packaged tasks that are practised or tuned on."""
    return (*load_split("day"), *load_split("rehearsal"), *load_split("dev"))


def _practised(config: Config, store: Store, practice: Sequence[Task]) -> Iterator[tuple[str, str]]:
    """What was trained on or may be: the practice tasks, the tasks met, the rows of all nights, the user's own.

    Of his own rows nights keep none, so that what he has deleted from the file since is not known here.
    """
    for task in chain(practice, store.met_tasks()):
        yield from ((task.id, text) for text in task_texts(task))
    yield from example_rows(store.examples())
    if config.mix.sft_file is not None:  # held against no exam: what is close to one is what is looked for
        own = own_rows(config.home / config.mix.sft_file, SecretRedactor(), LeakIndex(()))
        yield from example_rows(own.rows)


def _own(
    config: Config, witness: Verifier, source: Path, rows: Rows, step: Callable[[int], object]
) -> tuple[Task, ...]:
    """The tasks in `source`, each once. Raises TaskFormatError when one is known from `rows`, or cannot judge."""
    placed = placed_tasks(source)
    tasks = own_frozen(placed, rows)
    checks = check_tasks(witness, placed, config.gate.controls, config.eval.concurrency, step)
    if bad := sum(bool(check.complaint) for check in checks):
        raise TaskFormatError(
            f"{bad} tasks cannot judge:\n{told_all(checks)}",
            f"correct them or leave them out; `sleepy-coder koans run --from {source} --check` asks again",
        )
    return tasks
