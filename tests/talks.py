"""Conversations as an agent sends them: the same talk as exchanges of each API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sleepy_coder.types import Exchange, Message, SessionSource, ToolCall, WireApi

START = datetime(2026, 11, 24, 9, tzinfo=UTC)
WIRES: tuple[WireApi, ...] = ("chat", "responses", "messages")


@dataclass(frozen=True)
class Talk:
    """A whole conversation, ending with the assistant."""

    messages: tuple[Message, ...]
    tools: bool = True
    session: str = ""
    source: SessionSource = "prefix"
    agent: str = "agent/1.0"
    wire: WireApi = "chat"
    marks: dict[str, Any] = field(default_factory=dict[str, Any])


def system(text: str) -> Message:
    return Message(role="system", content=text)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=calls)


def thinking(thought: str, text: str, *calls: ToolCall) -> Message:
    return Message(role="assistant", content=text, tool_calls=calls, reasoning=thought)


def bash(id: str, command: str) -> ToolCall:
    return ToolCall(id=id, name="bash", arguments=json.dumps({"command": command}))


def result(id: str, text: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=id)


def exchanges_of(talk: Talk, name: str, start: datetime = START, **changes: Any) -> list[Exchange]:
    """One exchange per turn of the assistant, a second apart."""
    turns = [i for i, message in enumerate(talk.messages) if message.role == "assistant"]
    return [
        Exchange(
            id=f"{name}-{number}",
            session=talk.session,
            session_source=talk.source,
            agent=talk.agent,
            wire=talk.wire,
            path="/v1/" + talk.wire,
            asked_model="sleepy-coder",
            served_by="sleepy-base",
            request=json.dumps(request_of(talk.wire, talk.messages[:i], talk.tools)),
            response=json.dumps(response_of(talk.wire, talk.messages[i])),
            status=200,
            streamed=False,
            whole=True,
            finish_reason="stop",
            started=start + timedelta(seconds=number),
            first_byte_seconds=0.1,
            seconds=0.5,
        ).model_copy(update=changes)
        for number, i in enumerate(turns)
    ]


def request_of(wire: WireApi, messages: Sequence[Message], tools: bool) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"command": {"type": "string"}}}
    if wire == "chat":
        function = {"name": "bash", "description": "Run.", "parameters": schema}
        body: dict[str, Any] = {"messages": chat_form(messages)}
        return {**body, "tools": [{"type": "function", "function": function}]} if tools else body
    if wire == "responses":
        body = {"input": [item for m in messages for item in _items(m)]}
        tool = {"type": "function", "name": "bash", "description": "Run.", "parameters": schema}
        return {**body, "tools": [tool]} if tools else body
    body = {"messages": _anthropic(messages)}
    if systems := [m.content for m in messages if m.role == "system"]:
        body["system"] = [{"type": "text", "text": systems[0], "cache_control": {"type": "ephemeral"}}]
    tool = {"name": "bash", "description": "Run.", "input_schema": schema}
    return {**body, "tools": [tool]} if tools else body


def response_of(wire: WireApi, reply: Message) -> dict[str, Any]:
    """The thoughts of a chat reply come with it, and are not sent again: most agents do not."""
    if wire == "chat":
        thought = {"reasoning": reply.reasoning} if reply.reasoning else {}
        return {"choices": [{"index": 0, "message": {**_chat(reply), **thought}, "finish_reason": "stop"}]}
    if wire == "responses":
        return {"status": "completed", "output": list(_items(reply))}
    return {"role": "assistant", "content": _blocks(reply), "stop_reason": "end_turn"}


def chat_form(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as OpenAI's chat API takes them."""
    return [_chat(message) for message in messages]


def _chat(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return {**out, "tool_call_id": message.tool_call_id} if message.role == "tool" else out


def _items(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.content}]
    kind = "output_text" if message.role == "assistant" else "input_text"
    part = {"type": kind, "text": message.content}
    said = [{"type": "message", "role": message.role, "content": [part]}] if message.content else []
    calls = [
        {"type": "function_call", "call_id": c.id, "name": c.name, "arguments": c.arguments} for c in message.tool_calls
    ]
    return [*said, *calls]


def _anthropic(messages: Sequence[Message]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            block = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
            if out and out[-1]["role"] == "user":
                out[-1]["content"].append(block)
            else:
                out.append({"role": "user", "content": [block]})
        elif message.role != "system":
            out.append({"role": message.role, "content": _blocks(message)})
    if out:  # the cache's mark wanders: each request has it at another message
        out[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    return out


def _blocks(message: Message) -> list[dict[str, Any]]:
    said = [{"type": "text", "text": message.content}] if message.content else []
    calls = [
        {"type": "tool_use", "id": c.id, "name": c.name, "input": json.loads(c.arguments)} for c in message.tool_calls
    ]
    return [*said, *calls]
