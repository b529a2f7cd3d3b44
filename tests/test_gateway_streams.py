"""A streamed reply adds up to what the same API answers without streaming, and says whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.collect.streams import Assembled, assemble, read_json, read_reply
from sleepy_coder.types import WireApi


def sse(*events: dict[str, Any] | str, named: bool = False) -> bytes:
    parts: list[str] = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        name = f"event: {event['type']}\n" if named and isinstance(event, dict) else ""
        parts.append(f"{name}data: {data}\n\n")
    return "".join(parts).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}


CHAT = (
    chunk({"role": "assistant", "content": ""}, None),
    chunk({"reasoning_content": "hm"}),
    chunk({"reasoning_content": "m"}),
    chunk({"content": "Let "}, token_ids=[1]),
    chunk({"content": "me é"}, token_ids=[2, 3]),
    chunk({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "run", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]}),
    chunk({"tool_calls": [{"index": 1, "function": {"name": "run", "arguments": '{"cmd":'}}]}),
    chunk({"tool_calls": [{"index": 1, "function": {"arguments": '"ls"}'}}]}),
    chunk({}, "tool_calls", stop_reason=None),
    {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [], "usage": {"n": 5}},
)
CHAT_WHOLE = {
    "id": "c1",
    "object": "chat.completion",
    "created": 7,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Let me é",
                "reasoning_content": "hmm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "ls", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "run", "arguments": '{"cmd":"ls"}'}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
            "token_ids": [1, 2, 3],
            "stop_reason": None,
        }
    ],
    "usage": {"n": 5},
}

COMPLETIONS = tuple(
    {
        "id": "t",
        "object": "text_completion",
        "model": "m",
        "choices": [{"index": i, "text": text, "finish_reason": end, "logprobs": {"tokens": [text]}}],
    }
    for i, text, end in ((0, "a", None), (1, "x", None), (0, "b", "length"), (1, "y", "stop"))
)
COMPLETIONS_WHOLE = {
    "id": "t",
    "object": "text_completion",
    "model": "m",
    "choices": [
        {"index": 0, "text": "ab", "finish_reason": "length", "logprobs": {"tokens": ["a", "b"]}},
        {"index": 1, "text": "xy", "finish_reason": "stop", "logprobs": {"tokens": ["x", "y"]}},
    ],
}

ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
RESPONSES_WHOLE = {"id": "r1", "object": "response", "model": "m", "status": "completed", "output": [ITEM]}
RESPONSES = (
    {"type": "response.created", "response": {**RESPONSES_WHOLE, "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "content": []}},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "hi"},
    {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
    {"type": "response.completed", "response": RESPONSES_WHOLE},
)

START = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
MESSAGES = (
    {"type": "message_start", "message": {**START, "usage": {"input_tokens": 9, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "me"}},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "ls", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 7},
    },
    {"type": "message_stop"},
)
MESSAGES_WHOLE = {
    **START,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Let me"},
        {"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 7},
}

Case = tuple[WireApi, bytes, Assembled]
CASES: dict[str, Case] = {
    "chat": ("chat", sse(*CHAT, "[DONE]"), Assembled(CHAT_WHOLE, True, "tool_calls")),
    "completions": ("completions", sse(*COMPLETIONS, "[DONE]"), Assembled(COMPLETIONS_WHOLE, True, "length")),
    "responses": ("responses", sse(*RESPONSES, named=True), Assembled(RESPONSES_WHOLE, True, "completed")),
    "messages": ("messages", sse(*MESSAGES, named=True), Assembled(MESSAGES_WHOLE, True, "tool_use")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stream_adds_up_to_the_unstreamed_reply(name: str) -> None:
    wire, stream, whole = CASES[name]
    assert assemble(wire, [stream]) == whole


@pytest.mark.parametrize("name", CASES)
def test_the_sum_and_the_unstreamed_reply_are_judged_alike(name: str) -> None:
    wire, _, whole = CASES[name]
    assert read_reply(wire, json.dumps(whole.response).encode()) == whole


@given(st.sampled_from(sorted(CASES)), st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_chunks_and_line_ends_make_no_difference(name: str, data: st.DataObject, end: bytes) -> None:
    wire, stream, whole = CASES[name]
    stream = stream.replace(b"\n", end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert assemble(wire, pieces) == whole


@given(st.sampled_from(sorted(CASES)), st.data())
def test_a_stream_that_is_cut_before_its_closing_event_is_not_whole(name: str, data: st.DataObject) -> None:
    wire, stream, _ = CASES[name]
    closing = stream.rstrip().rindex(b"data: ")
    assert not assemble(wire, [stream[: data.draw(st.integers(0, closing))]]).whole


@given(st.sampled_from(["chat", "completions", "responses", "messages"]), st.lists(st.binary(max_size=40)))
def test_no_bytes_break_it(wire: WireApi, chunks: Sequence[bytes]) -> None:
    assert not assemble(wire, chunks).whole


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "index", "delta", "choices", "tool_calls", "function", "response", "message", "item", "model"]
                + [
                    "content",
                    "content_block",
                    "usage",
                    "output",
                    "output_index",
                    "input",
                    "status",
                    "incomplete_details",
                ]
            ),
            inner | st.sampled_from(["message_start", "content_block_delta", "response.completed", "input_json_delta"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["chat", "completions", "responses", "messages"]), st.lists(JUNK, max_size=4))
def test_no_event_breaks_it(wire: WireApi, junk: list[Any]) -> None:
    assemble(wire, [sse(*(json.dumps(event) for event in junk))])


ERROR = {"error": {"message": "EngineCore died", "code": 500}}


@pytest.mark.parametrize(
    ("wire", "stream"),
    [
        ("chat", sse(*CHAT[:4], ERROR, "[DONE]")),
        ("chat", sse(*CHAT[:4], chunk({}, "abort"), "[DONE]")),
        ("chat", sse(*CHAT[:4], "[DONE]")),
        ("chat", sse(*CHAT[:4], "{broken", chunk({}, "stop"), "[DONE]")),
        ("chat", sse(CHAT[0], {**chunk({}, "stop"), "model": "another"}, "[DONE]")),
        ("completions", sse(*COMPLETIONS[:3], "[DONE]")),
        ("responses", sse(*RESPONSES[:4], {"type": "response.failed", "response": {**RESPONSES_WHOLE, "error": {}}})),
        ("responses", sse(*RESPONSES[:4], {"type": "error", "message": "x"})),
        ("messages", sse(*MESSAGES[:4], {"type": "error", "error": {"type": "overloaded_error"}})),
        ("messages", sse(*MESSAGES[:10], MESSAGES[10], *MESSAGES[12:])),
    ],
)
def test_errors_aborts_swaps_and_missing_ends_are_not_whole(wire: WireApi, stream: bytes) -> None:
    assert not assemble(wire, [stream]).whole


def test_a_reply_that_ended_at_its_token_limit_is_whole_and_says_so() -> None:
    short = {**RESPONSES_WHOLE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    found = assemble("responses", [sse(*RESPONSES[:4], {"type": "response.incomplete", "response": short})])
    assert (found.whole, found.finish_reason) == (True, "max_output_tokens")


def test_output_that_the_closing_event_leaves_out_is_taken_from_the_items_before() -> None:
    bare = {"type": "response.completed", "response": {**RESPONSES_WHOLE, "output": []}}
    assert assemble("responses", [sse(*RESPONSES[:4], bare)]).response == RESPONSES_WHOLE


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"\xff", b"[" * 100_000])
def test_an_unstreamed_reply_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        read_reply("chat", body)


DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=6)),
    st.builds(lambda text: {"content": text}, st.text(alphabet='ab \\"\n{}:,', max_size=12)),
    st.builds(lambda text: {"reasoning": text}, st.text(alphabet="ab", max_size=3)),
    st.sampled_from(
        [
            {"content": '"delta":{"content":"x"}'},
            {"content": None},
            {"content": "a", "role": "assistant"},
            {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]},
            {},
        ]
    ),
)
EXTRAS = st.sampled_from(
    [
        {},
        {},
        {},
        {"index": 1},
        {"logprobs": {"content": [1]}},
        {"token_ids": [1]},
        {"note": "n"},
        {"finish_reason": "x"},
    ]
)
HEADS = st.sampled_from([{}] * 6 + [{"model": "other"}, {"id": "c2"}, {"usage": {"n": 1}}, {"error": {"message": "x"}}])
STREAMS = st.lists(st.tuples(DELTAS, EXTRAS, HEADS), max_size=12)


@given(STREAMS, st.booleans(), st.sampled_from([None, (",", ":")]))
def test_runs_of_alike_events_add_up_as_each_of_them_does(
    events: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]],
    escaped: bool,
    separators: tuple[str, str] | None,
) -> None:
    chunks = [{**chunk(delta, **{"finish": None}), **head} for delta, _, head in events]
    for made, (_, extra, _) in zip(chunks, events, strict=True):
        made["choices"][0].update(extra)
    said = [json.dumps(made, ensure_ascii=escaped, separators=separators) for made in chunks]
    # A second `delta`, which nobody else looks at, keeps each event from being taken for one of a run.
    alone = [json.dumps({**made, "x": {"delta": 1}}, ensure_ascii=escaped) for made in chunks]
    one, other = (assemble("chat", (sse(*lines, "[DONE]"),)) for lines in (said, alone))
    for answer in (one, other):
        answer.response.pop("x", None)
    assert one == other


@pytest.mark.parametrize("text", ['{"a": "\ud83d"}', '{"a": "\\ud83d"}', b'{"a": "\\ud83d"}'])
def test_half_an_emoji_is_read_as_it_stands_whether_it_is_escaped_or_not(text: str | bytes) -> None:
    assert read_json(text) == {"a": "\ud83d"}


@pytest.mark.parametrize("text", ['{"\ud83d', "[" * 100_000, b"\xff", ""])
def test_what_is_no_json_is_a_value_error_whatever_it_holds(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)
