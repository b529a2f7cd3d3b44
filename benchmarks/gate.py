"""How often the gate promotes what is no better than the baseline, per epoch of 50 openings, and what it finds.

Simulated with the frozen set's own clusters, 4 samples per task and the gate's own e-processes; the founding rule ("not
below the baseline and not below the previous one, on 30 greedy tasks") stands beside it. The promise is the anchor's:
it is asked alone as well, without what else holds a candidate back and with four times the openings, and then without
its budget, each opening at the price of an only one. Prints one JSON line.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.judge.eprocess import Array, decisions
from sleepy_coder.judge.paired import exact_interval
from sleepy_coder.judge.power import FrozenSet, chance_of, frozen_set, power_row, shift_to
from sleepy_coder.tasks import load_split

EPOCHS = 300
NIGHTS = 500
MANY = 200
BARE = GatePolicy(openings=MANY, progress_threshold=1, futility_threshold=1e300)
"""Only the anchor decides: any progress is enough and no candidate is given up early."""
NULLS = ("no_change", "worse", "rare_forgetting", "reshuffled")
RATE = 0.767  # of the baseline
FOUNDING_TASKS = 30
WORSE = -0.02
DESTROYED = 0.03


def chances(null: str, of: FrozenSet, z: Array, rng: np.random.Generator) -> Array:
    """Chances to pass, (epochs, tasks), of a candidate that is on average no better than the baseline on such sets.

    `z` are the tasks' difficulties for the baseline, in logits.
    """
    base = chance_of(z + shift_to(RATE))
    if null == "worse":
        return chance_of(z + shift_to(RATE + WORSE))
    if null == "reshuffled":  # other tasks are easy now, as many as before
        return chance_of(of.difficulties(rng, len(z)) + shift_to(RATE))
    if null == "rare_forgetting":  # some clusters lost, all others better by as much as was lost
        lost = np.repeat(rng.random((len(z), len(of.sizes))) < DESTROYED, of.sizes, axis=1)
        better = base + (1 - base) * DESTROYED * RATE / ((1 - RATE) * (1 - DESTROYED))
        return np.where(lost, 0.0, better)
    return base


def false_epochs(null: str, of: FrozenSet, policy: GatePolicy, openings: int) -> int:
    """Of EPOCHS epochs, those in which one of the openings promotes. Set, baseline and candidate stay for the epoch.

    Openings beyond those of the policy cost what its last one does.
    """
    rng = np.random.default_rng(7)
    z = of.difficulties(rng, EPOCHS)
    base, p = chance_of(z + shift_to(RATE)), chances(null, of, z, rng)
    baseline = of.scores(rng, base, of.baseline_samples)
    promoted = np.zeros(EPOCHS, dtype=bool)
    for opening in range(1, openings + 1):
        candidate, served = of.scores(rng, p, of.samples), of.scores(rng, base, of.samples)
        said, _ = decisions(candidate - baseline, candidate - served, policy, min(opening, policy.openings))
        promoted |= said == 1
    return int(promoted.sum())


def rates(of: FrozenSet, policy: GatePolicy, openings: int) -> dict[str, object]:
    """The false promotions per epoch by null, and the 95% interval of the most frequent one."""
    false = {null: false_epochs(null, of, policy, openings) for null in NULLS}
    return {
        "openings": openings,
        "false_promotion_rate_per_epoch": {null: count / EPOCHS for null, count in false.items()},
        "worst_interval": [round(end, 4) for end in exact_interval(max(false.values()), EPOCHS, 0.95)],
    }


def founding_rule(change: float, trials: int = 20_000) -> float:
    """How often the founding rule promotes a candidate with this true change, per night."""
    rng = np.random.default_rng(7)
    z = FrozenSet(np.ones(FOUNDING_TASKS, dtype=np.int64), 1, 1).difficulties(rng, trials)
    p, q = chance_of(z + shift_to(RATE)), chance_of(z + shift_to(RATE + change))
    baseline, previous, candidate = ((rng.random(p.shape) < chance).sum(axis=1) for chance in (p, p, q))
    return float(((candidate >= baseline) & (candidate >= previous)).mean())


def main() -> None:
    started = time.perf_counter()
    policy = GatePolicy()
    of = frozen_set(form_clusters(load_split("frozen")), 4, 0.8)
    founding = {f"{change * 100:+.0f}": founding_rule(change) for change in (0.0, WORSE, -0.05)}
    result = {
        "benchmark": "gate",
        "clusters": len(of.sizes),
        "samples": of.samples,
        "epochs": EPOCHS,
        **rates(of, policy, policy.openings),
        "anchor_alone": rates(of, BARE, MANY),
        "anchor_alone_without_budget": rates(of, BARE.model_copy(update={"openings": 1}), MANY),
        "goal": policy.alpha,
        "promoted": {
            f"{change * 100:+.0f}": power_row(of, policy, RATE, change, NIGHTS, 7).promoted
            for change in (-0.05, -0.02, 0.0, 0.03, 0.05, 0.08, 0.10)
        },
        "founding_rule_per_night": {change: round(rate, 3) for change, rate in founding.items()},
        "founding_rule_per_epoch": {
            change: round(1 - (1 - rate) ** policy.openings, 3) for change, rate in founding.items()
        },
        "seconds": round(time.perf_counter() - started, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
