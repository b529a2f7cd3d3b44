"""Whether anybody needs the machine: what counts as idle, and what is not known counts as nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TinyServer
from fakes import FakeClock, FakeServer, says, settings, solver
from gateway_house import gateway_house, run
from hypothesis import given
from hypothesis import strategies as st
from test_store import episode
from test_store_exchanges import exchange

from sleepy_coder.config import GatewaySettings, NightSettings, ServerSettings
from sleepy_coder.idle import Idleness, Signals, _nvml_percent, decide, in_flight, look, wait_until_idle
from sleepy_coder.serve.gateway_client import GatewayState
from sleepy_coder.store import Store
from sleepy_coder.wiring import curfew, idleness

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
NIGHT = NightSettings(window="01:00-06:00", timezone="UTC", quiet_minutes=15, gpu_percent=10)
QUIET = NOW - timedelta(minutes=15)
IDLE = Signals(at=NOW, in_window=True, requests=0, in_flight=0, exchange=QUIET, episode=QUIET, gpu_percent=10)


def seen(**signals: Any) -> Idleness:
    return decide(IDLE.model_copy(update=signals), NIGHT)


def test_a_machine_that_nobody_needs_is_idle() -> None:
    assert (seen().idle, seen().waits_for) == (True, "")


@pytest.mark.parametrize(
    ("signals", "waits_for"),
    [
        ({"in_window": False}, "the window 01:00-06:00"),
        ({"requests": None}, "does not say"),
        ({"requests": 2}, "requests in flight (2)"),
        ({"in_flight": 3}, "requests in flight (3)"),
        ({"exchange": NOW - timedelta(minutes=14, seconds=59)}, "15 quiet minutes after the exchange of 02:45 UTC"),
        ({"episode": NOW - timedelta(minutes=14, seconds=59)}, "15 quiet minutes after the episode of 02:45 UTC"),
        ({"gpu_percent": 11}, "busy at 11%"),
    ],
)
def test_each_signal_alone_stands_against_a_night(signals: dict[str, Any], waits_for: str) -> None:
    assert not seen(**signals).idle
    assert waits_for in seen(**signals).waits_for


@pytest.mark.parametrize("name", ["in_flight", "exchange", "episode", "gpu_percent"])
def test_what_is_not_there_has_no_say(name: str) -> None:
    assert seen(**{name: None}).idle


@given(
    st.builds(
        Signals,
        at=st.just(NOW),
        in_window=st.booleans(),
        requests=st.none() | st.integers(0, 3),
        in_flight=st.none() | st.integers(0, 3),
        exchange=st.none() | st.integers(0, 30).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        episode=st.none() | st.integers(0, 30).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        gpu_percent=st.none() | st.integers(0, 100),
    )
)
def test_idle_is_when_nothing_stands_against_it(signals: Signals) -> None:
    found = decide(signals, NIGHT)
    assert found.idle is (not found.waits_for)
    if found.idle:
        assert signals.in_window and signals.requests == 0 and not signals.in_flight


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "sleepy.db") as opened:
        yield opened


def test_the_signals_are_read_from_server_store_and_clock(tmp_path: Path, store: Store) -> None:
    saved = exchange("one")
    store.save_exchanges([saved])
    store.save_episode(lately := episode("two"))
    config = settings(tmp_path, night=NIGHT)
    found = look(config, FakeServer(solver(())), store, FakeClock()).signals
    assert (found.in_window, found.requests, found.in_flight) == (True, 0, None)
    assert (found.exchange, found.episode) == (saved.started, lately.created)


def test_a_server_that_does_not_answer_is_not_idle(tmp_path: Path, store: Store) -> None:
    server = FakeServer(solver(()))
    server.reachable = False
    found = look(settings(tmp_path, night=NIGHT), server, store, FakeClock())
    assert (found.idle, found.signals.requests) == (False, None)


def test_the_gateway_tells_what_is_in_flight_to_who_has_its_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), api_key="a long key") as house:
            port = int(house.url.rpartition(":")[2])
            for key, known in (("a long key", 0), ("another key", None)):
                asked = GatewaySettings(port=port, api_key=key)
                assert await asyncio.to_thread(in_flight, asked) == known

    run(story)


def test_what_the_gateway_holds_counts_as_well_but_for_who_lets_it_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    said = GatewayState(
        alias="sleepy",
        serving="base",
        in_flight={"base": 2, "adapter": 1},
        servers={},
        asleep=True,
        held=4,
        recording=True,
        waiting=0,
    )
    monkeypatch.setattr("sleepy_coder.idle.gateway_state", lambda _: said)
    assert (in_flight(GatewaySettings()), in_flight(GatewaySettings(), held=False)) == (7, 3)


@pytest.mark.parametrize("name", ["exchange", "episode"])
def test_a_time_to_come_is_not_waited_for(name: str) -> None:
    assert seen(**{name: NOW + timedelta(days=400)}).idle


def test_waiting_says_each_reason_once_and_ends_when_nobody_is_there() -> None:
    answers = iter([seen(requests=1), seen(requests=1), seen(in_window=False), seen()])
    clock, said = FakeClock(), list[str]()
    began = clock.now()
    assert wait_until_idle(lambda: next(answers), clock, said.append).idle
    assert [("(1)" in line, "window" in line) for line in said] == [(True, False), (False, True)]
    assert clock.now() - began >= timedelta(minutes=3)


class Nvml(SimpleNamespace):
    """NVML with GPUs that compute at these percents."""

    class NVMLError(Exception):
        pass

    def __init__(self, *percents: int, fails: bool = False) -> None:
        super().__init__(percents=percents, fails=fails, open=0)

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fails:
            raise self.NVMLError
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.percents)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=self.percents[handle])


def test_the_busiest_gpu_counts_and_the_library_is_closed() -> None:
    library = Nvml(0, 97, 3)
    assert (_nvml_percent(library), library.open) == (97, 0)


def test_a_machine_without_a_driver_or_a_gpu_is_unknown() -> None:
    assert _nvml_percent(Nvml(fails=True)) is None
    assert _nvml_percent(Nvml()) is None


def test_a_night_that_waits_for_idleness_ends_at_the_end_of_its_window_and_another_does_not(tmp_path: Path) -> None:
    always = settings(tmp_path, night=NightSettings(window="00:00-00:00"))
    keeps = settings(tmp_path, night=NightSettings(window="00:00-00:00", stop_at_window_end=True))
    anytime = settings(tmp_path, night=NightSettings(window=""))
    assert curfew(always, when_idle=True) and curfew(keeps, when_idle=False)
    assert curfew(always, when_idle=False) is curfew(anytime, when_idle=True) is None


def test_every_model_server_is_asked_whether_it_is_in_use(tmp_path: Path, tiny_server: TinyServer) -> None:
    one = ServerSettings(url=tiny_server.url)
    two = one.model_copy(update={"replicas": ("http://127.0.0.1:9",)})  # which does not answer
    asked = [idleness(settings(tmp_path, server=server, night=NightSettings(window=""))) for server in (one, two)]
    assert [found.signals.requests for found in asked] == [0, None]
    assert [found.idle for found in asked] == [True, False]
