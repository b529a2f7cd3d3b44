"""The gateway over real HTTP: what a caller sends arrives, what the model server says comes back, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from fakes import BASE, Arrived, says, streams
from gateway_house import gateway_house, run, until
from sleepyd.serving import InFlight, Serving
from test_registry import House

from sleepy_coder import log
from sleepy_coder.errors import AdapterError

CHAT = b'{"model": "sleepy-coder",  "messages":[{"role":"user","content":"\\u00e9 caf\xc3\xa9"}], "n": 1e0}'
REPLY = b'{"id":"c1", "object":"chat.completion","model":"sleepy-base","choices":[]}'


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    log.set_up(as_json=True)
    yield
    structlog.reset_defaults()


def event(model: str, text: str = "hi") -> bytes:
    delta = json.dumps({"index": 0, "delta": {"content": text}})
    return f'data: {{"object":"chat.completion.chunk","model":"{model}","choices":[{delta}]}}\n\n'.encode()


# What passes


@pytest.mark.parametrize(
    "path", ["chat/completions", "completions", "responses", "messages?beta=true", "future/x%2Fy?z="]
)
def test_every_path_is_passed_with_its_query_and_only_the_alias_becomes_another_name(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            status, reply = await house.post(f"/v1/{path}", CHAT)
            [arrived] = house.upstream.arrived
            assert arrived.target == f"/v1/{path}"
            assert arrived.body == CHAT.replace(b"sleepy-coder", BASE.encode())
            assert (status, reply) == (200, REPLY.replace(BASE.encode(), b"sleepy-coder"))

    run(story)


def test_another_model_and_its_reply_pass_untouched(tmp_path: Path) -> None:
    async def story() -> None:
        body = CHAT.replace(b"sleepy-coder", b"sleepy-base")
        async with gateway_house(tmp_path, says(REPLY)) as house:
            assert await house.post("/v1/chat/completions", body) == (200, REPLY)
            assert house.upstream.arrived[0].body == body

    run(story)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "REPORT"])
def test_every_method_is_passed_with_its_body(tmp_path: Path, method: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"made", status=201, Content_Type="text/x")) as house:
            async with house.http.request(method, f"{house.url}/v1/files/1", data=b"\x00\xff" * 40_000) as reply:
                assert (reply.status, await reply.read()) == (201, b"made")
            [arrived] = house.upstream.arrived
            assert (arrived.method, arrived.body) == (method, b"\x00\xff" * 40_000)

    run(story)


def test_head_and_empty_answers_pass(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"four", X_Extra="1")) as house:
            async with house.http.head(f"{house.url}/v1/files/1") as reply:
                assert (reply.status, reply.headers["Content-Length"], reply.headers["X-Extra"]) == (200, "4", "1")
            house.upstream.script = says(b"", status=204)
            async with house.http.delete(f"{house.url}/v1/files/1") as reply:
                assert (reply.status, await reply.read()) == (204, b"")

    run(story)


def test_errors_pass_with_status_reason_headers_and_body(tmp_path: Path) -> None:
    body = b'{"error": {"message": "too long",  "code": 400}}'

    async def story() -> None:
        async with gateway_house(tmp_path, says(body, status=429, Retry_After="7", X_Request_Id="r")) as house:
            headers = {"Content-Type": "application/json"}
            async with house.http.post(f"{house.url}/v1/responses", data=CHAT, headers=headers) as reply:
                assert (reply.status, reply.reason, await reply.read()) == (429, "Too Many Requests", body)
                assert (reply.headers["Retry-After"], reply.headers["X-Request-Id"]) == ("7", "r")

    run(story)


def test_redirects_and_cookies_are_the_callers_business(tmp_path: Path) -> None:
    async def story() -> None:
        script = says(b"", status=307, Location="/elsewhere", Set_Cookie="a=b")
        async with gateway_house(tmp_path, script) as house:
            for _ in range(2):
                async with house.http.get(f"{house.url}/v1/x", allow_redirects=False) as reply:
                    assert (reply.status, reply.headers["Location"]) == (307, "/elsewhere")
            house.http.cookie_jar.clear()
            assert [arrived.header("Cookie") for arrived in house.upstream.arrived][:1] == [None]
            assert len(house.upstream.arrived) == 2

    run(story)


def test_a_large_request_passes_whole_also_for_a_client_that_waits_to_be_told_to_send_it(tmp_path: Path) -> None:
    body = CHAT.replace(b"caf", b"c" * (3 << 20))

    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            headers = {"Content-Type": "application/json"}
            url = f"{house.url}/v1/chat/completions"
            async with house.http.post(url, data=_pieces(body), headers=headers, expect100=True) as reply:
                assert reply.status == 200
            assert house.upstream.arrived[0].body == body.replace(b"sleepy-coder", BASE.encode())

    run(story)


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


def test_a_compressed_request_arrives_readable(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            url = f"{house.url}/v1/chat/completions"
            async with house.http.post(url, data=gzip.compress(CHAT), headers=headers) as reply:
                assert reply.status == 200
            [arrived] = house.upstream.arrived
            assert arrived.body == CHAT.replace(b"sleepy-coder", BASE.encode())
            assert arrived.header("Content-Encoding") is None

    run(story)


def test_a_compressed_reply_passes_as_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        packed = gzip.compress(REPLY)
        async with gateway_house(tmp_path, says(packed, Content_Encoding="gzip")) as house:
            assert await house.post("/v1/chat/completions", CHAT) == (200, packed)

    run(story)


def test_a_header_that_is_no_text_does_not_stop_a_request(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"fine", X_Name="caf\u00e9")) as house:
            head = b"GET /v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            reply = await house.raw(head + b"X-Bad: \xff\r\nX-Good: caf\xc3\xa9\r\nUser-Agent: \xff\r\n\r\n")
            assert reply.startswith(b"HTTP/1.1 200") and b"X-Name: caf\xc3\xa9\r\n" in reply
            [arrived] = house.upstream.arrived
            assert (arrived.header("X-Good"), arrived.header("X-Bad")) == ("caf\u00e9", None)

    run(story)


# Streams


def test_events_come_through_one_by_one_as_they_are_sent(tmp_path: Path) -> None:
    async def story() -> None:
        go_on = asyncio.Event()
        script = streams(
            event(BASE, "a"), event(BASE, "b")[:30], event(BASE, "b")[30:], b"data: [DONE]\n\n", go_on=go_on
        )
        async with gateway_house(tmp_path, script) as house:
            headers = {"Content-Type": "application/json"}
            async with house.http.post(f"{house.url}/v1/chat/completions", data=CHAT, headers=headers) as reply:
                assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                # The model server has not sent the next chunk yet: nothing here waits for it.
                assert await reply.content.readany() == event("sleepy-coder", "a")
                go_on.set()
                await until(lambda: not go_on.is_set())
                go_on.set()
                assert await reply.content.readany() == event("sleepy-coder", "b")
                go_on.set()
                assert await reply.content.read() == b"data: [DONE]\n\n"

    run(story)


def test_headers_of_a_stream_do_not_wait_for_its_first_event(tmp_path: Path) -> None:
    async def story() -> None:
        go_on = asyncio.Event()

        async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            writer = await response.prepare(request)
            assert writer is not None
            writer.send_headers()
            await go_on.wait()
            await response.write(event("other"))
            return response

        async with (
            gateway_house(tmp_path, script) as house,
            house.http.post(f"{house.url}/v1/x", data=b"{}") as reply,
        ):
            go_on.set()
            assert await reply.read() == event("other")

    run(story)


def test_a_caller_that_hangs_up_cancels_its_request_at_the_model_server(tmp_path: Path) -> None:
    async def story() -> None:
        never = asyncio.Event()
        async with gateway_house(tmp_path, streams(event(BASE), b"", go_on=never)) as house:
            headers = {"Content-Type": "application/json"}
            reply = await house.http.post(f"{house.url}/v1/chat/completions", data=CHAT, headers=headers)
            await reply.content.readany()
            assert house.gateway.in_flight.all() == {BASE: 1}
            reply.close()
            await until(lambda: house.upstream.cancelled == 1)
            await until(lambda: house.gateway.in_flight.total() == 0)

    run(story)


def test_a_caller_that_hangs_up_before_the_first_byte_cancels_as_well(tmp_path: Path) -> None:
    async def story() -> None:
        async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        async with gateway_house(tmp_path, script) as house:
            _, writer = await house.connect()
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: len(house.upstream.arrived) == 1)
            writer.close()
            await until(lambda: house.upstream.cancelled == 1)
            await until(lambda: house.meters.value("sleepy_gateway_requests_total", wire="other", status="499") == 1)

    run(story)


@pytest.mark.parametrize("asked", [b"sleepy-coder", b"sleepy-base"])
def test_a_stream_that_breaks_off_does_not_look_finished(tmp_path: Path, asked: bytes) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, streams(event(BASE), breaks=True)) as house:
            body = CHAT.replace(b"sleepy-coder", asked)
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            reader, writer = await house.connect()
            writer.write(head + body)
            got = b""
            try:
                while piece := await reader.read(1 << 16):
                    got += piece
            except ConnectionResetError:
                pass
            writer.close()
            assert got.startswith(b"HTTP/1.1 200 OK\r\n") and event(asked.decode()) in got
            assert not got.endswith(b"0\r\n\r\n")
            await until(lambda: house.gateway.in_flight.total() == 0)

    run(story)


# The adapter behind the alias


def test_the_alias_follows_the_registry_and_a_request_ends_on_the_adapter_it_began_with(
    tmp_path: Path, house: House
) -> None:
    async def story() -> None:
        one, two = house.stage(1), house.stage(2)
        go_on = asyncio.Event()
        async with gateway_house(tmp_path, streams(event(one.name), event(one.name), go_on=go_on)) as gateway:
            gateway.registry.activate(one.name)
            headers = {"Content-Type": "application/json"}
            url = f"{gateway.url}/v1/chat/completions"
            async with gateway.http.post(url, data=CHAT, headers=headers) as first:
                assert await first.content.readany() == event("sleepy-coder")
                gateway.registry.activate(two.name)
                gateway.upstream.script = says(REPLY.replace(BASE.encode(), two.name.encode()))
                _, reply = await gateway.post("/v1/chat/completions", CHAT)
                assert json.loads(reply)["model"] == "sleepy-coder"
                assert gateway.gateway.in_flight.all() == {one.name: 1}
                go_on.set()
                assert await first.content.read() == event("sleepy-coder")
            await until(lambda: gateway.gateway.in_flight.of(one.name) == 0)
            gateway.registry.rollback()
            await gateway.post("/v1/chat/completions", CHAT)
            asked = [arrived.json["model"] for arrived in gateway.upstream.arrived]
            assert asked == [one.name, two.name, one.name]

    run(story)


def test_promotions_under_load_lose_nothing_and_mix_nothing(tmp_path: Path, house: House) -> None:
    async def echo(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        model = arrived.json["model"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in (*(event(model, f"{model} ") for _ in range(5)), b"data: [DONE]\n\n"):
            await response.write(part)
            await asyncio.sleep(0)
        return response

    async def story() -> None:
        names = [house.stage(number).name for number in (1, 2)]
        async with gateway_house(tmp_path, echo, queue_size=1000) as gateway:
            replies: list[bytes] = []

            async def work(place: int) -> None:
                for turn in range(10):
                    if turn % 2:
                        gateway.registry.activate(names[(place + turn // 2) % 2])
                    status, reply = await gateway.post("/v1/chat/completions", CHAT)
                    assert status == 200
                    replies.append(reply)

            await asyncio.gather(*(work(place) for place in range(8)))
            await until(lambda: gateway.gateway.in_flight.total() == 0)
            whole = {name: b"".join([event("sleepy-coder", f"{name} ")] * 5) for name in (BASE, *names)}
            assert set(replies) <= {reply + b"data: [DONE]\n\n" for reply in whole.values()}
            assert len(replies) == 80
            asked = sorted(arrived.json["model"] for arrived in gateway.upstream.arrived)
            assert sorted(kept.served_by for kept in await gateway.recorded()) == asked
            assert set(names) <= set(asked)

    run(story)


def test_a_request_without_a_model_gets_the_serving_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            _, reply = await house.post("/v1/messages", b'{"max_tokens":5}')
            assert house.upstream.arrived[0].body == b'{"model":"sleepy-base","max_tokens":5}'
            assert json.loads(reply)["model"] == "sleepy-coder"

    run(story)


def test_the_models_are_listed_with_the_alias(tmp_path: Path) -> None:
    async def story() -> None:
        listing = {"object": "list", "data": [{"id": BASE, "max_model_len": 99}]}
        async with gateway_house(tmp_path, says(json.dumps(listing).encode())) as house:
            _, reply = await house.get("/v1/models")
            cards = json.loads(reply)["data"]
            assert [(card["id"], card["max_model_len"]) for card in cards] == [("sleepy-coder", 99), (BASE, 99)]

    run(story)


def test_the_last_known_adapter_goes_on_serving_when_the_pointer_cannot_be_read(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True)
    adapter = house.stage(1)
    house.registry.activate(adapter.name)
    serving = Serving(house.registry, BASE)
    for file in ("active.json", "active.twin.json"):
        (adapter.path.parent / file).write_text("broken")
    assert serving.name() == serving.name() == adapter.name
    assert capsys.readouterr().err.count("gateway.pointer_unreadable") == 1
    with pytest.raises(AdapterError):
        Serving(house.registry, BASE)


def test_a_switch_that_could_not_be_read_is_seen_when_it_can_be(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = house.registry.activate(house.stage(1).name)
    serving = Serving(house.registry, BASE)
    second = house.registry.activate(house.stage(2).name)

    def too_many_files() -> None:
        raise AdapterError("active.json cannot be read (too many open files)")

    monkeypatch.setattr("sleepyd.serving._RETRY_SECONDS", 0.0)
    with monkeypatch.context() as busy:
        busy.setattr(house.registry, "pointer", too_many_files)
        assert serving.name() == first.name
    assert serving.name() == second.name


def test_requests_in_flight_are_counted_by_model() -> None:
    in_flight = InFlight()
    with in_flight.one("a"), in_flight.one("b"), in_flight.one("a"):
        assert (in_flight.of("a"), in_flight.all(), in_flight.total()) == (2, {"a": 2, "b": 1}, 3)
    assert (in_flight.of("a"), in_flight.all()) == (0, {})


# What is refused


def test_a_model_server_that_does_not_answer_is_a_502_that_says_where(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), server={"url": "http://127.0.0.1:9/v1"}) as house:
            status, reply = await house.post("/v1/chat/completions", CHAT)
            assert status == 502 and "http://127.0.0.1:9" in json.loads(reply)["error"]["message"]
            assert (await house.get("/readyz"))[0] == 503
            assert (await house.get("/healthz"))[0] == 200
            assert await house.recorded() == []

    run(story)


@pytest.mark.parametrize("path", ["/pause", "/v1/../pause", "/", "/metricsx", "/admin/x"])
def test_paths_outside_of_v1_are_not_passed(tmp_path: Path, path: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            reply = await house.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert reply.startswith(b"HTTP/1.1 404")
            assert house.upstream.arrived == []

    run(story)


def test_nobody_changes_the_adapters_through_the_gateway(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            assert (await house.post("/v1/unload_lora_adapter", b'{"lora_name":"x"}'))[0] == 403
            assert house.upstream.arrived == []

    run(story)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_limit_is_a_413_that_names_the_setting(tmp_path: Path, announced: bool) -> None:
    async def story() -> None:
        body = b"x" * ((1 << 20) + 1)
        async with gateway_house(tmp_path, says(b""), max_body_mib=1) as house:
            data = io.BytesIO(body) if announced else _pieces(body)
            async with house.http.post(f"{house.url}/v1/x", data=data) as reply:
                assert reply.status == 413
                assert "gateway.max_body_mib" in (await reply.json())["error"]["message"]
            assert house.upstream.arrived == []

    run(story)


def test_a_gateway_with_a_key_asks_everyone_for_it_and_keeps_it_to_itself(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY), api_key="s3cret-key", server={"api_key": "server"}) as house:
            for path in ("/v1/models", "/metrics", "/admin/state"):
                assert (await house.get(path))[0] == 401
                assert (await house.get(path, Authorization="Bearer wrong"))[0] == 401
            assert house.upstream.arrived == []
            assert (await house.get("/healthz"))[0] == 200
            for headers in ({"Authorization": "Bearer s3cret-key"}, {"x_api_key": "s3cret-key"}):
                assert (await house.get("/metrics", **headers))[0] == 200
                assert (await house.get("/admin/state", **headers))[0] == 200
                assert (await house.get("/v1/models", **headers))[0] == 200
            for arrived in house.upstream.arrived:
                assert arrived.header("Authorization") == "Bearer server"
                assert "s3cret-key" not in str(arrived)

    run(story)


def test_a_browser_may_ask_without_the_key_whether_it_may_ask(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), api_key="s3cret-key") as house:
            asks = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
            async with house.http.options(house.url + "/v1/chat/completions", headers=asks) as reply:
                assert reply.status == 200
            async with house.http.options(house.url + "/v1/chat/completions") as reply:
                assert reply.status == 401
            assert [arrived.method for arrived in house.upstream.arrived] == ["OPTIONS"]

    run(story)


def test_without_a_key_the_callers_own_credentials_pass(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY), server={"api_key": "server"}) as house:
            await house.post("/v1/messages", CHAT, Authorization="Bearer mine", x_api_key="mine too")
            [arrived] = house.upstream.arrived
            assert (arrived.header("Authorization"), arrived.header("x-api-key")) == ("Bearer mine", "mine too")

    run(story)


# Its own pages


def test_the_pages_say_what_is_going_on(tmp_path: Path) -> None:
    async def story() -> None:
        go_on = asyncio.Event()
        async with gateway_house(tmp_path, streams(event(BASE), b"data: [DONE]\n\n", go_on=go_on)) as house:
            headers = {"Content-Type": "application/json"}
            async with house.http.post(f"{house.url}/v1/completions", data=CHAT, headers=headers) as reply:
                await reply.content.readany()
                state = json.loads((await house.get("/admin/state"))[1])
                page = (await house.get("/metrics"))[1].decode()
                go_on.set()
                await reply.read()
            assert state["in_flight"] == {BASE: 1} and state["serving"] == BASE and state["recording"]
            assert f'sleepy_gateway_in_flight{{model="{BASE}"}} 1.0' in page
            assert "sleepy_gateway_queue_depth" in page
            await until(lambda: house.meters.value("sleepy_gateway_added_seconds_count") == 1)
            counted = house.meters.value("sleepy_gateway_requests_total", wire="completions", status="200")
            assert counted == 1
            assert (await house.get("/readyz"))[0] == 200

    run(story)
