"""From letters to differences: what the e-process bets on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from sleepy_coder.judge.case import TaskOutcomes
from sleepy_coder.judge.eprocess import Array, Bools

PASS, MISSING = "P", "I"


@dataclass(frozen=True, slots=True)
class Units:
    """Differences per unit, in order: `anchor` candidate - baseline, `progress` candidate - served, in [-1, 1].

    `single`: every unit is one task with one sample in each arm, so that each difference is -1, 0 or 1.
    `missing` names the units that could not be measured in some arm. Their difference is -1, and `known` says
    where that of `progress` was seen: a loss that nobody saw keeps from a promotion and proves no harm. `room` is the
    share that served leaves to be gained.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    anchor: Array
    progress: Array
    known: Bools
    room: Array
    missing: tuple[str, ...]
    single: bool

    def at_worst(self) -> Units:
        """The same, had each loss that was only assumed been seen."""
        return replace(self, known=np.ones_like(self.known))


def by_cluster(tasks: Sequence[TaskOutcomes]) -> Units:
    """One unit per cluster: the mean over its tasks of the share of samples that passed."""
    clusters = [tuple(members) for _, members in groupby(tasks, key=lambda t: t.cluster)]
    return _units(
        tuple(of[0].cluster for of in clusters),
        clusters,
        single=all(len(of) == 1 and len(of[0].candidate + of[0].served + of[0].baseline) == 3 for of in clusters),
    )


def by_pair(tasks: Sequence[TaskOutcomes]) -> Units:
    """One unit per task and sample: candidate's sample i against the references' samples i."""
    pairs = [
        (task.model_copy(update={arm: getattr(task, arm)[i : i + 1] for arm in ("baseline", "served", "candidate")}),)
        for task in tasks
        for i in range(min(len(task.baseline), len(task.served), len(task.candidate)))
    ]
    names = tuple(f"{of[0].task}/{i}" for i, of in enumerate(pairs))
    return _units(names, pairs, single=True)


def _units(names: tuple[str, ...], members: Sequence[tuple[TaskOutcomes, ...]], *, single: bool) -> Units:
    def missing(of: tuple[TaskOutcomes, ...], *arms: str) -> bool:
        return any(MISSING in getattr(task, arm) or not getattr(task, arm) for task in of for arm in arms)

    def difference(of: tuple[TaskOutcomes, ...], reference: str) -> float:
        if missing(of, "candidate", reference):  # what is not known counts as a loss: it can never help
            return -1.0
        return _mean(of, "candidate") - _mean(of, reference)

    return Units(
        names=names,
        groups=tuple(of[0].group for of in members),
        anchor=np.array([difference(of, "baseline") for of in members], dtype=np.float64),
        progress=np.array([difference(of, "served") for of in members], dtype=np.float64),
        known=np.array([not missing(of, "candidate", "served") for of in members], dtype=np.bool_),
        room=np.array([1 - _mean(of, "served") for of in members], dtype=np.float64),
        missing=tuple(
            name for name, of in zip(names, members, strict=True) if missing(of, "candidate", "served", "baseline")
        ),
        single=single,
    )


def _mean(tasks: tuple[TaskOutcomes, ...], arm: str) -> float:
    shares = [getattr(task, arm).count(PASS) / max(len(getattr(task, arm)), 1) for task in tasks]
    return sum(shares) / len(shares)
