"""Which weights answer is proved by what they answer, and remembered per stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from conftest import TinyServer
from fakes import BASE, FakeServer, solver
from hypothesis import given
from hypothesis import strategies as st
from test_registry import House

from sleepy_coder import log
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.errors import AdapterError
from sleepy_coder.ports import Fingerprint
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import Adapter


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(solver(()))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def prover(tmp_path: Path) -> Prover:
    return Prover(tmp_path / "fingerprints", BASE, 0.01)


@pytest.fixture(autouse=True)
def logging() -> Iterator[None]:
    log.set_up(as_json=True)
    yield
    structlog.reset_defaults()


@pytest.fixture
def adapter(house: House) -> Adapter:
    return house.stage(1, solves=[1])


def print_of(*rows: list[tuple[int, float]]) -> Fingerprint:
    return Fingerprint(
        tokens=tuple(tuple(token for token, _ in row) for row in rows),
        logprobs=tuple(tuple(value for _, value in row) for row in rows),
    )


ROWS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.floats(-20, 0)), max_size=4), min_size=2, max_size=2)


@given(ROWS, ROWS)
def test_the_distance_of_fingerprints_is_the_same_from_both_sides_and_nothing_to_itself(
    one: list[list[tuple[int, float]]], other: list[list[tuple[int, float]]]
) -> None:
    first, second = print_of(*one), print_of(*other)
    assert first.distance(second) == second.distance(first) >= 0
    assert first.distance(first) == 0


def test_the_distance_is_the_largest_difference_of_a_logprob() -> None:
    one = print_of([(1, -0.5), (2, -1.0)], [(3, -2.0)])
    assert one.distance(print_of([(1, -0.5), (2, -1.25)], [(3, -2.125)])) == 0.25


def test_a_near_tie_that_falls_the_other_way_is_noise_and_what_follows_is_not_compared() -> None:
    one = print_of([(1, -0.7), (2, -0.1)])
    assert one.matches(print_of([(9, -0.701), (5, -3.0)]))
    assert not one.matches(print_of([(9, -0.8), (2, -0.1)]))


def test_answers_to_other_prompts_or_of_another_length_never_match() -> None:
    one = print_of([(1, -0.5), (2, -1.0)])
    assert not one.matches(print_of(), tolerance=5)
    assert not one.matches(print_of([(1, -0.5)]), tolerance=5)


def test_an_adapter_that_is_loaded_and_not_applied_is_refused_and_unloaded(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True)
    server.not_applied.add(adapter.name)
    with pytest.raises(AdapterError, match="just as the base does") as caught:
        ensure_loaded(house.registry, server, adapter, prover)
    assert "Restart that server" in caught.value.remedy
    assert [model.name for model in server.models()] == [BASE]
    assert "server.fingerprint_differs" in capsys.readouterr().err


def test_an_adapter_that_stops_being_applied_is_found_out(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter
) -> None:
    ensure_loaded(house.registry, server, adapter, prover)
    server.not_applied.add(adapter.name)  # what a vLLM has done after it woke
    with pytest.raises(AdapterError, match="just as the base does"):
        ensure_loaded(house.registry, server, adapter, prover)


def test_the_one_that_serves_stays_loaded_whatever_it_answers(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter
) -> None:
    active = house.registry.activate(adapter.name)
    server.not_applied.add(active.name)
    with pytest.raises(AdapterError):
        ensure_loaded(house.registry, server, active, prover)
    assert active.name in server.roots


def test_other_weights_under_the_name_are_found_out_after_a_restart_of_everything(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter
) -> None:
    ensure_loaded(house.registry, server, adapter, prover)
    other = FakeServer(solver(()))
    other.hold(adapter.name, house.stage(2, solves=[1]).path, [1])
    again = Prover(prover.folder, prover.base, prover.tolerance)
    with pytest.raises(AdapterError, match="differently than before"):
        again.prove(other, adapter.name, house.registry.manifest(adapter.name).base_sha256)


def test_another_version_of_the_server_is_measured_anew(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter
) -> None:
    ensure_loaded(house.registry, server, adapter, prover)
    other = FakeServer(solver(()))
    other.runs = "fake 2"
    other.hold(adapter.name, house.stage(2, solves=[1]).path, [1])
    prover.prove(other, adapter.name, "base")
    prover.prove(other, adapter.name, "base")


def test_a_fingerprint_file_that_cannot_be_read_says_what_to_do(
    house: House, server: FakeServer, prover: Prover, adapter: Adapter
) -> None:
    ensure_loaded(house.registry, server, adapter, prover)
    (prover.folder / f"{adapter.name}.json").write_text("{")
    with pytest.raises(AdapterError, match="measured anew"):
        ensure_loaded(house.registry, server, adapter, prover)


def test_a_real_server_is_told_apart_from_its_base_and_recognised(tiny_server: TinyServer, tmp_path: Path) -> None:
    prover = Prover(tmp_path, "tiny", 0.01)
    with VllmClient(tiny_server.url) as client:
        client.load("sc-0001-canary00", tiny_server.adapters["a1"])
        client.load("sc-0002-canary00", tiny_server.adapters["a2"])
        try:
            prover.prove(client, "sc-0001-canary00", "base")
            prover.prove(client, "sc-0001-canary00", "base")
            (tmp_path / "sc-0001-canary00.json").rename(tmp_path / "sc-0002-canary00.json")
            with pytest.raises(AdapterError, match="differently than before"):
                prover.prove(client, "sc-0002-canary00", "base")
        finally:
            client.unload("sc-0001-canary00")
            client.unload("sc-0002-canary00")
        with pytest.raises(AdapterError, match="just as the base does"):
            prover.prove(client, "tiny", "base")
