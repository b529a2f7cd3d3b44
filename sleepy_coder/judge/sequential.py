"""The gate: may this candidate be served? A pure function of a case, asked again after each block of clusters.

Promoted is only what is proved better than the frozen baseline (the anchor) and than what serves (progress), on the
whole set, and harms no family. What is proved to gain less than the margin is rejected as soon as that is
known. Anything else is held: the incumbent stays, and training may go on from the candidate.

A promotion reads the whole set, although Ville's inequality would let it stop earlier. So it does not depend on
the order, holds also when families differ in what they gain, and the guard sees every family at its full size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge import paired
from sleepy_coder.judge.case import Case, Effect, Finding, Look
from sleepy_coder.judge.controls import quarantined
from sleepy_coder.judge.eprocess import Array, Paths, futile, paths_of
from sleepy_coder.judge.guards import family_guard, fresh_evidence, leak_gap
from sleepy_coder.judge.spending import anchor_threshold
from sleepy_coder.judge.units import Units, by_cluster, by_pair
from sleepy_coder.types import Decision, FamilyChange

_DIGITS = 6  # of the numbers in a record: enough to read, few enough to come out the same on every machine
_HOLDS = ("ENV_DRIFT", "BUDGET_EXHAUSTED", "INFRA_MISSING")
_HARMS = ("FUTILE_OR_HARMFUL", "FAMILY_HARM")
GAINS = ("GAIN_VS_BASELINE", "GAIN_VS_CURRENT")


def judge(case: Case) -> Finding:
    """Decide. The rules, first match first; reasons are listed worst first.

    1. ENV_DRIFT, BUDGET_EXHAUSTED, or too much of the set could not be measured (INFRA_MISSING): hold. At the end of
       the set also if what was not measured would reject, were it lost.
    2. At some look a gain of the margin is ruled out (FUTILE_OR_HARMFUL), or at the end of the set a family
       is harmed (FAMILY_HARM(name)): reject.
    3. At the end of the set: promote when nothing is lacking, else hold and say what is (E_ANCHOR_LOW, E_PROG_LOW,
       FRESH_LOW, LEAK_GAP, SMALL_SET).
    4. Before the end: not final, measure the next block.

    A finding that is not final is a hold: a night that ends there promotes nothing.
    """
    policy = case.policy
    small = case.clusters < policy.autonomous_clusters
    pairs = small and policy.small_sets == "frozen-set-only"
    units, fresh = (by_pair if pairs else by_cluster)(case.tasks), by_cluster(case.fresh)
    whole = len({task.cluster for task in case.tasks}) >= case.clusters
    paths, families = _evidence(units, whole, policy)
    fresh_e, leak = fresh_evidence(fresh, policy), leak_gap(units, fresh, policy)
    reasons = [*_unusable(case, units.missing, len(units.names)), *_harms(paths, families, policy)]
    if whole and not reasons and units.missing and any(_harms(*_evidence(units.at_worst(), True, policy), policy)):
        reasons.append("INFRA_MISSING")
    if whole:
        reasons += _lacking(paths, fresh_e, leak, case)
        reasons += ["SMALL_SET"] if (small and not pairs) or len(units.names) < policy.min_clusters else []
    single = units.single and whole  # the exact interval is for a size that was fixed beforehand
    return Finding(
        decision=_decide(reasons, whole),
        final=whole or bool(reasons),
        reasons=tuple(reasons) or (GAINS if whole else ()),
        scope="frozen-set-only" if pairs else "population",
        units=len(units.names),
        looks=_looks(paths),
        anchor_needs=_round(anchor_threshold(policy, case.opening)),
        progress_needs=_round(math.log(policy.progress_threshold)),
        futility_needs=_round(math.log(policy.futility_threshold)),
        versus_baseline=_effect(units.anchor, single, policy.confidence),
        versus_served=_effect(units.progress, single, policy.confidence),
        families=tuple(change.model_copy(update={"p_harm": _round(change.p_harm)}) for change in families),
        fresh=None if fresh_e is None else _round(fresh_e),
        leak=None if leak is None else _round(leak),
        missing=units.missing,
    )


def _evidence(units: Units, whole: bool, policy: GatePolicy) -> tuple[Paths, tuple[FamilyChange, ...]]:
    paths = paths_of(units.anchor, units.progress, whole, policy, units.known)
    return paths, family_guard(units, policy) if whole else ()


def _unusable(case: Case, missing: tuple[str, ...], measured: int) -> Iterator[str]:
    """Why nothing can be said of this candidate tonight."""
    if case.drifted:
        yield "ENV_DRIFT"
    if not case.charged or case.opening > case.policy.openings:
        yield "BUDGET_EXHAUSTED"
    share = case.policy.max_infra_share
    out = quarantined(case.controls)
    if len(missing) > share * max(measured, case.clusters) or len(out) > share * len(case.controls):
        yield "INFRA_MISSING"


def _harms(paths: Paths, families: tuple[FamilyChange, ...], policy: GatePolicy) -> Iterator[str]:
    if futile(paths, policy).any():
        yield "FUTILE_OR_HARMFUL"
    yield from (f"FAMILY_HARM({change.family})" for change in families if change.blocked)


def _lacking(paths: Paths, fresh: float | None, leak: float | None, case: Case) -> Iterator[str]:
    """What a promotion needs and this candidate does not have, at the end of the set."""
    policy = case.policy
    if not paths.ends.size or paths.anchor[-1] < anchor_threshold(policy, case.opening):
        yield "E_ANCHOR_LOW"
    if not paths.ends.size or paths.progress[-1] < math.log(policy.progress_threshold):
        yield "E_PROG_LOW"
    if fresh is not None and fresh < math.log(policy.fresh_threshold):
        yield "FRESH_LOW"
    if leak is not None and leak > policy.leak_z:
        yield "LEAK_GAP"


def _decide(reasons: list[str], whole: bool) -> Decision:
    codes = {reason.partition("(")[0] for reason in reasons}
    if codes.intersection(_HOLDS):
        return Decision.INCONCLUSIVE
    if codes.intersection(_HARMS):
        return Decision.REJECT
    return Decision.PROMOTE if whole and not codes else Decision.INCONCLUSIVE


def _looks(paths: Paths) -> tuple[Look, ...]:
    rows = zip(*(column.tolist() for column in paths), strict=True)
    return tuple(
        Look(units=int(end), anchor=_round(anchor), progress=_round(progress), futility=_round(futility))
        for end, anchor, progress, futility in rows
    )


def _effect(d: Array, single: bool, confidence: float) -> Effect:
    values: list[float] = d.tolist()
    low, high = paired.interval(values, single, confidence)
    return Effect(
        delta=_round(paired.mean(values)),
        interval=(_round(low), _round(high)),
        gained=sum(x > 0 for x in values),
        lost=sum(x < 0 for x in values),
    )


def _round(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # + 0.0: no negative zero
