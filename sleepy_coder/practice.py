"""The steps of a night that make a candidate: dreams, the mix, training, and settling the books."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.errors import AdapterError, ProcessesLost, TrainingError, TrainingKilled
from sleepy_coder.fresh import apart_from_fresh, held_back, without_fresh
from sleepy_coder.journal import Journal
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.endings import less_memory
from sleepy_coder.learn.lengths import surely_beyond
from sleepy_coder.learn.mix import Listed, Pool, compose, mix_of, of_tasks, with_all
from sleepy_coder.learn.outputs import Training, training_of
from sleepy_coder.learn.own_rows import OwnRows
from sleepy_coder.learn.passed import passed_rows
from sleepy_coder.learn.rebase import JUDGED, rebase_due
from sleepy_coder.learn.recipes import GENERATIONS, RECIPES, recipe_for
from sleepy_coder.learn.replay import replay_pool
from sleepy_coder.learn.surprise import Surprise
from sleepy_coder.learn.trainer import last_step
from sleepy_coder.material import (
    answers_tasks,
    note_on_brake,
    note_on_own,
    notes_on,
    own_of,
    put_aside,
    recipe_of,
    surprise_of,
    tasks_to_answer,
)
from sleepy_coder.nap import undisturbed
from sleepy_coder.parts import Parts
from sleepy_coder.registry import Registry
from sleepy_coder.sifting import put_leaks_aside, without_secrets, without_shortcuts, without_tasks
from sleepy_coder.types import (
    OWN,
    Adapter,
    AdapterState,
    Day,
    Decision,
    Example,
    ExampleKind,
    LeftOut,
    Outcome,
    Recipe,
    TrainingMix,
)

KL = "kl"
"""Under what name the journal keeps how far the last training step was from the base."""
_TRAINING_TRIES = 3
_log = log.get("night")


def look_back(parts: Parts) -> Day:
    """What happened since the last night that used up its day."""
    until = parts.store.position()
    return Day(until=until, fresh=held_back(parts, until))


def park(parts: Parts, cycle: int, dreams: Dreams) -> None:
    """Let tasks without an answer rest, however the night ends, so that the next reaches others; safe to do twice."""
    for task_id in dreams.unsolved:
        parts.store.park(task_id, cycle)
    for row in dreams.found:
        parts.store.unpark(row.task_id)


def ask_surprise(parts: Parts, cycle: int, anchors: Sequence[Example], serving: Adapter | None) -> Surprise:
    """How unlikely the model that serves finds the rows that may be replayed."""
    return surprise_of(parts, cycle, (*anchors, *_kept(parts, serving)), serving)


def gather(
    parts: Parts,
    cycle: int,
    day: Day,
    anchors: Sequence[Example],
    dreams: Dreams,
    serving: Adapter | None,
    surprise: Surprise | None = None,
) -> TrainingMix:
    """The night's mix from what is new, what was dreamed, and what is replayed.

    Replayed are the user's own rows, the anchors and the rows of the nights that made the serving adapter. Rows that
    are shortcuts or hold a secret by today's rules are left out. With episodes that leak put aside, it is made anew,
    so that others come in their place.
    """
    own, leaks = own_of(parts), 0
    put_aside(parts, own)
    while True:
        mix = propose(parts, cycle, day, anchors, dreams, serving, surprise, own)
        mix = without_secrets(parts, cycle, day.until, without_shortcuts(parts, cycle, mix))
        mix = without_fresh(parts, mix, day.fresh)
        if answers_tasks(parts):
            asked = tasks_to_answer(parts, cycle, day.until, day.fresh)
            mix = of_tasks(mix, apart_from_fresh(parts, asked, day.fresh))
        leaking, gone = put_leaks_aside(parts, cycle, day.until, mix)
        kept = without_tasks(dreams, leaking)  # of a step that was killed the episodes are gone, and the dreams are not
        if not gone and kept == dreams:
            return mix.model_copy(update={"left_out": mix.left_out.model_copy(update={"leaks": leaks})})
        leaks, dreams = leaks + gone, kept


def propose(
    parts: Parts,
    cycle: int,
    day: Day,
    anchors: Sequence[Example],
    dreams: Dreams,
    serving: Adapter | None,
    surprise: Surprise | None = None,
    own: OwnRows | None = None,
) -> TrainingMix:
    """The mix before its rows are looked at for secrets and shortcuts; changes nothing.

    A night that starts afresh replays all kept rows.
    """
    own = own or own_of(parts)
    seed, notes, how = parts.config.seed + cycle, notes_on(dreams, own), recipe_of(parts)
    if how.rows == "failures":
        return mix_of(dreams.found, notes, seed)
    kept = _kept(parts, serving)
    replay = replay_pool(how.replay, own.rows, anchors, kept, surprise.nll if surprise else {}, seed)
    pools: dict[ExampleKind, Pool] = {"replay": replay, "hard": Listed(dreams.found)}
    mix, too_long = _fitting(parts, seed, day, pools, notes)
    mix = note_on_own(mix, own)
    mix = with_all(mix, kept) if starts_afresh(parts, serving) and how.replay != "anchors" else mix
    mix = note_on_brake(mix, how)
    return mix.model_copy(update={"left_out": LeftOut(too_long=too_long)})


def _fitting(
    parts: Parts, seed: int, day: Day, pools: Mapping[ExampleKind, Pool], notes: Sequence[str]
) -> tuple[TrainingMix, int]:
    """The mix of `pools` and of what passed, and how much of that is surely longer than the longest row.

    Only what is drawn is read, so it is drawn again without what turned out to be too long, until all of it fits.
    """
    settings, most = parts.config.mix, parts.config.model.max_length
    too_long = set[str]()
    while True:
        passed = passed_rows(parts.store, day.until, settings.per_task, day.fresh, too_long)
        mix = compose({**pools, "passed": passed}, settings, seed, notes)
        found = {row.provenance for row in mix.examples if row.kind == "passed" and surely_beyond(row, most)}
        if not found:
            return mix, len(too_long)
        too_long |= found


def too_little(parts: Parts, mix: TrainingMix) -> str:
    """Why `mix` is not worth a night; empty when it is. The founding failure trained on whatever there was."""
    how = recipe_of(parts)
    fewest = parts.config.mix.min_examples if how.rows == "mix" else 1
    if len(mix.examples) < fewest:
        lacking = f"{len(mix.examples)} of the {fewest} rows that a night needs: "
        return lacking + "; ".join([*_lost(mix.left_out, parts.config.model.max_length), _how_to_get_more(parts)])
    if answers_tasks(parts) and not mix.tasks:
        return "no task was passed by some of the day's attempts and failed by others, and grpo learns only from those"
    return ""


def _lost(left_out: LeftOut, max_length: int) -> list[str]:
    """What there was and taught nothing, when a night has too few rows."""
    said: list[str] = []
    if left_out.too_long:
        raised = "raise model.max_length"
        said.append(f"{left_out.too_long} passed conversations are longer than {max_length} tokens: {raised}")
    if left_out.leaks:
        said.append(f"{left_out.leaks} episodes are too close to frozen tasks and were put aside")
    return said


def hopeless(parts: Parts, cycle: int, day: Day) -> str:
    """Why the day has nothing to teach, known before a model is asked anything; empty when it may have."""
    if parts.store.failed_tasks(day.until, cycle, 1, day.fresh) or recipe_of(parts).rows != "mix":
        return ""
    mix = propose(parts, cycle, day, (), Dreams(found=(), unsolved=()), None)
    return "" if mix.examples else too_little(parts, mix)


def _how_to_get_more(parts: Parts) -> str:
    waiting = parts.store.waiting()
    if waiting.unverified:
        by = f"{waiting.unverified} passed by the word of tools or people, {waiting.verified} by a verifier"
        return f"{by}, and only verified sessions train: `sleepy-coder run -- AGENT`"
    return "collect more, e.g. `sleepy-coder koans run --count 300`"


def _kept(parts: Parts, serving: Adapter | None) -> tuple[Example, ...]:
    rows = parts.store.examples(cycles=[adapter.cycle for adapter in lineage(parts.registry, serving)])
    return tuple(row for row in rows if row.family != OWN)  # these are as their file says today


def nights_folder(parts: Parts) -> Path:
    """Where each night has a folder."""
    return parts.config.state / "nights"


def night_folder(parts: Parts, cycle: int) -> Path:
    """Where the files of a night are while it lasts."""
    return nights_folder(parts) / f"{cycle:04d}"


def starts_afresh(parts: Parts, serving: Adapter | None) -> bool:
    """Whether the night trains a fresh adapter on all kept rows instead of going on from `serving`."""
    settings = parts.config.recipe
    if serving is None or not RECIPES[settings.name].warm:
        return False
    nights = parts.store.nights(last=settings.rebase_after + settings.rebase_rejections, outcomes=JUDGED)
    return rebase_due(promotions(parts.registry, serving), nights, settings)


def choose_recipe(parts: Parts, cycle: int, mix: TrainingMix, serving: Adapter | None) -> Recipe:
    """How night `cycle` trains; the more promoted nights made the serving adapter, the more carefully."""
    answers = len(mix.tasks) * GENERATIONS
    return recipe_for(
        parts.config.recipe,
        answers if answers_tasks(parts) else len(mix.examples),
        promotions(parts.registry, serving),
        parts.base.width,
        parts.config.model.max_length,
        parts.config.seed + cycle,
        starts_afresh(parts, serving),
    )


def train_candidate(parts: Parts, night: Journal, mix: TrainingMix, parent: Adapter | None, recipe: Recipe) -> Training:
    """Train one LoRA on `mix`, warm-started from `parent`, in the night's folder.

    Raises TrainingKilled when the child was killed or its processes lost each other, so that the night stays open and
    goes on from its checkpoint when there may be more memory, or all machines are back; TrainingError when that has
    happened three times.
    """
    cycle = night.cycle
    folder = night_folder(parts, cycle) / "train"
    try:
        undisturbed(
            parts, f"night {cycle} trains", lambda pause: parts.trainer.train(mix, parent, recipe, folder, pause)
        )
    except TrainingKilled as killed:
        tries = night.failed("train", killed.message)
        _log.warning("train.killed", cycle=cycle, tries=tries, of=_TRAINING_TRIES, reason=killed.message)
        if tries < _TRAINING_TRIES:
            raise
        memory = f"give the machine more memory, or lower {less_memory(recipe.objective)}"
        remedy = killed.remedy if isinstance(killed, ProcessesLost) else memory
        raise TrainingError(f"{killed.message}, {tries} times", remedy) from killed
    if (step := last_step(folder)) is not None and step.kl is not None:
        night.noted(KL, float, lambda: step.kl)
    return training_of(folder, recipe)


def settle(parts: Parts, cycle: int, day: Day, mix: TrainingMix, decision: Decision, harmful: bool) -> None:
    """Keep the books after the decision; safe to do twice.

    A promoted night uses up the episodes that it trained on; its rows may be replayed later. So does one that was
    rejected for gaining too little. One that made the model worse uses up all that passed that day, drawn or not:
    what did it is not fed to the model again, and nobody knows which of them did. An undecided night leaves them
    for the next one, which has more of them and so more to show. Failures without an answer in the mix stay. Where
    tasks were answered anew, theirs are the episodes, and there are no rows to replay.
    """
    passed, hard = ({row.task_id for row in mix.examples if row.kind == kind} for kind in ("passed", "hard"))
    if answers_tasks(parts):
        passed = hard = {task.id for task in mix.tasks}
    else:
        parts.store.save_examples(cycle, [row for row in mix.examples if not row.anchor and row.family != OWN])
    if decision is not Decision.INCONCLUSIVE:
        parts.store.use_up(cycle, day.until, Outcome.PASS, passed)
        parts.store.use_up(cycle, day.until, Outcome.FAIL, hard)
    if harmful:
        parts.store.use_up_all(cycle, day.until, Outcome.PASS)
    shutil.rmtree(night_folder(parts, cycle), ignore_errors=True)


def lineage(registry: Registry, serving: Adapter | None) -> tuple[Adapter, ...]:
    """`serving` and those it grew from, newest first, up to one that was rolled back: nothing of it is replayed.

    One that is not there any more, or is damaged, ends the line too.
    """
    found: list[Adapter] = []
    adapter = serving
    while adapter is not None and adapter.state is not AdapterState.QUARANTINED:
        found.append(adapter)
        parent, adapter = adapter.parent, None
        if parent:
            with contextlib.suppress(AdapterError):
                adapter = registry.get(parent)
    return tuple(found)


def promotions(registry: Registry, serving: Adapter | None) -> int:
    """How many promoted nights made `serving`; undecided ones on the way to a promotion are not counted."""
    return sum(a.state in (AdapterState.ACTIVE, AdapterState.RETIRED) for a in lineage(registry, serving))
