"""What a study runs: its size, its settings, and the days, which are the same for every recipe."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Final, Literal

from sleepy_coder import __version__
from sleepy_coder.config import Config, RecipeName
from sleepy_coder.judge.clusters import Cluster, form_clusters, in_order
from sleepy_coder.judge.study_data import DAY_TASKS, SAMPLES
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Record, Task

THEME_SHARE: Final = 0.5
"""Share of a theme's tasks that come on its own day; the others are dealt to all days."""

FULL: Final[tuple[RecipeName, ...]] = tuple(name for name, spec in RECIPES.items() if spec.objective in ("sft", "none"))
"""All but those that generate while they train, which take hours here and an extra; they are asked for by name."""

QUICK: Final[tuple[RecipeName, ...]] = ("rft-anchor", "seed-plain", "hints-only", "no-update")
_QUICK_CLUSTERS: Final = 100
_SEED_STEP: Final = 100_003


class Plan(Record):
    """The size of a study. `samples` is how many answers per task give pass@k; `only` leaves out half of it."""

    recipes: tuple[RecipeName, ...] = FULL
    seeds: int = 3
    cycles: int = 5
    day_tasks: int = DAY_TASKS
    samples: int = SAMPLES
    quick: bool = False
    only: Literal["gated", "ungated"] | None = None


def trains(recipe: RecipeName) -> bool:
    """Whether nights of this recipe train anything."""
    return RECIPES[recipe].objective != "none"


def gates(recipe: RecipeName) -> tuple[bool, ...]:
    """With the gate and without it; without only where there is nothing to judge."""
    return (True, False) if trains(recipe) else (False,)


def cells(plan: Plan) -> tuple[tuple[RecipeName, int, bool, int], ...]:
    """(recipe, seed, gated, cycle) in the order in which they are run.

    What is gated comes first, as it is what most goals are about; then one seed of all recipes after the other.
    """
    return tuple(
        (recipe, seed, gated, cycle)
        for gated in (True, False)
        for seed in range(plan.seeds)
        for recipe in plan.recipes
        if gated in gates(recipe) and plan.only != ("ungated" if gated else "gated")
        for cycle in range(1, plan.cycles + 1)
    )


def sized(config: Config, plan: Plan) -> Config:
    """The settings of a study of this size; a quick one trains a little on few rows."""
    if not plan.quick:
        return config
    few = {"max_examples": 64, "min_examples": 8, "anchors": 32, "dream_tasks": 8}
    fewer = {"dream_samples": 4, "dream_turns": 1, "dream_hinted": 2}
    mix = config.mix.model_copy(update={**few, **fewer})
    short = {"max_steps": 8, "batch_size": 4, "warmup_steps": 1, "choose_tasks": 12}
    recipe = config.recipe.model_copy(update=short)
    return config.model_copy(update={"mix": mix, "recipe": recipe})


def frozen_part(tasks: Sequence[Task], plan: Plan) -> tuple[tuple[Task, ...], tuple[Cluster, ...]]:
    """The frozen tasks of the study and their clusters; a quick one takes as many clusters as decide anything."""
    clusters = form_clusters(tasks)
    if not plan.quick:
        return tuple(tasks), clusters
    chosen = in_order(clusters, 0)[:_QUICK_CLUSTERS]
    wanted = {task for cluster in chosen for task in cluster.tasks}
    return tuple(task for task in tasks if task.id in wanted), tuple(sorted(chosen, key=lambda c: c.id))


def identity(config: Config, plan: Plan, frozen: Sequence[Task], base_sha256: str) -> str:
    """Names all that a cell depends on besides recipe, seed and cycle: equal studies share their cells."""
    settings = [
        config.mix.model_dump(mode="json"),
        config.recipe.model_dump(mode="json", exclude={"name"}),
        config.agent.model_dump(mode="json"),
        config.eval.model_dump(mode="json"),
        config.gate.model_dump(mode="json"),
        config.canary.model_dump(mode="json"),
        [config.seed, config.model.max_length],
    ]
    size = [plan.cycles, plan.day_tasks, plan.quick]
    text = json.dumps([__version__, size, settings, set_id(frozen), base_sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def seed_of(config: Config, seed: int) -> int:
    """The seed of everything random in a trajectory; far from that of its neighbours, whose nights count up from it."""
    return config.seed + _SEED_STEP * (seed + 1)


def themes(families: Sequence[str], cycles: int, seed: int) -> dict[str, int]:
    """Family to the day (from 0) whose theme it belongs to."""
    order = sorted(set(families))
    random.Random(f"themes/{seed}").shuffle(order)
    return {family: number % cycles for number, family in enumerate(order)}


def deal(tasks: Sequence[Task], cycles: int, count: int, seed: int) -> tuple[tuple[Task, ...], ...]:
    """The tasks of each day, at most `count`, no task twice.

    Each day has a theme, a part of the families (`themes`): half of their tasks come on it and the others on any day,
    so that what a day is about can be told from what it is not, and nothing is wholly new on its day.
    """
    theme = themes([task.family for task in tasks], cycles, seed)
    order = sorted(tasks, key=lambda task: task.id)
    rng = random.Random(f"days/{seed}")
    rng.shuffle(order)
    days: list[list[Task]] = [[] for _ in range(cycles)]
    for task in order:
        own = theme[task.family]
        days[own if rng.random() < THEME_SHARE else rng.randrange(cycles)].append(task)
    return tuple(tuple(day[:count]) for day in days)


def theme_groups(
    day_families: Sequence[str], frozen: Sequence[Task], cycles: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """The ids of the frozen tasks of each day's theme; those of families that no day has are in none."""
    theme = themes(day_families, cycles, seed)
    return tuple(tuple(sorted(task.id for task in frozen if theme.get(task.family) == day)) for day in range(cycles))
