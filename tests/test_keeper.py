"""The keeper: what serves is loaded wherever a server was restarted, and what cannot serve again is unloaded."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from conftest import TinyServer
from fakes import BASE, Arrived, FakeClock, FakeServer, Script, ScriptedUpstream, says, solver
from gateway_house import gateway_house, run, until
from sleepyd.keeper import Keeper, kept_by
from sleepyd.lots import Lots
from sleepyd.serving import InFlight, Serving
from test_registry import MIX, RECIPE, House

from sleepy_coder import log
from sleepy_coder.errors import InfraError
from sleepy_coder.files import sha256_files
from sleepy_coder.journal import alone, no_night
from sleepy_coder.registry import Registry, model_sha256
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.serve.prover import Prover

CHAT = b'{"model":"sleepy-coder","messages":[]}'
UNKNOWN = {"error": {"message": "The model does not exist.", "type": "NotFoundError", "code": 404}}


class Kept:
    """A keeper over two fake servers and a real registry."""

    def __init__(self, home: Path, max_loras: int = 4) -> None:
        self.home = House(home)
        self.servers = [FakeServer(solver(()), f"http://fake-{number}") for number in range(2)]
        self.users, self.lock = InFlight(), home / "state" / "night.lock"
        self.lock.parent.mkdir()
        self.fleet = Fleet(self.servers)
        self.keeper = Keeper(
            self.home.registry, self.fleet, Prover(home / "proofs", BASE, 0.01), self.users, self.lock, max_loras
        )

    def serve(self, *cycles: int) -> list[str]:
        return [self.home.registry.activate(self.stage(cycle)).name for cycle in cycles]

    def stage(self, cycle: int) -> str:
        return self.home.stage(cycle, solves=[cycle]).name

    def hold(self, *names: str) -> None:
        for name in names:
            self.servers[0].load(name, self.home.registry.get(name).path)

    def held(self, number: int = 0) -> set[str]:
        return set(self.servers[number].roots)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    log.set_up(as_json=True)
    kept = Kept(tmp_path)
    with closing(kept.fleet):
        yield kept
    structlog.reset_defaults()


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]


def test_what_serves_and_what_a_rollback_goes_to_is_loaded_on_every_server(kept: Kept) -> None:
    kept.serve(1)
    names = set(kept.serve(2, 3)[-2:])
    assert kept.keeper.look()
    assert kept.held(0) == kept.held(1) == names


def test_it_is_loaded_again_after_a_restart_and_proved_again(kept: Kept) -> None:
    [name] = kept.serve(1)
    assert kept.keeper.look()
    kept.servers[1].restart()
    assert kept.keeper.look()
    assert (kept.held(0), kept.held(1)) == ({name}, {name})
    assert (kept.servers[0].loads, kept.servers[1].loads) == ([name], [name, name])


def test_a_server_that_is_gone_does_not_keep_the_other_one_waiting_and_is_spoken_of_once(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True)
    [name] = kept.serve(1)
    kept.servers[0].reachable = False
    events(capsys)
    assert not kept.keeper.look()
    assert not kept.keeper.look()
    assert kept.held(1) == {name}
    assert events(capsys) == ["keeper.waiting"]
    kept.servers[0].reachable = True
    assert kept.keeper.look()
    assert kept.held(0) == {name}
    assert events(capsys) == ["keeper.restored"]


def test_a_damaged_rollback_target_does_not_keep_what_serves_from_being_loaded(kept: Kept) -> None:
    first, second = kept.serve(1, 2)
    (kept.home.adapters / first / "manifest.json").write_text("{")
    assert kept.keeper.look()
    assert kept.held() == {second}


def test_a_sleeping_server_is_left_alone_and_proved_when_it_has_woken(kept: Kept) -> None:
    [name] = kept.serve(1)
    assert kept.keeper.look()
    kept.servers[0].sleep()
    kept.servers[0].not_applied.add(name)
    assert kept.keeper.look()
    assert kept.servers[0].sleeping
    kept.servers[0].wake_up()
    assert not kept.keeper.look()


def test_what_a_rollback_took_away_is_unloaded(kept: Kept) -> None:
    first, second = kept.serve(1, 2)
    kept.keeper.look()
    kept.home.registry.rollback()
    kept.keeper.look()
    assert kept.held(0) == kept.held(1) == {first}
    assert second not in kept.held()


def test_the_oldest_above_the_limit_are_unloaded_and_never_what_serves(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_loras=3)
    with closing(kept.fleet):
        serving = kept.serve(1, 2)
        spare = [kept.stage(cycle) for cycle in (3, 4, 5)]
        kept.hold(*spare)
        kept.keeper.look()
        assert kept.held() == {*serving, spare[-1]}


def test_nothing_is_unloaded_that_somebody_uses(kept: Kept) -> None:
    _, second = kept.serve(1, 2)
    kept.keeper.look()
    kept.home.registry.rollback()
    with kept.users.one(second):
        kept.keeper.look()
        assert second in kept.held()
    kept.servers[0].requests = 1  # of somebody who goes around the gateway
    kept.keeper.look()
    assert second in kept.held(0) and second not in kept.held(1)


def test_nothing_is_unloaded_while_a_night_runs(kept: Kept) -> None:
    _, second = kept.serve(1, 2)
    kept.keeper.look()
    kept.home.registry.rollback()
    with alone(kept.lock):
        kept.keeper.look()
        assert second in kept.held()
    kept.keeper.look()
    assert second not in kept.held()


def test_other_names_are_nobody_s_business(kept: Kept) -> None:
    kept.serve(1)
    kept.servers[0].hold("mine", kept.home.base, ())
    kept.keeper.look()
    assert "mine" in kept.held()


def test_a_night_that_begins_waits_for_whoever_only_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepy_coder.journal._TRIES", 1)  # however long that takes
    lock, began = tmp_path / "night.lock", threading.Event()

    def night() -> None:
        with alone(lock):
            began.set()

    with no_night(lock) as quiet, no_night(lock) as as_quiet:
        assert quiet and as_quiet
        thread = threading.Thread(target=night)
        thread.start()
        thread.join(1)
        assert thread.is_alive() and not began.is_set()
    thread.join()
    assert began.is_set()


def test_the_gateway_opens_after_a_look_and_the_keeper_goes_on(kept: Kept) -> None:
    [name] = kept.serve(1)

    async def story() -> None:
        async with kept_by(kept.keeper):
            assert kept.held(0) == kept.held(1) == {name}

    run(story)


def test_requests_that_ask_at_once_share_a_look(kept: Kept) -> None:
    [name] = kept.serve(1)

    async def story() -> None:
        await asyncio.gather(*(kept.keeper.reconcile() for _ in range(8)))

    run(story)
    assert kept.servers[0].loads == [name]


# In the gateway


def test_a_request_that_meets_a_restarted_server_is_sent_again_once_the_adapter_is_there(
    kept: Kept, tmp_path: Path
) -> None:
    loaded: list[str] = []

    async def restore() -> None:
        loaded.append("adapter")

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        known = loaded or arrived.json["model"] == BASE
        return web.json_response({"model": arrived.json["model"]} if known else UNKNOWN, status=200 if known else 404)

    async def story() -> None:
        async with gateway_house(tmp_path, script, restore=restore) as house:
            [name] = kept.serve(1)
            status, reply = await house.post("/v1/chat/completions", CHAT)
            assert (status, json.loads(reply)) == (200, {"model": "sleepy-coder"})
            assert [arrived.json["model"] for arrived in house.upstream.arrived] == [name] * 2
            [exchange] = await house.recorded()
            assert exchange.status == 200

    run(story)


@pytest.mark.parametrize("body", [CHAT, b'{"model":"no-such-model","messages":[]}'])
def test_a_404_that_no_adapter_would_mend_is_passed_on(tmp_path: Path, body: bytes) -> None:
    async def restore() -> None:
        pytest.fail("nothing to restore")

    async def story() -> None:
        async with gateway_house(tmp_path, says(json.dumps(UNKNOWN).encode(), 404), restore=restore) as house:
            assert (await house.post("/v1/chat/completions", body))[0] == 404  # the base serves
            await until(lambda: len(house.upstream.arrived) == 1)

    run(story)


def holding(*models: str) -> Script:
    """A server with these models: it lists them, and answers 404 to others and to paths that it does not know."""

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": name} for name in models]})
        known = arrived.json["model"] in models and request.path == "/v1/chat/completions"
        return web.json_response({"model": arrived.json["model"]} if known else UNKNOWN, status=200 if known else 404)

    return script


def posts(upstream: ScriptedUpstream) -> int:
    return sum(arrived.method == "POST" for arrived in upstream.arrived)


async def look_in_vain() -> None:
    """A keeper's look that loads nothing."""


def test_a_server_that_cannot_load_what_serves_is_put_aside_and_another_one_answers(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True)

    async def story() -> None:
        [name] = kept.serve(1)
        async with ScriptedUpstream(holding(BASE, name)) as well:
            server = {"replicas": (well.url,)}
            async with gateway_house(tmp_path, holding(BASE), restore=look_in_vain, server=server) as house:
                for _ in range(8):  # without a session the first server would have each, since none is in flight
                    status, reply = await house.post("/v1/chat/completions", CHAT)
                    assert (status, json.loads(reply)) == (200, {"model": "sleepy-coder"})
                assert (posts(house.upstream), posts(well)) == (2, 8)  # once before the keeper's look, and once after
                assert (await house.get("/readyz"))[0] == 200
                assert [exchange.status for exchange in await house.recorded()] == [200] * 8

    run(story)
    assert events(capsys).count("gateway.server_aside") == 1


def test_in_a_split_a_server_that_lacks_the_old_adapter_keeps_the_sessions_of_the_new_one(
    kept: Kept, tmp_path: Path
) -> None:
    async def story() -> None:
        old, new = kept.serve(1, 2)
        async with ScriptedUpstream(holding(BASE, old, new)) as well:
            server = {"replicas": (well.url,)}
            async with gateway_house(
                tmp_path, holding(BASE, old, new), restore=look_in_vain, server=server, lots=Lots(0.5)
            ) as house:

                async def ask_all() -> dict[str, tuple[str, ScriptedUpstream]]:
                    """What each session was given, and where."""
                    found: dict[str, tuple[str, ScriptedUpstream]] = {}
                    for session in (f"s{number}" for number in range(24)):
                        before = posts(well)
                        status, _ = await house.post("/v1/chat/completions", CHAT, session_id=session)
                        where = well if posts(well) > before else house.upstream
                        assert status == 200
                        found[session] = where.arrived[-1].json["model"], where
                    return found

                before = await ask_all()
                assert len(set(before.values())) == 4
                house.upstream.script = holding(BASE, new)
                assert await ask_all() == {
                    session: (model, well if model == old else where) for session, (model, where) in before.items()
                }

    run(story)


def test_when_no_server_can_load_what_serves_its_404_is_the_reply(kept: Kept, tmp_path: Path) -> None:
    async def story() -> None:
        kept.serve(1)
        async with ScriptedUpstream(holding(BASE)) as other:
            server = {"replicas": (other.url,)}
            async with gateway_house(tmp_path, holding(BASE), restore=look_in_vain, server=server) as house:
                status, reply = await house.post("/v1/chat/completions", CHAT)
                assert (status, json.loads(reply)) == (404, UNKNOWN)
                assert (posts(house.upstream), posts(other)) == (2, 2)

    run(story)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b'{"model":"no-such-model","messages":[]}'),
        ("/v1/responses", b'{"model":"sleepy-coder","previous_response_id":"resp_1","input":"x"}'),
    ],
)
def test_a_404_for_another_reason_than_a_lacking_adapter_puts_no_server_aside(
    kept: Kept, tmp_path: Path, path: str, body: bytes
) -> None:
    async def story() -> None:
        [name] = kept.serve(1)
        async with ScriptedUpstream(holding(BASE, name)) as other:
            server = {"replicas": (other.url,)}
            async with gateway_house(tmp_path, holding(BASE, name), restore=look_in_vain, server=server) as house:
                assert (await house.post(path, body, session_id="s"))[0] == 404
                asked = [posts(house.upstream), posts(other)]
                assert 0 in asked
                await house.post("/v1/chat/completions", CHAT, session_id="s")
                assert [posts(house.upstream), posts(other)].index(0) == asked.index(0)

    run(story)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_request_fails_after_a_real_restart(tiny_server: TinyServer, tmp_path: Path) -> None:
    registry, lock = Registry(tmp_path / "adapters", FakeClock()), tmp_path / "night.lock"
    recipe = RECIPE.model_copy(update={"rank": 8, "alpha": 16})
    base = tiny_server.model
    sha256 = model_sha256(base)
    trained = tiny_server.adapters["a1"]
    name = registry.stage(
        trained, cycle=1, parent=None, base=base, base_model="t", base_sha256=sha256, mix=MIX, recipe=recipe
    ).name
    registry.activate(name)
    server = EmbeddedServer(base, tmp_path / "server.log", arguments=("--served-model-name", BASE))

    async def story() -> None:
        with VllmClient(server.url) as client:
            keeper = Keeper(registry, client, Prover(tmp_path / "proofs", BASE, 0.01), InFlight(), lock, 4)
            assert not keeper.look()  # nobody is there yet
            await asyncio.to_thread(server.start)
            async with gateway_house(
                tmp_path, says(b""), server={"url": server.url}, restore=keeper.reconcile
            ) as house:
                asked = CHAT.replace(b"[]", b'[{"role":"user","content":"hi"}],"temperature":0,"max_tokens":4')
                first = await house.post("/v1/chat/completions", asked)
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(server.start)
                again = await house.post("/v1/chat/completions", asked)
            assert (first[0], again[0]) == (200, 200)
            texts = {json.loads(reply)["choices"][0]["message"]["content"] for _, reply in (first, again)}
            assert len(texts) == 1

    try:
        run(story, seconds=300)
    finally:
        server.stop()


def test_when_the_serving_adapter_is_damaged_what_was_before_it_serves(kept: Kept) -> None:
    first, second = kept.serve(1, 2)
    weights = kept.home.registry.get(second).path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not kept.keeper.look()
    assert kept.keeper.look()
    active = kept.home.registry.active()
    assert active is not None and active.name == first
    assert first in kept.held(0) and first in kept.held(1)


def deleted(kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(kept.home.adapters / name)


def unreadable(kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(paths: list[Path]) -> str:
        if any(path.parent.name == name for path in paths):
            raise OSError(errno.EIO, "Input/output error", name)
        return sha256_files(paths)

    monkeypatch.setattr("sleepy_coder.adapter_manifest.sha256_files", failing)


@pytest.mark.parametrize("damage", [deleted, unreadable])
def test_an_adapter_that_was_deleted_or_cannot_be_read_is_stepped_back_from_and_the_gateway_opens(
    kept: Kept, damage: Callable[[Kept, str, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = kept.serve(1, 2)
    damage(kept, second, monkeypatch)
    assert Serving(kept.home.registry, BASE).name() == second
    assert not kept.keeper.look()
    assert kept.keeper.look()
    assert kept.held(0) == kept.held(1) == {first}
    assert Serving(kept.home.registry, BASE).name() == first


def test_when_what_was_before_is_gone_as_well_the_base_serves(kept: Kept) -> None:
    for name in kept.serve(1, 2):
        shutil.rmtree(kept.home.adapters / name)
    assert not kept.keeper.look()
    assert kept.keeper.look()
    assert Serving(kept.home.registry, BASE).name() == BASE


def test_a_pointer_that_cannot_be_read_is_complained_of_once_until_it_is_mended(
    kept: Kept, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True)
    [name] = kept.serve(1)
    sound = (kept.home.adapters / "active.json").read_text()
    events(capsys)
    for file in ("active.json", "active.twin.json"):
        (kept.home.adapters / file).write_text("{")
    assert not kept.keeper.look()
    assert not kept.keeper.look()
    assert "active.json cannot be read" in kept.keeper.complaints()["registry"]
    (kept.home.adapters / "active.json").write_text(sound)
    assert kept.keeper.look()
    assert kept.held() == {name}
    assert events(capsys)[:2] == ["keeper.waiting", "keeper.restored"]


def test_a_step_back_that_the_disk_refuses_is_complained_of(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second = kept.serve(1, 2)
    shutil.rmtree(kept.home.adapters / second)

    def full(path: Path, data: bytes | str) -> None:
        raise InfraError(f"{path} cannot be written", "Check free space")

    monkeypatch.setattr("sleepy_coder.adapter_pointer.write_atomic", full)
    assert not kept.keeper.look()
    assert "cannot be written" in kept.keeper.complaints()["registry"]
    monkeypatch.undo()
    assert not kept.keeper.look()
    assert kept.keeper.look()


def test_a_look_that_fails_in_a_way_nobody_foresaw_ends_neither_the_keeper_nor_a_request(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = kept.serve(1)
    monkeypatch.setattr("sleepyd.keeper.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("sleepyd.keeper._SLOWEST_SECONDS", 0.02)
    active = kept.home.registry.active

    def broken() -> None:
        raise RuntimeError("nobody foresaw this")

    async def story() -> None:
        monkeypatch.setattr(kept.home.registry, "active", broken)
        async with kept_by(kept.keeper):
            await kept.keeper.reconcile()
            assert "nobody foresaw this" in kept.keeper.complaints()["keeper"]
            monkeypatch.setattr(kept.home.registry, "active", active)
            await until(lambda: kept.held() == {name} and not kept.keeper.complaints())

    run(story)


def test_a_damaged_manifest_of_what_serves_is_stepped_back_from_too(kept: Kept) -> None:
    first, second = kept.serve(1, 2)
    (kept.home.registry.get(second).path / "manifest.json").write_text("{")
    assert not kept.keeper.look()
    assert kept.keeper.look()
    active = kept.home.registry.active()
    assert active is not None and active.name == first
