"""Exact tests and intervals for paired differences d = candidate - reference, one per task.

All functions take the differences as numbers in [-1, 1] and `single`: whether every task has one
sample, so that each d is -1, 0 or 1. Then the sign test is exact. Means of several samples have no such law; the
betting e-value is valid for them too, because it asks no more than the bounds of d. Results do not depend on the
order of the differences.
"""

# scipy ships no type information; every value it returns is converted to float right here.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, cast

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtrc, log_ndtr
from scipy.stats import binomtest

BETS = ((0.2, 0.2), (0.5, 0.3), (0.9, 0.5))
"""(stake lambda, weight w) of the e-value's three bets; the weights sum to 1."""

POWER = 0.8
"""The power at which `minimum_detectable_effect` is given."""


def mean(d: Sequence[float]) -> float:
    """The mean difference, 0 for no tasks."""
    return math.fsum(d) / len(d) if d else 0.0


def p_gain(d: Sequence[float], single: bool) -> float:
    """p value of "the mean difference is not positive" against "it is". Pass -d to test for harm."""
    return sign_test(sum(x > 0 for x in d), sum(x < 0 for x in d)) if single else math.exp(min(0.0, -log_e(d, 0.0)))


def sign_test(gains: int, losses: int) -> float:
    """Exact one-sided McNemar test: P(at least `gains` heads in gains + losses fair tosses)."""
    return float(bdtrc(gains - 1, gains + losses, 0.5)) if gains else 1.0


def log_e(d: Sequence[float], m: float) -> float:
    """Log of the betting e-value against "the mean difference is at most m", -1 <= m <= 1.

    Falls in m and rises in every d. Its expectation under the null is at most 1, for independent
    tasks with equal or different means (the product of the means is at most their mean's power).
    """
    logs = [
        math.log(weight) + math.fsum(math.log1p(stake * (x - m) / (1.0 + abs(m))) for x in d) for stake, weight in BETS
    ]
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def evidence_of_no_loss(d: Sequence[float], margin: float) -> float:
    """Log of 1/p against "the mean difference is at most -margin", for one look at a size that was fixed beforehand.

    A score test. The variance is the sample's, but at least that of a loss of the margin and no gains: of few
    tasks that come out alike nothing is certain. Half a task is taken off, because differences come in whole ones.
    """
    n, centre = len(d), mean(d)
    variance = max(math.fsum((x - centre) ** 2 for x in d) / (n - 1), margin * (1 - margin))
    return -float(log_ndtr(-(centre + margin - 1 / (2 * n)) / math.sqrt(variance / n)))


def interval(d: Sequence[float], single: bool, confidence: float) -> tuple[float, float]:
    """Two-sided interval of the mean difference; (-1, 1) for no tasks."""
    if not d:
        return (-1.0, 1.0)
    if single:
        gains, losses = sum(x > 0 for x in d), sum(x < 0 for x in d)
        low, high = _tango(gains, losses, len(d), confidence), -_tango(losses, gains, len(d), confidence)
    else:
        low, high = _betting_bound(d, confidence), -_betting_bound([-x for x in d], confidence)
    return (low, high)


def exact_interval(count: int, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate that was seen `count` times in `n`."""
    found = cast(Any, binomtest(count, n).proportion_ci(confidence, "exact"))
    return (float(found.low), float(found.high))


def _tango(gains: int, losses: int, n: int, confidence: float) -> float:
    """Lower end of Tango's score interval of (gains - losses) / n.

    The end is where the score statistic, with the loss probability at its constrained maximum
    likelihood, equals the normal quantile (Tango 1998, equations 2 to 5).
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def excess(delta: float) -> float:
        b = (2 * n - gains + losses) * delta - gains - losses
        c = -losses * delta * (1 - delta)
        loss = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * loss + delta * (1 - delta))
        return gains - losses - n * delta - z * math.sqrt(max(0.0, variance))

    # The variance is 0 at the estimate itself when all tasks end alike; the end lies below it.
    return -1.0 if losses == n else _root(excess, -1.0, (gains - losses) / n - 1e-9)


def _betting_bound(d: Sequence[float], confidence: float) -> float:
    """Lower end of the betting interval: the smallest mean that the e-value does not refute."""
    threshold = math.log(2 / (1 - confidence))
    return _root(lambda m: log_e(d, m) - threshold, -1.0, 1.0)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where `falling` crosses zero; an end of the range where it does not."""
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    return float(cast(float, brentq(falling, low, high, xtol=1e-10)))


def minimum_detectable_effect(d: Sequence[float], single: bool, alpha: float) -> float:
    """The smallest true gain found with 80% power at one-sided `alpha` on as many tasks (a fraction).

    Assumes that a better candidate goes on losing tasks at the rate seen here, (losses + 1) / (n + 2),
    and that its gain comes on top. With one sample per task the power is exact (binomial within
    binomial); with several it is the normal approximation of the log e-value, whose variance is the
    mean square difference seen here. 1.0 when no gain of less than 100 points would be found.
    """
    n = len(d)
    if not n:
        return 1.0
    if not single:
        return _detectable_by_betting(n, (math.fsum(x * x for x in d) + 1) / (n + 2), alpha)
    loss = min((sum(x < 0 for x in d) + 1) / (n + 2), 0.5)
    thresholds = _thresholds(n, alpha)
    return _root(lambda gain: POWER - _power(thresholds, loss, gain), 0.0, 1.0 - 2 * loss) if loss < 0.5 else 1.0


def _thresholds(n: int, alpha: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each number of tasks that differ, 0..n, how many gains the sign test needs."""
    need, out = 0, list[int]()
    for differing in range(n + 1):
        while need <= differing and sign_test(need, differing - need) > alpha:
            need += 1
        out.append(need)
    return np.array(out, dtype=np.float64)


def _power(thresholds: np.ndarray[Any, np.dtype[np.float64]], loss: float, gain: float) -> float:
    """Chance that the sign test finds a true gain when tasks are lost at rate `loss`."""
    n = len(thresholds) - 1
    rate = 2 * loss + gain
    differing = np.arange(n + 1, dtype=np.float64)
    above = np.append(1.0, np.asarray(bdtrc(differing, n, rate), dtype=np.float64))
    reachable = thresholds <= differing
    found = np.asarray(
        bdtrc(thresholds[reachable] - 1, differing[reachable].astype(np.int64), (loss + gain) / rate),
        dtype=np.float64,
    )
    return float(np.sum((above[:-1] - above[1:])[reachable] * found))


def _detectable_by_betting(n: int, mean_square: float, alpha: float) -> float:
    """Smallest gain at which one of the bets is expected to clear 1/alpha with 80% power."""
    z = NormalDist().inv_cdf(POWER)
    gains = [1.0]
    for stake, weight in BETS:
        needed = math.log(1 / (alpha * weight)) + z * stake * math.sqrt(n * mean_square)
        needed += n * stake**2 * mean_square / 2
        if 2 * needed < n:
            gains.append((1 - math.sqrt(1 - 2 * needed / n)) / stake)
    return min(gains)
