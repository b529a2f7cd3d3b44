"""The e-process of the gate: a bet against "the mean difference is at most m", and the looks at it.

For differences d_i in [-1, 1], one per cluster, in an order that was fixed beforehand:

    E_t = sum_j w_j prod_{i<=t} (1 + lambda_j (d_i - m) / (1 + |m|))

(Waudby-Smith & Ramdas, JRSS-B 86, 2024, section 4.) For independent clusters whose means average at most m, the
expectation of E_n over a whole set is at most 1: the product of the clusters' means is at most their mean's power.
So P(E_n >= 1/a) <= a, whatever the order and whatever the distribution. For clusters that are drawn alike, E_t
is a supermartingale, and the same holds for the largest E_t on the way (Ville's inequality).

Everything works on the last axis and is vectorised over the others, so that the tests and `gate power`
simulate with the very functions that judge.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge.paired import BETS
from sleepy_coder.judge.spending import anchor_threshold

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def log_paths(d: Array, m: float, bets: tuple[tuple[float, float], ...] = BETS) -> Array:
    """Natural logs of E_1 .. E_n along the last axis of `d` (differences in [-1, 1]); same shape as `d`."""
    x = (d - m) / (1.0 + abs(m))
    paths = [math.log(weight) + np.cumsum(np.log1p(stake * x), axis=-1) for stake, weight in bets]
    return np.logaddexp.reduce(paths, axis=0)


def look_ends(measured: int, whole: bool, block: int) -> Indices:
    """After how many units the paths are looked at: after each full block, and at the end of the set."""
    ends = list(range(block, measured + 1, block))
    if whole and measured % block:
        ends.append(measured)
    return np.array(ends, dtype=np.int64)


class Paths(NamedTuple):
    """Natural logs of the e-values at the looks, on the last axis. `ends` are numbers of units."""

    ends: Indices
    anchor: Array
    progress: Array
    futility: Array


def paths_of(anchor: Array, progress: Array, whole: bool, policy: GatePolicy, known: Bools | bool = True) -> Paths:
    """The three paths. `anchor` is candidate - baseline and `progress` candidate - served, per unit so far.

    On futility a unit that is not `known` bets nothing: its factor is 1.
    """
    ends = look_ends(anchor.shape[-1], whole, policy.block)
    seen = np.where(known, progress, policy.futility_margin)
    return Paths(
        ends,
        log_paths(anchor, 0.0)[..., ends - 1],
        log_paths(progress, 0.0)[..., ends - 1],
        log_paths(-seen, -policy.futility_margin)[..., ends - 1],
    )


def futile(paths: Paths, policy: GatePolicy) -> Bools:
    """At which looks it is proved that the candidate does not gain the margin over what serves."""
    return paths.futility >= math.log(policy.futility_threshold)


def decisions(anchor: Array, progress: Array, policy: GatePolicy, opening: int) -> tuple[Indices, Indices]:
    """What the e-processes alone say of whole sets in this opening of an epoch: 1 promote, 0 hold, -1 reject.

    And after how many units.
    """
    paths = paths_of(anchor, progress, True, policy)
    harm = futile(paths, policy)
    gain = (paths.anchor[..., -1] >= anchor_threshold(policy, opening)) & (
        paths.progress[..., -1] >= math.log(policy.progress_threshold)
    )
    said = np.where(harm.any(axis=-1), -1, gain & (anchor.shape[-1] >= policy.min_clusters))
    stop = np.where(harm.any(axis=-1), harm.argmax(axis=-1), len(paths.ends) - 1)
    return said.astype(np.int64), paths.ends[stop]
