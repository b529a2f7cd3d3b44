"""In the shadow, where no user is: each night what serves and what served before answer the same tasks of the day."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from sleepy_coder import log
from sleepy_coder.canary import look, weigh
from sleepy_coder.deploy import ask, ensure_loaded
from sleepy_coder.errors import AdapterError, ServerError, ServerUnreachable
from sleepy_coder.fresh import untrained
from sleepy_coder.judge.evaluate import joined
from sleepy_coder.judge.metrics import task_scores
from sleepy_coder.parts import Parts
from sleepy_coder.ports import counting
from sleepy_coder.store_canary import LiveTrial
from sleepy_coder.store_shadow import Replayed
from sleepy_coder.types import EvalReport, Record, Task

_TURN: Final = 5  # tasks that one model answers before it is the other's turn
_log = log.get("canary")


class Replay(Record):
    """What a night replayed: tasks that both could be measured on, and whether that led to a rollback."""

    tasks: int = 0
    rolled_back: bool = False


def watch(parts: Parts) -> LiveTrial | None:
    """Look at the canary once, also where no gateway does. Raises StoreError and AdapterError."""
    return look(parts.store, parts.registry, parts.config.canary, parts.base.name, parts.clock.now())


def replay_day(parts: Parts, cycle: int, until: int) -> Replay:
    """Have both answer some tasks that were met since the promotion, up to episode `until`; roll back when E says so.

    Neither was trained on them, and each task counts once, so the evidence of all nights adds up. Raises NightPaused
    at the curfew; then nothing of this night counts.
    """
    trial, settings = watch(parts), parts.config.canary
    if trial is None or not trial.running or not settings.shadow_tasks:
        return Replay(rolled_back=trial is not None and trial.stage == "rolled_back")
    seed = parts.config.seed + cycle
    tasks = untrained(parts, parts.store.unreplayed(trial.id, trial.after, until, settings.shadow_tasks, seed))
    if not tasks:
        return Replay()
    if not _both_loaded(parts, trial):
        return Replay()
    served, previous = answers(parts, (trial.adapter, trial.previous), tasks, cycle)
    parts.store.save_replayed(trial.id, cycle, pairs(served, previous))
    _log.warning(
        "canary.replayed",
        cycle=cycle,
        adapter=trial.adapter,
        previous=trial.previous,
        tasks=len(tasks),
        statistics={
            **weigh(parts.store, trial).statistics(),
            "served_rate": round(served.pass_rate, 4),
            "previous_rate": round(previous.pass_rate, 4),
        },
    )
    after = watch(parts)
    return Replay(tasks=len(tasks), rolled_back=after is not None and after.stage == "rolled_back")


def _both_loaded(parts: Parts, trial: LiveTrial) -> bool:
    """Without one of them nothing is compared, and the night goes on: what serves is looked after by its next step.

    A server may refuse the previous one for good, as after a restart with lower limits. Raises ServerError for what
    serves, and ServerUnreachable.
    """
    for name in (trial.adapter, trial.previous):
        try:
            if name != parts.base.name:
                ensure_loaded(parts.registry, parts.server, parts.registry.get(name), parts.prover)
        except (AdapterError, ServerError) as error:
            if isinstance(error, ServerUnreachable) or (isinstance(error, ServerError) and name == trial.adapter):
                raise
            reason = f"nothing is replayed against {trial.previous}: {name} cannot be loaded ({error.message})"
            _log.error("canary.watch_failed", reason=reason)
            return False
    return True


def answers(parts: Parts, models: tuple[str, str], tasks: Sequence[Task], seed: int) -> tuple[EvalReport, EvalReport]:
    """What the two models, which are loaded, do on `tasks`: one after the other, with the same seeds.

    Not mixed: vLLM's CPU build answers for the base with an adapter's weights in a mixed batch (vllm#48421). Which of
    them is first is drawn for each few tasks, so that what changes in the meantime meets both alike.
    """
    canary = parts.config.canary
    update = {"samples": canary.shadow_samples, "temperature": canary.shadow_temperature, "seed": 1000 * seed}
    settings = parts.config.eval.model_copy(update=update)
    tick = counting(parts.watcher, 2 * len(tasks) * canary.shadow_samples)

    def asked(model: str, few: Sequence[Task]) -> EvalReport:
        return ask(parts, "other", (model, ""), few, settings, tick)

    found = {model: asked(model, ()) for model in models}
    toss = random.Random(seed)
    for start in range(0, len(tasks), _TURN):
        for model in toss.sample(models, 2):
            few = asked(model, tasks[start : start + _TURN])
            found[model] = joined(found[model], few, tasks[: start + _TURN])
    return found[models[0]], found[models[1]]


def pairs(served: EvalReport, previous: EvalReport) -> tuple[Replayed, ...]:
    """Task by task; those that the machine failed on for either are left out."""
    mine, theirs = task_scores(served), task_scores(previous)
    return tuple(Replayed(task=task, served=mine[task], previous=theirs[task]) for task in mine if task in theirs)
