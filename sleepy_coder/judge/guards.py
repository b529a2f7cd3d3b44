"""What may keep a proved gain from being promoted: a harmed family, a gain that fresh tasks do not show."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge import paired
from sleepy_coder.judge.eprocess import Array
from sleepy_coder.judge.units import Units
from sleepy_coder.types import FamilyChange


def family_guard(units: Units, policy: GatePolicy) -> tuple[FamilyChange, ...]:
    """Harm against served in each large enough group, by Holm's step-down test, in what is known."""
    members: dict[str, list[float]] = defaultdict(list)
    for group, d, known in zip(units.groups, units.progress.tolist(), units.known.tolist(), strict=True):
        if known:
            members[group].append(d)
    tested = sorted(
        (paired.p_gain([-x for x in d], units.single), group)
        for group, d in members.items()
        if len(d) >= policy.min_family_clusters
    )
    changes: list[FamilyChange] = []
    blocked = True
    for rank, (p_harm, group) in enumerate(tested):
        d = members[group]
        blocked = blocked and p_harm <= policy.family_alpha / (len(tested) - rank)
        changes.append(
            FamilyChange(
                family=group,
                tasks=len(d),
                gained=sum(x > 0 for x in d),
                lost=sum(x < 0 for x in d),
                p_harm=p_harm,
                blocked=blocked,
            )
        )
    return tuple(changes)


def fresh_evidence(fresh: Units, policy: GatePolicy) -> float | None:
    """Log of 1/p against "worse than the baseline on fresh tasks by the margin or more"; None with too few clusters.

    No e-value: fresh tasks are looked at once, all of them, and on so few an e-value asks for a gain, where a tie is
    all that is needed. Whatever comes of it, the promise is kept by the frozen tasks.
    """
    if len(fresh.names) < policy.min_fresh_clusters:
        return None
    return paired.evidence_of_no_loss(fresh.anchor.tolist(), policy.fresh_margin)


def leak_gap(frozen: Units, fresh: Units, policy: GatePolicy) -> float | None:
    """z value of (gain over served on frozen tasks) - (that on fresh tasks); None with too few fresh clusters.

    A frozen set that leaked into training gains where nothing else does. Where less is left to be gained on fresh
    tasks, a gain there counts for as much more: tasks of the day may be easier. Only this candidate's step is compared,
    since earlier ones were judged already. What was not measured is at its worst in the gap, makes it no less certain,
    and leaves as much or as little to be gained as makes z larger.
    """
    if len(fresh.names) < policy.min_fresh_clusters or len(frozen.names) < 2:
        return None
    gains = np.where(frozen.known, frozen.progress, 1.0)
    left = _room(frozen.room[frozen.known])
    rooms = [fresh.room[fresh.known], *(np.where(fresh.known, fresh.room, unknown) for unknown in (0.0, 1.0))]

    def z(scale: float) -> float:
        gap = float(gains.mean() - scale * fresh.progress.mean())
        error = _error(frozen.progress[frozen.known]) + scale**2 * _error(fresh.progress[fresh.known])
        return gap / math.sqrt(error)

    return max(z(max(1.0, left / _room(room))) for room in rooms)


def _room(room: Array) -> float:
    """Mean share that served fails, with one observation of a half added so that it is never 0."""
    return float((room.sum() + 0.5) / (len(room) + 1))


def _error(d: Array) -> float:
    """Squared standard error of a mean, with one observation of a full difference added so that it is never 0."""
    n = max(2, len(d))
    return float((np.square(d - d.mean()).sum() + 1) / (n * (n - 1)))
