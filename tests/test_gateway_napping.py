"""What requests meet at the gateway while the model server naps: none is lost, and none reaches it asleep."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from aiohttp import WSServerHandshakeError, web
from conftest import TinyServer
from fakes import Arrived, FakeTrainer, parts, says
from gateway_house import GatewayHouse, gateway_house, run, until
from test_gateway_main import process, wait_for
from test_gateway_sockets import echo, socket

from sleepy_coder.config import NightSettings
from sleepy_coder.errors import TrainingPaused
from sleepy_coder.idle import in_flight
from sleepy_coder.nap import undisturbed
from sleepy_coder.nap_files import Nap, NapFiles
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import free_port
from sleepy_coder.types import Message

NAP = Nap(why="night 1 trains", since=datetime(2026, 11, 24, tzinfo=UTC), pid=os.getpid())
CHAT = "/v1/chat/completions"


def body(number: int) -> bytes:
    return json.dumps({"model": "sleepy-coder", "messages": [{"role": "user", "content": str(number)}]}).encode()


def numbers(house: GatewayHouse) -> list[int]:
    return [int(arrived.json["messages"][0]["content"]) for arrived in house.upstream.arrived]


@asynccontextmanager
async def held(house: GatewayHouse, count: int) -> AsyncGenerator[list[asyncio.Task[tuple[int, bytes]]]]:
    """So many requests that wait for the end of a nap, each sent when the one before it was held."""
    house.nap.begin(NAP)
    tasks: list[asyncio.Task[tuple[int, bytes]]] = []
    for number in range(count):
        tasks.append(asyncio.create_task(house.post(CHAT, body(number))))
        await until(lambda number=number: house.meters.value("sleepy_gateway_napping_total", what="held") == number + 1)
    yield tasks


@pytest.mark.parametrize("policy", ["hold", "wake"])
def test_requests_wait_for_the_end_of_the_nap_and_then_pass_in_their_order(tmp_path: Path, policy: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep=policy) as house, held(house, 8) as tasks:
            assert not house.upstream.arrived
            house.nap.end()
            assert [status for status, _ in await asyncio.gather(*tasks)] == [200] * 8
            assert sorted(numbers(house)) == list(range(8))

    run(story)


def test_held_requests_are_let_go_first_come_first_served(tmp_path: Path) -> None:
    from sleepyd.meters import Meters
    from sleepyd.napping import Gate

    from sleepy_coder.config import GatewaySettings

    async def story() -> None:
        files, passed = NapFiles(tmp_path), list[int]()
        gate = Gate(files, GatewaySettings(), Meters())
        files.begin(NAP)

        async def one(number: int) -> None:
            await gate.awake()
            passed.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(one(number))
            await until(lambda: gate.held == 20)
            files.end()
        assert passed == list(range(20))

    run(story)


def test_only_the_policy_wake_leaves_a_wish(tmp_path: Path) -> None:
    async def story() -> None:
        for policy, wished in (("hold", False), ("wake", True)):
            async with (
                gateway_house(tmp_path / policy, says(b"{}"), while_asleep=policy) as house,
                held(house, 1) as tasks,
            ):
                assert house.nap.wanted() is wished
                house.nap.end()
                await asyncio.gather(*tasks)

    for policy in ("hold", "wake"):
        (tmp_path / policy).mkdir()
    run(story)


def test_a_gateway_that_refuses_says_when_to_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep="refuse") as house:
            house.nap.begin(NAP)
            async with house.http.post(house.url + CHAT, data=body(1)) as reply:
                said = await reply.json()
                assert (reply.status, int(reply.headers["Retry-After"]) > 0) == (503, True)
            assert said["error"]["type"] == "overloaded_error"
            house.nap.end()
            assert (await house.post(CHAT, body(2)))[0] == 200
            assert numbers(house) == [2]
            assert house.meters.value("sleepy_gateway_napping_total", what="refused") == 1

    run(story)


def test_a_request_that_was_held_too_long_is_told_to_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep="hold", hold_seconds=1) as house:
            house.nap.begin(NAP)
            async with house.http.post(house.url + CHAT, data=body(1)) as reply:
                assert (reply.status, "Retry-After" in reply.headers) == (503, True)
            assert (house.gateway.in_flight.total(), numbers(house)) == (0, [])

    run(story)


def test_a_held_request_whose_caller_is_gone_is_dropped(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep="hold") as house, held(house, 3) as tasks:
            tasks[1].cancel()
            await until(lambda: house.gate.held == 2)
            house.nap.end()
            await asyncio.gather(tasks[0], tasks[2])
            assert sorted(numbers(house)) == [0, 2]

    run(story)


def test_a_websocket_waits_for_the_end_of_the_nap(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, socket(echo), while_asleep="hold") as house:
            house.nap.begin(NAP)
            opening = asyncio.create_task(house.http.ws_connect(f"{house.url}/v1/realtime"))
            await until(lambda: house.gate.held == 1)
            assert not house.upstream.arrived
            house.nap.end()
            async with await opening as ws:
                await ws.send_str("one")
                assert await ws.receive_str() == "one"

    run(story)


def test_a_websocket_is_refused_where_requests_are(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, socket(echo), while_asleep="refuse") as house:
            house.nap.begin(NAP)
            with pytest.raises(WSServerHandshakeError) as refused:
                await house.http.ws_connect(f"{house.url}/v1/realtime")
            assert (refused.value.status, house.upstream.arrived) == (503, [])

    run(story)


def test_the_list_of_models_is_answered_during_a_nap(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b'{"data": []}'), while_asleep="hold") as house:
            house.nap.begin(NAP)
            assert (await house.get("/v1/models"))[0] == 200

    run(story)


def test_a_nap_that_begins_before_a_held_requests_turn_holds_it_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep="wake") as house, held(house, 2) as tasks:
            house.nap.end()
            house.nap.begin(NAP)
            await until(house.nap.wanted)
            assert not house.upstream.arrived
            house.nap.end()
            assert [status for status, _ in await asyncio.gather(*tasks)] == [200, 200]

    run(story)


def test_the_state_tells_what_is_held_apart_from_what_is_in_flight(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), while_asleep="hold") as house, held(house, 2) as tasks:
            state = json.loads((await house.get("/admin/state"))[1])
            assert (state["asleep"], state["held"], state["in_flight"]) == (True, 2, {})
            house.nap.end()
            await asyncio.gather(*tasks)

    run(story)


@pytest.mark.parametrize("policy", ["hold", "wake", "refuse"])
def test_a_stream_of_requests_during_naps_loses_none_and_none_meets_a_sleeping_server(
    tmp_path: Path, policy: str
) -> None:
    """A night beside the gateway naps three times while requests come; the upstream knows when it sleeps."""

    class Upstream:
        asleep = False
        met_asleep = 0

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        Upstream.met_asleep += Upstream.asleep
        await asyncio.sleep(0.01)
        Upstream.met_asleep += Upstream.asleep
        return web.Response(body=arrived.body, content_type="application/json")

    async def story() -> None:
        async with gateway_house(tmp_path, script, while_asleep=policy) as house:

            def met() -> float:
                counted = (house.meters.value("sleepy_gateway_napping_total", what=w) for w in ("held", "refused"))
                return sum(counted)

            async def naps() -> None:
                for _ in range(3):
                    before = met()
                    house.nap.begin(NAP)
                    while house.gateway.in_flight.total():
                        await asyncio.sleep(0)
                    Upstream.asleep = True
                    await until(lambda before=before: met() > before)
                    Upstream.asleep = False
                    house.nap.end()
                    await until(lambda: house.gate.held == 0)

            napping = asyncio.create_task(naps())
            answers: list[int] = []
            while not napping.done():
                some = [house.post(CHAT, body(len(answers) + n)) for n in range(4)]
                answers += [status for status, _ in await asyncio.gather(*some)]
            await napping
            assert set(answers) <= ({200, 503} if policy == "refuse" else {200})
            assert answers.count(200) == len(house.upstream.arrived)
            assert Upstream.met_asleep == 0

    run(story)


# With the real server and a real night beside it


@pytest.mark.slow
def test_a_request_wakes_a_real_server_through_a_real_gateway_and_training_goes_on(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    port = free_port()
    url, settings = f"http://127.0.0.1:{port}", {"SLEEPY_CODER_SERVER__URL": tiny_server.url}
    settings["SLEEPY_CODER_SERVER__BASE_NAME"] = "tiny"
    napping, calls, answers = threading.Event(), list[bool](), list[str]()

    def ask() -> None:
        napping.wait()
        with VllmClient(url) as client:
            answers.append(client.chat("sleepy-coder", (Message(role="user", content="hi"),), max_tokens=2).model)

    with process(tmp_path, port, **settings) as running, VllmClient(tiny_server.url) as client:
        wait_for(url, running)
        night = NightSettings(share_gpu=True, quiet_minutes=0)
        house = parts(tmp_path, client, FakeTrainer(), night=night)  # type: ignore[arg-type]
        gateway = house.config.gateway.model_copy(update={"port": port})
        house = replace(house, config=house.config.model_copy(update={"gateway": gateway}))
        asker = threading.Thread(target=ask)
        asker.start()

        def work(pause: object) -> str:
            calls.append(client.asleep())
            if len(calls) > 1:
                return "trained"
            napping.set()
            while not pause():  # type: ignore[operator]
                assert in_flight(gateway, held=False) == 0
            raise TrainingPaused("paused")

        assert undisturbed(house, "test", work) == "trained"
        asker.join()
        assert (calls, answers, client.asleep()) == ([True, True], ["sleepy-coder"], False)
        house.store.close()


@pytest.mark.slow
def test_a_gateway_that_starts_wakes_a_real_server_that_a_killed_night_left_asleep(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    left = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_gateway_napping import *\n"
    left += f"NapFiles(Path({str(tmp_path / 'state')!r})).begin(NAP); VllmClient({tiny_server.url!r}).sleep()\n"
    left += "os.kill(os.getpid(), 9)"
    (tmp_path / "state").mkdir()
    subprocess.run([sys.executable, "-c", left], check=False)
    port = free_port()
    settings = {"SLEEPY_CODER_SERVER__URL": tiny_server.url, "SLEEPY_CODER_SERVER__BASE_NAME": "tiny"}
    with VllmClient(tiny_server.url) as client:
        assert client.asleep()
        with process(tmp_path, port, **settings) as running:
            wait_for(f"http://127.0.0.1:{port}", running)
            answer = httpx.post(f"http://127.0.0.1:{port}{CHAT}", content=body(1), timeout=60)
            assert (answer.status_code, client.asleep()) == (200, False)
    assert NapFiles(tmp_path / "state").mark() is None
