"""Several model servers behind one gateway: sessions stay where they are, and a dead server costs nobody a reply."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from fakes import BASE, Arrived, ScriptedUpstream, says, streams
from gateway_house import gateway_house, run, until
from hypothesis import given
from hypothesis import strategies as st
from sleepyd.passing import Lacking
from sleepyd.upstreams import ASIDE_SECONDS, Upstreams

from sleepy_coder import log

CHAT = b'{"model":"sleepy-coder","messages":[]}'
REPLY = b'{"id":"c1","object":"chat.completion","model":"sleepy-base","choices":[]}'
DEAD = "http://127.0.0.1:9"  # the discard port: nothing answers there
URLS = st.lists(st.sampled_from([f"http://host{n}:8000" for n in range(6)]), min_size=2, max_size=6, unique=True)


@given(URLS, st.lists(st.text(min_size=1), min_size=1))
def test_a_server_that_goes_moves_only_its_own_sessions(urls: list[str], sessions: list[str]) -> None:
    before, after = Upstreams(urls), Upstreams(urls[:-1])
    for session in sessions:
        was = before.order(session)[0]
        assert before.order(session)[0] == was
        assert was == urls[-1] or after.order(session)[0] == was


def test_sessions_spread_over_the_servers() -> None:
    upstreams = Upstreams(["http://a", "http://b/v1/", "http://c"])
    first = [upstreams.order(f"session-{number}")[0] for number in range(300)]
    assert all(first.count(base) > 50 for base in ("http://a", "http://b", "http://c"))


def test_without_a_session_the_one_with_the_fewest_in_flight_is_asked() -> None:
    upstreams = Upstreams(["http://a", "http://b", "http://a/v1"])
    with upstreams.one("http://a"):
        assert upstreams.order("") == ["http://b", "http://a"]
        with upstreams.one("http://b"), upstreams.one("http://b"):
            assert upstreams.order("") == ["http://a", "http://b"]
    assert upstreams.in_flight() == {"http://a": 0, "http://b": 0}


def test_a_server_that_refused_is_asked_last_for_a_while() -> None:
    time = 100.0
    upstreams = Upstreams(["http://a", "http://b"], now=lambda: time)
    upstreams.put_aside("http://a")
    assert [upstreams.order(session)[0] for session in ("", "x", "y", "z")] == ["http://b"] * 4
    time += ASIDE_SECONDS
    assert upstreams.order("")[0] == "http://a"


def test_a_server_that_lacks_a_model_is_asked_last_for_that_one_alone_and_it_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.set_up(as_json=True)
    time, lacks = 100.0, {"old"}
    upstreams = Upstreams(["http://a", "http://b"], now=lambda: time)

    async def ask(model: str) -> str:
        """Which server answers."""

        async def at(base: str, others: bool) -> web.Response:
            lacking = base == "http://a" and model in lacks
            if lacking and others:
                raise Lacking(f"it does not have {model}")
            return web.Response(text=base, status=404 if lacking else 200)

        return (await upstreams.first("", at, model)).text or ""

    async def story() -> None:
        nonlocal time
        for _ in range(3):
            assert [await ask(model) for model in ("old", "new", "old", "")] == [
                "http://b",
                "http://a",
                "http://b",
                "http://a",
            ]
            time += ASIDE_SECONDS
        lacks.clear()
        assert await ask("old") == "http://a"
        lacks.add("old")
        assert await ask("old") == "http://b"

    run(story)
    said = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert said.count("gateway.server_aside") == 2
    structlog.reset_defaults()


def test_a_server_that_is_away_costs_no_reply(tmp_path: Path) -> None:
    async def story() -> None:
        async with ScriptedUpstream(says(REPLY)) as second:
            server = {"url": DEAD, "replicas": (second.url,)}
            async with gateway_house(tmp_path, says(REPLY), server=server) as house:
                for number in range(8):
                    assert (await house.post(f"/s/session-{number}/v1/chat/completions", CHAT))[0] == 200
                assert len(second.arrived) == 8
                assert (await house.get("/readyz"))[0] == 200
                assert len(await house.recorded()) == 8

    run(story)


def test_without_any_server_the_caller_is_told_so(tmp_path: Path) -> None:
    async def story() -> None:
        server = {"url": DEAD, "replicas": ("http://127.0.0.1:10",)}
        async with gateway_house(tmp_path, says(REPLY), server=server) as house:
            status, reply = await house.post("/v1/chat/completions", CHAT)
            assert status == 502 and b"127.0.0.1" in reply
            assert (await house.get("/readyz"))[0] == 503

    run(story)


def test_a_session_stays_and_others_go_where_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        never = asyncio.Event()
        async with (
            ScriptedUpstream(says(REPLY)) as second,
            gateway_house(tmp_path, says(REPLY), server={"replicas": (second.url,)}) as house,
        ):
            for _ in range(6):
                await house.post("/v1/chat/completions", CHAT, session_id="one session")
            assert {len(house.upstream.arrived), len(second.arrived)} == {0, 6}

            house.upstream.script = second.script = streams(b"data: 1\n\n", b"", go_on=never)
            before = len(house.upstream.arrived), len(second.arrived)
            headers = {"Content-Type": "application/json"}
            url = f"{house.url}/v1/chat/completions"
            replies = [await house.http.post(url, data=CHAT, headers=headers) for _ in range(4)]
            state = json.loads((await house.get("/admin/state"))[1])
            assert state["servers"] == {house.upstream.url: 2, second.url: 2}
            assert state["in_flight"] == {BASE: 4}
            assert (len(house.upstream.arrived), len(second.arrived)) == (before[0] + 2, before[1] + 2)
            for reply in replies:
                reply.close()
            await until(lambda: house.gateway.in_flight.total() == 0)

    run(story)


@pytest.mark.parametrize("begun", [False, True])
def test_a_server_that_breaks_after_it_took_the_request_is_not_replaced(tmp_path: Path, begun: bool) -> None:
    async def breaks(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if begun:
            await response.prepare(request)
            await response.write(b"data: 1\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def story() -> None:
        async with (
            ScriptedUpstream(breaks) as second,
            gateway_house(tmp_path, breaks, server={"replicas": (second.url,)}) as house,
        ):
            answer = await house.raw(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(CHAT), CHAT)
            )
            assert answer.startswith(b"HTTP/1.1 200" if begun else b"HTTP/1.1 502")
            assert len(house.upstream.arrived) + len(second.arrived) == 1

    run(story)
