"""A night that cannot go on keeps no other away: it ends as failed, by itself or by hand, and the next one begins."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeClock, FakeTrainer, Quiet
from test_night import NEW, SKILLS, STEPS, House, run_until
from test_registry import lora, stage, write_trained

from sleepy_coder.abandon import abandon
from sleepy_coder.adapter_manifest import adapter_name
from sleepy_coder.config import RecipeSettings
from sleepy_coder.errors import AlreadyRuns, InfraError, ServerError, ServerUnreachable, SleepyError
from sleepy_coder.journal import alone
from sleepy_coder.serve.explain import error_of
from sleepy_coder.types import NightReport

LARGE, SMALL = RecipeSettings(rank=4, alpha=8), RecipeSettings(rank=2, alpha=4)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.day()
    yield made
    made.close()


def refuses_large_ranks(house: House) -> None:
    """As a vLLM with --max-lora-rank 2 does."""
    load = house.server.load

    def refuses(name: str, path: Path) -> None:
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > 2:
            said = f"LoRA rank {rank} is greater than max_lora_rank 2"
            raise error_of("http://vllm", "/v1/load_lora_adapter", 500, said)
        load(name, path)

    house.server.load = refuses  # type: ignore[method-assign]


def fails(house: House, times: int, **others: Any) -> None:
    for _ in range(times):
        with pytest.raises(ServerError):
            house.night(**others)
        assert house.open().store.unfinished_night() == 1


def note_otherwise(house: House, step: str) -> None:
    """Have the journal hold what a version with one field more noted."""
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as store, store:
        (noted,) = store.execute("SELECT payload FROM phases WHERE name = ?", [step]).fetchone()
        other = json.dumps({**json.loads(noted), "field_of_another_version": 1})
        store.execute("UPDATE phases SET payload = ? WHERE name = ?", [other, step])


def by_hand(house: House) -> NightReport:
    home = house.open()
    return abandon(home.config, home.store, home.registry, house.server, FakeClock())


def test_a_step_that_fails_five_times_fails_the_night_and_the_next_begins_anew_with_its_own_settings(
    house: House,
) -> None:
    refuses_large_ranks(house)
    fails(house, 4, recipe=LARGE)
    report = house.night(recipe=LARGE)
    assert (report.cycle, report.outcome, house.serving()) == (1, "failed", None)
    assert "failed 5 times" in report.reason and "greater than max_lora_rank" in report.reason
    trainer = FakeTrainer((*NEW, *SKILLS))
    assert house.night(recipe=SMALL, trainer=trainer).cycle == 2
    ((_, _, recipe),) = trainer.runs
    assert recipe.rank == SMALL.rank


def test_a_server_that_is_mended_in_time_lets_the_night_go_on(house: House) -> None:
    load = house.server.load
    refuses_large_ranks(house)
    fails(house, 4, recipe=LARGE)
    house.server.load = load  # type: ignore[method-assign]
    report = house.night(recipe=LARGE)
    assert (report.cycle, report.outcome) == (1, "promoted")


def test_a_server_that_is_gone_leaves_the_night_open_however_often(house: House) -> None:
    house.server.reachable = False
    for _ in range(7):
        with pytest.raises(ServerUnreachable):
            house.night()
    house.server.reachable = True
    assert (house.night().cycle, house.serving() is None) == (1, False)


class FullDisk(Quiet):
    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "train":
            raise InfraError("train/mix.json cannot be written") from OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_night_open_however_often(house: House) -> None:
    for _ in range(7):
        with pytest.raises(InfraError):
            house.night(watcher=FullDisk())
    report = house.night()
    assert (report.cycle, report.outcome) == (1, "promoted")


@pytest.mark.parametrize("step", ["policy", "dream", "mix", "train"])
def test_a_night_that_another_version_began_ends_as_failed_and_says_so(house: House, step: str) -> None:
    run_until(house, "choose", NEW)
    note_otherwise(house, step)
    report = house.night()
    assert (report.cycle, report.outcome, house.serving()) == (1, "failed", None)
    assert "an update of sleepy-coder changed" in report.reason and step in report.reason
    after = house.night()
    assert (after.cycle, after.outcome) == (2, "promoted")


def test_a_night_that_fails_unloads_its_candidate(house: House) -> None:
    run_until(house, "gate", NEW)
    assert house.server.roots
    note_otherwise(house, "mix")
    assert house.night().outcome == "failed"
    assert not house.server.roots


def test_an_unfinished_night_is_ended_by_hand_and_its_candidate_is_unloaded(house: House) -> None:
    run_until(house, "gate", NEW)
    assert house.server.roots
    report = by_hand(house)
    assert (report.cycle, report.outcome, report.reason) == (1, "failed", "abandoned by hand")
    assert not house.server.roots
    assert house.open().store.night(1) == report
    assert house.night().cycle == 2


def test_a_night_is_ended_by_hand_without_a_model_server(house: House) -> None:
    run_until(house, "gate", NEW)
    house.server.reachable = False
    assert by_hand(house).outcome == "failed"


def test_what_serves_stays_loaded_when_the_night_that_promoted_it_is_abandoned(house: House) -> None:
    house.night()
    served = house.serving()
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as store, store:
        store.execute("UPDATE nights SET payload = NULL, outcome = NULL")  # it was killed before it was closed
    assert by_hand(house).serving == served
    assert served in house.server.roots


def test_no_night_is_ended_where_none_is_unfinished(house: House) -> None:
    with pytest.raises(SleepyError, match="no night is unfinished"):
        by_hand(house)
    assert house.open().store.nights() == ()


def test_no_night_is_ended_while_it_runs(house: House) -> None:
    class Impatient(Quiet):
        def phase(self, name: str) -> None:
            if name == "train":
                with pytest.raises(AlreadyRuns, match="another process runs a night"):
                    by_hand(house)

    assert house.night(watcher=Impatient()).outcome == "promoted"


def test_a_night_that_was_over_just_before_is_not_abandoned(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    run_until(house, "gate", NEW)

    def late(lock: Path) -> AbstractContextManager[None]:
        assert house.night().outcome == "promoted"
        return alone(lock)

    monkeypatch.setattr("sleepy_coder.abandon.alone", late)
    with pytest.raises(SleepyError, match="no night is unfinished"):
        by_hand(house)
    assert [night.outcome for night in house.open().store.nights()] == ["promoted"]


@pytest.mark.parametrize(("home", "cycle"), [("elsewhere", 1), (".", 7)])
def test_what_another_home_or_night_loaded_stays_loaded_when_a_night_is_abandoned(
    house: House, home: str, cycle: int
) -> None:
    run_until(house, "gate", NEW)
    name = adapter_name(cycle, "0" * 64)
    house.server.hold(name, (house.home.parent if home == "elsewhere" else house.home) / home / "adapters" / name, ())
    by_hand(house)
    assert list(house.server.roots) == [name]


def test_what_a_rollback_goes_to_stays_loaded_when_the_night_that_promoted_it_is_abandoned(house: House) -> None:
    house.night()
    served = house.serving()
    home = house.open()
    home.registry.activate(stage(home.registry, write_trained(house.home / "other", lora(9)), home.base.path, 2).name)
    with closing(sqlite3.connect(house.home / "state" / "sleepy.db")) as store, store:
        store.execute("UPDATE nights SET payload = NULL, outcome = NULL")
    by_hand(house)
    assert served in house.server.roots


@pytest.mark.parametrize("step", STEPS)
def test_a_night_killed_at_any_step_can_be_abandoned(house: House, step: str) -> None:
    run_until(house, step, NEW)
    assert by_hand(house).cycle == 1
    assert house.night().outcome == "promoted"
