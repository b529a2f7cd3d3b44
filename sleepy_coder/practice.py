"""The steps of a night that make a candidate: anchors, dreams, the mix, training, and settling the books."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from sleepy_coder.errors import InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.dream import Dreams, dream, verified_row
from sleepy_coder.learn.mix import compose, passed_examples
from sleepy_coder.learn.recipes import recipe_for
from sleepy_coder.parts import Parts
from sleepy_coder.registry import Registry
from sleepy_coder.serve.rollout import Rollout, Sampling, attempt, in_parallel, opening
from sleepy_coder.tasks import set_id
from sleepy_coder.tasks.leaks import assert_no_leaks, example_rows, find_leaks
from sleepy_coder.types import Adapter, Decision, Episode, Example, Outcome, Recipe, Record, Task, TrainingMix

_EXAMPLES = TypeAdapter(tuple[Example, ...])


def write_anchors(parts: Parts) -> tuple[Example, ...]:
    """The base model's own verified answers to rehearsal tasks, written once per base model.

    Self-synthesised rehearsal (SSR: Huang et al., ACL 2024) without a judge model: the compiler
    decides which answers are worth keeping.
    """
    tasks = parts.rehearsal[: parts.config.mix.anchors]
    file = parts.config.state / f"anchors-{parts.base.sha256[:12]}-{set_id(tasks)}.json"
    if file.is_file():
        return _EXAMPLES.validate_json(file.read_bytes())
    sampling = Sampling(0.0, parts.config.agent.max_tokens)

    def answer(task: Task) -> Rollout | None:
        with contextlib.suppress(InfraError):
            return attempt(parts.server, parts.verifier, parts.base.name, task, opening(parts.verifier, task), sampling)

    rows: list[Example] = []
    whole = True
    for number, done in enumerate(in_parallel(answer, tasks, parts.config.eval.concurrency)):
        parts.watcher.tick(number + 1, len(tasks))
        whole = whole and done is not None and done.verdict.outcome is not Outcome.INFRA
        if done and (row := verified_row(done, tasks[number], "replay", f"anchor:{tasks[number].id}", anchor=True)):
            rows.append(row)
    if whole:  # else what the machine withheld is asked again next night
        write_atomic(file, _EXAMPLES.dump_json(tuple(rows), round_trip=True))
    return tuple(rows)


class Day(Record):
    """The ids of the episodes that a night works with: all that no earlier night has used up.

    Taken once, so that episodes which arrive during the night wait for the next one.
    """

    episodes: tuple[str, ...]

    def of(self, parts: Parts) -> Iterator[Episode]:
        """The episodes themselves, streamed."""
        mine = frozenset(self.episodes)
        return (episode for episode in parts.store.episodes(unused=True) if episode.id in mine)


def look_back(parts: Parts) -> Day:
    """What happened since the last night that used up its day."""
    return Day(episodes=tuple(episode.id for episode in parts.store.episodes(unused=True)))


def dream_of_failures(parts: Parts, cycle: int, day: Day, serving: Adapter | None) -> Dreams:
    """Verified answers for the day's failed tasks that are not parked.

    A task of `sleepy-coder run` has no prompt of its own: what was wanted is in its conversation, and is not
    dreamed about.
    """
    parked = {entry.task_id for entry in parts.store.parked(cycle)}
    failed: dict[str, Task] = {}
    for episode in day.of(parts):
        if (
            episode.outcome is Outcome.FAIL
            and episode.outcome_source == "verifier"
            and (task := episode.task)
            and task.prompt
        ):
            failed.setdefault(task.id, task)
    settings = parts.config.mix
    return dream(
        [task for task in failed.values() if task.id not in parked][: settings.dream_tasks],
        [serving.name, parts.base.name] if serving else [parts.base.name],
        parts.server,
        parts.verifier,
        settings,
        parts.config.agent.max_tokens,
        parts.config.seed + 1000 * cycle,
        parts.config.eval.concurrency,
    )


def gather(
    parts: Parts, cycle: int, day: Day, anchors: Sequence[Example], dreams: Dreams, serving: Adapter | None
) -> TrainingMix:
    """The night's mix from what is new, what was dreamed, and what is replayed.

    Replayed are the anchors and the rows of the nights that made the serving adapter, each family with the
    same total weight, so that what is rare is not forgotten first.
    """
    kept = parts.store.examples(cycles=[adapter.cycle for adapter in lineage(parts.registry, serving)])
    families = Counter(row.family for row in (*anchors, *kept))
    replay = [row.model_copy(update={"weight": 1 / families[row.family]}) for row in (*anchors, *kept)]
    passed = passed_examples(day.of(parts), parts.config.mix.per_task)
    notes = (
        [f"{len(dreams.unsolved)} failed tasks have no verified answer yet and are parked"] if dreams.unsolved else []
    )
    return compose(
        {"replay": replay, "passed": passed, "hard": dreams.found},
        parts.config.mix,
        parts.config.seed + cycle,
        notes,
    )


def night_folder(parts: Parts, cycle: int) -> Path:
    """Where the files of a night are while it lasts."""
    return parts.config.state / "nights" / f"{cycle:04d}"


def choose_recipe(parts: Parts, cycle: int, mix: TrainingMix, serving: Adapter | None) -> Recipe:
    """How night `cycle` trains; the more nights made the serving adapter, the more carefully."""
    return recipe_for(
        parts.config.recipe,
        len(mix.examples),
        len(lineage(parts.registry, serving)),
        parts.base.width,
        parts.config.model.max_length,
        parts.config.seed + cycle,
    )


def train_candidate(parts: Parts, cycle: int, mix: TrainingMix, parent: Adapter | None, recipe: Recipe) -> Adapter:
    """Train one LoRA on `mix`, warm-started from the serving adapter, and stage it in the registry."""
    trained = parts.trainer.train(mix, parent, recipe, night_folder(parts, cycle) / "train")
    return parts.registry.stage(
        trained,
        cycle=cycle,
        parent=parent.name if parent else None,
        base=parts.base.path,
        base_model=parts.base.name,
        base_sha256=parts.base.sha256,
        mix=mix,
        recipe=recipe,
    )


def refuse_leaks(parts: Parts, cycle: int, day: Day, mix: TrainingMix) -> None:
    """Raises LeakError when a frozen task, or something too close to one, is in the mix.

    The episodes it came from are put in quarantine and used up, so that the next night is free of them.
    """
    rows = tuple(example_rows(mix.examples))
    leaking = {leak.provenance for leak in find_leaks(rows, parts.frozen)}
    if not leaking:
        return
    tasks = {row.task_id for row in mix.examples if row.provenance in leaking}
    for episode in day.of(parts):
        if episode.task and episode.task.id in tasks:
            parts.store.quarantine(f"night {cycle}", "too close to a frozen task", episode.model_dump_json())
            parts.store.mark_used([episode.id], cycle)
    assert_no_leaks(rows, parts.frozen)


def settle(parts: Parts, cycle: int, day: Day, mix: TrainingMix, dreams: Dreams, decision: Decision) -> None:
    """Keep the books after the verdict; safe to do twice.

    A promoted night uses up the episodes that it trained on; its rows may be replayed later. A rejected one
    uses up all that passed that day, drawn or not: what made the model worse is not fed to it again, and
    nobody knows which of them did. An undecided night leaves them for the next one, which has more of them
    and so more to show. Failures without an answer stay, parked.
    """
    parts.store.save_examples(cycle, [row for row in mix.examples if not row.anchor])
    if decision is not Decision.INCONCLUSIVE:
        trained = {row.task_id for row in mix.examples if row.kind == "passed"}
        answered = {row.task_id for row in dreams.found}
        spent = {Outcome.PASS: trained, Outcome.FAIL: answered}
        suspect = {Outcome.PASS} if decision is Decision.REJECT else set[Outcome]()
        used = [
            episode.id
            for episode in day.of(parts)
            if episode.outcome in suspect or (episode.task and episode.task.id in spent.get(episode.outcome, ()))
        ]
        parts.store.mark_used(used, cycle)
    for task_id in dreams.unsolved:
        parts.store.park(task_id, cycle)
    for row in dreams.found:
        parts.store.unpark(row.task_id)
    shutil.rmtree(night_folder(parts, cycle), ignore_errors=True)


def lineage(registry: Registry, serving: Adapter | None) -> tuple[Adapter, ...]:
    """`serving` and those it grew from, newest first; rolled-back ones are not among them."""
    found: list[Adapter] = []
    adapter = serving
    while adapter is not None:
        found.append(adapter)
        adapter = registry.get(adapter.parent) if adapter.parent else None
    return tuple(found)
