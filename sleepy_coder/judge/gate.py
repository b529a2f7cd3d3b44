"""The gate: may this candidate be served? One pure function over three evaluations of one task set.

The unit is the task; its score is the mean pass over its samples, and d is the paired difference
candidate - reference per task. A candidate is promoted only when it is significantly better than the
frozen baseline AND than what is served now, and no error family is harmed.

Two tests, chosen by design and never by the data:

- One sample per task: the exact one-sided McNemar (sign) test on the tasks that differ, and Tango's
  score interval of the paired difference (Tango, Statistics in Medicine 17, 1998).
- Several samples per task: d takes many values, and sign or t-like tests break under rare forgetting
  (many slightly better tasks hide a few destroyed ones). Here p = 1/E with the betting e-value
  E = sum_j w_j prod_i (1 + lambda_j d_i), valid by Markov's inequality for every d in [-1, 1] whose mean
  is not positive, and the interval is its inversion (Waudby-Smith & Ramdas, JRSS-B 86, 2024, section 4).

Neither draws random numbers, and neither depends on the order of the tasks.

Missing measurements never help the candidate: its own INFRA counts as d = -1, and a reference's
INFRA is taken as a pass, so that such a task can only be a tie or a loss.

`alpha` bounds one night. Judging N nights on one task set has a chance of up to N * alpha that
something no better than the baseline passes once; lower `alpha` or renew the set accordingly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge import paired
from sleepy_coder.types import Comparison, Decision, EvalReport, FamilyChange, GateVerdict, Outcome


def judge(
    baseline: EvalReport, current: EvalReport, candidate: EvalReport, policy: GatePolicy | None = None
) -> GateVerdict:
    """Decide on `candidate`. The rules, first match first:

    1. Other task set or stack in one arm (ENV_DRIFT), or too many tasks without a measurement in some
       arm (INFRA_MISSING): INCONCLUSIVE.
    2. Significant harm against either reference (HARM_VS_*), a family significantly harmed against the
       current model (FAMILY_HARM(name)), or measured losses and not one gain against either reference
       (DOMINATED, which no improvement can look like): REJECT.
    3. The candidate is one of the references or answers as both do (IDENTICAL), or the set is too
       small (TOO_FEW_TASKS): INCONCLUSIVE.
    4. Significant gain over both: PROMOTE. Anything else: INCONCLUSIVE, the incumbent stays.

    Raises ValueError when the arms do not hold the same tasks, families, sample indices and seeds.
    """
    policy = policy or GatePolicy()
    if len({(arm.set_id, arm.stack) for arm in (baseline, current, candidate)}) > 1:
        return GateVerdict(
            decision=Decision.INCONCLUSIVE,
            reasons=("ENV_DRIFT",),
            alpha=policy.alpha,
            comparisons=(),
            families=(),
            infra_tasks=(),
            minimum_detectable_effect=1.0,
        )
    groups = _groups(baseline, current, candidate)
    single = len(candidate.samples) == len(groups)
    old, now, new = _scores(baseline), _scores(current), _scores(candidate)
    infra = tuple(task for task in sorted(groups) if None in (old[task], now[task], new[task]))
    over_baseline, over_current = _differences(new, old), _differences(new, now)
    comparisons = (
        compare("baseline", over_baseline, single, policy.confidence),
        compare("current", over_current, single, policy.confidence),
    )
    guard = _guard(groups, over_current, single, policy)
    same_weights = candidate.weights_sha256 in (baseline.weights_sha256, current.weights_sha256)
    reasons = _reasons(comparisons, guard, infra, same_weights, policy)
    return GateVerdict(
        decision=_decide(reasons),
        reasons=reasons,
        alpha=policy.alpha,
        comparisons=comparisons,
        families=guard,
        infra_tasks=infra,
        minimum_detectable_effect=max(
            paired.minimum_detectable_effect(list(d.values()), single, policy.alpha)
            for d in (over_baseline, over_current)
        ),
    )


def compare(
    versus: Literal["baseline", "current"], differences: Mapping[str, float], single: bool, confidence: float
) -> Comparison:
    """The paired comparison of one arm with a reference.

    `differences` maps task id to candidate - reference in [-1, 1]; `single` says that every task has
    one sample, so that each difference is -1, 0 or 1.
    """
    d = list(differences.values())
    return Comparison(
        versus=versus,
        tasks=len(d),
        delta=paired.mean(d),
        interval=paired.interval(d, single, confidence),
        confidence=confidence,
        gained=tuple(sorted(task for task, x in differences.items() if x > 0)),
        lost=tuple(sorted(task for task, x in differences.items() if x < 0)),
        p_value=paired.p_gain(d, single),
        p_harm=paired.p_gain([-x for x in d], single),
    )


def _groups(*arms: EvalReport) -> dict[str, tuple[str, ...]]:
    """Task id to its family and, where it has one, its category.

    Raises ValueError when the arms are not paired sample by sample.
    """
    keys = [sorted((s.task_id, s.family, s.index, s.seed) for s in arm.samples) for arm in arms]
    if not keys[0]:
        raise ValueError("the arms hold no samples, so nothing can be judged")
    for arm, key in zip(arms[1:], keys[1:], strict=True):
        if key != keys[0]:
            raise ValueError(f"{arm.model} and {arms[0].model} differ in tasks, samples or seeds: not paired")
    if len({(task, index) for task, _, index, _ in keys[0]}) < len(keys[0]):
        raise ValueError("a sample of a task occurs twice in one arm")
    groups = {
        (s.task_id, tuple(dict.fromkeys(filter(None, (s.family, s.category))))) for arm in arms for s in arm.samples
    }
    if len(groups) > len({task for task, _ in groups}):
        raise ValueError("a task belongs to two families")
    return dict(groups)


def _scores(arm: EvalReport) -> dict[str, float | None]:
    """Task id to mean pass; None when a sample of it has no measurement (INFRA)."""
    outcomes: dict[str, list[Outcome]] = {}
    for sample in arm.samples:
        outcomes.setdefault(sample.task_id, []).append(sample.outcome)
    return {
        task: None if Outcome.INFRA in seen else sum(o is Outcome.PASS for o in seen) / len(seen)
        for task, seen in outcomes.items()
    }


def _differences(candidate: Mapping[str, float | None], reference: Mapping[str, float | None]) -> dict[str, float]:
    """d per task, in order of ids; what is missing counts against the candidate."""
    d: dict[str, float] = {}
    for task in sorted(candidate):
        ours, theirs = candidate[task], reference[task]
        d[task] = -1.0 if ours is None else ours - (1.0 if theirs is None else theirs)
    return d


def _guard(
    groups: Mapping[str, tuple[str, ...]], differences: Mapping[str, float], single: bool, policy: GatePolicy
) -> tuple[FamilyChange, ...]:
    """Harm against the current model in each large enough family and category, blocked by Holm's step-down test.

    Single families are often too small to show anything but their destruction; categories are not.
    """
    members: dict[str, list[float]] = {}
    for task, x in differences.items():
        for group in groups[task]:
            members.setdefault(group, []).append(x)
    tested = sorted(
        (paired.p_gain([-x for x in d], single), family)
        for family, d in members.items()
        if len(d) >= policy.min_family_tasks
    )
    changes: list[FamilyChange] = []
    blocked = True
    for rank, (p_harm, family) in enumerate(tested):
        d = members[family]
        blocked = blocked and p_harm <= policy.family_alpha / (len(tested) - rank)
        changes.append(
            FamilyChange(
                family=family,
                tasks=len(d),
                gained=sum(x > 0 for x in d),
                lost=sum(x < 0 for x in d),
                p_harm=p_harm,
                blocked=blocked,
            )
        )
    return tuple(changes)


def _reasons(
    comparisons: Sequence[Comparison],
    guard: Sequence[FamilyChange],
    infra: tuple[str, ...],
    same_weights: bool,
    policy: GatePolicy,
) -> tuple[str, ...]:
    """Every code that applies, worst first."""
    found: list[str] = []
    if len(infra) > policy.max_infra_share * comparisons[0].tasks:
        found.append("INFRA_MISSING")
    found += [f"HARM_VS_{c.versus.upper()}" for c in comparisons if c.p_harm <= policy.alpha]
    found += [f"FAMILY_HARM({change.family})" for change in guard if change.blocked]
    if any(set(c.lost) - set(infra) and not c.gained for c in comparisons):
        found.append("DOMINATED")
    if same_weights or not any(c.gained or c.lost for c in comparisons):
        found.append("IDENTICAL")
    if comparisons[0].tasks < policy.min_tasks:
        found.append("TOO_FEW_TASKS")
    found += [f"NO_GAIN_VS_{c.versus.upper()}" for c in comparisons if c.p_value > policy.alpha]
    found += [f"GAIN_VS_{c.versus.upper()}" for c in comparisons if c.p_value <= policy.alpha]
    return tuple(found)


def _decide(reasons: Sequence[str]) -> Decision:
    """The rules of `judge`, read off the codes."""
    codes = {reason.partition("(")[0] for reason in reasons}
    if "INFRA_MISSING" in codes:
        return Decision.INCONCLUSIVE
    if codes & {"HARM_VS_BASELINE", "HARM_VS_CURRENT", "FAMILY_HARM", "DOMINATED"}:
        return Decision.REJECT
    return Decision.PROMOTE if codes == {"GAIN_VS_BASELINE", "GAIN_VS_CURRENT"} else Decision.INCONCLUSIVE
