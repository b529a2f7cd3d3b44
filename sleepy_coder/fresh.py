"""The fresh tasks of a night: met in the last days, held back from training, and asked of what is to be promoted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain

from sleepy_coder.judge.controls import quarantined, run_control
from sleepy_coder.learn.mix import without
from sleepy_coder.material import own_of
from sleepy_coder.parts import Parts
from sleepy_coder.serve.rollout import in_parallel
from sleepy_coder.tasks.leaks import LeakIndex, example_rows, find_leaks, shown_texts
from sleepy_coder.types import Task, TrainingMix

_AHEAD = timedelta(days=1)  # a task that a wrong clock noted further ahead is not held back for ever


def held_back(parts: Parts, until: int) -> tuple[str, ...]:
    """The tasks, of the episodes up to the position `until`, that may not train yet: none before the first promotion.

    What they guard against is a model chosen by its luck on the frozen set. Until something was promoted nothing was
    chosen, and the first nights need every row.
    """
    now, settings, first = parts.clock.now(), parts.config.mix, parts.store.first_promotion()
    if first is None:
        return ()
    after = max(first, now - timedelta(days=settings.fresh_days))
    return parts.store.fresh_ids(until, settings.fresh_share, after, now + _AHEAD)


def without_fresh(parts: Parts, mix: TrainingMix, held: Collection[str]) -> TrainingMix:
    """The mix without rows of the tasks `held`, and without those that are too close to one of them."""
    near = _close_to(parts, held, example_rows(mix.examples))
    near |= {row.provenance for row in mix.examples if row.task_id in held}
    if not near:
        return mix
    left = sum(row.provenance in near for row in mix.examples)
    return without(mix, near, f"{left} rows are too close to fresh tasks, which are judged before they may train")


def apart_from_fresh(parts: Parts, tasks: Sequence[Task], held: Collection[str]) -> tuple[Task, ...]:
    """Those of `tasks` that are not too close to one of the tasks `held`."""
    near = _close_to(parts, held, _programs(tasks))
    return tuple(task for task in tasks if task.id not in near)


def _close_to(parts: Parts, held: Collection[str], rows: Iterable[tuple[str, str]]) -> set[str]:
    """The names of those `rows` that are too close to one of the tasks `held`."""
    tasks = parts.store.latest_tasks(held, len(held))
    return {leak.provenance for leak in find_leaks(rows, tasks)} if tasks else set[str]()


def judgeable(parts: Parts, held: Collection[str]) -> tuple[Task, ...]:
    """The latest of the tasks `held` that tell their fix from their broken input, far from frozen and dev tasks."""
    tasks = parts.store.latest_tasks(held, parts.config.eval.fresh_tasks)
    index = LeakIndex((*parts.judging, *parts.dev))
    apart = [task for task in untrained(parts, tasks) if not any(index.find(*row) for row in _programs([task]))]
    controls = in_parallel(lambda task: run_control(parts.verifier, task, 1), apart, parts.config.eval.concurrency)
    out = quarantined(controls)
    return tuple(task for task in apart if task.id not in out)


def untrained(parts: Parts, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Those of `tasks` that are not too close to a row of any night, or to a task that one answered while it trained.

    A file with one line more is another task.
    """
    if not tasks:
        return ()
    rows = example_rows((*parts.store.examples(), *own_of(parts).rows))
    near = {leak.task_id for leak in find_leaks(chain(rows, _programs(parts.store.answered_anew())), tasks)}
    return tuple(task for task in tasks if task.id not in near)


def _programs(tasks: Iterable[Task]) -> Iterator[tuple[str, str]]:
    """Their prompts, and their broken and their correct form, under the task's id."""
    return ((task.id, text) for task in tasks for text in shown_texts(task))
