"""Streams are asked for their token counts, and the caller's reply is byte for byte what it would have been."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fakes import BASE, Arrived
from gateway_house import gateway_house, run
from hypothesis import example, given
from hypothesis import strategies as st
from sleepyd.usage import UsageTaker, ask_usage

ASKS = b'"stream_options":{"include_usage":true},'
COUNTS = {"prompt_tokens": 17, "total_tokens": 20, "completion_tokens": 3}


def like_vllm(
    texts: Sequence[str], finish: str | None, *, asked: bool, chat: bool, fingerprint: str | None, end: str = "\n\n"
) -> bytes:
    """The stream of vLLM 0.32: compact JSON, the fingerprint with the finish reason or else with the counts."""
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {"id": "chatcmpl-1", "object": kind, "created": 7, "model": BASE}
    events: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        last = number == len(texts) - 1
        said = {"delta": {"content": text}} if chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish if last else None}
        events.append({**head, "choices": [choice]})
    if fingerprint and finish and events and not asked:
        events[-1]["system_fingerprint"] = fingerprint
    if asked:
        counts = {**head, "choices": [], "usage": COUNTS}
        events.append({**counts, "system_fingerprint": fingerprint} if fingerprint else counts)
    lines = [json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in events]
    return "".join(f"data: {line}{end}" for line in (*lines, "[DONE]")).encode()


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.sampled_from(['"usage":{', '"choices":[]', '"finish_reason":"stop"', "\n\ndata: ", '{"usage":{"a":1}}']),
    ),
    max_size=5,
)


@given(
    TEXTS,
    st.sampled_from(["stop", "length", "tool_calls", None]),
    st.booleans(),
    st.sampled_from([None, "vllm-0.32-tp1", 'a "quoted" one']),
    st.sampled_from(["\n\n", "\r\n\r\n"]),
    st.lists(st.integers(0, 900), max_size=12),
)
@example(["x"], "stop", True, "fp", "\n\n", [])
def test_what_is_asked_for_is_taken_out_again_whatever_chunks_it_comes_in(
    texts: list[str], finish: str | None, chat: bool, fingerprint: str | None, end: str, cuts: list[int]
) -> None:
    if not (texts and finish):  # then vLLM has no event to put it into, and none is expected to have it
        fingerprint = None
    came = like_vllm(texts, finish, asked=True, chat=chat, fingerprint=fingerprint, end=end)
    wanted = like_vllm(texts, finish, asked=False, chat=chat, fingerprint=fingerprint, end=end)
    taker = UsageTaker()
    places = [0, *sorted(min(cut, len(came)) for cut in cuts), len(came)]
    got = b"".join(taker.feed(came[a:b]) for a, b in zip(places, places[1:], strict=False))
    assert got + taker.rest() == wanted


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_a_stream_without_counts_passes_as_it_is(stream: bytes, cuts: list[int]) -> None:
    taker = UsageTaker()
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = b"".join(taker.feed(stream[a:b]) for a, b in zip(places, places[1:], strict=False))
    assert got + taker.rest() == stream


def test_events_leave_at_once_but_the_last_one_waits_for_the_counts() -> None:
    stream = like_vllm(["a", "b"], "stop", asked=True, chat=True, fingerprint="fp")
    first, last, counts, done = (event + b"\n\n" for event in stream.split(b"\n\n")[:-1])
    taker = UsageTaker()
    assert taker.feed(first) == first
    assert taker.feed(last) == b""
    assert taker.feed(counts) == last.replace(b"]}\n", b'],"system_fingerprint":"fp"}\n')
    assert (taker.feed(done), taker.rest()) == (done, b"")


def test_a_server_that_always_tells_the_counts_goes_on_doing_so() -> None:
    with_counts = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":3}}\n\n'
    stream = with_counts + b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    taker = UsageTaker()
    assert taker.feed(stream) + taker.rest() == stream


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,"model":"m","messages":[]}',
        b' {\n "model":"m",\n "messages": [{"role":"user"}],\n "stream" : true ,"n":1 }\n',
        b'{"messages":[{"content":"a \\"stream\\": false"}],"stream":true,"temperature":0.5}',
        b'{"messages":[],"stream":true,"tools":[{"n":2,"stream":false}]}',
        b'{"stream":false,"messages":[],"stream":true}',
    ],
)
def test_a_stream_that_does_not_speak_of_it_is_asked(body: bytes) -> None:
    asked = ask_usage(body, prompts=False)
    assert asked.replace(ASKS, b"") == body
    assert json.loads(asked) == {**json.loads(body), "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"model":"m","messages":[]}',
        b'{"stream":false,"messages":[]}',
        b'{"stream":true,"messages":[],"stream":false}',
        b'{"messages":[],"tools":[{"stream":true}]}',
        b'{"messages":[{"role":"x","stream":true}]}',
        b'{"tools":{"stream":true},"model":"m"}',
        b'{"stream":true,"messages":[],"n":2}',
        b'{"stream":true,"messages":[],"stream_options":null}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":true}}',
        b'{"stream":true,"messages":[],"stream_options":{"include_usage":false}}',
        b'{"messages":[],"broken":,"stream":[true]}',
    ],
)
def test_any_other_request_stays_as_it_is(body: bytes) -> None:
    assert ask_usage(body, prompts=False) == body


def test_of_several_prompts_nothing_is_asked() -> None:
    assert ask_usage(b'{"stream":true,"prompt":"one"}', prompts=True).startswith(b"{" + ASKS)
    for body in (b'{"stream":true,"prompt":["one","two"]}', b'{"stream":true}'):
        assert ask_usage(body, prompts=True) == body


async def vllm(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
    options = arrived.json.get("stream_options") or {}
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    asked = bool(options.get("include_usage"))
    chat = arrived.target.startswith("/v1/chat")
    for event in like_vllm(["Hel", "lo"], "stop", asked=asked, chat=chat, fingerprint="fp").split(b"\n\n")[:-1]:
        await response.write(event + b"\n\n")
    return response


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("model", ["sleepy-coder", BASE])
def test_the_record_has_the_counts_and_the_reply_is_as_without(tmp_path: Path, path: str, model: str) -> None:
    said = {"messages": []} if "chat" in path else {"prompt": "x"}
    body = json.dumps({"model": model, "stream": True, **said}).encode()
    plain = like_vllm(["Hel", "lo"], "stop", asked=False, chat="chat" in path, fingerprint="fp")

    async def story() -> None:
        async with gateway_house(tmp_path, vllm) as house:
            status, reply = await house.post(path, body)
            assert (status, reply) == (200, plain.replace(BASE.encode(), model.encode()))
            assert ASKS in house.upstream.arrived[0].body
            [kept] = await house.recorded()
            assert kept.request == body.decode()
            assert (kept.tokens_in, kept.tokens_out, kept.whole) == (17, 3, True)

    run(story)


@pytest.mark.parametrize("settings", [{"ask_usage": False}, {"record": False}])
def test_nothing_is_asked_when_it_is_switched_off_or_nothing_is_recorded(
    tmp_path: Path, settings: dict[str, bool]
) -> None:
    body = json.dumps({"model": BASE, "stream": True, "messages": []}).encode()

    async def story() -> None:
        async with gateway_house(tmp_path, vllm, **settings) as house:
            await house.post("/v1/chat/completions", body)
            assert house.upstream.arrived[0].body == body

    run(story)


def test_who_asks_for_the_counts_gets_them(tmp_path: Path) -> None:
    options = {"include_usage": True}
    body = json.dumps({"model": BASE, "stream": True, "messages": [], "stream_options": options}).encode()

    async def story() -> None:
        async with gateway_house(tmp_path, vllm) as house:
            reply = (await house.post("/v1/chat/completions", body))[1]
            assert reply == like_vllm(["Hel", "lo"], "stop", asked=True, chat=True, fingerprint="fp")
            assert (await house.recorded())[0].tokens_out == 3

    run(story)
