"""What a frozen set can show: simulated nights, judged by the gate's own e-processes.

The chance to pass is logistic in a difficulty that varies between clusters and a little within them; a change moves
all difficulties alike, and answers are drawn independently for each arm. Greedy answers are no draws: there a
candidate answers as the served model does, but for the tasks that it loses (`churn`) and gains, clusters whole.
Rates and changes are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.judge.eprocess import Array, Indices, decisions
from sleepy_coder.types import Record

BETWEEN, WITHIN = 1.6, 0.8
"""Standard deviations of the difficulty (in logits) between clusters, and of tasks within one."""

CHANGES: Final = (-0.10, -0.05, -0.02, 0.0, 0.03, 0.05, 0.08, 0.10)

POWER: Final = 0.8
"""The chance of a promotion at which a gain counts as detectable."""

USUAL_CHURN: Final = 0.015
"""Share of the tasks that the promoted nights of `make demo` lost."""

_STEP = 0.005
_LARGEST = 0.40
_SHIFT_SEED = 0


class PowerRow(Record):
    """What becomes of candidates whose true change is `change`; `clusters` is how many are measured on average."""

    change: float
    promoted: float
    held: float
    rejected: float
    clusters: float


class PowerReport(Record):
    """What a set shows: the smallest gain `detectable`, and what it takes to show `gain` (None: too much).

    `times` is how many times as many clusters; `nights` how many nights of as much that add up on the trunk (None: it
    ends before).
    """

    clusters: int
    tasks: int
    samples: int
    baseline_rate: float
    rows: tuple[PowerRow, ...]
    detectable: float | None
    gain: float
    times: int | None
    nights: int | None


class Calibration(Record):
    """Nights in which the served model was judged against itself."""

    nights: int
    promoted: int
    held: int
    rejected: int


@dataclass(frozen=True, slots=True)
class FrozenSet:
    """A set as the simulation sees it: `sizes` are the numbers of tasks of its clusters, `samples` those per task.

    `churn` is the share of tasks that a candidate loses whatever it gains, where answers are greedy; else None.
    """

    sizes: Indices
    samples: int
    baseline_samples: int
    churn: float | None = None

    def times(self, factor: int) -> FrozenSet:
        """As many more clusters of the same sizes."""
        return replace(self, sizes=np.tile(self.sizes, factor))

    def difficulties(self, rng: np.random.Generator, sets: int) -> Array:
        """Logits of `sets` sets of tasks, shape (sets, tasks)."""
        cluster = np.repeat(rng.normal(0.0, BETWEEN, (sets, len(self.sizes))), self.sizes, axis=1)
        return cluster + rng.normal(0.0, WITHIN, cluster.shape)

    def scores(self, rng: np.random.Generator, chance: Array, samples: int) -> Array:
        """Mean pass per cluster, shape (..., clusters), of arms whose tasks pass with `chance` (..., tasks)."""
        return self.mean(rng.binomial(samples, chance) / samples)

    def mean(self, tasks: Array) -> Array:
        """Means per cluster of values per task."""
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        return np.add.reduceat(tasks, starts, axis=-1) / self.sizes


def frozen_set(clusters: Sequence[Cluster], samples: int, temperature: float, baseline_samples: int = 1) -> FrozenSet:
    """The set of these clusters, with `samples` answers per task drawn at `temperature`, of the baseline more."""
    sizes = np.array([len(cluster.tasks) for cluster in clusters], dtype=np.int64)
    if temperature == 0:
        return FrozenSet(sizes, samples, samples, USUAL_CHURN)
    return FrozenSet(sizes, samples, max(samples, baseline_samples))


def chance_of(logits: Array) -> Array:
    """The logistic function."""
    return np.exp(-np.logaddexp(0.0, -logits))


@lru_cache(maxsize=256)
def shift_to(rate: float) -> float:
    """The logit that, added to all difficulties, makes tasks pass at `rate`."""
    z = FrozenSet(np.ones(20_000, dtype=np.int64), 1, 1).difficulties(np.random.default_rng(_SHIFT_SEED), 1)
    low, high = -12.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(chance_of(z + middle).mean()) < rate else (low, middle)
    return (low + high) / 2


def simulate(
    of: FrozenSet, policy: GatePolicy, rate: float, change: float, nights: int, seed: int, opening: int = 1
) -> tuple[Indices, Indices]:
    """`nights` nights with candidates that are better than baseline and served by `change`, each on a fresh set.
    All are judged in the same `opening` of an epoch, whose share of alpha is what they are measured by.

    As `decisions`: what was said (1, 0, -1), and after how many clusters.
    """
    rng = np.random.default_rng(seed)
    difficulty = of.difficulties(rng, nights)
    if of.churn is not None:
        passed = rng.binomial(1, chance_of(difficulty + shift_to(rate)))
        luck = np.repeat(rng.random((nights, len(of.sizes))), of.sizes, axis=1)
        lost, gained = of.churn + max(0.0, -change), of.churn + max(0.0, change)
        flipped = luck < np.where(passed > 0, lost / rate, gained / (1 - rate))
        d = of.mean(np.where(flipped, 1.0 - 2.0 * passed, 0.0))
        return decisions(d, d, policy, opening)
    before, after = chance_of(difficulty + shift_to(rate)), chance_of(difficulty + shift_to(min(rate + change, 0.999)))
    baseline = of.scores(rng, before, of.baseline_samples)
    served, candidate = of.scores(rng, before, of.samples), of.scores(rng, after, of.samples)
    return decisions(candidate - baseline, candidate - served, policy, opening)


def power_row(
    of: FrozenSet, policy: GatePolicy, rate: float, change: float, nights: int, seed: int, opening: int = 1
) -> PowerRow:
    """What the gate says of candidates with this true change."""
    said, clusters = simulate(of, policy, rate, change, nights, seed, opening)
    return PowerRow(
        change=change,
        promoted=float((said == 1).mean()),
        held=float((said == 0).mean()),
        rejected=float((said == -1).mean()),
        clusters=float(clusters.mean()),
    )


def power_report(
    of: FrozenSet, policy: GatePolicy, rate: float, gain: float | None, nights: int, seed: int, opening: int = 1
) -> PowerReport:
    """Everything that `gate power` shows. `gain` is by default half of what the set detects."""
    smallest = detectable(of, policy, rate, nights, seed, opening)
    wanted = gain or (smallest or 0.1) / 2
    return PowerReport(
        clusters=len(of.sizes),
        tasks=int(of.sizes.sum()),
        samples=of.samples,
        baseline_rate=round(rate, 4),
        rows=tuple(power_row(of, policy, rate, change, nights, seed, opening) for change in CHANGES),
        detectable=smallest,
        gain=wanted,
        times=times_needed(of, policy, rate, wanted, nights, seed, opening),
        nights=nights_needed(of, policy, rate, wanted, smallest, nights, seed, opening) if smallest else None,
    )


def detectable(
    of: FrozenSet, policy: GatePolicy, rate: float, nights: int, seed: int, opening: int = 1
) -> float | None:
    """The smallest true gain that is promoted in 4 nights of 5; None when no gain up to 40 points is."""
    steps = round(min(_LARGEST, 0.99 - rate) / _STEP)

    def enough(step: int) -> bool:
        return power_row(of, policy, rate, step * _STEP, nights, seed, opening).promoted >= POWER

    return _first(steps, enough, _STEP)


def times_needed(
    of: FrozenSet, policy: GatePolicy, rate: float, gain: float, nights: int, seed: int, opening: int = 1
) -> int | None:
    """How many times this set would show `gain` in 4 nights of 5; None when 16 times would not."""

    def enough(times: int) -> bool:
        return power_row(of.times(times), policy, rate, gain, nights, seed, opening).promoted >= POWER

    found = _first(16, enough, 1)
    return None if found is None else round(found)


def nights_needed(
    of: FrozenSet,
    policy: GatePolicy,
    rate: float,
    gain: float,
    smallest: float,
    nights: int,
    seed: int,
    opening: int = 1,
) -> int | None:
    """How many nights of `gain` each add up to a promotion in 4 of 5 last nights; None when the trunk ends before.

    Each undecided night uses an opening too, and the later one spends less: it needs more than the `smallest` gain
    that this one detects.
    """
    last = min(policy.trunk_nights + 1, policy.openings - opening + 1)

    def enough(number: int) -> bool:
        change = min(number * gain, 0.99 - rate)
        return power_row(of, policy, rate, change, nights, seed, opening + number - 1).promoted >= POWER

    return next(filter(enough, range(math.ceil(smallest / gain), last + 1)), None)


def _first(last: int, enough: Callable[[int], bool], unit: float) -> float | None:
    """The smallest n in 1..last for which the rising condition holds, times `unit`."""
    if last < 1 or not enough(last):
        return None
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high * unit


def calibrate(
    of: FrozenSet, policy: GatePolicy, chances: Sequence[float], nights: int, seed: int, opening: int = 1
) -> Calibration:
    """Judge a model that passes each task with `chances` (in the clusters' order) against itself, `nights` times."""
    rng = np.random.default_rng(seed)
    chance = np.broadcast_to(np.array(chances, dtype=np.float64), (nights, len(chances)))
    baseline = of.scores(rng, chance, of.baseline_samples)
    served, candidate = of.scores(rng, chance, of.samples), of.scores(rng, chance, of.samples)
    said, _ = decisions(candidate - baseline, candidate - served, policy, opening)
    counts = [int((said == value).sum()) for value in (1, 0, -1)]
    return Calibration(nights=nights, promoted=counts[0], held=counts[1], rejected=counts[2])


def typical_chances(of: FrozenSet, rate: float, seed: int) -> list[float]:
    """Chances to pass of the tasks of one simulated set, in the clusters' order."""
    logits = of.difficulties(np.random.default_rng(seed), 1)[0]
    return chance_of(logits + shift_to(rate)).tolist()
