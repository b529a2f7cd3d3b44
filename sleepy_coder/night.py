"""One night, from start to end. Read this file first.

Every step goes through the journal, so a night that is killed goes on where it was. Whatever goes
wrong before `deploy`, the served adapter is the one of the evening.
"""

from __future__ import annotations

from datetime import datetime

from sleepy_coder import log
from sleepy_coder.deploy import arms, ensure_loaded, promote, turn_down
from sleepy_coder.errors import AdapterError, LeakError, TrainingError
from sleepy_coder.journal import Journal, alone
from sleepy_coder.judge.gate import judge
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.parts import Parts
from sleepy_coder.practice import (
    Day,
    choose_recipe,
    dream_of_failures,
    gather,
    look_back,
    refuse_leaks,
    settle,
    train_candidate,
    write_anchors,
)
from sleepy_coder.types import (
    Adapter,
    Decision,
    EvalReport,
    Example,
    GateVerdict,
    NightReport,
    Recipe,
    TrainingMix,
)

_log = log.get("night")


def run_night(parts: Parts) -> NightReport:
    """Practise once and ship the result only if the gate says it is better.

    Resumes an unfinished night. Errors of the machine (a server that is gone, a full disk) rise and
    leave the night open; a mix that leaks, a broken adapter or a failed training close it as failed.
    Raises StoreError when another process runs a night in the same home.
    """
    with alone(parts.config.state / "night.lock"):
        return _begin_or_resume(parts)


def _begin_or_resume(parts: Parts) -> NightReport:
    night = Journal(parts.store, parts.watcher.phase)
    started = night.began(parts.clock.now)
    _log.warning("night.started", cycle=night.cycle, resumed=night.resumed)
    try:
        return _practise_and_judge(parts, night, started)
    except (LeakError, AdapterError, TrainingError) as error:
        _log.error("night.failed", cycle=night.cycle, reason=error.message)
        return _close(parts, night, started, "failed", str(error))


def _practise_and_judge(parts: Parts, night: Journal, started: datetime) -> NightReport:
    serving = night.once("serve", Adapter | None, parts.registry.active)
    if serving is not None:  # a server that was restarted has forgotten it, also in the middle of a night
        ensure_loaded(parts.registry, parts.server, serving)
    day = night.once("day", Day, lambda: look_back(parts))
    anchors = night.once("anchors", tuple[Example, ...], lambda: write_anchors(parts))
    dreams = night.once("dream", Dreams, lambda: dream_of_failures(parts, night.cycle, day, serving))
    mix = night.once("mix", TrainingMix, lambda: gather(parts, night.cycle, day, anchors, dreams, serving))
    _log.info("night.mix", cycle=night.cycle, shares=mix.shares, counts=mix.counts)
    if len(mix.examples) < parts.config.mix.min_examples:
        reason = f"{len(mix.examples)} rows are fewer than the {parts.config.mix.min_examples} worth a night"
        _log.warning("night.skipped", cycle=night.cycle, reason=reason)
        return _close(parts, night, started, "skipped", reason, mix=mix)
    refuse_leaks(parts, night.cycle, day, mix)

    recipe = night.once("recipe", Recipe, lambda: choose_recipe(parts, night.cycle, mix, serving))
    candidate = night.once("train", Adapter, lambda: train_candidate(parts, night.cycle, mix, serving, recipe))

    baseline, current, contender = (
        night.once(f"evaluate-{arm}", EvalReport, measure)
        for arm, measure in arms(parts, night.cycle, serving, candidate)
    )
    verdict = night.once("gate", GateVerdict, lambda: judge(baseline, current, contender, parts.policy))
    reports = (baseline, current, contender)
    _log.warning("night.verdict", cycle=night.cycle, decision=verdict.decision, reasons=verdict.reasons)

    if verdict.decision is Decision.PROMOTE:
        night.once("deploy", Adapter, lambda: promote(parts, serving, candidate, reports, verdict))
        outcome = "promoted"
    else:
        night.once("deploy", Adapter, lambda: turn_down(parts, candidate, reports, verdict))
        outcome = "rejected" if verdict.decision is Decision.REJECT else "inconclusive"
    settle(parts, night.cycle, day, mix, dreams, verdict.decision)
    return _close(parts, night, started, outcome, ", ".join(verdict.reasons), mix, recipe, candidate, reports, verdict)


def _close(
    parts: Parts,
    night: Journal,
    started: datetime,
    outcome: str,
    reason: str,
    mix: TrainingMix | None = None,
    recipe: Recipe | None = None,
    candidate: Adapter | None = None,
    reports: tuple[EvalReport, ...] = (),
    verdict: GateVerdict | None = None,
) -> NightReport:
    active = parts.registry.active()
    report = NightReport.model_validate(
        {
            "cycle": night.cycle,
            "started": started,
            "finished": parts.clock.now(),
            "outcome": outcome,
            "reason": reason,
            "phases": tuple(night.phases),
            "shares": mix.shares if mix else {},
            "counts": mix.counts if mix else {},
            "notes": mix.notes if mix else (),
            "recipe": recipe,
            "steps": recipe.steps if recipe else 0,
            "candidate": candidate.name if candidate else None,
            "serving": active.name if active else parts.base.name,
            "reports": reports,
            "verdict": verdict,
        }
    )
    parts.store.finish_night(report)
    _log.warning("night.promoted" if outcome == "promoted" else "night.kept", cycle=night.cycle, serving=report.serving)
    return report
