"""A redacted copy of what passes is kept, off the reply's path; what cannot be kept safely is not kept."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from fakes import BASE, FakeRedactor, says, streams
from gateway_house import GatewayHouse, gateway_house, run, until
from sleepyd.capture import Capture
from sleepyd.meters import Meters
from sleepyd.recorder import Recorder
from sleepyd.watch import heard_by
from test_watch import Watching

from sleepy_coder import log
from sleepy_coder.config import GatewaySettings
from sleepy_coder.errors import StoreError
from sleepy_coder.types import Exchange, WireApi

CHAT = json.dumps({"model": "sleepy-coder", "messages": [{"role": "user", "content": "my password is hunter2"}]})
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "model": BASE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hunter2?"}, "finish_reason": "stop"}],
}
DELTAS = ({"role": "assistant", "content": "hunt"}, {"content": "er2?"})


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "model": BASE, "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


STREAM = (*map(event, DELTAS), event({}, "stop"), b"data: [DONE]\n\n")


def lost(house: GatewayHouse, reason: str) -> float:
    return house.meters.value("sleepy_gateway_dropped_total", reason=reason)


def test_request_and_reply_are_kept_with_where_they_came_from_and_without_secrets(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(json.dumps(REPLY).encode())) as house:
            await house.post(
                "/s/run-7/v1/chat/completions?key=hunter2",
                CHAT.encode(),
                User_Agent="aider/0.86",
                Authorization="Bearer private",
                Cookie="c=private",
                x_api_key="private",
                x_sleepy_purpose="eval",
            )
            [kept] = await house.recorded()
            assert house.upstream.arrived[0].target == "/v1/chat/completions?key=hunter2"
            assert json.loads(kept.request) == json.loads(CHAT.replace("hunter2", "<SECRET:password:1>"))
            assert json.loads(kept.response)["choices"][0]["message"]["content"] == "<SECRET:password:1>?"
            assert "private" not in kept.model_dump_json() and "hunter2" not in kept.model_dump_json()
            assert (kept.session, kept.session_source, kept.agent, kept.purpose) == (
                "run-7",
                "path",
                "aider/0.86",
                "eval",
            )
            assert (kept.wire, kept.path, kept.status) == ("chat", "/v1/chat/completions", 200)
            assert (kept.asked_model, kept.served_by) == ("sleepy-coder", BASE)
            assert (kept.streamed, kept.whole, kept.finish_reason) == (False, True, "stop")
            assert 0 < kept.first_byte_seconds <= kept.seconds
            assert kept.id == house.upstream.arrived[0].header("X-Request-Id")

    run(story)


def test_a_stream_is_kept_as_the_reply_that_it_adds_up_to(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, streams(*STREAM)) as house:
            await house.post("/v1/chat/completions", CHAT.encode())
            [kept] = await house.recorded()
            assert json.loads(kept.response.replace("<SECRET:password:1>", "hunter2")) == REPLY
            assert (kept.streamed, kept.whole, kept.session_source) == (True, True, "prefix")

    run(story)


def test_a_caller_that_hangs_up_right_after_the_closing_event_loses_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        never = asyncio.Event()
        script = streams(b"".join(STREAM), b"", go_on=never)
        async with gateway_house(tmp_path, script) as house:
            headers = {"Content-Type": "application/json"}
            reply = await house.http.post(f"{house.url}/v1/chat/completions", data=CHAT.encode(), headers=headers)
            got = b""
            while b"[DONE]" not in got:
                got += await reply.content.readany()
            reply.close()
            await until(lambda: house.gateway.in_flight.total() == 0)
            [kept] = await house.recorded()
            assert kept.whole

    run(story)


@pytest.mark.parametrize("breaks", [True, False])
def test_a_reply_that_is_cut_off_is_kept_as_not_whole(tmp_path: Path, breaks: bool) -> None:
    async def story() -> None:
        never = asyncio.Event()
        script = streams(*STREAM[:2], breaks=True) if breaks else streams(STREAM[0], b"", go_on=never)
        async with gateway_house(tmp_path, script) as house:
            headers = {"Content-Type": "application/json"}
            reply = await house.http.post(f"{house.url}/v1/chat/completions", data=CHAT.encode(), headers=headers)
            await reply.content.readany()
            reply.close()
            await until(lambda: house.gateway.in_flight.total() == 0)
            [kept] = await house.recorded()
            assert not kept.whole and kept.status == 200

    run(story)


def test_an_error_of_the_model_server_is_kept_as_not_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b'{"error":{"message":"too long"}}', status=400)) as house:
            await house.post("/v1/responses", CHAT.encode())
            [kept] = await house.recorded()
            assert (kept.status, kept.whole, json.loads(kept.response)["error"]) == (
                400,
                False,
                {"message": "too long"},
            )

    run(story)


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/models", "GET"), ("/v1/embeddings", "POST"), ("/v1/responses/r1", "GET")]
)
def test_what_is_no_conversation_passes_without_a_copy(tmp_path: Path, path: str, method: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b'{"data":[]}')) as house:
            async with house.http.request(method, house.url + path, data=b"{}" if method == "POST" else None) as reply:
                assert reply.status == 200
            assert await house.recorded() == []

    run(story)


# What is not kept


def test_recording_can_be_switched_off(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(json.dumps(REPLY).encode()), record=False) as house:
            assert (await house.post("/v1/chat/completions", CHAT.encode()))[0] == 200
            assert json.loads((await house.get("/admin/state"))[1])["recording"] is False
            assert await house.recorded() == []

    run(story)


class Tearing:
    """A redactor that leaves no JSON."""

    def redact(self, text: str) -> str:
        return text[: len(text) // 2]


@pytest.mark.parametrize(
    ("redactor", "body", "reply", "status", "reason"),
    [
        (FakeRedactor(), CHAT.replace("hunter2", "-----BEGIN PRIVATE KEY-----"), json.dumps(REPLY), 200, "secret"),
        (FakeRedactor(fails=RuntimeError("bug")), CHAT, json.dumps(REPLY), 200, "redaction_failed"),
        (Tearing(), CHAT, json.dumps(REPLY), 200, "redaction_failed"),
        (FakeRedactor(), "not json", json.dumps(REPLY), 200, "unreadable"),
        (FakeRedactor(), "[1]", json.dumps(REPLY), 200, "unreadable"),
        (FakeRedactor(), CHAT, "<html>", 502, "unreadable"),
        (FakeRedactor(), CHAT, "{}", 401, "not_authorised"),
        (FakeRedactor(), CHAT, json.dumps({**REPLY, "x": "x" * (1 << 20)}), 200, "too_large"),
    ],
)
def test_what_cannot_be_kept_passes_all_the_same_and_is_counted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    redactor: FakeRedactor,
    body: str,
    reply: str,
    status: int,
    reason: str,
) -> None:
    log.set_up(as_json=True)

    async def story() -> None:
        async with gateway_house(
            tmp_path, says(reply.encode(), status=status), redactor=redactor, record_mib=1
        ) as house:
            got, answer = await house.post("/v1/chat/completions", body.encode())
            assert (got, answer) == (status, reply.replace(f'"model": "{BASE}"', '"model": "sleepy-coder"').encode())
            assert await house.recorded() == []
            assert lost(house, reason) == 1

    run(story)
    said = capsys.readouterr().err
    lines = [json.loads(line) for line in said.splitlines()]
    assert any(line["event"] == "exchange.dropped" and line["reason"] == reason for line in lines)
    assert "hunter2" not in said


def test_a_broken_disk_costs_the_copies_and_no_reply(tmp_path: Path) -> None:
    def full(exchanges: Sequence[Exchange]) -> None:
        raise StoreError("database or disk is full")

    async def story() -> None:
        async with gateway_house(tmp_path, says(json.dumps(REPLY).encode()), save=full) as house:
            for _ in range(3):
                assert (await house.post("/v1/chat/completions", CHAT.encode()))[0] == 200
            await house.recorded()
            assert lost(house, "store") == 3
            assert house.meters.value("sleepy_gateway_recorded_total") == 0

    run(story)


def test_a_store_that_hangs_fills_the_queue_and_delays_no_reply(tmp_path: Path) -> None:
    async def story() -> None:
        released, entered = threading.Event(), threading.Event()
        saved: list[Exchange] = []

        def slow(exchanges: Sequence[Exchange]) -> None:
            entered.set()
            released.wait()
            saved.extend(exchanges)

        async with gateway_house(tmp_path, says(json.dumps(REPLY).encode()), save=slow, queue_size=2) as house:
            try:
                await house.post("/v1/chat/completions", CHAT.encode())
                await until(entered.is_set)
                for _ in range(5):
                    assert (await house.post("/v1/chat/completions", CHAT.encode()))[0] == 200
                assert json.loads((await house.get("/admin/state"))[1])["waiting"] == 2
                assert lost(house, "queue_full") == 3
            finally:
                released.set()
            await house.recorded()
            assert len(saved) == 3

    run(story)


def capture(number: int, size: int) -> Capture:
    return answered(asked(number, b'{"x":"%s"}' % (b"x" * size)), json.dumps(REPLY).encode(), "application/json")


def asked(number: int, request: bytes, wire: WireApi = "chat", served: str = BASE) -> Capture:
    return Capture(
        id=str(number),
        wire=wire,
        tag="",
        path="/v1/chat/completions",
        asked="",
        served=served,
        headers={},
        request=request,
        started=datetime(2026, 11, 24, tzinfo=UTC),
        limit=1 << 30,
    )


def answered(taken: Capture, reply: bytes, content_type: str) -> Capture:
    taken.status, taken.content_type = 200, content_type
    taken.add(reply)
    taken.end()
    return taken


def test_memory_bounds_the_queue_as_well_as_numbers_do() -> None:
    saved: list[Exchange] = []
    meters = Meters()
    recorder = Recorder(saved.extend, FakeRedactor(), GatewaySettings(queue_mib=1), meters)
    for number in range(3):
        recorder.offer(capture(number, 400_000))
    assert recorder.depth == 2
    recorder.start()
    assert recorder.close() == 0
    assert [exchange.id for exchange in saved] == ["0", "1"]
    assert meters.value("sleepy_gateway_dropped_total", reason="queue_full") == 1


# What must not end the thread


def one_by_one(save: Callable[[Sequence[Exchange]], object], *captures: Capture) -> Meters:
    """Record each capture in a round of its own."""
    meters, entered = Meters(), threading.Event()

    def saving(exchanges: Sequence[Exchange]) -> None:
        entered.set()
        save(exchanges)

    with Recorder(saving, FakeRedactor(), GatewaySettings(), meters) as recorder:
        for taken in captures:
            entered.clear()
            recorder.offer(taken)
            assert entered.wait(30)
    return meters


def test_what_saving_stumbles_over_is_counted_and_the_next_exchange_is_kept() -> None:
    saved: list[str] = []

    def save(exchanges: Sequence[Exchange]) -> None:
        if exchanges[0].id == "1":
            raise RuntimeError("a mistake of ours")
        saved.extend(exchange.id for exchange in exchanges)

    meters = one_by_one(save, capture(1, 100), capture(2, 100))
    assert saved == ["2"]
    assert meters.value("sleepy_gateway_dropped_total", reason="store") == 1


@pytest.mark.parametrize("raised", [OSError("No space left on device"), RuntimeError("a mistake of ours")])
def test_a_log_that_refuses_costs_no_exchange_but_those_that_the_disk_did(raised: Exception) -> None:
    saved: list[str] = []

    def refuses(*_: object) -> str:
        raise raised

    def save(exchanges: Sequence[Exchange]) -> None:
        if exchanges[0].id == "1":
            raise StoreError("database or disk is full")
        saved.extend(exchange.id for exchange in exchanges)

    structlog.configure(processors=[refuses])
    one_by_one(save, capture(1, 100), capture(2, 100), capture(3, 100))
    assert saved == ["2", "3"]


def calling(number: int, served: str, arguments: str) -> Capture:
    """A streamed reply over the API of messages that calls a tool with these arguments."""
    block = {"type": "tool_use", "id": "t", "name": "write", "input": {}}
    message = {"id": "m", "type": "message", "role": "assistant", "model": served, "content": [], "usage": {}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": arguments}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    stream = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)
    return answered(asked(number, CHAT.encode(), "messages", served), stream, "text/event-stream")


def test_half_an_emoji_in_a_tool_call_is_heard_like_any_other_while_a_canary_runs(tmp_path: Path) -> None:
    watching = Watching(tmp_path)
    _, new = watching.promote(1, 2)
    for number in (1, 2):
        watching.serving.note(str(number), f"s{number}")
    save = heard_by(watching.store.save_exchanges, watching.watch)
    one_by_one(save, calling(1, new, '{"text": "half \\ud83d"}'), calling(2, new, '{"text": "whole"}'))
    with watching.store as store:
        assert [(kept.id, kept.whole) for kept in store.exchanges()] == [("1", True), ("2", True)]


def test_a_watch_that_stumbles_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbles(_: object) -> None:
        raise TypeError("nobody thought of this")

    watching = Watching(tmp_path)
    monkeypatch.setattr(watching.watch, "hear", stumbles)
    meters = one_by_one(heard_by(watching.store.save_exchanges, watching.watch), capture(1, 100), capture(2, 100))
    with watching.store as store:
        assert [kept.id for kept in store.exchanges()] == ["1", "2"]
    assert meters.value("sleepy_gateway_recorded_total") == 2
