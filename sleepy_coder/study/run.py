"""Run a study: one cell after the other, each kept when it is finished. A study that is killed goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sleepy_coder import wiring
from sleepy_coder.collect.agent import work_through
from sleepy_coder.config import Config, NightSettings
from sleepy_coder.errors import StoreError
from sleepy_coder.files import sha256_files
from sleepy_coder.journal import alone
from sleepy_coder.judge.study_data import Cell, StudyExport, StudyFacts, Trajectory
from sleepy_coder.learn.hints import Hints
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.night import run_night
from sleepy_coder.study.bench import Bench, Onlooker, house, kinds, measure, measure_adapter, unload_all
from sleepy_coder.study.memory import RememberingServer
from sleepy_coder.study.plan import Plan, cells, deal, frozen_part, identity, sized, theme_groups, trains
from sleepy_coder.study.store import StudyStore
from sleepy_coder.tasks import load_split, set_id
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import Episode

SOURCES: Final = Path(__file__).parents[1]
"""The package, whose sources name the state of the code that ran a cell."""


def study_folder(config: Config, plan: Plan) -> Path:
    """Where a study of this size, with these settings, keeps everything; one with more seeds or recipes adds to it."""
    sizes, path = sized(config, plan), wiring.model_path(config)
    frozen, _ = frozen_part(load_split("frozen"), plan)
    return config.state / "study" / identity(sizes, plan, frozen, wiring.base_model(config, path).sha256)


def exported(config: Config, plan: Plan) -> StudyExport:
    """What is finished, for another machine. Raises StoreError when nothing was measured yet."""
    folder = study_folder(config, plan)
    with StudyStore(folder / "study.db") as store:
        return StudyExport(identity=folder.name, data=store.data())


def take_over(config: Config, plan: Plan, found: StudyExport) -> int:
    """Keep what another machine has finished of the same study; how many trajectories that was.

    Raises StoreError when it is another study, or when another process runs one in this home.
    """
    folder, facts = study_folder(config, plan), found.data.facts
    if (found.identity, facts.samples) != (folder.name, plan.samples):
        other = "settings, sizes, base or version differ"
        raise StoreError(f"that is another study than this one ({found.identity}, not {folder.name}): {other}")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(config.state / "study" / "lock", "study"), StudyStore(folder / "study.db") as store:
        _refuse_other_samples(store, plan)
        return store.take_over(found.data)


def run_study(config: Config, plan: Plan, watcher: Onlooker) -> None:
    """Run every cell that is not finished.

    Raises StoreError when another process runs a study in this home, or when it was begun with other samples.
    """
    folder = study_folder(config, plan)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(config.state / "study" / "lock", "study"), StudyStore(folder / "study.db") as store:
        _refuse_other_samples(store, plan)
        finished = {(c.recipe, c.seed, c.gated, c.cycle) for c in store.cells()}
        left = [cell for cell in cells(plan) if cell not in finished]
        if left:
            with _bench(config, plan, folder, store, watcher) as bench:
                _begin(bench)
                for recipe, seed, gated, cycle in left:
                    of = Trajectory(recipe=recipe, seed=seed, gated=gated)
                    watcher.cell(of, cycle, store.cells())
                    store.save_cell(_cell(bench, of, cycle))


def _refuse_other_samples(store: StudyStore, plan: Plan) -> None:
    """No cell depends on how many samples give pass@k, but weights that are measured are not measured again."""
    facts = store.facts()
    if facts is not None and facts.samples != plan.samples:
        raise StoreError(
            f"this study was begun with {facts.samples} samples for pass@k, not {plan.samples}",
            f"go on with --samples {facts.samples}; another --home takes other samples",
        )


@contextmanager
def _bench(config: Config, plan: Plan, folder: Path, store: StudyStore, watcher: Onlooker) -> Generator[Bench]:
    """One embedded server, one verifier and one memory for all trajectories; settings of other servers do not count."""
    alone_here = config.server.model_copy(update={"replicas": ()})
    sizes = sized(config, plan).model_copy(update={"server": alone_here, "night": NightSettings.model_validate({})})
    base = wiring.base_model(sizes, wiring.model_path(sizes))
    frozen, clusters = frozen_part(load_split("frozen"), plan)
    with wiring.embedded_server(sizes) as served, wiring.open_server(served) as fleet:
        judge = wiring.open_verifier(served)
        yield Bench(
            config=served,
            plan=plan,
            folder=folder,
            store=store,
            fleet=fleet,
            server=RememberingServer(fleet, store, base.name, base.sha256),
            verifier=judge,
            base=base,
            frozen=frozen,
            clusters=clusters,
            environment=wiring.environment_of(fleet, judge, frozen),
            watcher=watcher,
            code=sha256_files(SOURCES.rglob("*.py"))[:12],
        )


def _begin(bench: Bench) -> None:
    """What everything is compared with: the themes of the days, and the baseline."""
    plan = bench.plan
    bench.store.save_facts(
        StudyFacts(
            base=bench.base.sha256,
            base_name=bench.base.name,
            cycles=plan.cycles,
            day_tasks=plan.day_tasks,
            samples=plan.samples,
            quick=plan.quick,
            frozen=len(bench.frozen),
            set_id=set_id(bench.frozen),
        )
    )
    families = [task.family for task in load_split("day")]
    for seed in range(plan.seeds):
        bench.store.save_themes(seed, theme_groups(families, bench.frozen, plan.cycles, seed))
    for kind in ("one", "many"):
        measure(bench, bench.base.sha256, bench.base.name, kind)


def _cell(bench: Bench, of: Trajectory, cycle: int) -> Cell:
    began = time.monotonic()
    earlier = [c for c in bench.store.cells() if c.trajectory == of]
    before = next((c.served for c in earlier if c.cycle == cycle - 1), bench.base.sha256)
    day = _day(bench, of.seed, cycle)
    cell = (_trained if trains(of.recipe) else _untrained)(bench, of, cycle, before, day)
    return cell.model_copy(update={"seconds": round(time.monotonic() - began, 3), "code": bench.code})


def _day(bench: Bench, seed: int, cycle: int) -> tuple[Episode, ...]:
    """The episodes of a day: what the base model made of its tasks, for all recipes the same."""
    tasks = deal(load_split("day"), bench.plan.cycles, bench.plan.day_tasks, seed)[cycle - 1]
    met = {episode.task.id for episode in bench.store.episodes(seed, cycle) if episode.task}
    left = [task for task in tasks if task.id not in met]
    if left:
        bench.watcher.phase("day")
        for number, _ in enumerate(
            work_through(
                left,
                bench.base.name,
                bench.server,
                bench.verifier,
                bench.config.agent,
                wiring.SystemClock(),
                f"study-{seed}-{cycle}",
                lambda episode: bench.store.save_episode(seed, cycle, episode),
            )
        ):
            bench.watcher.tick(number + 1, len(left))
    return bench.store.episodes(seed, cycle)


def _untrained(bench: Bench, of: Trajectory, cycle: int, before: str, day: tuple[Episode, ...]) -> Cell:
    """A cycle in which nothing is trained: the base goes on serving, with hints from the days so far if need be."""
    hinted = RECIPES[of.recipe].hints
    return Cell(
        recipe=of.recipe,
        seed=of.seed,
        gated=of.gated,
        cycle=cycle,
        outcome="none",
        before=before,
        served=_hinted(bench, of, cycle, day) if hinted else bench.base.sha256,
        candidate=None,
        night=None,
        kl=None,
        train_seconds=0.0,
        seconds=0.0,
    )


def _hinted(bench: Bench, of: Trajectory, cycle: int, day: tuple[Episode, ...]) -> str:
    """Measure the base with hints from the trajectory's store in its prompts; under what key that is kept."""
    key = f"{bench.base.sha256}+hints/{of.seed}/{cycle}"
    with house(bench, of, cycle) as parts:
        parts.store.save_episodes(day)
        hints = Hints(parts.store, LeakIndex(bench.frozen))
        for kind in kinds(bench, cycle):
            measure(bench, key, bench.base.name, kind, hints)
    return key


def _trained(bench: Bench, of: Trajectory, cycle: int, before: str, day: tuple[Episode, ...]) -> Cell:
    """A night after its day, and what serves then, measured on the whole frozen set."""
    unload_all(bench)  # the same bytes may be loaded from another trajectory's folder
    with house(bench, of, cycle) as parts:
        parts.store.save_episodes(day)
        report = parts.store.night(cycle) or run_night(parts)
        if report.cycle != cycle:
            raise StoreError(
                f"{parts.config.home} is in night {report.cycle}, the study in cycle {cycle}",
                f"remove {bench.folder} to begin the study anew",
            )
        active = parts.registry.active()
        candidate = parts.registry.get(report.candidate) if report.candidate else None
        if candidate:
            measure_adapter(bench, parts, candidate, "one")
        if active:
            for kind in kinds(bench, cycle):
                measure_adapter(bench, parts, active, kind)
    learned = bench.store.learned(of, cycle)
    return Cell(
        recipe=of.recipe,
        seed=of.seed,
        gated=of.gated,
        cycle=cycle,
        outcome=report.outcome,
        before=before,
        served=active.sha256 if active else bench.base.sha256,
        candidate=candidate.sha256 if candidate else None,
        night=report.model_copy(update={"reports": ()}),
        kl=learned.kl if learned else None,
        train_seconds=learned.seconds if learned else 0.0,
        seconds=0.0,
    )
