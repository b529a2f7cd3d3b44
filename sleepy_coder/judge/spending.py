"""Alpha spending: how much of an epoch's promise each of its openings uses up.

The chance that one of J candidates is promoted wrongly is at most the sum of what their openings spend, whatever the
candidates are and however later ones follow from earlier verdicts (union bound). So any series that is fixed beforehand
and sums to alpha keeps the promise. One part is spent evenly; the other falls as 1/j^2, because an epoch's first
candidates have the most to gain, and later ones are far above the baseline if anything was promoted before them
(alpha spending: Lan & DeMets, Biometrika 70, 1983; over a sequence of hypotheses: Foster & Stine, JRSS-B 70, 2008).
"""

from __future__ import annotations

import math

from sleepy_coder.config import GatePolicy


def prices(policy: GatePolicy) -> tuple[float, ...]:
    """What each opening of an epoch spends, in order; they sum to `policy.alpha`."""
    falling = [j**-2 for j in range(1, policy.openings + 1)]
    even, early = (1 - policy.early_share) / policy.openings, policy.early_share / math.fsum(falling)
    return tuple(policy.alpha * (even + early * part) for part in falling)


def spends(policy: GatePolicy, opening: int) -> float:
    """What opening number `opening` (from 1) spends. Beyond the last it is as dear as that, and refused elsewhere."""
    return prices(policy)[min(opening, policy.openings) - 1]


def anchor_threshold(policy: GatePolicy, opening: int) -> float:
    """Log of the e-value against the baseline that a promotion in this opening needs."""
    return -math.log(spends(policy, opening))
