"""What a night's rows are made of beside the day itself: hints, the user's own rows, what surprises, and tasks."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from sleepy_coder import log
from sleepy_coder.errors import ModelNotFound, ServerError, ServerUnreachable
from sleepy_coder.learn.dream import Dreamer, Dreams, dream
from sleepy_coder.learn.failures import MOST, failure_rows
from sleepy_coder.learn.hints import Hints
from sleepy_coder.learn.own_rows import OwnRows, own_rows
from sleepy_coder.learn.recipes import RECIPES, RecipeSpec
from sleepy_coder.learn.shortcuts import shortcut_in
from sleepy_coder.learn.surprise import Surprise, measure_surprise
from sleepy_coder.parts import Parts
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import OWN, Adapter, Example, Task, TrainingMix

_FAILURES_LOOKED_AT = 10 * MOST
_log = log.get("night")


def recipe_of(parts: Parts) -> RecipeSpec:
    """The recipe that the settings name."""
    return RECIPES[parts.config.recipe.name]


def ways_to_hint(parts: Parts) -> tuple[Hints, ...]:
    """Hints for dreaming: what the compiler suggests, which any model understands, then all that is known here."""
    frozen = LeakIndex(parts.judging)
    return Hints(parts.store, frozen, ("suggestions",)), Hints(parts.store, frozen)


def dreams_of(parts: Parts, cycle: int, until: int, held: Collection[str], serving: Adapter | None) -> Dreams:
    """Answers to the day's failed tasks that are not parked or `held` back; for `naive` their references.

    A task of `sleepy-coder run` has no prompt of its own: what was wanted is in its conversation, and is not dreamed
    about.
    """
    spec, settings = recipe_of(parts), parts.config.mix
    if spec.rows == "failures":
        failed = parts.store.failed_tasks(until, cycle, _FAILURES_LOOKED_AT, held)
        return Dreams(found=failure_rows(failed, parts.verifier), unsolved=())
    tasks = parts.store.failed_tasks(until, cycle, settings.dream_tasks, held)
    dreams = dream(
        tasks,
        Dreamer(
            models=[serving.name, parts.base.name] if serving else [parts.base.name],
            server=parts.punctual,
            verifier=parts.verifier,
            settings=settings,
            max_tokens=parts.config.agent.max_tokens,
            seed=parts.config.seed + 1000 * cycle,
            concurrency=parts.config.eval.concurrency,
            hints=ways_to_hint(parts) if spec.dream_hints else (),
            answered=lambda wanted: parts.store.answered(until, wanted),
        ),
    )
    _log.info("dream.finished", cycle=cycle, tasks=len(tasks), stages=dreams.stages, parked=len(dreams.unsolved))
    return dreams


def surprise_of(parts: Parts, cycle: int, rows: Sequence[Example], serving: Adapter | None) -> Surprise:
    """How unlikely the serving adapter finds what it may replay.

    The bare base is not asked: there is nothing yet that it could have forgotten.
    """
    if serving is None or recipe_of(parts).replay != "surprise":
        return Surprise()
    try:
        return measure_surprise(
            rows, serving.name, parts.punctual, parts.config.eval.concurrency, parts.config.seed + cycle
        )
    except (ServerUnreachable, ModelNotFound):
        raise
    except ServerError as error:  # a server that gives no prompt_logprobs
        _log.warning("mix.surprise_unknown", cycle=cycle, reason=error.message)
        return Surprise()


def own_of(parts: Parts) -> OwnRows:
    """The rows of `mix.sft_file`; none where there is no such file. Raises ConfigError when it cannot be read."""
    path = parts.config.mix.sft_file
    return own_rows(parts.config.home / path, parts.redactor, LeakIndex(parts.judging)) if path else OwnRows()


def put_aside(parts: Parts, own: OwnRows) -> None:
    """Keep the lines of `mix.sft_file` that are not trained on, with their reasons, for whoever looks into it."""
    if parts.config.mix.sft_file is None:
        return
    for bad in own.bad:
        parts.store.quarantine("mix.sft_file", f"{bad.place}: {bad.reason}", bad.text)
    _log.info("mix.own_rows_read", rows=len(own.rows), left_out=len(own.bad))


def notes_on(dreams: Dreams, own: OwnRows) -> list[str]:
    """What a report should say of where the rows are from."""
    notes: list[str] = []
    if dreams.stages:
        by = ", ".join(f"{count} by {stage}" for stage, count in dreams.stages.items())
        notes.append(f"dreaming answered {sum(dreams.stages.values())} failed tasks: {by}")
    if dreams.unsolved:
        notes.append(f"{len(dreams.unsolved)} failed tasks have no verified answer yet and are parked")
    if own.bad:
        notes.append(f"{len(own.bad)} lines of mix.sft_file are left out: {own.bad[0].place}: {own.bad[0].reason}")
    return notes


def note_on_own(mix: TrainingMix, own: OwnRows) -> TrainingMix:
    """The mix with a note when the user's own rows do not all fit."""
    fit = sum(row.family == OWN for row in mix.examples)
    if not mix.examples or fit == len(own.rows):
        return mix
    note = f"{fit} of {len(own.rows)} rows of mix.sft_file fit tonight; other nights draw others"
    return mix.model_copy(update={"notes": (*mix.notes, note)})


def note_on_brake(mix: TrainingMix, recipe: RecipeSpec) -> TrainingMix:
    """The mix with a note when no row of it can measure how far a recipe with a KL limit goes from the base."""
    if not mix.examples or not recipe.choose or any(row.anchor for row in mix.examples):
        return mix
    note = "no row tonight is an anchor: the KL to the base is not measured, and recipe.kl_limit ends nothing"
    return mix.model_copy(update={"notes": (*mix.notes, note)})


def answers_tasks(parts: Parts) -> bool:
    """Whether the recipe learns from answers to `TrainingMix.tasks`, and not from the mix's rows."""
    return recipe_of(parts).objective == "grpo"


def tasks_to_answer(parts: Parts, cycle: int, until: int, held: Collection[str]) -> tuple[Task, ...]:
    """The tasks, not `held` back, that a trainer with a verifier of its own works on; none for any other.

    For GRPO those that some attempts of the day passed and some failed: where all end the same, there is nothing to
    prefer.
    """
    if not answers_tasks(parts):
        return ()
    places, most = parts.store.passed_sometimes(until, held), parts.config.mix.rollout_tasks
    chosen = random.Random(parts.config.seed + cycle).sample(places, min(most, len(places)))
    return tuple(e.task for e in parts.store.episodes_at(chosen) if e.task and e.task.prompt)


def shortcuts_among(parts: Parts, mix: TrainingMix) -> dict[str, str]:
    """Episode id and reason of each row, passed or replayed, that is no honest answer by today's rules."""
    found: dict[str, str] = {}
    for provenance in dict.fromkeys(row.provenance for row in mix.examples):
        episode = parts.store.episode(provenance)
        if episode is not None and (reason := shortcut_in(episode)):
            found[provenance] = reason
    return found
