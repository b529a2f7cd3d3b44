"""WebSockets pass both ways, close together, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from fakes import BASE, Arrived, Script, ScriptedUpstream, says
from gateway_house import gateway_house, run, until
from sleepyd.sockets import name_in_query
from yarl import URL

REPLY = b'{"id":"c1","model":"sleepy-base","choices":[]}'
DEAD = "http://127.0.0.1:9"  # the discard port: nothing answers there
Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


def socket(talk: Talk, **options: object) -> Script:
    """A script: a WebSocket on which the model server does `talk`."""

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        response = web.WebSocketResponse(**{"timeout": 1.0, **options})  # pyright: ignore[reportArgumentType]
        await response.prepare(request)
        await talk(response)
        return response

    return script


async def echo(response: web.WebSocketResponse) -> None:
    async for message in response:
        if message.type is WSMsgType.TEXT:
            await response.send_str(message.data)
        else:
            await response.send_bytes(message.data)


def test_messages_go_both_ways_and_only_the_alias_in_the_query_becomes_another_name(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, socket(echo)) as house:
            url = URL(f"{house.url}/s/tag/v1/realtime?a=%2F&model=sleepy-coder&b=1", encoded=True)
            async with house.http.ws_connect(url, headers={"X-Mine": "1"}) as ws:
                large = "ünicode" * 100_000
                for text in ("one", large, ""):
                    await ws.send_str(text)
                    assert await ws.receive_str() == text
                await ws.send_bytes(b"\x00\xff")
                assert await ws.receive_bytes() == b"\x00\xff"
                assert house.gateway.in_flight.all() == {BASE: 1}
            await until(lambda: house.gateway.in_flight.total() == 0)
            [arrived] = house.upstream.arrived
            assert arrived.target == f"/v1/realtime?a=%2F&model={BASE}&b=1"
            assert arrived.header("X-Mine") == "1"
            assert await house.recorded() == []

    run(story)


def test_pings_and_pongs_are_answered_by_the_other_end(tmp_path: Path) -> None:
    seen: list[tuple[WSMsgType, bytes]] = []

    async def talk(response: web.WebSocketResponse) -> None:
        message = await response.receive()
        seen.append((message.type, message.data))
        await response.pong(b"from the server")
        await response.receive()

    async def story() -> None:
        async with gateway_house(tmp_path, socket(talk, autoping=False)) as house:
            async with house.http.ws_connect(f"{house.url}/v1/realtime", autoping=False) as ws:
                await ws.ping(b"from the caller")
                message = await ws.receive()
                assert (message.type, message.data) == (WSMsgType.PONG, b"from the server")
            assert seen == [(WSMsgType.PING, b"from the caller")]

    run(story)


def test_the_servers_close_reaches_the_caller_with_its_code_and_reason(tmp_path: Path) -> None:
    async def talk(response: web.WebSocketResponse) -> None:
        await response.close(code=4001, message=b"enough")

    async def story() -> None:
        async with (
            gateway_house(tmp_path, socket(talk)) as house,
            house.http.ws_connect(f"{house.url}/v1/realtime", autoclose=False) as ws,
        ):
            message = await ws.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "enough")

    run(story)


@pytest.mark.parametrize("politely", [True, False])
def test_a_caller_that_goes_closes_the_servers_end(tmp_path: Path, politely: bool) -> None:
    codes: list[int | None] = []

    async def talk(response: web.WebSocketResponse) -> None:
        async for _ in response:
            pass
        codes.append(response.close_code)

    async def story() -> None:
        async with gateway_house(tmp_path, socket(talk)) as house:
            ws = await house.http.ws_connect(f"{house.url}/v1/realtime")
            await until(lambda: len(house.upstream.arrived) == 1)
            if politely:
                await ws.close(code=4002)
            else:
                await house.http.close()
            await until(lambda: len(codes) == 1)
            assert codes == [4002 if politely else 1001]

    run(story)


def test_a_server_that_is_lost_closes_the_callers_end(tmp_path: Path) -> None:
    async def story() -> None:
        never = asyncio.Event()

        async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
            response = web.WebSocketResponse()
            await response.prepare(request)
            assert request.transport is not None
            request.transport.abort()
            await never.wait()
            return response

        async with (
            gateway_house(tmp_path, script) as house,
            house.http.ws_connect(f"{house.url}/v1/realtime") as ws,
        ):
            message = await ws.receive()
            assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            assert ws.close_code == 1001

    run(story)


def test_the_subprotocol_is_the_one_that_the_server_chose(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            gateway_house(tmp_path, socket(echo, protocols=("second",))) as house,
            house.http.ws_connect(f"{house.url}/v1/realtime", protocols=("first", "second")) as ws,
        ):
            assert ws.protocol == "second"

    run(story)


def test_who_may_not_ask_gets_no_socket_and_the_key_goes_no_further(tmp_path: Path) -> None:
    async def story() -> None:
        server = {"api_key": "server"}
        async with gateway_house(tmp_path, socket(echo), api_key="s3cret-key", server=server) as house:
            url = f"{house.url}/v1/realtime"
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await house.http.ws_connect(url)
            assert refused.value.status == 401 and house.upstream.arrived == []
            async with house.http.ws_connect(url, headers={"x-api-key": "s3cret-key"}) as ws:
                await ws.send_str("x")
                assert await ws.receive_str() == "x"
            [arrived] = house.upstream.arrived
            assert arrived.header("Authorization") == "Bearer server" and "s3cret-key" not in str(arrived)

    run(story)


def test_the_servers_refusal_is_the_callers(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}", status=404)) as house:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await house.http.ws_connect(f"{house.url}/v1/realtime")
            assert refused.value.status == 404

    run(story)


def test_a_server_that_is_away_is_replaced_by_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            ScriptedUpstream(socket(echo)) as second,
            gateway_house(tmp_path, says(REPLY), server={"url": DEAD, "replicas": (second.url,)}) as house,
            house.http.ws_connect(f"{house.url}/v1/realtime") as ws,
        ):
            await ws.send_str(json.dumps({"type": "hello"}))
            assert await ws.receive_json() == {"type": "hello"}
        async with gateway_house(tmp_path, says(REPLY), server={"url": DEAD}) as house:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await house.http.ws_connect(f"{house.url}/v1/realtime")
            assert refused.value.status == 502

    run(story)


@pytest.mark.parametrize(
    ("query", "after", "served"),
    [
        ("", "", ""),
        ("?x=1", "?x=1", ""),
        ("?model=my+alias", "?model=a%20b", "a b"),
        ("?model=my%20alias&y=%2f", "?model=a%20b&y=%2f", "a b"),
        ("?model=other", "?model=other", "other"),
        ("?submodel=my+alias&z", "?submodel=my+alias&z", ""),
    ],
)
def test_the_name_in_a_query_is_replaced_in_place(query: str, after: str, served: str) -> None:
    assert name_in_query(query, "my alias", "a b") == (after, served)
