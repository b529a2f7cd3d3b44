"""The record of a night: how far it got, and what came of it, in the store and in one line of the log."""

from __future__ import annotations

from dataclasses import dataclass

from sleepy_coder import log
from sleepy_coder.journal import Journal
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.outputs import Training
from sleepy_coder.parts import Parts
from sleepy_coder.practice import KL
from sleepy_coder.types import (
    Adapter,
    Choice,
    EvalReport,
    GateVerdict,
    LeftOut,
    NightOutcome,
    NightReport,
    Recipe,
    TrainingMix,
)

_log = log.get("night")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a night got: what it trained on, the candidate it made, and the gate's verdict."""

    mix: TrainingMix | None = None
    recipe: Recipe | None = None
    training: Training | None = None
    choice: Choice | None = None
    candidate: Adapter | None = None
    reports: tuple[EvalReport, ...] = ()
    verdict: GateVerdict | None = None


def skip(parts: Parts, night: Journal, reason: str, mix: TrainingMix | None = None) -> NightReport:
    """End a night that trains nothing, and say why."""
    _log.warning("night.skipped", cycle=night.cycle, reason=reason)
    return close(parts, night, "skipped", reason, Progress(mix))


def close(parts: Parts, night: Journal, outcome: NightOutcome, reason: str, got: Progress = Progress()) -> NightReport:
    """End the night: its report goes into the store, and the next one may begin."""
    mix, training, choice = got.mix, got.training, got.choice
    dreams = night.known("dream", Dreams) or Dreams(found=(), unsolved=())
    report = NightReport(
        cycle=night.cycle,
        started=night.began(parts.clock.now),
        finished=parts.clock.now(),
        outcome=outcome,
        reason=reason,
        phases=tuple(night.phases),
        shares=mix.shares if mix else {},
        counts=_counts(mix, training) if mix else {},
        notes=mix.notes if mix else (),
        recipe=got.recipe,
        steps=training.steps if training else 0,
        stopped=training.stopped if training else "",
        choice=choice if choice and choice.served else None,
        left_out=_lost(mix, training),
        candidate=got.candidate.name if got.candidate else None,
        serving=parts.registry.serving(parts.base.name),
        reports=got.reports,
        verdict=got.verdict,
        kl=night.known(KL, float),
        dreamed=len(dreams.found) + len(dreams.unsolved),
        answered=len(dreams.found),
    )
    parts.store.finish_night(report)
    _sum_up(report)
    return report


def _counts(mix: TrainingMix, training: Training | None) -> dict[str, int]:
    """The rows of each kind that taught anything."""
    lost = training.too_long if training else 0
    return {kind: count - lost * (kind == "passed") for kind, count in mix.counts.items()}


def _lost(mix: TrainingMix | None, training: Training | None) -> LeftOut:
    """What the mix and the trainer, which alone counts tokens, found too long or too close to the exam."""
    found = mix.left_out if mix else LeftOut()
    if training is None:
        return found
    return found.model_copy(update={"too_long": found.too_long + training.too_long, "cut_turns": training.cut_turns})


def _sum_up(report: NightReport) -> None:
    """The whole night in one line of the log."""
    versus = {comparison.versus: comparison for comparison in report.verdict.comparisons} if report.verdict else {}
    against = versus.get("current")
    _log.warning(
        "night.summary",
        cycle=report.cycle,
        outcome=report.outcome,
        reasons=report.verdict.reasons if report.verdict else (report.reason,),
        serving=report.serving,
        candidate=report.candidate,
        seconds=round((report.finished - report.started).total_seconds(), 3),
        phases={phase.name: phase.seconds for phase in report.phases},
        pass_rates={measured.arm: round(measured.pass_rate, 4) for measured in report.reports},
        gained=len(against.gained) if against else 0,
        lost=len(against.lost) if against else 0,
        rows=report.counts,
        left_out=report.left_out.model_dump(),
        steps=report.steps,
        kl=report.kl,
    )
