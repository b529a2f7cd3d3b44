"""In the shadow: the nights' replay against what served before, and the drill. No user is ever asked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import (
    BASE,
    DAY,
    FROZEN,
    REHEARSAL,
    UNLIKE,
    FakeClock,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    live_a_day,
    make_episode,
    make_task,
    parts,
    solver,
    tasks_of,
)
from test_registry import lora, stage, write_trained

from sleepy_coder import log
from sleepy_coder.canary import last_state, replay_log_e
from sleepy_coder.config import CanarySettings
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.drill import complaint, drill, drill_if_due
from sleepy_coder.errors import AlreadyRuns, NightPaused, ServerError, ServerUnreachable
from sleepy_coder.nap_files import Nap, NapFiles
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.shadow import answers, watch
from sleepy_coder.store import Store
from sleepy_coder.store_shadow import Replayed
from sleepy_coder.tidy import tidy
from sleepy_coder.types import Adapter, AdapterState, NightReport, Outcome

SKILLS = (*DAY[:30], *REHEARSAL[:20])
LATER = UNLIKE[:35]
"""Tasks that are met after the first promotion."""


class House:
    """A home whose first night was promoted; `others` is what only the base can do."""

    def __init__(self, home: Path, others: range | tuple[int, ...] = ()) -> None:
        self.home = home
        self.server = FakeServer(solver((*FROZEN[:30], *SKILLS, *others), DAY[30:40:2]))
        self._open: list[Parts] = []
        live_a_day(self.open(), DAY[:40])
        assert self.night().outcome == "promoted"

    def open(self, **others: Any) -> Parts:
        trainer = FakeTrainer((*FROZEN[:45], *SKILLS))
        self._open.append(parts(self.home, self.server, trainer, **others))
        return self._open[-1]

    def night(self, **others: Any) -> NightReport:
        return run_night(self.open(**others))

    def close(self) -> None:
        for house in self._open:
            house.store.close()


@pytest.fixture
def homes() -> Iterator[list[House]]:
    made: list[House] = []
    yield made
    for house in made:
        house.close()


def house(homes: list[House], home: Path, others: range | tuple[int, ...] = ()) -> House:
    homes.append(House(home, others))
    return homes[-1]


def test_a_night_rolls_back_what_does_worse_on_the_day_s_tasks_before_it_trains(
    homes: list[House], tmp_path: Path
) -> None:
    home = house(homes, tmp_path, LATER)
    now = home.open()
    bad = now.registry.active()
    assert bad is not None
    live_a_day(now, LATER, "second")
    report = home.night()
    trial = now.store.canaries()[0]
    assert (trial.stage, len(now.store.replayed(trial.id))) == ("rolled_back", 20)
    assert "does better on the same tasks" in trial.why
    assert now.registry.get(bad.name).state is AdapterState.QUARANTINED
    assert now.registry.manifest(report.candidate or "").parent is None


def test_rows_of_a_rolled_back_night_are_not_replayed_and_its_episodes_stay_used_up(
    homes: list[House], tmp_path: Path
) -> None:
    home = house(homes, tmp_path)
    now = home.open()
    used = now.store.count_episodes() - now.store.count_episodes(unused=True)
    assert used > 0 and now.store.examples(cycles=[1])
    now.registry.rollback()
    live_a_day(now, LATER, "second")
    report = home.night()
    assert report.counts["replay"] <= 20  # the anchors
    assert now.store.count_episodes() - now.store.count_episodes(unused=True) >= used


def test_where_both_do_as_well_nothing_is_rolled_back_and_the_evidence_adds_up(
    homes: list[House], tmp_path: Path
) -> None:
    home = house(homes, tmp_path)
    now = home.open()
    before = now.registry.active()
    live_a_day(now, LATER[:10], "second")
    home.night()
    live_a_day(now, LATER[10:20], "third")
    home.night()
    state = last_state(now.store, now.config.canary)
    assert state is not None and before is not None
    assert (state.trial.adapter, state.trial.stage) == (before.name, "split")
    assert state.evidence.replayed == 20 and state.evidence.replay_e == pytest.approx(1.0)


def test_tasks_of_before_the_promotion_are_not_replayed(homes: list[House], tmp_path: Path) -> None:
    """What serves may have been trained on them."""
    home = house(homes, tmp_path)
    now = home.open()
    live_a_day(now, DAY[:40], "the same again")
    home.night()
    state = last_state(now.store, now.config.canary)
    assert state is not None and state.evidence.replayed == 0


def test_tasks_that_are_too_close_to_what_was_trained_on_are_not_replayed(homes: list[House], tmp_path: Path) -> None:
    home = house(homes, tmp_path)
    now = home.open()
    live_a_day(now, (*DAY[40:45], *LATER[:5]), "second")
    home.night()
    replayed = now.store.replayed(now.store.canaries()[0].id)
    assert {one.task for one in replayed} == {task.id for task in tasks_of(LATER[:5])}


def test_a_near_copy_of_what_an_earlier_night_replayed_is_not_replayed(tmp_path: Path) -> None:
    one, copy, other = (make_episode(number, Outcome.PASS) for number in (1, 2, 3))
    assert one.task and copy.task and other.task
    copy = copy.model_copy(update={"task": copy.task.model_copy(update={"cluster": one.task.cluster})})
    with closing(Store(tmp_path / "s.db")) as store:
        store.save_episodes([one, copy, other])
        store.save_replayed("canary", 1, [Replayed(task=one.task.id, served=1.0, previous=0.0)])
        assert store.unreplayed("canary", 0, 3, 10, seed=0) == (other.task,)


def test_of_several_tasks_of_one_cluster_one_is_replayed(tmp_path: Path) -> None:
    first, second, other = (make_episode(number, Outcome.PASS) for number in (1, 2, 3))
    alike = make_task(2).model_copy(update={"cluster": make_task(1).cluster})
    with Store(tmp_path / "store.db") as store:
        store.save_episodes([first, second.model_copy(update={"task": alike}), other])
        found = store.unreplayed("canary", 0, store.position(), 10, seed=1)
    assert sorted(task.cluster for task in found) == ["c1", "c3"]


def test_a_task_that_the_machine_fails_on_is_left_out_for_both(homes: list[House], tmp_path: Path) -> None:
    home = house(homes, tmp_path, LATER)
    now = home.open()
    live_a_day(now, LATER[:10], "second")
    blind = {task.id: 1000 for task in tasks_of(LATER[:10])}
    home.night(verifier=FakeVerifier(blind=blind))
    state = last_state(now.store, now.config.canary)
    assert state is not None and state.evidence.replayed == 0


def second_promotion(home: House, tmp_path: Path) -> tuple[Parts, Adapter]:
    """Another adapter serves, and has lived through a day; what served before it."""
    now = home.open()
    first = now.registry.active()
    assert first is not None
    trained = write_trained(tmp_path / "trained", lora(9), solves=[*FROZEN[:45], *SKILLS])
    second = now.registry.activate(stage(now.registry, trained, now.base.path, 2, first.name).name)
    ensure_loaded(now.registry, home.server, second, now.prover)
    watch(now)
    live_a_day(now, LATER[:10], "second")
    return now, first


def failing_at(home: House, name: str, error: ServerError) -> Callable[[str, Path], None]:
    """The server's `load`, which fails of this adapter."""
    load = home.server.load

    def fails(asked: str, path: Path) -> None:
        if asked == name:
            raise error
        load(asked, path)

    return fails


def test_what_served_before_and_is_refused_by_the_server_costs_the_replay_and_not_the_night(
    homes: list[House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = house(homes, tmp_path)
    now, first = second_promotion(home, tmp_path)
    refusal = ServerError("LoRA rank 16 is greater than max_lora_rank 8", status=400)
    monkeypatch.setattr(home.server, "load", failing_at(home, first.name, refusal))
    home.server.restart()
    log.set_up()
    assert home.night().outcome != "failed"
    assert now.store.replayed(now.store.canaries()[-1].id) == ()
    assert f"{first.name} cannot be loaded" in capsys.readouterr().err


def test_a_server_that_refuses_what_serves_leaves_the_night_open(
    homes: list[House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house(homes, tmp_path)
    second_promotion(home, tmp_path)

    def refusing(name: str, path: Path) -> None:
        raise ServerError("LoRA is not enabled", status=404)

    monkeypatch.setattr(home.server, "load", refusing)
    home.server.restart()
    with pytest.raises(ServerError, match="LoRA is not enabled"):
        home.night()


def test_what_served_before_and_is_damaged_now_costs_the_replay_and_not_the_night(
    homes: list[House], tmp_path: Path
) -> None:
    home = house(homes, tmp_path)
    now, first = second_promotion(home, tmp_path)
    (first.path / "adapter_model.safetensors").write_bytes(b"damaged")
    assert home.night().outcome != "failed"
    trial = now.store.canaries()[-1]
    assert (trial.previous, trial.stage, now.store.replayed(trial.id)) == (first.name, "split", ())


def test_a_server_that_is_gone_costs_no_night_its_replay(
    homes: list[House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house(homes, tmp_path)
    now, first = second_promotion(home, tmp_path)
    gone = ServerUnreachable("nobody answered", "start the model server")
    home.server.restart()
    with monkeypatch.context() as away:
        away.setattr(home.server, "load", failing_at(home, first.name, gone))
        with pytest.raises(ServerUnreachable):
            home.night()
    home.night()
    assert len(now.store.replayed(now.store.canaries()[-1].id)) == 10


def test_both_answer_a_replay_at_its_own_temperature(homes: list[House], tmp_path: Path) -> None:
    home = house(homes, tmp_path)
    now = home.open()
    home.server.asked.clear()
    answers(now, (now.registry.serving(BASE), BASE), tasks_of(LATER[:2]), 1)
    assert {call.temperature for call in home.server.asked} == {now.config.canary.shadow_temperature}


def test_which_of_both_answers_first_is_drawn_for_each_few_tasks(homes: list[House], tmp_path: Path) -> None:
    home = house(homes, tmp_path)
    now = home.open()
    serving = now.registry.active()
    assert serving is not None
    firsts: list[str] = []
    for seed in range(4):
        start = len(home.server.asked)
        pair = answers(now, (serving.name, BASE), tasks_of(LATER[:10]), seed)
        assert [report.model for report in pair] == [serving.name, BASE]
        assert [len(report.samples) for report in pair] == [10 * now.config.canary.shadow_samples] * 2
        asked = [call.model for call in home.server.asked[start:]]
        firsts += [asked[0], asked[len(asked) // 2]]
    assert set(firsts) == {serving.name, BASE}


@pytest.mark.parametrize("canary", [{"shadow_tasks": 0}, {"enabled": False}])
def test_it_can_be_switched_off(homes: list[House], tmp_path: Path, canary: dict[str, Any]) -> None:
    home = house(homes, tmp_path, LATER)
    now = home.open()
    before = now.registry.active()
    live_a_day(now, LATER, "second")
    home.night(canary=CanarySettings(**canary))
    assert before is not None and now.registry.get(before.name).state is not AdapterState.QUARANTINED


def test_nights_of_adapters_that_are_alike_raise_a_false_alarm_in_less_than_one_in_twenty() -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        chance = rng.beta(1, 1, size=300)  # fifteen nights of twenty tasks
        served, previous = (rng.binomial(4, chance) / 4 for _ in range(2))
        rows = [
            Replayed(task=str(n), served=a, previous=b) for n, (a, b) in enumerate(zip(served, previous, strict=True))
        ]
        alarms += any(replay_log_e(rows[:night]) >= math.log(20) for night in range(20, 301, 20))
    assert alarms / 400 <= 0.05


# The drill


def drilled(home: Path, server: FakeServer) -> Parts:
    return parts(home, server, FakeTrainer())


def test_a_broken_adapter_is_caught_by_both_tests_and_leaves_nothing_behind(tmp_path: Path) -> None:
    server = FakeServer(solver((*FROZEN[:30], *SKILLS)))
    now = drilled(tmp_path, server)
    mark = now.registry.pointer_mark()
    held = drill(now)
    assert held.caught and held.reason == ""
    assert min(held.replay, held.sessions) >= 20
    assert [model.name for model in server.models()] == [BASE]
    assert not list(now.config.adapters.glob("drill-*"))
    assert now.registry.pointer_mark() == mark
    assert now.store.last_drill() == held
    now.store.close()


def test_a_test_that_catches_nothing_is_a_drill_that_failed(tmp_path: Path) -> None:
    now = drilled(tmp_path, FakeServer(solver(())))  # what serves is no better than what is broken
    held = drill(now)
    assert not held.caught and "passes 0%" in held.reason
    now.store.close()


@pytest.mark.parametrize("test", ["replay_log_e", "log_e"])
def test_a_drill_that_only_one_of_both_tests_catches_has_failed(
    tmp_path: Path, test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = drilled(tmp_path, FakeServer(solver((*FROZEN[:30], *SKILLS))))
    monkeypatch.setattr(f"sleepy_coder.drill.{test}", lambda found: 0.0)
    held = drill(now)
    assert not held.caught and "E " in held.reason
    now.store.close()


def test_a_server_that_takes_no_adapter_is_a_drill_that_failed(tmp_path: Path) -> None:
    class Refusing(FakeServer):
        def load(self, name: str, path: Path) -> None:
            raise ServerError("LoRA is not enabled", status=404)

    now = drilled(tmp_path, Refusing(solver(SKILLS)))
    held = drill(now)
    assert (held.caught, held.reason) == (False, "LoRA is not enabled")
    now.store.close()


def test_what_a_restart_made_the_server_forget_is_loaded_for_the_drill(tmp_path: Path) -> None:
    server = FakeServer(solver(()))
    now = drilled(tmp_path, server)
    trained = write_trained(tmp_path / "trained", lora(9), solves=[*FROZEN[:30], *SKILLS])
    serving = now.registry.activate(stage(now.registry, trained, now.base.path).name)
    assert drill(now).caught
    assert list(server.roots) == [serving.name]
    now.store.close()


def test_a_drill_that_the_curfew_ends_says_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    server, clock = FakeServer(solver((*FROZEN[:30], *SKILLS))), FakeClock()
    now = parts(tmp_path, server, FakeTrainer(), clock=clock, until=clock.time)
    with pytest.raises(NightPaused):
        drill(now)
    assert now.store.last_drill() is None
    assert [model.name for model in server.models()] == [BASE]
    now.store.close()


def test_a_drill_that_a_nap_befalls_is_none_that_failed(tmp_path: Path) -> None:
    class Napping(FakeServer):
        def load(self, name: str, path: Path) -> None:
            NapFiles(now.config.state).begin(Nap(why="train", since=now.clock.now(), pid=1))
            raise ServerUnreachable("it sleeps")

    now = drilled(tmp_path, Napping(solver(SKILLS)))
    for _ in range(2):
        with pytest.raises(AlreadyRuns, match="sleeps while a night trains"):
            drill(now)
    assert now.store.last_drill() is None
    now.store.close()


def test_what_killed_drills_and_doctors_left_a_day_ago_is_cleared_away_after_a_night(tmp_path: Path) -> None:
    server = FakeServer(solver(()))
    now = drilled(tmp_path, server)
    moment = now.clock.now().timestamp()
    for name, age in (("drill-0123abcd", 2), ("doctor-0123abcd", 2), ("drill-aaaaaaaa", 0.5), ("drill-mine", 2)):
        folder = now.config.adapters / name
        folder.mkdir()
        server.hold(name, folder, ())
        os.utime(folder, (moment, moment - age * 86400))
    server.hold("drill-bbbbbbbb", tmp_path / "elsewhere" / "drill-bbbbbbbb", ())
    tidy(now)
    assert set(server.roots) == {"drill-aaaaaaaa", "drill-mine", "drill-bbbbbbbb"}
    assert sorted(path.name for path in now.config.adapters.glob("d*")) == ["drill-aaaaaaaa", "drill-mine"]
    now.store.close()


def test_drills_come_by_themselves_once_a_week_and_again_after_one_that_failed(tmp_path: Path) -> None:
    server = FakeServer(solver(()))
    now = drilled(tmp_path, server)
    assert drill_if_due(now) is None  # nothing was promoted yet
    now.store.begin_canary("p", "sc-0001-aaaaaaaa", BASE, 0.5, now.clock.now())
    failed = drill_if_due(now)
    assert failed is not None and not failed.caught
    server.answers[BASE] = solver((*FROZEN[:30], *SKILLS))
    again = drill_if_due(now)
    assert again is not None and again.caught
    assert drill_if_due(now) is None
    now.clock.sleep(timedelta(days=7).total_seconds())
    assert drill_if_due(now) is not None
    now.store.close()


def test_a_drill_that_is_dated_ahead_by_a_clock_that_was_wrong_is_complained_of_and_due(tmp_path: Path) -> None:
    now = drilled(tmp_path, FakeServer(solver((*FROZEN[:30], *SKILLS))))
    now.store.begin_canary("p", "sc-0001-aaaaaaaa", BASE, 0.5, now.clock.now())
    ahead = drill(now).model_copy(update={"at": now.clock.now() + timedelta(days=3000)})
    now.store.save_drill(ahead)
    assert "the clock was wrong" in complaint(ahead, 1, now.clock.now(), 7)
    held = drill_if_due(now)
    assert held is not None and complaint(held, 1, held.at, 7) == ""
    now.store.close()


def test_what_is_wrong_with_the_drills_is_said(tmp_path: Path) -> None:
    now = drilled(tmp_path, FakeServer(solver((*FROZEN[:30], *SKILLS))))
    held = drill(now)
    assert complaint(None, 0, held.at, 7) == ""
    assert complaint(None, 1, held.at, 7) == "no drill was held yet"
    assert complaint(held, 1, held.at + timedelta(days=8), 7) == ""
    assert complaint(held, 1, held.at + timedelta(days=9), 7) == "the last drill was held 9 days ago"
    missed = held.model_copy(update={"caught": False, "reason": "it was asleep"})
    assert complaint(missed, 1, held.at, 7) == "the last drill failed: it was asleep"
    now.store.close()


def test_drills_are_missed_by_as_often_as_they_are_wanted(tmp_path: Path) -> None:
    now = drilled(tmp_path, FakeServer(solver((*FROZEN[:30], *SKILLS))))
    held = drill(now)
    assert complaint(held, 1, held.at + timedelta(days=31), 30) == ""
    assert complaint(held, 1, held.at + timedelta(days=32), 30) == "the last drill was held 32 days ago"
    assert complaint(None, 1, held.at, 0) == complaint(held, 1, held.at + timedelta(days=999), 0) == ""
    missed = held.model_copy(update={"caught": False, "reason": "it was asleep"})
    assert complaint(missed, 1, held.at, 0) == "the last drill failed: it was asleep"
    now.store.close()
