"""The steps of a night around the verdict: controls, an opening, measuring until the verdict is final, the record."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sleepy_coder import log
from sleepy_coder.arms import Pair, Rivals, baseline_arm, fresh_baseline
from sleepy_coder.deploy import keep
from sleepy_coder.fresh import judgeable
from sleepy_coder.journal import Journal
from sleepy_coder.judge.case import Case, Control, TaskOutcomes, comparable, outcomes, policy_sha256
from sleepy_coder.judge.clusters import Cluster, form_clusters, in_order
from sleepy_coder.judge.controls import nightly_controls, quarantined, without
from sleepy_coder.judge.evaluate import restricted, stack_id
from sleepy_coder.judge.gate import as_verdict
from sleepy_coder.judge.record import read, write
from sleepy_coder.judge.sequential import judge
from sleepy_coder.judge.spending import prices
from sleepy_coder.judge.trunk import trunk
from sleepy_coder.parts import Parts
from sleepy_coder.ports import counting
from sleepy_coder.store_gate import Opening
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Adapter, AdapterState, Decision, EvalReport, GateVerdict, Recipe, Task

Reports = tuple[EvalReport, ...]
"""Baseline, current and candidate on the same tasks; empty when nothing was measured."""
_log = log.get("night")


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate before the gate. Training started from `start`; `opening` lets its results be read."""

    cycle: int
    opening: Opening
    serving: Adapter | None
    start: Adapter | None
    candidate: Adapter
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, slots=True)
class Fresh:
    """What tasks that nobody has trained on gave in the three arms."""

    set_id: str
    tasks: tuple[TaskOutcomes, ...]


def trunk_of(parts: Parts, serving: Adapter | None) -> Adapter | None:
    """What tonight's training starts from: an undecided candidate of the nights before, or what serves."""
    nights = parts.policy.trunk_nights
    chain = [read(verdict.payload) for verdict in parts.store.verdicts(last=nights + 2)]
    wanted = trunk(chain, parts.answering(serving)[1], nights)
    staged = (a for a in parts.registry.adapters() if a.sha256 == wanted and a.state is AdapterState.STAGED)
    return next(staged, serving)


def start_of(parts: Parts, serving: Adapter | None, recipe: Recipe) -> Adapter | None:
    """What tonight's training starts from; None is a fresh adapter.

    A night that was dropped before the gate ends the trunk: going on from there gained nothing that shows. An adapter
    of another rank cannot be gone on with at all.
    """
    if recipe.rebase:
        return None
    start = serving if _dropped(parts) else trunk_of(parts, serving)
    if start is not None and parts.registry.manifest(start.name).recipe.rank != recipe.rank:
        _log.warning("train.starts_afresh", adapter=start.name, reason=f"it is not of rank {recipe.rank}")
        return None
    return start


def _dropped(parts: Parts) -> bool:
    """Whether a night since the last verdict was dropped before the gate."""
    chain = parts.store.verdicts(last=1)
    judged = chain[0].cycle if chain else 0
    since = parts.store.nights(last=max(parts.store.next_cycle() - judged, 1))
    return any(night.choice and night.choice.ruling != "go" for night in since if night.cycle > judged)


def open_gate(parts: Parts, cycle: int, candidate: Adapter) -> Opening:
    """Charge night `cycle` for reading frozen results, before any is read."""
    programs = sorted({task.cluster for task in parts.frozen})
    return parts.store.open_gate(cycle, candidate.sha256, programs, prices(parts.policy))


def check_controls(parts: Parts, cycle: int) -> tuple[Control, ...]:
    """Have the frozen tasks show that tonight they can tell their own fix from their broken input."""
    return nightly_controls(
        parts.verifier,
        parts.witness or parts.verifier,
        parts.frozen,
        cycle,
        parts.policy.controls,
        parts.config.eval.concurrency,
        counting(parts.watcher, len(parts.frozen)),
    )


def measure_arms(parts: Parts, night: Journal, trial: Trial) -> Reports:
    """The three arms on as much of the frozen set as the verdict needs; nothing when it is final before that."""
    if judge(case_of(parts, trial, ())).final:
        return ()
    baseline = night.once("evaluate-baseline", EvalReport, lambda: baseline_arm(parts, trial.cycle))
    current, candidate = night.once("evaluate", Pair, lambda: _rivals(parts, night, trial, baseline))
    return restricted(baseline, _tasks_in(parts, candidate)), current, candidate


def _rivals(parts: Parts, night: Journal, trial: Trial, baseline: EvalReport) -> Pair:
    def final(so_far: Pair) -> bool:
        arms = (restricted(baseline, _tasks_in(parts, so_far[0])), *so_far)
        return not parts.ungated and judge(case_of(parts, trial, arms)).final

    rivals = Rivals(parts, night, "evaluate", trial.serving, trial.candidate)
    found = rivals.measure(_order(parts, trial), parts.frozen, final)
    for report in found:
        keep(parts, report, trial.cycle)
    return found


def measure_fresh(parts: Parts, night: Journal, trial: Trial, reports: Reports, held: Collection[str]) -> Fresh | None:
    """The three arms on tasks of the last days that are `held` back from training.

    None when the frozen set alone promotes nothing, so that it would not matter, or when there are too few.
    """
    few = len(held) < parts.policy.min_fresh_clusters
    if few or not reports or judge(case_of(parts, trial, reports)).decision is not Decision.PROMOTE:
        return None
    tasks = night.noted("fresh/tasks", tuple[Task, ...], lambda: judgeable(parts, held))
    clusters = form_clusters(tasks)
    if len(clusters) < parts.policy.min_fresh_clusters:
        return None
    baseline = night.once("fresh-baseline", EvalReport, lambda: fresh_baseline(parts, trial.cycle, tasks))
    rivals = Rivals(parts, night, "fresh", trial.serving, trial.candidate)
    order = in_order(clusters, trial.cycle)
    current, candidate = night.once("fresh", Pair, lambda: rivals.measure(order, tasks, lambda _: False))
    return Fresh(set_id=set_id(tasks), tasks=outcomes(order, baseline, current, candidate))


def _tasks_in(parts: Parts, report: EvalReport) -> list[Task]:
    asked = {sample.task_id for sample in report.samples}
    return [task for task in parts.frozen if task.id in asked]


def _order(parts: Parts, trial: Trial) -> tuple[Cluster, ...]:
    """The clusters in tonight's order, without the tasks that failed their controls."""
    return in_order(without(parts.clusters, quarantined(trial.controls)), trial.cycle)


def _elsewhere(parts: Parts, reports: Sequence[EvalReport]) -> str:
    """Why `reports` say nothing of what would serve: a night may go on after the server or a compiler was replaced."""
    if reports and reports[0].stack != stack_id(parts.config.eval, parts.environment):
        return "the arms were measured on another stack than that of now"
    return ""


def case_of(parts: Parts, trial: Trial, reports: Sequence[EvalReport], fresh: Fresh | None = None) -> Case:
    """What the gate decides on, after `reports` and what `fresh` tasks gave."""
    order = _order(parts, trial)
    drifted = comparable(reports) or _elsewhere(parts, reports)
    rivals = reports[1:]
    asked = sum(len(report.samples) for report in rivals)
    return Case(
        cycle=trial.cycle,
        epoch=trial.opening.epoch,
        opening=trial.opening.number,
        charged=trial.opening.charged,
        candidate=trial.candidate.sha256,
        served=parts.answering(trial.serving)[1],
        baseline=parts.base.sha256,
        trunk=parts.answering(trial.start)[1],
        stack=reports[0].stack if reports else "",
        set_id=set_id(parts.frozen),
        fresh_set_id=fresh.set_id if fresh else "",
        order_seed=trial.cycle,
        clusters=len(order),
        tasks=outcomes(order, *reports) if reports and not drifted else (),
        fresh=fresh.tasks if fresh else (),
        controls=trial.controls,
        drifted=drifted,
        evaluations=sum(len(report.samples) for report in reports),
        saved=len(rivals) * parts.config.eval.samples * sum(len(cluster.tasks) for cluster in order) - asked,
        policy=parts.policy,
        policy_sha256=policy_sha256(parts.policy),
    )


def give_verdict(parts: Parts, trial: Trial, reports: Reports, fresh: Fresh | None = None) -> GateVerdict:
    """Judge, and append the record to the chain; it holds what the gate found also where `ungated` parts do not ask."""
    stored = next((known for known in parts.store.verdicts(last=1) if known.cycle == trial.cycle), None)
    if stored is None:  # a night that was killed right after its verdict keeps it, whatever the settings say now
        stored = parts.store.append_verdict(trial.cycle, write(case_of(parts, trial, reports, fresh)))
    record = read(stored.payload)
    verdict = as_verdict(record.case, record.finding, reports, stored.sha256)
    return verdict.model_copy(update={"decision": Decision.PROMOTE}) if parts.ungated else verdict
