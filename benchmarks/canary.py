"""How often the live test rolls back what does no harm, and after how many sessions it finds what does.

Simulated with the test's own functions: sessions drawn by lot, ended by chance. Beside it stand the rule that people
use by hand, "roll back when the new one fails 10 points more often after 30 sessions of each", and what the canary did
at first: count only sessions whose verdict trains, count replies as they come, judge each run of broken ones alone.
Prints one JSON line.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from sleepy_coder.config import CanarySettings
from sleepy_coder.judge.eprocess import Array, Bools
from sleepy_coder.judge.eprocess import log_paths as paired_paths
from sleepy_coder.judge.paired import exact_interval
from sleepy_coder.judge.replies import PATIENCE, Heard, ReplyWatch
from sleepy_coder.judge.rollback import log_paths
from sleepy_coder.store_canary import Assigned, Counted, Patience

SESSIONS, TRIALS = 2000, 2000
FAILS = 0.233  # of the old adapter's sessions
DRIFTS = {
    "none": np.full(SESSIONS, FAILS),
    "harder": np.linspace(0.1, 0.6, SESSIONS),
    "easier": np.linspace(0.6, 0.05, SESSIONS),
    "bad_days": np.where((np.arange(SESSIONS) // 200) % 3 == 1, 0.9, 0.2),
}
POINTS = (0.05, 0.10, 0.20, 0.30, 0.50)
NIGHTS, TASKS, SAMPLES = 15, 20, 4
REPLY_TRIALS, REPLY_TASKS = 200, 130  # each tried in three sessions
BURSTS, BROKEN_TRIALS, USUAL, LONG_USUAL = 200, 1000, 30, 1000  # sessions before, all sound
NOW = datetime(2026, 11, 24, tzinfo=UTC)
WAITING, AS_THEY_COME = Patience(NOW - PATIENCE, NOW), Patience(NOW, NOW)


class Ends(NamedTuple):
    """How sessions of an adapter end, as chances: the others change no program, or leave the tests as red as before."""

    passed: float
    failed: float


ENDS = {
    "does nothing": (Ends(0.0, 0.0), Ends(0.5, 0.4)),
    "tries more and passes more": (Ends(0.6, 0.4), Ends(0.5, 0.1)),
    "20 points worse, a third of the sessions can pass with neither": (
        Ends((1 - FAILS - 0.2) * 2 / 3, (FAILS + 0.2) * 2 / 3),
        Ends((1 - FAILS) * 2 / 3, FAILS * 2 / 3),
    ),
}


def sessions(new_fails: Array, old_fails: Array, share: Array | float, alarm: float) -> Array:
    """For each simulated canary the session at which it rolls back; infinite where it never does."""
    rng = np.random.default_rng(11)
    new = rng.random((TRIALS, SESSIONS)) < share
    failed = rng.random(new.shape) < np.where(new, new_fails, old_fails)
    return _first(log_paths(new, failed, np.broadcast_to(share, new.shape)) >= alarm)


def ends(of_new: Ends, of_old: Ends, alarm: float) -> tuple[Array, Array]:
    """The same at share 0.5 where sessions end in three ways: all count, or only those whose verdict trains."""
    rng = np.random.default_rng(11)
    new, drawn = rng.random((TRIALS, SESSIONS)) < 0.5, rng.random((TRIALS, SESSIONS))
    passed = drawn < np.where(new, of_new.passed, of_old.passed)
    trains = drawn < np.where(new, sum(of_new), sum(of_old))
    counted = _first(log_paths(new, ~passed, 0.5) >= alarm)
    of_those = np.full(TRIALS, np.inf)
    for one, t in enumerate(trains):
        alarms = log_paths(new[one, t], ~passed[one, t], 0.5) >= alarm
        of_those[one] = np.flatnonzero(t)[alarms.argmax()] + 1.0 if alarms.any() else np.inf
    return counted, of_those


def _first(alarms: Bools) -> Array:
    return np.where(alarms.any(axis=-1), alarms.argmax(axis=-1) + 1.0, np.inf)


def by_hand(new_fails: float, trials: int = 20_000) -> float:
    """How often the rule of thumb rolls back."""
    rng = np.random.default_rng(11)
    new, old = (rng.binomial(30, rate, size=trials) / 30 for rate in (new_fails, FAILS))
    return float((new - old >= 0.10).mean())


def nights(worse: float, alarm: float) -> Array:
    """For each simulated canary the night at which the paired replay rolls back; infinite where none does."""
    rng = np.random.default_rng(11)
    chance = rng.beta(1.6, 0.5, size=(TRIALS, NIGHTS * TASKS))  # 76% on average, most tasks easy or hard
    after = np.clip(chance * (1 - worse / chance.mean()), 0, 1)
    served, previous = (rng.binomial(SAMPLES, p) / SAMPLES for p in (after, chance))
    paths = paired_paths(previous - served, 0.0)[:, TASKS - 1 :: TASKS]
    return _first(paths >= alarm)


class Beginnings:
    """First replies of a canary's sessions, and which of the compared ones were bad."""

    def __init__(self, share: float, patience: Patience) -> None:
        self.watch = ReplyWatch(CanarySettings())  # pyright: ignore[reportCallIssue]
        self._share, self._patience = share, patience
        self._new: dict[str, bool] = {}
        self._counted: list[tuple[bool, bool]] = []

    def draw(self, session: str, new: bool) -> None:
        self._new[session] = new
        self.watch.drew(Assigned(session=session, new=new, share=self._share), NOW)

    def hear(self, session: str, one: Heard) -> None:
        self.watch.hear(session, one)
        for said in self.watch.said(self._patience):
            if said.failed is not None:
                self._counted.append((self._new[said.session], said.failed))
        self.watch.kept()

    @property
    def rolled_back(self) -> bool:
        new, failed = np.array(self._counted or [(True, False)]).T
        threshold = math.log(self.watch.settings.explosion_threshold)
        return bool(self.watch.alarm) or bool(log_paths(new, failed, self._share).max() >= threshold)


def burst(parallel: int, slower: float, patience: Patience) -> float:
    """How often so many sessions that begin at once roll back an adapter that is only so many times slower."""
    back = 0
    for seed in range(BURSTS):
        rng, canary = random.Random(seed), Beginnings(0.5, patience)
        for number in range(-USUAL, 0):
            canary.draw(str(number), rng.random() < 0.5)
            canary.hear(str(number), Heard("", 100, 1.0))
        lots = [rng.random() < 0.5 for _ in range(parallel)]
        takes = [rng.uniform(0.9, 1.1) * (slower if new else 1) for new in lots]
        for number, new in enumerate(lots):
            canary.draw(str(number), new)
        for number in sorted(range(parallel), key=takes.__getitem__):
            canary.hear(str(number), Heard("", 100, takes[number]))
        back += canary.rolled_back
    return back / BURSTS


def broken(tries: int, share: float) -> tuple[float, float]:
    """How often a prompt that breaks any adapter rolls back when it is tried so often: by all runs together, and by
    each alone."""
    together = alone = 0
    for seed in range(BROKEN_TRIALS):
        rng, canary, run, longest = random.Random(seed), Beginnings(share, WAITING), 0, 0
        canary.watch.resume([Counted(session="", new=False, share=share, failed=False)] * LONG_USUAL)
        for number in range(tries):
            new = rng.random() < share
            canary.draw(str(number), new)
            canary.hear(str(number), Heard("empty", 0, 1.0))
            run = run + 1 if new else 0
            longest = max(longest, run)
        together += bool(canary.watch.alarm)
        alone += share**longest <= 1e-3
    return together / BROKEN_TRIALS, alone / BROKEN_TRIALS


def replies(share: float, lengths: tuple[float, float], breaking: float) -> float:
    """How often the form of replies rolls back an adapter that does no harm.

    `lengths` are the mean numbers of replies a session of the old and the new adapter has; a share `breaking` of the
    tasks makes either reply nothing, and each task is tried in three sessions.
    """
    rng, back = random.Random(11), 0
    for _ in range(REPLY_TRIALS):
        canary = Beginnings(share, WAITING)
        for task in range(REPLY_TASKS):
            how = "empty" if rng.random() < breaking else ""
            for attempt in range(3):
                session, new = f"{task}/{attempt}", rng.random() < share
                canary.draw(session, new)
                for _ in range(1 + int(rng.expovariate(1 / (lengths[new] - 0.5)))):
                    canary.hear(session, Heard(how, rng.lognormvariate(5, 0.5), rng.lognormvariate(0, 0.5)))
        back += canary.rolled_back
    return back / REPLY_TRIALS


def _median(found: Array) -> float | None:
    middle = float(np.median(found))
    return middle if math.isfinite(middle) else None


def _shown(found: Array, unit: str = "sessions") -> dict[str, float | None]:
    return {"share": round(float(np.isfinite(found).mean()), 3), f"median_{unit}": _median(found)}


def main() -> None:
    started = time.perf_counter()
    settings = CanarySettings()  # pyright: ignore[reportCallIssue]
    alarm = math.log(settings.threshold)
    shares = (settings.share, 1 - settings.holdback)
    false = {
        f"{name} at {share:g}": int(np.isfinite(sessions(rate, rate, share, alarm)).sum())
        for share in shares
        for name, rate in DRIFTS.items()
    }
    worst = max(false.values())
    found = {
        share: {worse: sessions(DRIFTS["none"] + worse, DRIFTS["none"], share, alarm) for worse in POINTS}
        for share in shares
    }
    default = np.where(np.arange(SESSIONS) < settings.sessions, *shares)
    replays = {worse: nights(worse, alarm) for worse in (0.0, 0.05, 0.10, 0.20)}
    result = {
        "benchmark": "canary",
        "sessions": SESSIONS,
        "canaries": TRIALS,
        "threshold": settings.threshold,
        "false_rollback_rate": {name: count / TRIALS for name, count in false.items()},
        "worst_interval": [round(end, 4) for end in exact_interval(worst, TRIALS, 0.95)],
        "goal": 1 / settings.threshold,
        "found": {
            f"-{worse * 100:.0f} at {share:g}": _shown(when)
            for share, by_points in found.items()
            for worse, when in by_points.items()
        },
        "found_by_default": {
            f"-{worse * 100:.0f}": _shown(sessions(DRIFTS["none"] + worse, DRIFTS["none"], default, alarm))
            for worse in (0.0, *POINTS)
        },
        "ends": {
            name: dict(zip(("all_count", "only_verdicts_that_train"), map(_shown, ends(*arms, alarm)), strict=True))
            for name, arms in ENDS.items()
        },
        "rule_by_hand": {f"-{worse * 100:.0f}": round(by_hand(FAILS + worse), 3) for worse in (0.0, 0.2)},
        "replay": {f"-{worse * 100:.0f}": _shown(when, "night") for worse, when in replays.items()},
        "false_rollback_rate_of_a_burst": {
            f"{parallel} sessions at once, 2 times slower, {name}": burst(parallel, 2.0, patience)
            for parallel in (48, 64, 100)
            for name, patience in (("in the order of the lots", WAITING), ("as they come", AS_THEY_COME))
        },
        "false_rollback_rate_of_a_prompt_that_breaks_any": {
            f"{tries} tries at {share:g}": dict(zip(("all_runs", "each_run_alone"), broken(tries, share), strict=True))
            for share in shares
            for tries in (50, 500)
        },
        "false_rollback_rate_of_replies": {
            f"{old:g} to {new:g} replies, {breaking:.0%} of tasks break, at {share:g}": replies(
                share, (old, new), breaking
            )
            for share in shares
            for old, new, breaking in ((2.5, 2.5, 0.0), (2.5, 1.7, 0.0), (3.3, 1.7, 0.0), (2.5, 2.5, 0.01))
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
