"""How often the live test rolls back what does no harm, and after how many sessions it finds what does.

Simulated with the test's own functions: sessions drawn by lot, ended by chance. Beside it stands the rule that people
use by hand, "roll back when the new one fails 10 points more often after 30 sessions of each". Prints one
JSON line.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time

import numpy as np

from sleepy_coder.config import CanarySettings
from sleepy_coder.judge.eprocess import Array
from sleepy_coder.judge.eprocess import log_paths as paired_paths
from sleepy_coder.judge.paired import exact_interval
from sleepy_coder.judge.replies import Heard, ReplyWatch
from sleepy_coder.judge.rollback import log_paths

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


def sessions(new_fails: Array, old_fails: Array, share: float, alarm: float) -> Array:
    """For each simulated canary the session at which it rolls back; infinite where it never does."""
    rng = np.random.default_rng(11)
    new = rng.random((TRIALS, SESSIONS)) < share
    failed = rng.random(new.shape) < np.where(new, new_fails, old_fails)
    alarms = log_paths(new, failed, share) >= alarm
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
    alarms = paths >= alarm
    return np.where(alarms.any(axis=-1), alarms.argmax(axis=-1) + 1.0, np.inf)


def replies(share: float, lengths: tuple[float, float], breaking: float) -> float:
    """How often the form of replies rolls back an adapter that does no harm.

    `lengths` are the mean numbers of replies a session of the old and the new adapter has; a share `breaking` of the
    tasks makes either reply nothing, and each task is tried in three sessions.
    """
    rng, settings = random.Random(11), CanarySettings()  # pyright: ignore[reportCallIssue]
    back = 0
    for _ in range(REPLY_TRIALS):
        watch, counted = ReplyWatch(settings), list[tuple[bool, bool]]()
        for task in range(REPLY_TASKS):
            how = "empty" if rng.random() < breaking else ""
            for attempt in range(3):
                new = rng.random() < share
                for _ in range(1 + int(rng.expovariate(1 / (lengths[new] - 0.5)))):
                    one = Heard(how, rng.lognormvariate(5, 0.5), rng.lognormvariate(0, 0.5))
                    failed = watch.hear(f"{task}/{attempt}", new, share, one)
                    if failed is not None:
                        counted.append((new, failed))
        of_new, of_failed = np.array(counted).T
        exploded = log_paths(of_new, of_failed, share).max() >= math.log(settings.explosion_threshold)
        back += bool(watch.alarm) or bool(exploded)
    return back / REPLY_TRIALS


def _median(found: Array) -> float | None:
    middle = float(np.median(found))
    return middle if math.isfinite(middle) else None


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
            f"-{worse * 100:.0f} at {share:g}": {
                "share": round(float(np.isfinite(when).mean()), 3),
                "median_sessions": _median(when),
            }
            for share, by_points in found.items()
            for worse, when in by_points.items()
        },
        "rule_by_hand": {f"-{worse * 100:.0f}": round(by_hand(FAILS + worse), 3) for worse in (0.0, 0.2)},
        "replay": {
            f"-{worse * 100:.0f}": {
                "share": round(float(np.isfinite(when).mean()), 3),
                "median_night": _median(when),
            }
            for worse, when in replays.items()
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
