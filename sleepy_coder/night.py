"""One night, from start to end. Read this file first.

Every step goes through the journal, so a night that is killed goes on where it was. Whatever goes
wrong before `deploy`, the served adapter is the one of the evening.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from sleepy_coder import log
from sleepy_coder.abandon import unload_left
from sleepy_coder.anchors import write_anchors
from sleepy_coder.choose import choose, stage_chosen
from sleepy_coder.config import EvalSettings, RecipeName
from sleepy_coder.deploy import ensure_loaded, promote, stand_in, turn_down
from sleepy_coder.errors import (
    AdapterError,
    JournalError,
    LeakError,
    NightPaused,
    ServerUnreachable,
    StoreError,
    TrainingError,
    TrainingKilled,
)
from sleepy_coder.files import refuse_full_disk
from sleepy_coder.journal import Journal, alone
from sleepy_coder.judge.case import Control, RecordedPolicy
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.outputs import Training
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.learn.surprise import Surprise
from sleepy_coder.learn.trainer import refuse_idle_processes, refuse_quantised
from sleepy_coder.material import dreams_of
from sleepy_coder.nap import recover_own
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.parts import Parts
from sleepy_coder.practice import (
    KL,
    ask_surprise,
    choose_recipe,
    gather,
    hopeless,
    look_back,
    park,
    settle,
    too_little,
    train_candidate,
)
from sleepy_coder.shadow import Replay, replay_day, watch
from sleepy_coder.sifting import refuse_leaks
from sleepy_coder.store_gate import Opening
from sleepy_coder.tasks import set_id
from sleepy_coder.tidy import back_up, tidy
from sleepy_coder.trial import Trial, check_controls, give_verdict, measure_arms, measure_fresh, open_gate, start_of
from sleepy_coder.types import (
    Adapter,
    Choice,
    Day,
    Decision,
    EvalReport,
    Example,
    GateVerdict,
    LeftOut,
    NightOutcome,
    NightReport,
    Recipe,
    TrainingMix,
)

_TRIES = 5
"""How often one step may fail before the night does. A night that cannot go on would keep all later ones away."""
_FINAL = (JournalError, LeakError, AdapterError, TrainingError)
"""Trying again would change nothing."""
_MACHINE = (ServerUnreachable, TrainingKilled, StoreError, OSError)
"""The machine may get over them by itself, or with help. TrainingKilled has a count of its own."""
_log = log.get("night")


def run_night(parts: Parts) -> NightReport:
    """Practise once and ship the result only if the gate says it is better.

    Resumes an unfinished night. Errors of the machine (a server that is gone, a full disk) rise and
    leave the night open; a mix that leaks, a broken adapter or a failed training close it as failed, and so does
    whatever else a step has failed of five times.
    Raises NightPaused when the curfew ends it, which leaves it open as well, InfraError when the disk has too little
    room for a night, and StoreError when the store is damaged or another process runs a night in the same home.
    """
    refuse_full_disk(parts.config.home, parts.config.night.min_free_gib)
    with alone(NapFiles(parts.config.state).lock):
        recover_own(parts)  # a night that was killed may have left the server asleep
        stand_in(parts.registry)
        return _begin_or_resume(parts)


def _begin_or_resume(parts: Parts) -> NightReport:
    night = Journal(parts.store, parts.watcher.phase)
    with log.night(night.cycle):
        back_up(parts)
        report = _run(parts, night)
        tidy(parts)
        return report


def _run(parts: Parts, night: Journal) -> NightReport:
    started = night.began(parts.clock.now)
    _log.warning("night.started", cycle=night.cycle, resumed=night.resumed)
    try:
        return _practise_and_judge(_as_begun(parts, night), night, started)
    except NightPaused as pause:
        _log.warning("night.paused", cycle=night.cycle, reason=pause.message)
        raise
    except _FINAL as error:
        reason = str(error)
    except Exception as error:
        if _may_go_on(night, error):
            raise
        reason = f"{night.step} failed {_TRIES} times: {error}"
    _log.error("night.failed", cycle=night.cycle, reason=reason)
    unload_left(parts.config.home, parts.registry, parts.server, night.cycle)
    return _close(parts, night, started, "failed", reason)


def _may_go_on(night: Journal, error: Exception) -> bool:
    """Whether the night stays open after `error`, to be gone on with by the next process."""
    if isinstance(error, _MACHINE) or isinstance(error.__cause__, OSError):
        return True
    tries = night.failed(f"step {night.step}", str(error))
    _log.warning("night.step_failed", cycle=night.cycle, phase=night.step, tries=tries, of=_TRIES, reason=str(error))
    return tries < _TRIES


def _as_begun(parts: Parts, night: Journal) -> Parts:
    """The parts with the recipe, the measure and the gate that the night began with: a resumed one changes none.

    Raises JournalError when another frozen set judges by now.
    """
    judges, recipe, measure = set_id(parts.frozen), parts.config.recipe, parts.config.eval
    if night.noted("frozen-set", str, lambda: judges) != judges:
        raise JournalError(
            f"the frozen set is no longer the one that night {night.cycle} began with",
            "It cannot go on; the next night starts over with the same episodes",
        )
    name = night.noted("recipe-name", RecipeName, lambda: recipe.name)
    drawn = night.noted("eval", EvalSettings, lambda: measure)
    settings = {
        "recipe": recipe.model_copy(update={"name": name}),
        "eval": drawn.model_copy(update={"concurrency": measure.concurrency}),  # what the machine bears now
    }
    policy = night.noted("policy", RecordedPolicy, lambda: parts.policy)
    return dataclasses.replace(parts, config=parts.config.model_copy(update=settings), policy=policy)


def _practise_and_judge(parts: Parts, night: Journal, started: datetime) -> NightReport:
    day = night.once("day", Day, lambda: look_back(parts))
    night.once("shadow", Replay, lambda: replay_day(parts, night.cycle, day.until))  # which may roll back
    config = parts.config
    if (objective := RECIPES[config.recipe.name].objective) == "none":
        return _skip(parts, night, started, f"recipe {config.recipe.name} trains nothing")
    refuse_quantised(parts.base.path)
    refuse_idle_processes(objective, config.recipe.batch_size, config.training.processes)
    serving = night.once("serve", Adapter | None, parts.registry.active)
    if serving is not None:  # a server that was restarted has forgotten it, also in the middle of a night
        ensure_loaded(parts.registry, parts.server, serving, parts.prover)
    if reason := night.noted("hopeless", str, lambda: hopeless(parts, night.cycle, day)):
        return _skip(parts, night, started, reason)
    anchors = night.once("anchors", tuple[Example, ...], lambda: write_anchors(parts))
    dreams = night.once("dream", Dreams, lambda: dreams_of(parts, night.cycle, day.until, day.fresh, serving))
    park(parts, night.cycle, dreams)
    surprise = night.once("surprise", Surprise, lambda: ask_surprise(parts, night.cycle, anchors, serving))
    mix = night.once("mix", TrainingMix, lambda: gather(parts, night.cycle, day, anchors, dreams, serving, surprise))
    _log.info("mix.built", cycle=night.cycle, shares=mix.shares, counts=mix.counts)
    if reason := too_little(parts, mix):
        return _skip(parts, night, started, reason, mix)
    refuse_leaks(parts, night.cycle, day.until, mix)

    recipe = night.once("recipe", Recipe, lambda: choose_recipe(parts, night.cycle, mix, serving))
    start = night.once("trunk", Adapter | None, lambda: start_of(parts, serving, recipe))
    training = night.once("train", Training, lambda: train_candidate(parts, night, mix, start, recipe))
    choice = night.once("choose", Choice, lambda: choose(parts, night.cycle, serving, recipe, training))
    learned = _Learned(mix, recipe, training, choice)
    if choice.ruling != "go" and not parts.ungated:
        harm = choice.ruling == "harm"
        settle(parts, night.cycle, day, mix, Decision.REJECT if harm else Decision.INCONCLUSIVE, harm)
        return _close(parts, night, started, "rejected" if harm else "inconclusive", choice.reason, learned)
    candidate = night.once("stage", Adapter, lambda: stage_chosen(parts, night.cycle, mix, start, recipe, choice))

    opening = night.once("open", Opening, lambda: open_gate(parts, night.cycle, candidate))
    controls = night.once("controls", tuple[Control, ...], lambda: check_controls(parts, night.cycle))
    trial = Trial(night.cycle, opening, serving, start, candidate, controls)
    reports = measure_arms(parts, night, trial)
    fresh = measure_fresh(parts, night, trial, reports, day.fresh)
    verdict = night.once("gate", GateVerdict, lambda: give_verdict(parts, trial, reports, fresh))
    _log.warning("gate.decided", cycle=night.cycle, decision=verdict.decision, reasons=verdict.reasons)

    if verdict.decision is Decision.PROMOTE:
        night.once("deploy", Adapter, lambda: promote(parts, serving, candidate, reports, verdict))
        watch(parts)
        outcome = "promoted"
    else:
        night.once("deploy", Adapter, lambda: turn_down(parts, candidate, reports, verdict))
        outcome = "rejected" if verdict.decision is Decision.REJECT else "inconclusive"
    settle(parts, night.cycle, day, mix, verdict.decision, verdict.harmful)
    return _close(parts, night, started, outcome, ", ".join(verdict.reasons), learned, candidate, reports, verdict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Learned:
    """What a night trained on, and what came of it."""

    mix: TrainingMix | None = None
    recipe: Recipe | None = None
    training: Training | None = None
    choice: Choice | None = None


def _skip(parts: Parts, night: Journal, started: datetime, reason: str, mix: TrainingMix | None = None) -> NightReport:
    _log.warning("night.skipped", cycle=night.cycle, reason=reason)
    return _close(parts, night, started, "skipped", reason, _Learned(mix))


def _close(
    parts: Parts,
    night: Journal,
    started: datetime,
    outcome: NightOutcome,
    reason: str,
    learned: _Learned = _Learned(),
    candidate: Adapter | None = None,
    reports: tuple[EvalReport, ...] = (),
    verdict: GateVerdict | None = None,
) -> NightReport:
    mix, training = learned.mix, learned.training
    measured = learned.choice is not None and learned.choice.served is not None
    dreams = night.known("dream", Dreams) or Dreams(found=(), unsolved=())
    report = NightReport(
        cycle=night.cycle,
        started=started,
        finished=parts.clock.now(),
        outcome=outcome,
        reason=reason,
        phases=tuple(night.phases),
        shares=mix.shares if mix else {},
        counts=_counts(mix, training) if mix else {},
        notes=mix.notes if mix else (),
        recipe=learned.recipe,
        steps=training.steps if training else 0,
        stopped=training.stopped if training else "",
        choice=learned.choice if measured else None,
        left_out=_lost(mix, training),
        candidate=candidate.name if candidate else None,
        serving=parts.registry.serving(parts.base.name),
        reports=reports,
        verdict=verdict,
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
