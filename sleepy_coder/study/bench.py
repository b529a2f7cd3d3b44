"""What all cells of a study share, the home of one trajectory, and how weights are measured."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from sleepy_coder import wiring
from sleepy_coder.config import Config
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.judge.evaluate import HEAT, evaluate, stack_id
from sleepy_coder.judge.study_data import Cell, Trajectory
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.ports import Verifier, Watcher, counting
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.prover import Prover
from sleepy_coder.serve.rollout import Hinter
from sleepy_coder.study.memory import RememberingServer, RememberingTrainer
from sleepy_coder.study.plan import Plan, seed_of
from sleepy_coder.study.store import Kind, Learned, StudyStore
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Adapter, EvalReport, Task

_SEEDS_FROM: Final = 30_000
"""Temperature and first seed of the several samples that give pass@k."""


class Onlooker(Watcher, Protocol):
    """Hears how a study goes: each cell as it begins, and the steps within it."""

    def cell(self, of: Trajectory, cycle: int, done: tuple[Cell, ...]) -> None:
        """This cell begins; `done` are all that are finished."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """What all cells of a study share."""

    config: Config
    plan: Plan
    folder: Path
    store: StudyStore
    fleet: Fleet
    server: RememberingServer
    verifier: Verifier
    base: BaseModel
    frozen: tuple[Task, ...]
    clusters: tuple[Cluster, ...]
    environment: str
    watcher: Onlooker
    code: str


@contextmanager
def house(bench: Bench, of: Trajectory, cycle: int) -> Generator[Parts]:
    """The parts of one trajectory: a home of its own under the study's folder, and what all of them share."""
    home = bench.folder / "homes" / f"{of.recipe}-{of.seed}-{'gated' if of.gated else 'ungated'}"
    recipe = bench.config.recipe.model_copy(update={"name": of.recipe})
    # What is held back depends on when each night was promoted, which would give each recipe other rows.
    mix = bench.config.mix.model_copy(update={"fresh_share": 0})
    settings = {"home": home, "seed": seed_of(bench.config, of.seed), "recipe": recipe, "mix": mix}
    config = bench.config.model_copy(update=settings)
    if not of.gated:  # what was promoted without the gate is not rolled back either
        config = config.model_copy(update={"canary": config.canary.model_copy(update={"shadow_tasks": 0})})

    def keep(learned: Learned) -> None:
        bench.store.save_learned(of, cycle, learned)

    with wiring.open_parts(config, bench.watcher) as parts:
        yield replace(
            parts,
            server=bench.server,
            verifier=bench.verifier,
            prover=Prover(bench.folder / "fingerprints", bench.base.name, config.server.logprob_tolerance),
            trainer=RememberingTrainer(
                lambda heard: wiring.open_trainer(config, bench.watcher, bench.base.sha256, heard),
                bench.folder / "trained",
                keep,
            ),
            frozen=bench.frozen,
            clusters=bench.clusters,
            environment=bench.environment,
            ungated=not of.gated,
        )


def kinds(bench: Bench, cycle: int) -> tuple[Kind, ...]:
    """What is measured after a cycle: pass@k too at last."""
    return ("one", "many") if cycle == bench.plan.cycles else ("one",)


def measure_adapter(bench: Bench, parts: Parts, adapter: Adapter, kind: Kind) -> None:
    ensure_loaded(parts.registry, parts.server, adapter, parts.prover)
    measure(bench, adapter.sha256, adapter.name, kind)


def measure(bench: Bench, weights: str, name: str, kind: Kind, hints: Hinter | None = None) -> EvalReport:
    """What is known of these weights on the study's frozen set, else what they do now under the name `name`."""
    bench.watcher.phase("measure" if kind == "one" else f"measure, {bench.plan.samples} per task")
    settings = bench.config.eval
    if kind == "many":
        several = {"samples": bench.plan.samples, "temperature": HEAT, "seed": _SEEDS_FROM}
        settings = settings.model_copy(update=several)
    known = bench.store.eval(weights, kind)
    asked = (set_id(bench.frozen), stack_id(settings, bench.environment))
    if known and (known.set_id, known.stack) == asked and not known.infra:
        return known
    tick = counting(bench.watcher, len(bench.frozen) * settings.samples)
    report = evaluate(
        bench.server, bench.verifier, name, "other", weights, bench.frozen, settings, bench.environment, tick, hints
    )
    bench.store.save_eval(weights, kind, report)
    return report


def unload_all(bench: Bench) -> None:
    for model in bench.fleet.models():
        if model.parent is not None:
            bench.server.unload(model.name)
