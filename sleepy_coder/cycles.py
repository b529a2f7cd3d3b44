"""Day, night, day, night: the built-in agent meets new koans, a night practises what came of it, and so on.

How far it got is what the home holds: a night that was begun is gone on with, and a day has as many episodes as were
saved since the last night. So the same command goes on after a Ctrl-C or a crash.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sleepy_coder.collect.agent import work_through
from sleepy_coder.deploy import incumbent
from sleepy_coder.files import write_atomic
from sleepy_coder.judge import metrics
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.report.data import arm, baseline_of, changes, judged, on_set_of, served_after
from sleepy_coder.store import Store
from sleepy_coder.tasks import choose_tasks, load_split
from sleepy_coder.types import NightReport, Outcome, Record

_FILE: Final = "cycles.json"


class CyclesPlan(Record):
    """`tasks` a day, until night `last` is over."""

    tasks: int
    last: int


class CycleRow(Record):
    """The metrics of one night. Rates are fractions of the measured tasks, None where nothing was measured; a candidate
    that is found harmful early is not measured on all of them.

    `baseline` was measured on the frozen set that judged this night. `gained` and `lost` are tasks, candidate against
    what served before; `repeats` the share of tasks that fail with an error they failed with before; `since_baseline`
    is what serves then minus the baseline, over the tasks that both were asked; `kl` how far the last step was from the
    base in nats per token.
    """

    cycle: int
    outcome: str
    baseline: float | None
    candidate: float | None
    serving: float | None
    since_baseline: float | None
    gained: int
    lost: int
    repeats: float | None
    learning_rate: float | None
    kl: float | None
    steps: int
    seconds: float


def planned(state: Path, store: Store, cycles: int, tasks: int) -> CyclesPlan:
    """What is to do: the plan that was not finished, whatever is asked now, else `cycles` from here on."""
    file = state / _FILE
    begun = store.unfinished_night() or store.next_cycle()
    if file.is_file():
        plan = CyclesPlan.model_validate_json(file.read_bytes())
        if begun <= plan.last:
            return plan
    plan = CyclesPlan(tasks=tasks, last=begun + cycles - 1)
    write_atomic(file, plan.model_dump_json())
    return plan


def run_cycles(parts: Parts, plan: CyclesPlan, on_night: Callable[[NightReport], object]) -> None:
    """Days and nights until `plan` is done. `on_night` hears of each night that ended, whatever its verdict.

    Raises what a night raises; the same call goes on.
    """
    while (parts.store.unfinished_night() or parts.store.next_cycle()) <= plan.last:
        if parts.store.unfinished_night() is None:
            live_a_day(parts, plan.tasks)
        on_night(run_night(parts))
    (parts.config.state / _FILE).unlink(missing_ok=True)


def live_a_day(parts: Parts, count: int) -> None:
    """Let what serves meet koans that were not met yet, until there are `count` episodes since the last night."""
    left = count - episodes_since_last_night(parts.store)
    if left <= 0:
        return
    parts.watcher.phase("day")
    tasks = choose_tasks(load_split("day"), parts.store.task_ids(), left, None, parts.config.seed)
    active = incumbent(parts.registry, parts.server, parts.prover)
    green = 0
    for number, episode in enumerate(
        work_through(
            tasks,
            parts.answering(active)[0],
            parts.punctual,
            parts.verifier,
            parts.config.agent,
            parts.clock,
            f"koans-{uuid.uuid4().hex[:12]}",
            parts.store.save_episode,
        )
    ):
        green += episode.outcome is Outcome.PASS
        parts.watcher.tick(number + 1, len(tasks), f"{green} green")


def episodes_since_last_night(store: Store) -> int:
    """How many episodes came after the day that the last night looked back on."""
    nights = store.nights(last=1)
    day = store.day_of(nights[0].cycle) if nights else None
    return store.count_episodes(after=day.until if day else 0)


def history(nights: Sequence[NightReport]) -> tuple[CycleRow, ...]:
    """The metrics of all nights, in order."""
    measured = judged(nights)
    return tuple(_row(night, on_set_of(night, measured) if night in measured else ()) for night in nights)


def _row(night: NightReport, judged: Sequence[NightReport]) -> CycleRow:
    """`judged` are the nights that may be compared with this one, empty if it was not judged itself."""
    baseline = baseline_of(judged) if judged else None
    serving = served_after(judged)[judged.index(night)] if judged else None
    current, candidate = arm(night, "current"), arm(night, "candidate")
    change = changes(night)
    return CycleRow(
        cycle=night.cycle,
        outcome=night.outcome,
        baseline=baseline.pass_rate if baseline else None,
        candidate=candidate.pass_rate if candidate else None,
        serving=serving.pass_rate if serving else None,
        since_baseline=metrics.difference(baseline, serving) if serving and baseline else None,
        gained=len(change.gained),
        lost=len(change.lost),
        repeats=metrics.repeat_error_rate(current, candidate) if current and candidate else None,
        learning_rate=night.recipe.learning_rate if night.recipe else None,
        kl=night.kl,
        steps=night.steps,
        seconds=math.fsum(phase.seconds for phase in night.phases),
    )
