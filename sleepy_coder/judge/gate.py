"""The verdict as reports and cards show it: the gate's finding, and per task what was gained and lost.

The decision is `sequential.judge`'s alone. The comparisons per task (exact McNemar test, Tango's interval) are for
people who want to read them, and tell a rejected candidate that did harm from one that gained too little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from sleepy_coder.judge import paired
from sleepy_coder.judge.case import Case, Finding, comparable
from sleepy_coder.judge.controls import quarantined
from sleepy_coder.judge.units import by_cluster
from sleepy_coder.types import Comparison, EvalReport, Evidence, GateVerdict, Outcome


def as_verdict(case: Case, finding: Finding, reports: tuple[EvalReport, ...], record_sha256: str = "") -> GateVerdict:
    """The finding in `case` with the comparisons of `reports` (baseline, current, candidate; none is allowed).

    Raises ValueError when the arms can be compared but do not hold the same tasks, samples and seeds; the baseline may
    have more samples.
    """
    compared = _comparisons(reports, case.policy.confidence) if reports and not comparable(reports) else ()
    units = by_cluster(case.tasks)
    tests = ((units.anchor, finding.anchor_needs), (units.progress, finding.progress_needs))
    effect = max(paired.minimum_detectable_effect(d.tolist(), False, math.exp(-needs)) for d, needs in tests)
    last = finding.looks[-1] if finding.looks else None
    return GateVerdict(
        decision=finding.decision,
        reasons=finding.reasons,
        alpha=case.policy.alpha,
        comparisons=compared,
        families=finding.families,
        infra_tasks=tuple(t.task for t in case.tasks if "I" in t.baseline + t.served + t.candidate),
        minimum_detectable_effect=effect,
        evidence=Evidence(
            epoch=case.epoch,
            opening=case.opening,
            openings=case.policy.openings,
            scope=finding.scope,
            units=finding.units,
            total=case.clusters,
            versus_baseline=last.anchor if last else 0.0,
            versus_current=last.progress if last else 0.0,
            baseline_needs=finding.anchor_needs,
            current_needs=finding.progress_needs,
            record_sha256=record_sha256,
            whole=len({task.cluster for task in case.tasks}) >= case.clusters,
            left_out=tuple(sorted(quarantined(case.controls))),
            saved=case.saved,
            fresh=len({task.cluster for task in case.fresh}),
        ),
    )


def compare(
    versus: Literal["baseline", "current"], differences: Mapping[str, float | None], single: bool, confidence: float
) -> Comparison:
    """The paired comparison of one arm with a reference.

    `differences` maps task id to candidate - reference in [-1, 1], None where one was not measured; `single` says that
    every task has one sample, so that each difference is -1, 0 or 1. What is missing counts against the candidate, but
    not as harm: the machine did it.
    """
    measured = [x for x in differences.values() if x is not None]
    scored = {task: -1.0 if x is None else x for task, x in differences.items()}
    d = list(scored.values())
    return Comparison(
        versus=versus,
        tasks=len(d),
        delta=paired.mean(d),
        interval=paired.interval(d, single, confidence),
        confidence=confidence,
        gained=tuple(sorted(task for task, x in scored.items() if x > 0)),
        lost=tuple(sorted(task for task, x in scored.items() if x < 0)),
        p_value=paired.p_gain(d, single),
        p_harm=paired.p_gain([-x for x in measured], single),
    )


def _comparisons(reports: tuple[EvalReport, ...], confidence: float) -> tuple[Comparison, ...]:
    baseline, current, candidate = reports
    keys = [sorted((s.task_id, s.index, s.seed) for s in arm.samples) for arm in (current, candidate)]
    tasks = {s.task_id for s in candidate.samples}
    if keys[0] != keys[1] or tasks != {s.task_id for s in baseline.samples}:
        raise ValueError("the arms differ in tasks, samples or seeds: not paired")
    single = len(candidate.samples) == len(tasks)
    old, now, new = _scores(baseline), _scores(current), _scores(candidate)
    return (
        compare("baseline", _differences(new, old), single and len(baseline.samples) == len(tasks), confidence),
        compare("current", _differences(new, now), single, confidence),
    )


def _scores(arm: EvalReport) -> dict[str, float | None]:
    """Task id to mean pass; None when a sample of it has no measurement (INFRA)."""
    outcomes: dict[str, list[Outcome]] = {}
    for sample in arm.samples:
        outcomes.setdefault(sample.task_id, []).append(sample.outcome)
    return {
        task: None if Outcome.INFRA in seen else sum(o is Outcome.PASS for o in seen) / len(seen)
        for task, seen in outcomes.items()
    }


def _differences(
    candidate: Mapping[str, float | None], reference: Mapping[str, float | None]
) -> dict[str, float | None]:
    """d per task, in order of ids."""
    d: dict[str, float | None] = {}
    for task in sorted(candidate):
        ours, theirs = candidate[task], reference[task]
        d[task] = None if ours is None or theirs is None else ours - theirs
    return d
