"""What a reply says in the end: streamed ones added up to the form in which the same API answers unstreamed.

Pure, and forgiving: a reply that breaks off gives what there is, with `whole` False. The rules of `whole` are
those of docs/gateway.md: every choice has its finish reason, none is "abort", no event is an error or
unreadable, one model answered, and the closing event of the API came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from pydantic_core import from_json

from sleepy_coder.collect.sse import event_data
from sleepy_coder.collect.stream_runs import TextRun
from sleepy_coder.collect.wire_values import Json, object_of, objects
from sleepy_coder.types import WireApi

_DONE: Final = "[DONE]"
_SAID_ONCE: Final = frozenset(("role", "id", "type", "name"))
_REPLACED: Final = frozenset(("finish_reason", "stop_reason"))
_PIECES_OF_BLOCKS: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_ENDS_OF_RESPONSES: Final = ("response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True, slots=True)
class Assembled:
    """A reply as one JSON object, whether all of it is there, and why it ended (in the API's own word)."""

    response: Json
    whole: bool
    finish_reason: str


def read_reply(wire: WireApi, body: bytes) -> Assembled:
    """An unstreamed reply. Raises ValueError when it is not a JSON object."""
    answer = read_json(body)
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    return _judged(wire, cast(Json, answer), closed=True)


def assemble(wire: WireApi, chunks: Iterable[bytes]) -> Assembled:
    """A streamed reply. How its bytes are cut into chunks makes no difference."""
    state, run = _State(), TextRun()
    for data in event_data(chunks):
        if run.takes(data):
            continue
        run.flush()
        if data == _DONE:
            state.closed = state.closed or wire not in ("responses", "messages")
            continue
        event = object_in(data)
        if event is None or event.get("error") or event.get("type") == "error":
            state.broken = True
            if event is not None:
                state.answer.setdefault("error", event.get("error") or event)
            continue
        choices = objects(event.get("choices")) if wire == "chat" else []
        state.broken |= not _ADDERS.get(wire, _add_chat)(state, event)
        if len(choices) == 1:
            run.begin(data, choices[0], object_of(state.parts[_index(choices[0])].get("delta")))
    run.flush()
    answer = _FINISHERS.get(wire, _finish_chat)(state)
    return _judged(wire, answer, closed=state.closed and not state.broken)


@dataclass(slots=True)
class _State:
    """What has come of a stream so far. `parts` are choices, output items or content blocks by index."""

    answer: Json = field(default_factory=dict[str, Any])
    parts: dict[int, Json] = field(default_factory=dict[int, Json])
    closed: bool = False
    broken: bool = False


def read_json(text: str | bytes) -> object:
    """Any JSON, fast. Raises ValueError."""
    try:
        return from_json(text)
    except (ValueError, TypeError):
        # The standard library takes some that pydantic does not: very deep nesting, and half surrogate pairs, which
        # are no str for pydantic where they stand in one, and no JSON where they are escaped.
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def object_in(data: str) -> Json | None:
    """The JSON object in `data`; None when it is none."""
    try:
        event = read_json(data)
    except ValueError:
        return None
    return cast(Json, event) if isinstance(event, dict) else None


def _index(event: Json, name: str = "index") -> int:
    value: object = event.get(name)
    return value if isinstance(value, int) else 0


# Chat completions and completions


def _add_chat(state: _State, event: Json) -> bool:
    """Add a chunk. False when another model than before answers in it."""
    answer = state.answer
    choices = event.pop("choices", None)
    model = event.get("model")
    before = answer.get("model")
    for name, value in event.items():
        if value is not None or name not in answer:
            answer[name] = value
    for choice in objects(choices):
        index = choice["index"] = _index(choice)
        part = state.parts.get(index)
        if part is None:
            part = state.parts[index] = {}
        _merge(part, choice)
    return not model or before is None or before == model


def _merge(whole: Json, piece: Json) -> None:
    """Add a delta: texts and lists grow, objects merge, everything else is replaced."""
    for name, value in piece.items():
        if value is None:
            whole.setdefault(name, None)
            continue
        old = whole.get(name)
        if isinstance(value, str):
            if not isinstance(old, str) or name in _REPLACED:
                whole[name] = value
            else:
                # Some servers repeat the name of a tool in every piece of its call.
                whole[name] = old or value if name in _SAID_ONCE else old + value
        elif isinstance(value, dict):
            inner = whole[name] = cast(Json, old) if isinstance(old, dict) else {}
            _merge(inner, cast(Json, value))
        elif not isinstance(value, list):
            whole[name] = value
        elif name == "tool_calls":
            _merge_calls(whole, objects(cast(object, value)))
        elif isinstance(old, list):
            whole[name] = cast("list[Any]", old) + cast("list[Any]", value)
        else:
            whole[name] = value


def _merge_calls(message: Json, pieces: list[Json]) -> None:
    calls = message.get("tool_calls")
    known: list[Json] = cast("list[Json]", calls) if isinstance(calls, list) else []
    message["tool_calls"] = known
    for piece in pieces:
        index = piece.get("index", len(known))
        call = next((call for call in known if call.get("index") == index), None)
        if call is None:
            call = {"index": index}
            known.append(call)
        _merge(call, piece)


def _finish_chat(state: _State) -> Json:
    choices: list[Json] = []
    for _, choice in sorted(state.parts.items()):
        if "delta" in choice:
            message = {"role": "assistant", "content": None, **object_of(choice.pop("delta"))}
            calls = objects(message.get("tool_calls"))
            if calls:
                ordered = sorted(calls, key=_index)
                message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in ordered]
            choice = {"index": choice.get("index"), "message": message, **choice}
        choices.append(choice)
    kind = str(state.answer.get("object", "")).removesuffix(".chunk")
    named = {"object": kind} if kind else {}
    return {**state.answer, **named, "choices": choices}


# Responses


def _add_response(state: _State, event: Json) -> bool:
    """Add an event. False for a failure, or when another model than before answers in it."""
    kind = event.get("type")
    same = True
    if isinstance(event.get("response"), dict):
        now = object_of(event["response"])
        same = state.answer.get("model") in (None, now.get("model"))
        state.answer = now
    if kind == "response.output_item.done":
        state.parts[_index(event, "output_index")] = object_of(event.get("item"))
    if kind in _ENDS_OF_RESPONSES:
        state.closed = True
    return same and kind != "response.failed"


def _finish_response(state: _State) -> Json:
    # Some servers leave the output out of the closing event, because every item came as an event before.
    if not state.answer.get("output") and state.parts:
        return {**state.answer, "output": [item for _, item in sorted(state.parts.items())]}
    return state.answer


# Messages


def _add_message(state: _State, event: Json) -> bool:
    """Add an event. False when it begins a second message."""
    kind = event.get("type")
    if kind == "message_start":
        second = "id" in state.answer
        state.answer = {**object_of(event.get("message")), **state.answer}
        return not second
    if kind == "content_block_start":
        state.parts[_index(event)] = {**object_of(event.get("content_block"))}
    elif kind == "content_block_delta":
        _add_to_block(state.parts.setdefault(_index(event), {"type": "text"}), object_of(event.get("delta")))
    elif kind == "message_delta":
        state.answer |= object_of(event.get("delta"))
        state.answer["usage"] = {**object_of(state.answer.get("usage")), **object_of(event.get("usage"))}
    elif kind == "message_stop":
        state.closed = True
    return True


def _add_to_block(block: Json, delta: Json) -> None:
    kind = delta.get("type")
    if kind == "input_json_delta":
        old = block.get("input")
        block["input"] = (old if isinstance(old, str) else "") + str(delta.get("partial_json") or "")
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
    elif name := _PIECES_OF_BLOCKS.get(str(kind)):
        block[name] = str(block.get(name) or "") + str(delta.get(name) or "")


def _finish_message(state: _State) -> Json:
    blocks: list[Json] = []
    for _, block in sorted(state.parts.items()):
        written = block.get("input")
        if isinstance(written, str):
            # Arguments that are no JSON object stay as they were written; such a reply is not whole.
            arguments = object_in(written or "{}")
            state.broken |= arguments is None
            block = {**block, "input": written if arguments is None else arguments}
        blocks.append(block)
    return {**state.answer, "content": blocks}


_ADDERS: Final[dict[WireApi, Callable[[_State, Json], bool]]] = {
    "responses": _add_response,
    "messages": _add_message,
}
_FINISHERS: Final[dict[WireApi, Callable[[_State], Json]]] = {
    "responses": _finish_response,
    "messages": _finish_message,
}


# The verdict


def _judged(wire: WireApi, answer: Json, *, closed: bool) -> Assembled:
    reasons = _reasons(wire, answer)
    ended = bool(reasons) and all(reasons) and not {"abort", "failed", "cancelled", "error"} & set(reasons)
    whole = closed and ended and not answer.get("error") and answer.get("type") != "error"
    return Assembled(answer, whole, next((reason for reason in reasons if reason), ""))


def _reasons(wire: WireApi, answer: Json) -> list[str]:
    """Why the answer ended: one for each choice, "" for a choice that did not."""
    if wire == "messages":
        return [str(answer.get("stop_reason") or "")]
    if wire == "responses":
        status = str(answer.get("status") or "")
        why = str(object_of(answer.get("incomplete_details")).get("reason") or status)
        return [why if status == "incomplete" else status if status != "in_progress" else ""]
    return [str(choice.get("finish_reason") or "") for choice in objects(answer.get("choices"))]
