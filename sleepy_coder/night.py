"""One night, from start to end. Read this file first.

Every step goes through the journal, so a night that is killed goes on where it was. Whatever goes
wrong before `deploy`, the served adapter is the one of the evening.
"""

from __future__ import annotations

import dataclasses

from sleepy_coder import log
from sleepy_coder.abandon import unload_left
from sleepy_coder.anchors import write_anchors
from sleepy_coder.choose import choose, stage_chosen
from sleepy_coder.closing import Progress, close, skip
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
from sleepy_coder.journal import RECIPE_NAME, Journal, alone, unfinished_recipe
from sleepy_coder.judge.case import Control, RecordedPolicy
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.outputs import Training
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.learn.surprise import Surprise
from sleepy_coder.learn.trainer import refuse_idle_processes, refuse_quantised, require_for
from sleepy_coder.material import dreams_of
from sleepy_coder.nap import Waker
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.parts import Parts
from sleepy_coder.practice import (
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
    Example,
    GateVerdict,
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
    room for a night, StoreError when the store is damaged or another process runs a night in the same home, and
    ConfigError when the recipe needs an extra that is missing: nothing has begun then.
    """
    refuse_full_disk(parts.config.home, parts.config.night.min_free_gib)
    with alone(NapFiles(parts.config.state).lock):
        Waker.of(parts).end_left_behind()  # a night that was killed may have left the server asleep
        stand_in(parts.registry)
        return _begin_or_resume(parts)


def _begin_or_resume(parts: Parts) -> NightReport:
    _, begun = unfinished_recipe(parts.store)
    spec = RECIPES.get(begun or parts.config.recipe.name)  # a recipe of another version is for the journal to refuse
    if spec and spec.objective != "none":
        require_for(spec.objective)
    night = Journal(parts.store, parts.watcher.phase)
    with log.night(night.cycle):
        back_up(parts)
        report = _run(parts, night)
        tidy(parts)
        return report


def _run(parts: Parts, night: Journal) -> NightReport:
    night.began(parts.clock.now)
    _log.warning("night.started", cycle=night.cycle, resumed=night.resumed)
    try:
        return _practise_and_judge(_as_begun(parts, night), night)
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
    return close(parts, night, "failed", reason)


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
    name = night.noted(RECIPE_NAME, RecipeName, lambda: recipe.name)
    drawn = night.noted("eval", EvalSettings, lambda: measure)
    settings = {
        "recipe": recipe.model_copy(update={"name": name}),
        "eval": drawn.model_copy(update={"concurrency": measure.concurrency}),  # what the machine bears now
    }
    policy = night.noted("policy", RecordedPolicy, lambda: parts.policy)
    return dataclasses.replace(parts, config=parts.config.model_copy(update=settings), policy=policy)


def _practise_and_judge(parts: Parts, night: Journal) -> NightReport:
    day = night.once("day", Day, lambda: look_back(parts))
    night.once("shadow", Replay, lambda: replay_day(parts, night.cycle, day.until))  # which may roll back
    config = parts.config
    if (objective := RECIPES[config.recipe.name].objective) == "none":
        return skip(parts, night, f"recipe {config.recipe.name} trains nothing")
    refuse_quantised(parts.base.path)
    refuse_idle_processes(objective, config.recipe.batch_size, config.training.processes)
    serving = night.once("serve", Adapter | None, parts.registry.active)
    if serving is not None:  # a server that was restarted has forgotten it, also in the middle of a night
        ensure_loaded(parts.registry, parts.server, serving, parts.prover)
    if reason := night.noted("hopeless", str, lambda: hopeless(parts, night.cycle, day)):
        return skip(parts, night, reason)
    anchors = night.once("anchors", tuple[Example, ...], lambda: write_anchors(parts))
    dreams = night.once("dream", Dreams, lambda: dreams_of(parts, night.cycle, day.until, day.fresh, serving))
    park(parts, night.cycle, dreams)
    surprise = night.once("surprise", Surprise, lambda: ask_surprise(parts, night.cycle, anchors, serving))
    mix = night.once("mix", TrainingMix, lambda: gather(parts, night.cycle, day, anchors, dreams, serving, surprise))
    _log.info("mix.built", cycle=night.cycle, shares=mix.shares, counts=mix.counts)
    if reason := too_little(parts, mix):
        return skip(parts, night, reason, mix)
    refuse_leaks(parts, night.cycle, day.until, mix)

    recipe = night.once("recipe", Recipe, lambda: choose_recipe(parts, night.cycle, mix, serving))
    start = night.once("trunk", Adapter | None, lambda: start_of(parts, serving, recipe))
    training = night.once("train", Training, lambda: train_candidate(parts, night, mix, start, recipe))
    choice = night.once("choose", Choice, lambda: choose(parts, night.cycle, serving, recipe, training))
    so_far = Progress(mix, recipe, training, choice)
    if choice.ruling != "go" and not parts.ungated:
        harm = choice.ruling == "harm"
        settle(parts, night.cycle, day, mix, Decision.REJECT if harm else Decision.INCONCLUSIVE, harm)
        return close(parts, night, "rejected" if harm else "inconclusive", choice.reason, so_far)
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
    judged = dataclasses.replace(so_far, candidate=candidate, reports=reports, verdict=verdict)
    return close(parts, night, outcome, ", ".join(verdict.reasons), judged)
