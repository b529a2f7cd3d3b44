"""A study's days, its memory, its store, and a real one that is killed and goes on."""

from __future__ import annotations

import dataclasses
import gzip
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from fakes import (
    BASE,
    DAY,
    FROZEN,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    Quiet,
    alone,
    live_a_day,
    make_task,
    parts,
    solver,
    tasks_of,
)
from fakes import settings as sections
from hypothesis import given, settings
from hypothesis import strategies as st
from study_data import cells as cells_of
from study_data import exported, passed, study
from test_registry import lora, write_base, write_trained

from sleepy_coder.config import CanarySettings, Config, MixSettings
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ModelNotFound, StoreError
from sleepy_coder.judge.study_data import Cell, StudyExport, Trajectory
from sleepy_coder.learn.hints import Hints
from sleepy_coder.learn.trainer import Step
from sleepy_coder.night import run_night
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.study import run
from sleepy_coder.study.bench import Bench, house, kinds, measure
from sleepy_coder.study.memory import RememberingServer, RememberingTrainer
from sleepy_coder.study.plan import Plan, cells, deal, frozen_part, identity, seed_of, sized, theme_groups, themes
from sleepy_coder.study.run import run_study, study_folder, take_over
from sleepy_coder.study.store import Learned, StudyStore
from sleepy_coder.tasks import load_split
from sleepy_coder.types import Message, Recipe, TrainingMix

TASKS = [make_task(number, f"family_{number % 7}") for number in DAY]


EVALS = {"a": passed(5), "b": passed(6), "worse": passed(2)}


# The plan


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(0, 5))
def test_no_task_comes_on_two_days_and_no_day_has_more_than_it_may(cycles: int, count: int, seed: int) -> None:
    days = deal(TASKS, cycles, count, seed)
    ids = [task.id for day in days for task in day]
    assert len(days) == cycles and len(set(ids)) == len(ids)
    assert all(len(day) <= count for day in days)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 5))
def test_days_that_are_large_enough_have_all_tasks(cycles: int, seed: int) -> None:
    assert sum(map(len, deal(TASKS, cycles, len(TASKS), seed))) == len(TASKS)


def test_a_day_is_mostly_about_its_theme_and_never_only() -> None:
    split = load_split("day")
    theme = themes([task.family for task in split], 5, 0)
    for number, day in enumerate(deal(split, 5, 1000, 0)):
        own = sum(theme[task.family] == number for task in day) / len(day)
        assert 0.45 < own < 0.75


def test_days_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert deal(TASKS, 3, 20, 1) == deal(TASKS[::-1], 3, 20, 1)
    assert deal(TASKS, 3, 20, 1) != deal(TASKS, 3, 20, 2)


def test_the_frozen_tasks_of_the_themes_are_in_one_each() -> None:
    frozen = load_split("frozen")
    groups = theme_groups([task.family for task in load_split("day")], frozen, 5, 0)
    ids = [task for group in groups for task in group]
    assert len(set(ids)) == len(ids) > 0.9 * len(frozen)
    assert all(groups)


def test_a_recipe_that_trains_nothing_has_no_gated_trajectory() -> None:
    plan = Plan(recipes=("rft-anchor", "no-update"), seeds=1, cycles=2)
    assert cells(plan) == (
        ("rft-anchor", 0, True, 1),
        ("rft-anchor", 0, True, 2),
        ("rft-anchor", 0, False, 1),
        ("rft-anchor", 0, False, 2),
        ("no-update", 0, False, 1),
        ("no-update", 0, False, 2),
    )


def test_what_is_gated_comes_first_one_seed_of_all_recipes_after_the_other() -> None:
    order = [(name, seed, gated) for name, seed, gated, _ in cells(Plan(recipes=("sam", "ssr"), seeds=2, cycles=1))]
    gated = [("sam", 0, True), ("ssr", 0, True), ("sam", 1, True), ("ssr", 1, True)]
    assert order == [*gated, *((name, seed, False) for name, seed, _ in gated)]


def test_a_study_can_be_run_by_halves() -> None:
    plan = Plan(recipes=("rft-anchor", "no-update"), seeds=2, cycles=2)
    gated, ungated = (cells(plan.model_copy(update={"only": half})) for half in ("gated", "ungated"))
    assert all(with_gate for *_, with_gate, _ in gated) and not any(with_gate for *_, with_gate, _ in ungated)
    assert (*gated, *ungated) == cells(plan)


def test_more_seeds_and_recipes_add_to_a_study_and_other_settings_begin_another(tmp_path: Path) -> None:
    config = Config.model_validate({"home": tmp_path})

    def named(plan: Plan, config: Config = config) -> str:
        return identity(sized(config, plan), plan, TASKS[:3], "base")

    few = Plan(recipes=("sam",), seeds=1)
    assert named(few) == named(Plan(recipes=("sam", "ssr"), seeds=3))
    other = config.model_copy(update={"recipe": config.recipe.model_copy(update={"rank": 4})})
    seed = config.model_copy(update={"seed": config.seed + 1})
    short = config.model_copy(update={"model": config.model.model_copy(update={"max_length": 256})})
    others = {named(Plan(cycles=2)), named(Plan(quick=True)), *(named(few, c) for c in (other, seed, short))}
    assert len({named(few), *others}) == 6


def test_a_quick_study_judges_on_as_many_clusters_as_the_gate_takes() -> None:
    tasks, clusters = frozen_part(load_split("frozen"), Plan(quick=True))
    assert {task.id for task in tasks} == {task for cluster in clusters for task in cluster.tasks}
    assert len(clusters) >= load_config().gate.autonomous_clusters


# What is remembered


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StudyStore]:
    with StudyStore(tmp_path / "study.db") as made:
        yield made


def ask(server: RememberingServer, number: int, model: str = BASE, seed: int = 0) -> str:
    messages = (Message(role="system", content="s"), Message(role="user", content=f"broken_{number}"))
    return server.chat(model, messages, seed=seed).text


def test_the_same_weights_are_not_asked_the_same_twice(store: StudyStore, tmp_path: Path) -> None:
    fake = FakeServer(solver([1]))
    server = RememberingServer(fake, store, BASE, "sha")
    first = ask(server, 1)
    assert ask(server, 1) == first and ask(server, 2) != first
    assert ask(RememberingServer(fake, store, BASE, "sha"), 1) == first
    assert len(fake.asked) == 2
    ask(server, 1, seed=5)
    ask(RememberingServer(fake, store, BASE, "other base"), 1)
    assert len(fake.asked) == 4


def test_weights_are_known_by_their_bytes_and_not_by_their_name(store: StudyStore, tmp_path: Path) -> None:
    fake = FakeServer(solver([]))
    server = RememberingServer(fake, store, BASE, "sha")
    one, two = (write_trained(tmp_path / name, lora(3), solves=[1]) for name in ("one", "two"))
    other = write_trained(tmp_path / "three", lora(4), solves=[2])
    server.load("sc-1", one)
    server.load("sc-2", two)
    assert ask(server, 1, "sc-1") == ask(server, 1, "sc-2")
    assert len(fake.asked) == 1
    server.unload("sc-1")
    server.load("sc-1", other)
    assert ask(server, 1, "sc-1") != ask(server, 1, "sc-2")


def test_a_model_that_is_not_there_is_not_answered_for(store: StudyStore) -> None:
    server = RememberingServer(FakeServer(solver([])), store, BASE, "sha")
    with pytest.raises(ModelNotFound):
        ask(server, 1, "sc-9")


class Telling(FakeTrainer):
    """A trainer that tells of two steps."""

    def __init__(self, heard: Callable[[Step], None]) -> None:
        super().__init__([1])
        self._heard = heard

    def train(self, mix: TrainingMix, parent: object, recipe: Recipe, workdir: Path, pause: object = None) -> Path:
        for step, kl in ((1, 0.1), (2, 0.3)):
            self._heard(Step(step=step, steps=2, loss=1.0, kl=kl, learning_rate=1e-4))
        return super().train(mix, None, recipe, workdir)


def test_an_equal_job_is_trained_once_and_the_kl_is_remembered_with_it(tmp_path: Path) -> None:
    trainers: list[Telling] = []
    learned: list[Learned] = []

    def make(heard: Callable[[Step], None]) -> Telling:
        trainers.append(Telling(heard))
        return trainers[-1]

    mix = TrainingMix(examples=(), shares={}, counts={}, notes=(), seed=0, sha256="m")
    recipe = Recipe(
        name="sam", learning_rate=1e-4, rank=4, alpha=8, dropout=0, steps=2, batch_size=1, warmup_steps=0, ema=0,
        kl_anchor=0, kl_verified=0, max_length=64, seed=1,
    )  # fmt: skip
    for home in ("one", "two"):
        trainer = RememberingTrainer(make, tmp_path / "kept", learned.append)
        path = trainer.train(mix, None, recipe, tmp_path / home, lambda: False)
        assert (path, path.is_dir()) == (tmp_path / home / "adapter", True)
    other = RememberingTrainer(make, tmp_path / "kept", learned.append)
    other.train(mix, None, recipe.model_copy(update={"seed": 2}), tmp_path / "three", lambda: False)
    assert [len(trainer.runs) for trainer in trainers] == [1, 0, 1]
    assert [round(one.kl or 0, 6) for one in learned] == [0.2, 0.2, 0.2]
    assert learned[0] == learned[1]


def test_a_finished_cell_stays_as_it_was(store: StudyStore) -> None:
    (cell,) = cells_of("sam", 0, True, ["a"])
    store.save_cell(cell)
    store.save_cell(cell.model_copy(update={"served": "b"}))
    assert store.cells() == (cell,)


def test_what_training_was_like_is_known_to_the_next_process(store: StudyStore) -> None:
    of = Trajectory(recipe="sam", seed=0, gated=True)
    assert store.learned(of, 1) is None
    store.save_learned(of, 1, Learned(seconds=3.0, kl=0.1))
    assert store.learned(of, 1) == Learned(seconds=3.0, kl=0.1)


def test_a_study_without_a_measurement_cannot_be_reported(store: StudyStore) -> None:
    with pytest.raises(StoreError):
        store.data()


# From one machine to another


def test_what_another_machine_has_finished_is_kept_and_reported_as_there(store: StudyStore, tmp_path: Path) -> None:
    data = study([*cells_of("sam", 0, True, ["a", "b"]), *cells_of("ssr", 0, True, ["a", "b"])], EVALS)
    (tmp_path / "study-data.json.gz").write_bytes(exported(data).pack())
    found = StudyExport.unpack(tmp_path / "study-data.json.gz").data
    assert (store.take_over(found), store.take_over(found)) == (2, 0)
    assert store.data() == data


def test_a_trajectory_that_is_not_whole_or_was_begun_here_is_not_taken_over(store: StudyStore) -> None:
    mine = cells_of("sam", 0, True, ["a"])
    store.save_cell(mine[0])
    half, theirs = cells_of("ssr", 0, True, ["a"]), cells_of("sam", 0, True, ["b", "b"])
    assert store.take_over(study([*half, *theirs], EVALS)) == 0
    assert store.cells() == tuple(mine)


def test_a_trajectory_that_is_taken_over_in_part_is_not_begun_here(store: StudyStore, tmp_path: Path) -> None:
    """A full disk in the middle of it: what has no adapters here could never be gone on with."""
    data = study(cells_of("sam", 0, True, ["a", "b"]), EVALS)
    with closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON cells WHEN NEW.cycle = 2 "
            "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    with pytest.raises(StoreError, match="disk is full"):
        store.take_over(data)
    assert store.cells() == ()
    with closing(sqlite3.connect(tmp_path / "study.db")) as other:
        other.execute("DROP TRIGGER full")
    assert store.take_over(data) == 1


@pytest.mark.parametrize("content", [b"", b"{}", gzip.compress(b"{}", mtime=0), gzip.compress(b"{}", mtime=0)[:-4]])
def test_a_file_that_is_no_study_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(StoreError, match="given is not a study-data"):
        StudyExport.unpack(tmp_path / "given")


def test_another_study_is_not_taken_over(tmp_path: Path) -> None:
    data = study(cells_of("sam", 0, True, ["a", "b"]), EVALS)
    with pytest.raises(StoreError, match="another study"):
        take_over(Config.model_validate({"home": tmp_path}), Plan(), exported(data))


class Nobody:
    """`study.bench.Onlooker` of a study that must not begin."""

    def phase(self, name: str) -> None:
        raise AssertionError(name)

    def tick(self, done: int, total: int, note: str = "") -> None:
        raise AssertionError(note)

    def cell(self, of: Trajectory, cycle: int, done: tuple[Cell, ...]) -> None:
        raise AssertionError(of)


def test_a_study_is_not_gone_on_with_under_another_number_of_samples(tmp_path: Path) -> None:
    config, plan = Config.model_validate({"home": tmp_path}), Plan(samples=8)
    folder = study_folder(config, plan)
    with StudyStore(folder / "study.db") as begun:
        begun.save_facts(study([], {}).facts)
    with pytest.raises(StoreError, match="begun with 2 samples for pass@k, not 8") as refused:
        run_study(config, plan, Nobody())
    assert "--samples 2" in refused.value.remedy
    theirs = study([], {})
    eight = theirs.model_copy(update={"facts": theirs.facts.model_copy(update={"samples": 8})})
    with pytest.raises(StoreError, match="begun with 2 samples"):
        take_over(config, plan, StudyExport(identity=folder.name, data=eight))


def test_a_report_beside_a_running_study_knows_what_every_cell_was_measured_with(
    store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.take_over(study(cells_of("sam", 0, True, ["a", "b"]), EVALS))
    (report, *_), (cell, *_) = study([], EVALS).evals.values(), cells_of("ssr", 0, True, ["a"])
    read = store._db.do  # pyright: ignore[reportPrivateUsage]

    def read_while_it_runs(sql: str, values: Sequence[object] = ()) -> list[object]:
        """Between any two reads the study finishes a cell."""
        found = read(sql, values)
        with StudyStore(tmp_path / "study.db") as running:
            cycle = len(running.cells())
            running.save_eval(f"new {cycle}", "one", report)
            running.save_cell(cell.model_copy(update={"served": f"new {cycle}", "cycle": cycle}))
        return found

    monkeypatch.setattr(store._db, "do", read_while_it_runs)  # pyright: ignore[reportPrivateUsage]
    data = store.data()
    assert {cell.served for cell in data.cells} <= data.evals.keys()


# What a cell is measured with


class Watching(Quiet):
    """`study.bench.Onlooker`."""

    def cell(self, of: Trajectory, cycle: int, done: tuple[Cell, ...]) -> None: ...


def bench_of(home: Path, store: StudyStore, server: FakeServer, **others: Any) -> Bench:
    frozen, base = tasks_of(FROZEN[:4]), write_base(home / "base")
    made = Bench(
        config=sections(home),
        plan=Plan(cycles=2, samples=2),
        folder=home / "study",
        store=store,
        fleet=cast("Fleet", server),
        server=RememberingServer(server, store, BASE, "base"),
        verifier=FakeVerifier(),
        base=BaseModel(base, BASE, "base", 5),
        frozen=frozen,
        clusters=alone(frozen),
        environment="fake",
        watcher=Watching(),
        code="",
    )
    return dataclasses.replace(made, **others)


@contextmanager
def opened(server: FakeServer, config: Config, watcher: object) -> Iterator[Parts]:
    """`wiring.open_parts` around the fakes."""
    made = parts(config.home, server, FakeTrainer())
    with closing(made.store):
        yield dataclasses.replace(made, config=config)


def test_a_measurement_with_holes_that_the_machine_left_is_taken_again(tmp_path: Path, store: StudyStore) -> None:
    bench = bench_of(
        tmp_path, store, FakeServer(solver(FROZEN[:2])), verifier=FakeVerifier({make_task(FROZEN[0]).id: 4})
    )
    assert measure(bench, "base", BASE, "one").infra == 1
    again = measure(bench, "base", BASE, "one")
    assert (again.infra, again.pass_rate) == (0, 0.5)
    assert store.eval("base", "one") == again.without_completions()


def test_what_was_measured_on_another_stack_is_measured_again(tmp_path: Path, store: StudyStore) -> None:
    bench = bench_of(tmp_path, store, FakeServer(solver(FROZEN[:2])))
    first = measure(bench, "base", BASE, "one")
    assert measure(bench, "base", BASE, "one") == first.without_completions()
    assert measure(dataclasses.replace(bench, environment="another vLLM"), "base", BASE, "one").stack != first.stack


def test_several_answers_a_task_are_asked_of_the_last_weights_alone(tmp_path: Path, store: StudyStore) -> None:
    bench = bench_of(tmp_path, store, FakeServer(solver(())))
    assert [kinds(bench, cycle) for cycle in (1, 2)] == [("one",), ("one", "many")]


def test_each_trajectory_has_a_home_of_its_own_and_one_without_the_gate_takes_nothing_back(
    tmp_path: Path, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(solver(()))
    bench = bench_of(tmp_path, store, server, config=sections(tmp_path, mix=MixSettings(), canary=CanarySettings()))

    monkeypatch.setattr("sleepy_coder.wiring.open_parts", partial(opened, server))
    seen: dict[Path, tuple[bool, bool, float]] = {}
    for gated in (True, False):
        with house(bench, Trajectory(recipe="sam", seed=1, gated=gated), 1) as found:
            config = found.config
            seen[config.home] = (found.ungated, config.canary.shadow_tasks > 0, config.mix.fresh_share)
            assert (config.recipe.name, config.seed) == ("sam", seed_of(bench.config, 1))
    assert list(seen.values()) == [(False, True, 0), (True, False, 0)]


def test_a_cell_goes_on_from_what_the_one_before_it_serves(
    tmp_path: Path, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cells_of("sam", 0, True, ["a", "b", "c"])
    store.save_cells(done[:2])
    bench, of = bench_of(tmp_path, store, FakeServer(solver(()))), done[0].trajectory

    def trained(_: Bench, of: Trajectory, cycle: int, before: str, day: object) -> Cell:
        return done[2].model_copy(update={"before": before})

    monkeypatch.setattr(run, "_day", lambda *_: ())
    monkeypatch.setattr(run, "_trained", trained)
    assert run._cell(bench, of, 3).before == "b"  # pyright: ignore[reportPrivateUsage]


def test_a_recipe_of_hints_is_measured_with_hints(
    tmp_path: Path, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(solver(()))
    measured: list[object] = []
    monkeypatch.setattr("sleepy_coder.wiring.open_parts", partial(opened, server))
    monkeypatch.setattr(run, "measure", lambda *given: measured.append(given[-1]))
    of = Trajectory(recipe="hints-only", seed=0, gated=False)
    run._hinted(bench_of(tmp_path, store, server), of, 1, ())  # pyright: ignore[reportPrivateUsage]
    assert [type(last) for last in measured] == [Hints]


def test_hints_are_measured_as_what_serves_where_they_are_all_that_is_learned(
    tmp_path: Path, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(tmp_path, store, FakeServer(solver(())))
    monkeypatch.setattr(run, "_day", lambda *_: ())
    monkeypatch.setattr(run, "_hinted", lambda *_: "base+hints")
    served = {
        name: run._cell(bench, Trajectory(recipe=name, seed=0, gated=False), 1).served  # pyright: ignore[reportPrivateUsage]
        for name in ("hints-only", "no-update")
    }
    assert served == {"hints-only": "base+hints", "no-update": "base"}


# Without the gate


def test_an_ungated_night_promotes_what_the_gate_turns_down_and_keeps_its_finding(tmp_path: Path) -> None:
    server = FakeServer(solver((*FROZEN[:30], *DAY[:30])))
    outcomes: list[str] = []
    for home, ungated in (("gated", False), ("ungated", True)):
        house = parts(tmp_path / home, server, FakeTrainer((*FROZEN[:15], *DAY[:30])), ungated=ungated)
        live_a_day(house, DAY[:40])
        report = run_night(house)
        outcomes.append(report.outcome)
        assert (house.registry.active() is not None) is ungated
        (verdict,) = house.store.verdicts()
        assert '"decision":"reject"' in verdict.payload.replace(" ", "")
        house.store.close()
        server.restart()
    assert outcomes == ["rejected", "promoted"]


# For real


def start(home: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "sleepy_coder", "--home", str(home), "study", "--quick", "--json"]
    argv += ["--recipes", "rft-anchor,no-update", "--out", str(home / "out")]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def episodes_in(file: Path) -> int:
    if not file.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
            return db.execute("SELECT count(*) FROM episodes").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet, or being made
        return 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_quick_study_that_is_killed_in_the_middle_goes_on_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEPY_CODER_HOME", str(tmp_path))
    folder = study_folder(load_config(tmp_path), Plan(quick=True, cycles=1, seeds=1, day_tasks=60, samples=2))
    first = start(tmp_path)
    while first.poll() is None and episodes_in(folder / "study.db") < 20:
        time.sleep(0.1)
    assert first.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    met = episodes_in(folder / "study.db")
    second = start(tmp_path)
    said, _ = second.communicate()
    assert second.returncode == 0
    assert 20 <= met <= episodes_in(folder / "study.db") == 60
    assert b'"recipe": "rft-anchor"' in said
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"results.md", "results.png", "study.json"}
    assert not (tmp_path / "adapters").exists()  # nothing that serves here was touched

    elsewhere = tmp_path / "elsewhere"
    argv = [sys.executable, "-m", "sleepy_coder", "--home", str(elsewhere), "study", "--quick", "--report"]
    argv += ["--from", str(tmp_path / "out" / "study-data.json.gz"), "--out", str(elsewhere)]
    subprocess.run(argv, check=True)
    assert (elsewhere / "results.md").read_text() == (tmp_path / "out" / "results.md").read_text()
