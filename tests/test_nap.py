"""The nap: the server sleeps only while a night trains, and is awake again whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import TinyServer
from fakes import BASE, DAY, FROZEN, REHEARSAL, FakeClock, FakeServer, FakeTrainer, live_a_day, parts, solver
from test_store_exchanges import exchange

from sleepy_coder.config import Config, NightSettings
from sleepy_coder.errors import AdapterError, NightPaused, ServerError, ServerUnreachable, TrainingError, TrainingPaused
from sleepy_coder.journal import alone
from sleepy_coder.nap import Waker, undisturbed
from sleepy_coder.nap_files import Nap, NapFiles
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.ports import ModelServer
from sleepy_coder.registry import Registry
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.gateway_client import GatewayState
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import Adapter, Recipe, TrainingMix

SHARED = NightSettings(share_gpu=True, quiet_minutes=1, drain_seconds=30)
SKILLS = (*DAY[:30], *REHEARSAL[:20])
Pause = Callable[[], bool]


class Used(FakeServer):
    """A server with `requests` in flight, which end one by one as they are looked at; what was done to it."""

    def __init__(self, requests: int = 0) -> None:
        super().__init__(solver((*FROZEN[:30], *SKILLS), DAY[30:40:2]))
        self.requests = requests
        self.wakes = True
        self.did: list[str] = []

    def busy(self) -> int:
        self.requests = max(self.requests - 1, 0)
        return self.requests

    def sleep(self, level: int = 1) -> None:
        super().sleep(level)
        self.did.append(f"sleep {level}")

    def wake_up(self) -> None:
        if not self.wakes:
            raise ServerError("/wake_up answered 500", "look at the log", 500)
        super().wake_up()
        self.did.append("wake")


class Restarted(Used):
    """Wakes by its restart only, which a file tells of."""

    def __init__(self, sign: Path) -> None:
        super().__init__()
        self.wakes, self._sign = False, sign

    def models(self) -> Any:
        if self._sign.exists():
            self.sleeping = False
        return super().models()


class Home:
    """Parts that share a GPU, with the files between the night and the gateway."""

    def __init__(self, home: Path) -> None:
        self.home, self.server, self.clock = home, Used(), FakeClock()
        self._open: list[Parts] = []

    def open(self, trainer: Any = None, night: NightSettings = SHARED, **others: Any) -> Parts:
        chosen = trainer or FakeTrainer((*FROZEN[:45], *SKILLS))
        made = parts(self.home, self.server, chosen, clock=self.clock, night=night, **others)
        self._open.append(made)
        return made

    def restarts(self, night: NightSettings = SHARED) -> Parts:
        """Parts with a command that brings the server back, which says so by a file."""
        command = (sys.executable, "-c", f"open({str(self.home / 'restarted')!r}, 'w')")
        made = self.open()
        server = made.config.server.model_copy(update={"restart_command": command})
        return replace(made, config=made.config.model_copy(update={"server": server, "night": night}))

    @property
    def files(self) -> NapFiles:
        return NapFiles(self.home / "state")

    def close(self) -> None:
        for made in self._open:
            made.store.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def left_behind(files: NapFiles) -> None:
    files.lock.parent.mkdir(parents=True, exist_ok=True)
    files.begin(Nap(why="night 1 trains", since=datetime(2026, 11, 24, tzinfo=UTC), pid=1))


# While the night works


def test_the_server_sleeps_while_work_is_done_and_is_awake_after_it(house: Home) -> None:
    seen: list[tuple[bool, bool]] = []

    def work(pause: Pause) -> str:
        seen.append((house.server.sleeping, house.files.mark() is not None))
        return "done"

    assert undisturbed(house.open(), "test", work) == "done"
    assert seen == [(True, True)]
    assert (house.server.did, house.files.mark()) == (["sleep 1", "wake"], None)


def test_without_a_shared_gpu_the_server_stays_awake(house: Home) -> None:
    undisturbed(house.open(night=NightSettings()), "test", lambda pause: None)
    assert house.server.did == []


def test_the_server_is_awake_again_after_a_failed_training(house: Home) -> None:
    def fails(pause: Pause) -> None:
        raise TrainingError("out of memory")

    with pytest.raises(TrainingError):
        undisturbed(house.open(), "test", fails)
    assert (house.server.sleeping, house.files.mark()) == (False, None)


def test_a_whole_night_naps_once_and_evaluates_awake(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    assert run_night(house.open()).outcome == "promoted"
    assert house.server.did == ["sleep 1", "wake"]


def test_requests_in_flight_end_before_the_server_sleeps(house: Home) -> None:
    house.server.requests = 5
    left: list[int] = []
    undisturbed(house.open(), "test", lambda pause: left.append(house.server.requests))
    assert left == [0]


def through(requests: int, held: int = 0) -> GatewayState:
    """What a gateway says that has let `requests` through."""
    return GatewayState(
        alias="sleepy",
        serving=BASE,
        in_flight={BASE: requests},
        servers={},
        asleep=False,
        held=held,
        recording=True,
        waiting=0,
    )


def test_what_the_gateway_has_let_through_ends_before_the_server_sleeps_and_what_it_holds_waits(
    house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [through(2), through(1), through(0, held=3)]
    left: list[int] = []
    monkeypatch.setattr("sleepy_coder.idle.gateway_state", lambda _: said.pop(0) if len(said) > 1 else said[0])
    undisturbed(house.open(), "test", lambda pause: left.append(len(said)))
    assert left == [1]


def test_work_goes_on_when_the_gateway_too_has_been_quiet_for_long_enough(
    house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[datetime] = []
    ends = house.clock.time + timedelta(minutes=10)

    def passes(_: object) -> GatewayState:
        return through(int(len(began) == 1 and house.clock.time < ends))

    def work(pause: Pause) -> None:
        began.append(house.clock.now())
        if len(began) == 1:
            raise TrainingPaused("paused")

    monkeypatch.setattr("sleepy_coder.idle.gateway_state", passes)
    undisturbed(house.open(), "test", work)
    assert began[1] - ends >= timedelta(minutes=1)


def test_a_wish_pauses_the_work_which_goes_on_after_quiet_minutes(house: Home) -> None:
    began: list[datetime] = []

    def work(pause: Pause) -> str:
        began.append(house.clock.now())
        if len(began) == 1:
            assert not pause()
            house.files.wish()
            assert pause()
            raise TrainingPaused("paused")
        assert not pause()
        return "done"

    assert undisturbed(house.open(), "test", work) == "done"
    assert house.server.did == ["sleep 1", "wake", "sleep 1", "wake"]
    assert began[1] - began[0] >= timedelta(minutes=1)


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(days=365)])
def test_an_exchange_from_while_the_clock_was_ahead_keeps_no_work_waiting(house: Home, ahead: timedelta) -> None:
    began: list[datetime] = []
    home = house.open()
    home.store.save_exchanges([exchange("x").model_copy(update={"started": house.clock.now() + ahead})])

    def work(pause: Pause) -> None:
        began.append(house.clock.now())
        if len(began) == 1:
            raise TrainingPaused("paused")

    undisturbed(home, "test", work)
    assert timedelta(minutes=1) <= began[1] - began[0] < timedelta(minutes=2)


def test_a_clock_that_is_set_back_while_quiet_is_waited_for_keeps_no_work_waiting(
    house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[datetime] = []
    before = house.clock.now()

    def set_back() -> int:
        monkeypatch.undo()
        house.clock.time -= timedelta(days=365)
        return 0

    def work(pause: Pause) -> None:
        began.append(house.clock.now())
        if len(began) == 1:
            monkeypatch.setattr(house.server, "busy", set_back)
            raise TrainingPaused("paused")

    undisturbed(house.open(), "test", work)
    assert before - timedelta(days=365) < began[1] < before - timedelta(days=364)


def test_a_server_that_stays_in_use_is_not_put_to_sleep_until_it_is_quiet(house: Home) -> None:
    house.server.requests = 60  # looked at every second or so: more than the 30 that are waited for
    undisturbed(house.open(), "test", lambda pause: None)
    assert (house.server.did, house.server.requests) == (["sleep 1", "wake"], 0)


def test_the_adapter_that_serves_is_loaded_again_when_the_nap_lost_it(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    served = run_night(house.open()).serving
    undisturbed(house.open(), "test", lambda pause: house.server.restart())
    assert served in house.server.roots


def test_a_server_that_does_not_wake_is_restarted(house: Home) -> None:
    house.server = Restarted(house.home / "restarted")
    undisturbed(house.restarts(), "test", lambda pause: None)
    assert (house.server.sleeping, house.files.mark()) == (False, None)


def test_a_sleep_that_drops_the_weights_ends_with_a_restart_and_not_with_a_wake(house: Home) -> None:
    house.server = Restarted(house.home / "restarted")
    deep = SHARED.model_copy(update={"sleep_level": 2})
    undisturbed(house.restarts(deep), "test", lambda pause: None)
    assert (house.server.did, house.server.sleeping) == (["sleep 2"], False)


def test_a_server_that_wakes_without_the_effect_of_its_adapter_opens_the_gateway_again(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    served = run_night(house.open()).serving
    with pytest.raises(AdapterError):
        undisturbed(house.open(), "test", lambda pause: house.server.not_applied.add(served))
    assert (house.server.sleeping, house.files.mark()) == (False, None)


def test_a_server_that_wakes_without_the_effect_of_its_adapter_is_restarted_where_that_is_possible(house: Home) -> None:
    sign = house.home / "restarted"

    class Mended(Used):
        def models(self) -> Any:
            if sign.exists():
                self.not_applied.clear()
            return super().models()

    house.server = Mended()
    live_a_day(house.open(), DAY[:40])
    served = run_night(house.open()).serving
    undisturbed(house.restarts(), "test", lambda pause: house.server.not_applied.add(served))
    assert (sign.exists(), house.files.mark()) == (True, None)


def test_a_server_that_does_not_wake_keeps_the_gateway_closed_and_the_night_open(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    house.server.wakes = False
    with pytest.raises(ServerError, match="wake_up"):
        run_night(house.open())
    assert house.files.mark() is not None
    house.server.wakes = True
    report = run_night(house.open())
    assert (report.cycle, report.outcome, house.files.mark()) == (1, "promoted", None)


# A curfew


def test_after_the_curfew_neither_an_answer_nor_a_likelihood_is_asked_for(house: Home) -> None:
    server = house.open(until=house.clock.time).punctual
    with pytest.raises(NightPaused):
        server.chat(BASE, ())
    with pytest.raises(NightPaused):
        server.nll(BASE, (), "1|x")


class Slow(FakeTrainer):
    """Trains until it is asked to pause, and on the next call to the end."""

    def train(
        self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path, pause: Pause = lambda: False
    ) -> Path:
        if not self.runs:
            self.runs.append((mix, parent, recipe))
            while not pause():
                pass
            raise TrainingPaused("paused")
        return super().train(mix, parent, recipe, workdir)


@pytest.mark.parametrize("night", [SHARED, NightSettings()], ids=["shared", "own"])
def test_training_stops_when_the_window_closes_and_the_next_night_goes_on(house: Home, night: NightSettings) -> None:
    live_a_day(house.open(), DAY[:40])
    trainer = Slow((*FROZEN[:45], *SKILLS))
    with pytest.raises(NightPaused):
        run_night(house.open(trainer, night, until=house.clock.now() + timedelta(hours=1)))
    home = house.open()
    assert (home.store.unfinished_night(), house.server.sleeping, house.files.mark()) == (1, False, None)
    report = run_night(house.open(trainer, night))
    assert (report.cycle, report.outcome) == (1, "promoted")
    assert trainer.runs[0] == trainer.runs[1]


def test_evaluation_stops_between_two_samples_and_keeps_the_finished_arms(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    before = len(house.server.asked)
    with pytest.raises(NightPaused):
        run_night(house.open(until=house.clock.now() + timedelta(seconds=170)))
    asked = len(house.server.asked) - before
    assert 100 <= asked <= 175
    report = run_night(house.open())
    assert report.outcome == "promoted"
    assert {phase.name: phase.resumed for phase in report.phases}["evaluate-baseline"]


def test_a_window_that_closed_while_dreaming_begins_no_training(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    trainer = FakeTrainer()
    with pytest.raises(NightPaused):
        run_night(house.open(trainer, until=house.clock.now()))
    assert (trainer.runs, house.open().store.unfinished_night()) == ([], 1)


# What a killed night leaves behind


def recovered(home: Path, server: ModelServer) -> bool:
    (home / "adapters").mkdir(exist_ok=True)
    prover = Prover(home / "state" / "fingerprints", BASE, 0.01)
    return Waker(Config(home=home), Registry(home / "adapters", FakeClock()), server, prover, FakeClock()).recover()


def test_a_nap_without_its_night_is_ended(house: Home) -> None:
    left_behind(house.files)
    house.server.sleep()
    assert recovered(house.home, house.server)
    assert (house.server.sleeping, house.files.mark()) == (False, None)
    assert not recovered(house.home, house.server)


def test_a_nap_whose_night_is_alive_is_left_alone(house: Home) -> None:
    left_behind(house.files)
    house.server.sleep()
    with alone(house.files.lock):
        assert not recovered(house.home, house.server)
    assert house.server.sleeping and house.files.mark() is not None


def test_a_nap_stays_while_the_server_cannot_be_woken(house: Home) -> None:
    left_behind(house.files)
    house.server.reachable = False
    with pytest.raises(ServerUnreachable):
        recovered(house.home, house.server)
    assert house.files.mark() is not None


def test_the_next_night_wakes_a_server_that_a_killed_one_left_asleep(house: Home) -> None:
    live_a_day(house.open(), DAY[:40])
    left_behind(house.files)
    house.server.sleep()
    assert run_night(house.open()).outcome == "promoted"
    assert house.files.mark() is None


NAPS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from fakes import FakeTrainer, parts
from sleepy_coder import log
from sleepy_coder.config import NightSettings
from sleepy_coder.journal import alone
from sleepy_coder.nap import undisturbed
from sleepy_coder.serve.client import VllmClient

log.set_up()

def work(pause):
    print("asleep", flush=True)
    sys.stdin.read()

home = Path(sys.argv[1])
house = parts(home, VllmClient(sys.argv[2]), FakeTrainer(), night=NightSettings(share_gpu=True))
with alone(house.config.state / "night.lock"):
    undisturbed(house, "test", work)
"""


@pytest.mark.slow
def test_a_real_server_is_woken_after_its_night_was_killed(tmp_path: Path, tiny_server: TinyServer) -> None:
    argv = [sys.executable, "-c", NAPS, str(tmp_path), tiny_server.url, str(Path(__file__).parent)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as night:
        assert night.stdout is not None
        assert night.stdout.readline() == "asleep\n"
        with VllmClient(tiny_server.url) as client:
            assert client.asleep()
            assert not recovered(tmp_path, client)
            os.kill(night.pid, signal.SIGKILL)
            night.wait()
            assert recovered(tmp_path, client)
            assert not client.asleep()
    assert not (tmp_path / "state" / "nap.json").exists()


def test_the_note_says_why_since_when_and_who(house: Home) -> None:
    noted: dict[str, Any] = {}
    undisturbed(
        house.open(), "night 7 trains", lambda _: noted.update(json.loads((house.home / "state/nap.json").read_text()))
    )
    assert (noted["why"], noted["pid"]) == ("night 7 trains", os.getpid())
    assert datetime.fromisoformat(noted["since"]).tzinfo is not None
