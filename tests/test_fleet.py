"""Several servers as one: what one of them refuses, none keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TinyServer
from fakes import BASE, FROZEN, FakeServer, make_task, solver
from test_registry import House

from sleepy_coder.config import ServerSettings
from sleepy_coder.deploy import ensure_loaded, held_by
from sleepy_coder.errors import AdapterError, ModelNotFound, ServerError, ServerUnreachable
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import Adapter, Message

ASKED = (
    Message(role="system", content=""),
    Message(role="user", content=make_task(FROZEN[0]).files["main.rs"]),
)


@pytest.fixture
def servers() -> list[FakeServer]:
    return [FakeServer(solver(()), f"http://fake-{number}") for number in range(3)]


@pytest.fixture
def fleet(servers: list[FakeServer]) -> Iterator[Fleet]:
    with closing(Fleet(servers)) as fleet:
        yield fleet


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def prover(tmp_path: Path) -> Prover:
    return Prover(tmp_path / "fingerprints", BASE, 0.01)


@pytest.fixture
def adapter(house: House) -> Adapter:
    return house.stage(1, solves=[1])


def holders(servers: list[FakeServer], name: str) -> list[int]:
    return [number for number, server in enumerate(servers) if name in server.roots]


def test_an_adapter_is_loaded_on_all_where_it_is_missing(
    house: House, fleet: Fleet, servers: list[FakeServer], prover: Prover, adapter: Adapter
) -> None:
    servers[1].load(adapter.name, adapter.path)
    ensure_loaded(house.registry, fleet, adapter, prover)
    assert [server.loads for server in servers] == [[adapter.name]] * 3


def test_what_one_cannot_load_none_keeps(
    house: House, fleet: Fleet, servers: list[FakeServer], prover: Prover, adapter: Adapter
) -> None:
    servers[2].reachable = False
    with pytest.raises(ServerUnreachable):
        ensure_loaded(house.registry, fleet, adapter, prover)
    assert holders(servers, adapter.name) == []


def test_what_a_server_says_when_it_refuses_to_load_is_heard(
    house: House, prover: Prover, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the server that failed, which may pass; an adapter's fault would not."""
    server = FakeServer(solver(()))

    def refuse(name: str, path: Path) -> None:
        raise ServerError("out of memory", status=500)

    monkeypatch.setattr(server, "load", refuse)
    with pytest.raises(ServerError, match="out of memory"):
        ensure_loaded(house.registry, server, adapter, prover)


def test_an_adapter_that_another_process_loads_in_the_same_moment_is_no_error(
    house: House, prover: Prover, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the keeper and a night may."""
    server = FakeServer(solver(()))
    load = server.load

    def too_late(name: str, path: Path) -> None:
        load(name, path)
        load(name, path)

    monkeypatch.setattr(server, "load", too_late)
    ensure_loaded(house.registry, server, adapter, prover)
    assert list(server.roots) == [adapter.name]


def test_what_one_answers_with_other_weights_none_keeps(
    house: House, fleet: Fleet, servers: list[FakeServer], prover: Prover, adapter: Adapter
) -> None:
    servers[1].not_applied.add(adapter.name)
    with pytest.raises(AdapterError, match="http://fake-1"):
        ensure_loaded(house.registry, fleet, adapter, prover)
    assert holders(servers, adapter.name) == []


def test_a_server_that_does_not_unload_hides_no_proof_that_failed(
    house: House,
    fleet: Fleet,
    servers: list[FakeServer],
    prover: Prover,
    adapter: Adapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stuck(name: str) -> None:
        raise ServerError("busy", status=500)

    servers[1].not_applied.add(adapter.name)
    monkeypatch.setattr(servers[0], "unload", stuck)
    with pytest.raises(AdapterError, match="http://fake-1"):
        ensure_loaded(house.registry, fleet, adapter, prover)
    assert holders(servers, adapter.name) == [0]


def test_only_what_all_hold_from_the_same_folder_is_listed(
    fleet: Fleet, servers: list[FakeServer], adapter: Adapter, tmp_path: Path
) -> None:
    for server in servers:
        server.hold("sc-same", adapter.path, ())
        server.hold("sc-elsewhere", tmp_path / server.url[-1], ())
    servers[0].hold("sc-one", adapter.path, ())
    assert [model.name for model in fleet.models()] == [BASE, "sc-same"]


def test_what_any_of_them_holds_is_held(fleet: Fleet, servers: list[FakeServer], adapter: Adapter) -> None:
    """So that nobody deletes the files of what one of them still answers with."""
    servers[1].hold("sc-one", adapter.path, ())
    assert held_by(fleet) == {BASE, "sc-one"}


def test_load_and_unload_go_on_where_they_failed(fleet: Fleet, servers: list[FakeServer], adapter: Adapter) -> None:
    servers[1].reachable = False
    with pytest.raises(ServerUnreachable):
        fleet.load(adapter.name, adapter.path)
    servers[1].reachable = True
    fleet.load(adapter.name, adapter.path)
    assert holders(servers, adapter.name) == [0, 1, 2]
    servers[0].restart()
    fleet.unload(adapter.name)
    assert holders(servers, adapter.name) == []
    with pytest.raises(ModelNotFound):
        fleet.unload(adapter.name)


def test_questions_take_turns(fleet: Fleet, servers: list[FakeServer]) -> None:
    for _ in range(6):
        fleet.chat(BASE, ASKED)
    assert [len(server.asked) for server in servers] == [2, 2, 2]


def test_all_sleep_and_wake_and_what_keeps_them_busy_is_added_up(fleet: Fleet, servers: list[FakeServer]) -> None:
    fleet.sleep()
    assert all(server.sleeping for server in servers)
    servers[0].wake_up()
    assert fleet.asleep()
    fleet.wake_up()
    assert not fleet.asleep()
    servers[0].requests, servers[2].requests = 2, 3
    assert fleet.busy() == 5


def test_versions_are_named_once_each(fleet: Fleet, servers: list[FakeServer]) -> None:
    assert fleet.version() == "fake 1"
    servers[1].runs = "fake 2"
    assert fleet.version() == "fake 1 + fake 2"


@pytest.mark.parametrize(
    "urls", [("http://a:1", "http://a:1"), ("http://127.0.0.1:8399/v1",), ("a:1",), ("ftp://a",), ("http://",)]
)
def test_a_replica_is_another_server_with_a_url(urls: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="twice|not an http"):
        ServerSettings(replicas=urls)


@pytest.mark.slow
def test_two_real_servers_hold_and_answer_the_same(tiny_server: TinyServer, tmp_path: Path) -> None:
    arguments = ("--served-model-name", "tiny", "--max-loras", "2")
    name, path = "sc-0001-fleet000", tiny_server.adapters["a1"]
    with (
        EmbeddedServer(tiny_server.model, tmp_path / "server.log", arguments=arguments) as other,
        VllmClient(tiny_server.url) as first,
        VllmClient(other.url) as second,
        closing(Fleet([first, second])) as fleet,
    ):
        second.load(name, path)
        fleet.load(name, path)
        try:
            answers = {fleet.chat(name, ASKED, max_tokens=8).text for _ in range(2)}
            assert len(answers) == 1 and answers != {first.chat("tiny", ASKED, max_tokens=8).text}
            assert name in [model.name for model in fleet.models()]
            for replica in fleet.replicas:
                Prover(tmp_path / "fingerprints", "tiny", 0.01).prove(replica, name, "base")
            assert fleet.version() == first.version()
        finally:
            fleet.unload(name)
        assert name not in [model.name for model in (*first.models(), *second.models())]
