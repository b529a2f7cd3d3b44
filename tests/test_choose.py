"""What of a training run becomes the candidate: chosen by execution on dev tasks, and only that is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import FROZEN, FakeClock, FakeServer, FakeTrainer, Quiet, live_a_day, solver, tasks_of
from test_night import DAY, DREAMED, NEW, OLD, SKILLS, House, Killed
from test_registry import lora, write_trained

from sleepy_coder.adapter_manifest import CONFIG, FAST, WEIGHTS, fast_weights
from sleepy_coder.choose import _dev_tasks  # pyright: ignore[reportPrivateUsage]
from sleepy_coder.config import MixSettings, RecipeSettings
from sleepy_coder.errors import ModelNotFound, NightPaused
from sleepy_coder.learn.outputs import AVERAGE, OUTPUT, TOLD, Probe, Training, checkpoint_folder
from sleepy_coder.parts import Parts
from sleepy_coder.practice import lineage, promotions
from sleepy_coder.types import Adapter, AdapterState, NightReport, Outcome, Recipe, TrainingMix

DEV = FROZEN[200:296]
BEFORE = DEV[:60]  # of these the base model passes so many
FOLDERS = (checkpoint_folder(2), checkpoint_folder(7))


class Keeping(FakeTrainer):
    """Leaves checkpoints after steps 2 and 7 and an output; `dev` has the dev tasks that each of the three solves."""

    def __init__(self, output: range = DEV[:70], **checkpoints: range) -> None:
        super().__init__((*NEW, *SKILLS))
        self.dev: Mapping[str, range] = {OUTPUT: output, **dict(zip(FOLDERS, checkpoints.values(), strict=False))}

    def train(
        self,
        mix: TrainingMix,
        parent: Adapter | None,
        recipe: Recipe,
        workdir: Path,
        pause: Callable[[], bool] = lambda: False,
    ) -> Path:
        self.runs.append((mix, parent, recipe))
        for number, (folder, solves) in enumerate(self.dev.items()):
            (workdir / folder).mkdir(parents=True, exist_ok=True)
            weights = lora(100 * recipe.seed + number)
            write_trained(workdir / folder, weights, solves=sorted({*self.learns, *solves}))
        probes = [Probe(folder=f, step=int(f[-4:]), nll=0.1, kl=0.02) for f in self.dev if f != OUTPUT]
        probes.append(Probe(folder=AVERAGE, step=7, nll=0.1, kl=0.01))
        (workdir / TOLD).write_text(Training(steps=7, probes=tuple(probes)).model_dump_json())
        return workdir / OUTPUT


class Dual(FakeTrainer):
    """Leaves fast weights beside the slow ones."""

    def train(self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path, *rest: Any) -> Path:
        out = super().train(mix, parent, recipe, workdir)
        write_trained(workdir / FAST, lora(77))
        return out


class DevHouse(House):
    """A house with dev tasks, of which the base passes `BEFORE`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.server = FakeServer(solver((*OLD, *SKILLS, *BEFORE), DREAMED))

    def open(self, learns: range = NEW, **others: Any) -> Parts:
        return dataclasses.replace(super().open(learns, **others), dev=tasks_of(DEV))

    def asked_of(self, numbers: range) -> set[str]:
        """Models that were asked about these tasks."""
        prompts = {task.prompt for task in tasks_of(numbers)}
        return {a.model for a in self.server.asked if a.messages[-1].content.partition("\n")[0] in prompts}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[DevHouse]:
    made = DevHouse(tmp_path)
    made.day()
    made.server.asked.clear()
    yield made
    made.close()


def test_the_weights_that_pass_most_dev_tasks_become_the_candidate_and_nothing_else_is_kept(house: DevHouse) -> None:
    report = house.night(trainer=Keeping(early=DEV[:90], late=DEV[:65]))
    registry = house.open().registry
    assert report.choice is not None and report.choice.served is not None
    assert report.choice.chosen.weights == FOLDERS[0]
    assert (report.choice.chosen.rate, report.choice.served.rate) == (90 / 96, 60 / 96)
    assert [adapter.name for adapter in registry.adapters()] == [report.candidate]
    assert registry.manifest(str(report.candidate)).choice == report.choice
    assert house.server.roots == {str(report.candidate): registry.get(str(report.candidate)).path}
    assert report.outcome == "promoted"


def test_of_equal_finalists_the_smallest_change_is_chosen_and_its_scale_is_in_the_files(house: DevHouse) -> None:
    report = house.night(trainer=Keeping())
    assert report.choice is not None
    assert (report.choice.chosen.weights, report.choice.chosen.scale) == (OUTPUT, 0.75)
    config = house.open().registry.get(str(report.candidate)).path / "adapter_config.json"
    assert json.loads(config.read_text())["lora_alpha"] == 6  # the recipe's is 8


def test_most_contenders_are_asked_a_third_of_the_tasks_and_the_best_third_all_of_them(house: DevHouse) -> None:
    report = house.night(trainer=Keeping(early=DEV[:90], late=DEV[:65]))
    assert report.choice is not None
    measured = [len(one.passed) + len(one.failed) for one in report.choice.contenders]
    assert len(measured) == 12
    assert sorted(set(measured)) == [32, 96]
    assert 4 <= measured.count(96) <= 5
    assert measured[0] == 96


def test_each_night_chooses_on_other_dev_tasks_and_one_that_goes_on_chooses_on_the_same(house: DevHouse) -> None:
    home = dataclasses.replace(house.open(), dev=tasks_of(range(200)))
    first, second, again = ({task.id for task in _dev_tasks(home, cycle)} for cycle in (1, 2, 1))
    assert first == again != second and len(first) == 96


def test_a_night_without_a_gain_on_dev_spends_no_opening_and_keeps_its_episodes(house: DevHouse) -> None:
    report = house.night(trainer=Keeping(BEFORE))
    home = house.open()
    assert (report.outcome, report.candidate, report.verdict) == ("inconclusive", None, None)
    assert report.choice is not None and report.choice.ruling == "no gain"
    assert not house.asked_of(FROZEN[:64])
    assert home.store.openings_used() == (0, 0)
    assert not home.registry.adapters() and not house.server.roots
    assert home.store.count_episodes(unused=True) == 40


def test_a_night_without_the_gate_promotes_without_a_gain_on_dev_too(house: DevHouse) -> None:
    assert house.night(trainer=Keeping(BEFORE), ungated=True).outcome == "promoted"


def test_what_bad_rows_taught_is_seen_at_full_scale_and_sets_the_day_aside(house: DevHouse) -> None:
    report = house.night(trainer=Keeping(DEV[30:60]))
    store = house.open().store
    assert (report.outcome, report.reports, house.serving()) == ("rejected", (), None)
    assert report.choice is not None and report.choice.ruling == "harm"
    assert not house.asked_of(FROZEN[:64])
    assert all(episode.outcome is Outcome.FAIL for episode in store.episodes(unused=True))


def test_a_night_killed_while_it_chooses_goes_on_and_leaves_nothing_loaded(house: DevHouse) -> None:
    class Struck(Quiet):
        def tick(self, done: int, total: int, note: str = "") -> None:
            if self.phases[-1] == "choose" and done == 150:
                raise Killed

    def loaded_at_the_end() -> None:
        """A kill does not unload: put back what the process had loaded."""
        name, root = held[-1]
        house.server.hold(name, root, ())

    held: list[tuple[str, Path]] = []
    load = house.server.load

    def remember(name: str, path: Path) -> None:
        held.append((name, path))
        load(name, path)

    house.server.load = remember
    with pytest.raises(Killed):
        house.night(trainer=Keeping(early=DEV[:90], late=DEV[:65]), watcher=Struck())
    loaded_at_the_end()
    report = house.night(trainer=Keeping(early=DEV[:90], late=DEV[:65]))
    assert report.choice is not None
    assert (report.outcome, report.choice.chosen.weights) == ("promoted", FOLDERS[0])
    assert set(house.server.roots) == {report.candidate}


def test_a_server_that_sees_nothing_of_the_home_but_its_adapters_can_be_asked_about_every_contender(
    house: DevHouse,
) -> None:
    load, adapters = house.server.load, house.open().config.adapters

    def mounted(name: str, path: Path) -> None:
        if not path.is_relative_to(adapters):
            raise ModelNotFound(f"no adapter found for {path}", status=404)
        load(name, path)

    house.server.load = mounted
    report = house.night(trainer=Keeping(early=DEV[:90], late=DEV[:65]))
    assert report.choice is not None
    assert (report.outcome, report.choice.chosen.weights) == ("promoted", FOLDERS[0])
    assert not list(adapters.glob(".contenders*"))


def test_contenders_are_as_readable_as_adapters_though_training_writes_for_its_owner_alone(house: DevHouse) -> None:
    class Private(Keeping):
        def train(self, *arguments: Any, **others: Any) -> Path:
            out = super().train(*arguments, **others)
            for weights in out.parent.rglob("*.safetensors"):
                weights.chmod(0o600)
            return out

    load, modes = house.server.load, set[tuple[int, ...]]()

    def remember(name: str, path: Path) -> None:
        modes.add(tuple((path / file).stat().st_mode for file in (WEIGHTS, CONFIG)))
        load(name, path)

    house.server.load = remember
    assert house.night(trainer=Private(early=DEV[:90], late=DEV[:65])).outcome == "promoted"
    assert all(weights == config for weights, config in modes)


def test_contenders_that_a_killed_night_left_are_gone_after_the_next_one_also_if_it_does_not_choose(
    house: DevHouse,
) -> None:
    parts = house.open()
    left = parts.config.adapters / ".contenders-0007" / "adapter-1"
    left.parent.mkdir()
    write_trained(left, lora(7))
    house.server.hold("sc-0007-00000000", left, ())
    assert house.night(mix=MixSettings(min_examples=10_000)).outcome == "skipped"
    assert not left.parent.exists()
    assert not house.server.roots


def test_contenders_are_loaded_one_at_a_time_and_beside_none_that_a_killed_night_left(house: DevHouse) -> None:
    """A server takes few adapters at once, and the one that serves has to stay."""
    left = house.open().config.adapters / ".contenders-0007" / "adapter-1"
    left.parent.mkdir()
    write_trained(left, lora(7))
    house.server.hold("sc-0007-00000000", left, ())
    load, beside = house.server.load, list[set[str]]()

    def remember(name: str, path: Path) -> None:
        if ".contenders-" in str(path):
            beside.append(set(house.server.roots))
        load(name, path)

    house.server.load = remember
    house.night(trainer=Keeping(early=DEV[:90]))
    assert len(beside) > 3
    assert not any(beside)


def test_the_curfew_ends_the_choosing_and_unloads_what_was_tried(house: DevHouse) -> None:
    clock = FakeClock()

    class Late(Quiet):
        def tick(self, done: int, total: int, note: str = "") -> None:
            if self.phases[-1] == "choose" and done == 150:
                clock.sleep(86_400)

    until = clock.time + timedelta(hours=12)
    with pytest.raises(NightPaused):
        house.night(trainer=Keeping(early=DEV[:90]), watcher=Late(), clock=clock, until=until)
    assert not house.server.roots
    assert house.open().store.unfinished_night() == 1


def test_contenders_that_the_server_does_not_apply_are_not_chosen(house: DevHouse) -> None:
    class Deaf(FakeServer):
        def load(self, name: str, path: Path) -> None:
            super().load(name, path)
            if FOLDERS[0].replace("/", "-") in path.name:
                self.not_applied.add(name)

    house.server = Deaf(solver((*OLD, *SKILLS, *BEFORE), DREAMED))
    report = house.night(trainer=Keeping(early=DEV[:90], late=DEV[:80]))
    assert report.choice is not None
    assert (report.outcome, report.choice.chosen.weights) == ("promoted", FOLDERS[1])


def test_a_recipe_without_checkpoints_serves_its_output_unmeasured(house: DevHouse) -> None:
    report = house.night(recipe=RecipeSettings(name="seed-plain", rank=4, alpha=8))
    assert (report.outcome, report.choice) == ("promoted", None)
    assert not house.asked_of(DEV)


@pytest.mark.parametrize("name", ["no-update", "hints-only"])
def test_a_recipe_that_trains_nothing_skips_the_night_before_anything_is_asked(house: DevHouse, name: Any) -> None:
    report = house.night(recipe=RecipeSettings(name=name))
    assert (report.outcome, report.reason) == ("skipped", f"recipe {name} trains nothing")
    assert not house.server.asked


def test_a_night_that_goes_on_keeps_the_recipe_that_it_began_with(house: DevHouse) -> None:
    class Struck(Quiet):
        def phase(self, name: str) -> None:
            if name == "mix":
                raise Killed

    with pytest.raises(Killed):
        house.night(recipe=RecipeSettings(name="seed-plain", rank=4, alpha=8), watcher=Struck())
    report = house.night()
    assert report.recipe is not None
    assert report.recipe.name == "seed-plain"


# What training starts from


def learns(frozen: range, dev: range = DEV[:70]) -> FakeTrainer:
    """A trainer whose adapters solve these frozen tasks and so many of the dev tasks that they go to the gate."""
    return FakeTrainer((*frozen, *dev, *SKILLS))


def begun(report: NightReport, trainer: FakeTrainer) -> tuple[bool, str | None]:
    """Whether the night started afresh, and the adapter that it went on from."""
    assert report.recipe is not None
    return report.recipe.rebase, trainer.runs[-1][1].name if trainer.runs[-1][1] else None


def another_day(house: DevHouse, number: int) -> None:
    live_a_day(house.open(), DAY[:40], f"day {number}")


def test_after_so_many_accepted_nights_one_starts_afresh_on_all_rows_that_are_kept(house: DevHouse) -> None:
    settings = RecipeSettings(rank=4, alpha=8, rebase_after=1)
    house.night(trainer=learns(NEW), recipe=settings)
    first = house.open().store.examples(cycles=[1])
    another_day(house, 2)
    trainer = learns(FROZEN[:60])
    assert begun(house.night(trainer=trainer, recipe=settings), trainer) == (True, None)
    mix = trainer.runs[-1][0]
    assert {(row.messages, row.completion) for row in first} <= {(r.messages, r.completion) for r in mix.examples}


def test_after_two_rejections_in_a_row_a_night_starts_afresh_and_the_next_one_does_not(house: DevHouse) -> None:
    house.night(trainer=learns(NEW))
    serving = house.serving()
    seen: list[tuple[bool, str | None]] = []
    for number in range(4):
        another_day(house, number)
        trainer = learns(FROZEN[: 10 - number], DEV[: 75 + number])
        seen.append(begun(house.night(trainer=trainer), trainer))
    assert seen == [(False, serving), (False, serving), (True, None), (False, serving)]


def test_an_adapter_of_another_rank_is_not_gone_on_with(house: DevHouse) -> None:
    class Wider(FakeTrainer):
        def train(self, *arguments: Any) -> Path:
            self.runs.append(arguments[:3])
            raise Killed

    house.night(trainer=learns(NEW))
    another_day(house, 2)
    trainer = Wider()
    with pytest.raises(Killed):
        house.night(trainer=trainer, recipe=RecipeSettings(rank=16, alpha=8))
    assert trainer.runs[-1][1] is None


def test_a_night_dropped_on_dev_ends_the_trunk(house: DevHouse) -> None:
    undecided = house.night(trainer=learns(FROZEN[:32]))
    assert undecided.outcome == "inconclusive"
    dropped = Keeping(BEFORE)
    house.night(trainer=dropped)
    last = Keeping()
    house.night(trainer=last)
    assert dropped.runs[-1][1] is not None and dropped.runs[-1][1].name == undecided.candidate
    assert last.runs[-1][1] is None


def test_a_dropped_trunk_does_not_come_back_after_a_night_that_was_skipped(house: DevHouse) -> None:
    assert house.night(trainer=learns(FROZEN[:32])).outcome == "inconclusive"
    house.night(trainer=Keeping(BEFORE))
    assert house.night(mix=MixSettings(min_examples=10_000)).outcome == "skipped"
    last = Keeping()
    house.night(trainer=last)
    assert last.runs[-1][1] is None


def test_undecided_nights_on_the_way_to_a_promotion_are_not_counted_as_promoted(house: DevHouse) -> None:
    undecided = house.night(trainer=learns(FROZEN[:32]))
    another_day(house, 2)
    assert house.night(trainer=learns(NEW)).outcome == "promoted"
    registry = house.open().registry
    serving = registry.active()
    assert [adapter.name for adapter in lineage(registry, serving)][1:] == [undecided.candidate]
    assert promotions(registry, serving) == 1


def test_an_ancestor_that_is_gone_ends_the_line_and_no_night(house: DevHouse) -> None:
    first = house.night(trainer=learns(FROZEN[:32]))
    another_day(house, 2)
    assert house.night(trainer=learns(NEW)).outcome == "promoted"
    registry = house.open().registry
    shutil.rmtree(registry.get(str(first.candidate)).path)
    assert [adapter.cycle for adapter in lineage(registry, registry.active())] == [2]
    another_day(house, 3)
    assert house.night(trainer=learns(FROZEN[:60])).outcome != "failed"


def test_fast_weights_are_kept_beside_the_slow_ones_and_found_again_only_as_they_were(house: DevHouse) -> None:
    trainer = Dual((*NEW, *SKILLS))
    report = house.night(trainer=trainer, recipe=RecipeSettings(name="sure-dual", rank=4, alpha=8))
    adapter = house.open().registry.get(str(report.candidate))
    assert adapter.state is AdapterState.ACTIVE
    assert fast_weights(adapter.path) == adapter.path / FAST
    write_trained(adapter.path / FAST, lora(78))
    assert fast_weights(adapter.path) is None
    assert house.open().registry.verify(adapter.name).name == adapter.name


def test_fast_weights_that_a_recipe_does_not_know_are_not_taken_along(house: DevHouse) -> None:
    recipe = RecipeSettings(name="seed-plain", rank=4, alpha=8)
    report = house.night(trainer=Dual((*NEW, *SKILLS)), recipe=recipe)
    assert not (house.open().registry.get(str(report.candidate)).path / FAST).exists()
