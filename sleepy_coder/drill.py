"""The drill: an adapter that is broken on purpose goes into the shadow, and has to be caught by the real tests.

No user ever gets it: it is loaded under a name that no request asks for, the pointer is not touched, and it is gone
afterwards. What is tried is the whole chain that a rollback rests on: loading, answers, verifier, lots and both tests.
"""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sleepy_coder import log
from sleepy_coder.canary import plain, replay_log_e
from sleepy_coder.config import Config
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.errors import AlreadyRuns, NightPaused, ServerError, SleepyError, StoreError
from sleepy_coder.judge.rollback import log_e, lot
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.parts import Parts
from sleepy_coder.serve.throwaway import BROKEN, DRILL, throwaway_adapters
from sleepy_coder.shadow import answers, pairs
from sleepy_coder.store_canary import Counted
from sleepy_coder.store_shadow import Drill, Replayed
from sleepy_coder.types import EvalReport, Outcome

_log = log.get("canary")
_GRACE: Final = timedelta(days=1)
"""A drill that is due waits for the next night; and no right clock dates one further ahead."""

_MOST_TASKS: Final = 100


def drill(parts: Parts) -> Drill:
    """Hold one, and keep what came of it. Errors are a drill that failed: what cannot be tried is not known to work.

    Raises NightPaused at the curfew, AlreadyRuns where a nap says why nothing was caught, and StoreError.
    """
    refuse_nap(parts.config)
    try:
        held = _hold(parts)
    except NightPaused:
        raise
    except (SleepyError, OSError) as error:
        held = _result(parts, 0, (), (), "", error.message if isinstance(error, SleepyError) else str(error))
    if not held.caught:
        refuse_nap(parts.config)  # it may have begun in the middle
    parts.store.save_drill(held)
    _log.warning(
        "canary.drill",
        caught=held.caught,
        tasks=held.tasks,
        replay=held.replay,
        sessions=held.sessions,
        reason=held.reason,
    )
    return held


def refuse_nap(config: Config) -> None:
    """Raises AlreadyRuns while the model server naps for a night: a drill then would fail, and tell nothing."""
    if NapFiles(config.state).mark() is not None:
        raise AlreadyRuns(
            "the model server sleeps while a night trains, so no drill can be held",
            "Try again when the night is over; a nap that a killed night left is ended by the daemon or the next night",
        )


def drill_if_due(parts: Parts) -> Drill | None:
    """Hold one when the last is `canary.drill_days` ago; at the end of the window it waits for another night.

    Before the first promotion there is nothing to roll back.
    """
    days, last, now = parts.config.canary.drill_days, parts.store.last_drill(), parts.clock.now()
    if not days or not parts.store.canaries():
        return None
    # One that is dated ahead was held while the clock was wrong, nobody knows when.
    if last is not None and last.caught and -_GRACE <= now - last.at < timedelta(days=days):
        return None
    try:
        return drill(parts)
    except NightPaused:
        pass
    except StoreError as error:  # the night before it is over, and must not look as if it had failed
        _log.error("canary.watch_failed", reason=error.message)
    return None


def complaint(last: Drill | None, promotions: int, now: datetime, days: float) -> str:
    """What is wrong with the drills, "" when nothing is; before the first promotion none is needed.

    `days` is `canary.drill_days`: with 0 nobody waits for one, and only one that failed is complained of.
    """
    if last is not None and not last.caught:
        return f"the last drill failed: {last.reason}"
    if not days:
        return ""
    if last is None:
        return "no drill was held yet" if promotions else ""
    if last.at - now > _GRACE:
        return f"the last drill is dated {last.at:%Y-%m-%d}: the clock was wrong"
    overdue = now - last.at > timedelta(days=days) + _GRACE
    return f"the last drill was held {(now - last.at).days} days ago" if overdue else ""


def _hold(parts: Parts) -> Drill:
    """Ask in batches until both tests have seen it, or the tasks are used up."""
    active, batch = parts.registry.active(), max(parts.config.canary.shadow_tasks, 10)
    if active is not None:
        ensure_loaded(parts.registry, parts.server, active, parts.prover)
    good, at = active.name if active else parts.base.name, parts.clock.now()
    tasks = random.Random(at.isoformat()).sample(parts.rehearsal, min(len(parts.rehearsal), _MOST_TASKS))
    replayed: tuple[Replayed, ...] = ()
    counted: tuple[Counted, ...] = ()
    folder, rank = parts.config.adapters, parts.config.recipe.rank
    with throwaway_adapters(parts.base.path, folder, rank, 1, DRILL, BROKEN) as [broken]:
        try:
            parts.server.load(broken.name, broken)
            for begin in range(0, len(tasks), batch):
                asked = tasks[begin : begin + batch]
                of_broken, of_good = answers(parts, (broken.name, good), asked, begin)
                replayed += pairs(of_broken, of_good)
                counted += _as_sessions(of_broken, of_good, broken.name)
                held = _result(parts, begin + len(asked), replayed, counted, good)
                if held.caught or not held.good:  # what serves passes nothing: more of it shows nothing
                    return held
        finally:
            with suppress(ServerError):
                parts.server.unload(broken.name)
    return _result(parts, len(tasks), replayed, counted, good)


def _as_sessions(broken: EvalReport, good: EvalReport, name: str) -> tuple[Counted, ...]:
    """The first answers to each task as if the task were a session that drew one of the two."""
    arms = [{s.task_id: s.outcome for s in report.samples if s.index == 0} for report in (broken, good)]
    drawn = [(task, lot(name, task) < 0.5) for task in arms[0]]
    ended = [(task, new, arms[0][task] if new else arms[1].get(task)) for task, new in drawn]
    return tuple(
        Counted(session=task, new=new, share=0.5, failed=outcome is Outcome.FAIL)
        for task, new, outcome in ended
        if outcome in (Outcome.PASS, Outcome.FAIL)
    )


def _result(
    parts: Parts,
    tasks: int,
    replayed: tuple[Replayed, ...],
    counted: tuple[Counted, ...],
    good: str,
    error: str = "",
) -> Drill:
    replay, sessions = plain(replay_log_e(replayed)), plain(log_e(counted))
    needed = parts.config.canary.threshold
    caught = not error and replay >= needed and sessions >= needed
    rates = [sum(one.previous for one in replayed), sum(one.served for one in replayed)]
    passed, wrong = (round(rate / max(len(replayed), 1), 4) for rate in rates)
    missed = (
        f"{good} passes {passed:.0%} and the broken one {wrong:.0%}: E {replay:.3g} and {sessions:.3g} of {needed:g}"
    )
    return Drill(
        at=parts.clock.now(),
        caught=caught,
        tasks=tasks,
        replay=replay,
        sessions=sessions,
        good=passed,
        broken=wrong,
        reason="" if caught else error or missed,
    )
