"""Days and nights in turn: what is there already is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from fakes import DAY, FROZEN, FakeServer, FakeTrainer, parts, solver
from fakes import live_a_day as meet_koans
from report_data import renewed, report_data
from test_cli import Done

from sleepy_coder import cli_cycles, cycles, wiring
from sleepy_coder.config import HOME_VARIABLE, Config
from sleepy_coder.cycles import CyclesPlan, episodes_since_last_night, history, live_a_day, planned, run_cycles
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.types import Adapter, AdapterState, Message, NightReport


class Stopped(Exception):
    """The end of a process in the middle of a day."""


class Server(FakeServer):
    """Mends nothing. `until` answers are given, then the process ends."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.until: int | None = None

    def _answer(self, messages: Sequence[Message], temperature: float, seed: int) -> str:
        if self.until is not None:
            self.until -= 1
            if self.until < 0:
                raise Stopped
        return "1|nonsense"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Parts]:
    made = parts(tmp_path, Server(), FakeTrainer())
    yield made
    made.store.close()


def live(house: Parts, plan: CyclesPlan) -> list[NightReport]:
    ended: list[NightReport] = []
    run_cycles(house, plan, ended.append)
    return ended


def test_each_cycle_is_a_day_of_new_tasks_and_a_night(house: Parts) -> None:
    ended = live(house, planned(house.config.state, house.store, 2, 6))
    assert [night.cycle for night in ended] == [1, 2]
    assert house.store.count_episodes() == len(house.store.task_ids()) == 12
    assert episodes_since_last_night(house.store) == 0


def test_a_day_that_was_stopped_is_gone_on_with(house: Parts) -> None:
    assert isinstance(house.server, Server)
    plan = planned(house.config.state, house.store, 1, 6)
    house.server.until = 5
    with pytest.raises(Stopped):
        run_cycles(house, plan, lambda _: None)
    met = house.store.count_episodes()
    assert 0 < met < 6 and not house.store.nights()
    house.server.until = None
    assert len(live(house, planned(house.config.state, house.store, 1, 6))) == 1
    assert house.store.count_episodes() == 6


def test_a_night_that_was_begun_has_its_day_behind_it(house: Parts) -> None:
    plan = planned(house.config.state, house.store, 1, 6)
    house.store.begin_night(1)
    assert [night.cycle for night in live(house, plan)] == [1]
    assert house.store.count_episodes() == 0


def test_a_plan_that_is_not_finished_comes_before_a_new_one(house: Parts) -> None:
    state = house.config.state
    plan = planned(state, house.store, 3, 6)
    assert planned(state, house.store, 1, 9) == plan == CyclesPlan(tasks=6, last=3)
    live(house, plan)
    assert planned(state, house.store, 1, 9) == CyclesPlan(tasks=9, last=4)


def test_a_day_is_met_by_what_serves(house: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    server = house.server
    assert isinstance(server, Server)
    adapter = Adapter(name="served", cycle=1, parent=None, path=Path("a"), sha256="a", state=AdapterState.ACTIVE)
    monkeypatch.setattr(cycles, "incumbent", lambda *_: adapter)
    server.answers["served"] = lambda *_: "1|nonsense"
    live_a_day(house, 3)
    assert {call.model for call in server.asked} == {"served"}


def test_the_command_tells_each_night_and_writes_the_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    made = parts(tmp_path, FakeServer(solver((*FROZEN[:30], *DAY[:30]))), FakeTrainer((*FROZEN[:45], *DAY[:30])))
    meet_koans(made, DAY[:40])
    recipes: list[str] = []

    def one_night(parts: Parts, _: CyclesPlan, on_night: Callable[[NightReport], None]) -> None:
        on_night(run_night(parts))

    def open_parts(config: Config, _: object) -> AbstractContextManager[Parts]:
        recipes.append(config.recipe.name)
        return nullcontext(made)

    monkeypatch.setattr(wiring, "open_parts", open_parts)
    monkeypatch.setattr(cli_cycles, "run_cycles", one_night)
    found = Done("cycles", "1", "--recipe", "sam", "--json").json
    assert recipes == ["sam"]
    assert [(row["cycle"], row["outcome"]) for row in found["cycles"]] == [(1, "promoted")]
    assert {Path(file).name for file in found["files"]} >= {"results.png", "dashboard.html"}
    assert all(Path(file).is_file() for file in found["files"])
    made.store.close()


def test_the_metrics_of_each_night_are_told() -> None:
    nights = report_data().nights
    rows = history(nights)
    assert [row.outcome for row in rows] == [night.outcome for night in nights]
    first, skipped = rows[0], rows[2]
    assert first.baseline is not None and first.serving is not None and first.since_baseline is not None
    assert first.since_baseline == pytest.approx(first.serving - first.baseline)
    assert first.gained > first.lost and first.learning_rate == pytest.approx(0.9e-4)
    assert (skipped.serving, skipped.learning_rate, skipped.gained) == (None, None, 0)


def test_each_night_is_compared_with_the_baseline_on_its_own_frozen_set() -> None:
    rows = history(renewed().nights)
    assert [row.since_baseline for row in rows] == pytest.approx([0.2, 0.3])
