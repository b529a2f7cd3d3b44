"""A model server that acts out a plan: openly a script, in three APIs.

The agents in front of it are real and so is what they do: the script only says which tool to call next, with the
names and arguments that the agent's own request lists. Where the plan stands is read from the request, which holds
all that was said before, so one server can serve any number of sessions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from fakes import Arrived, Script

Json = dict[str, Any]
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
TITLE = "Mend the sum"
_SHELLS = ("bash", "exec_command", "run_shell_command", "shell_command", "shell")
_READERS = ("read", "read_file")
_EDITORS = ("edit",)


@dataclass(frozen=True)
class Run:
    """Run a command in the agent's shell."""

    command: str


@dataclass(frozen=True)
class Read:
    """Read a file with the agent's own tool, or in its shell."""

    path: Path


@dataclass(frozen=True)
class Replace:
    """Replace a text in a file with the agent's own tool, or in its shell."""

    path: Path
    old: str
    new: str


@dataclass(frozen=True)
class Say:
    """Say something and call nothing, which ends the turn; agents that end by a command get `end` of the plan."""

    text: str


Step = Run | Read | Replace | Say


@dataclass(frozen=True)
class Tool:
    """A tool as the request lists it. `kind` is what its API calls it: function, or custom for free text."""

    name: str
    parameters: Json


@dataclass(frozen=True)
class Turn:
    """What the model answers: a text, or one call."""

    text: str = ""
    tool: str = ""
    arguments: str = ""


def a_title(body: Json) -> str:
    """The answer to a side call, whatever it asks for."""
    return TITLE


def acting(plan: Sequence[Step], *, end: str = "", without_tools: Callable[[Json], str] = a_title) -> Script:
    """A script for `ScriptedUpstream`. With `end`, a command, the last word is said together with it.

    `without_tools` answers the requests that offer none.
    """

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        path = arrived.target.partition("?")[0]
        if path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "sleepy-base", "object": "model"}]})
        if path not in _WIRES or arrived.method != "POST":
            return web.json_response({"error": {"message": f"{path} is not there"}}, status=404)
        wire = _WIRES[path]
        body: Json = arrived.json
        tools = tools_in(body)
        turn = next_turn(plan, tools, spoken_turns(body), end) if tools else Turn(text=without_tools(body))
        number = len(json.dumps(body))
        if not body.get("stream"):
            return web.json_response(wire.whole(turn, number, body["model"]))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in wire.events(turn, number, body["model"]):
            await response.write(event)
        return response

    return script


def next_turn(plan: Sequence[Step], tools: Sequence[Tool], spoken: int, end: str) -> Turn:
    """The answer to a request with these tools, in which the model spoke `spoken` times."""
    step = plan[min(spoken, len(plan) - 1)]
    if isinstance(step, Say) and not end:
        return Turn(text=step.text)
    command = end if isinstance(step, Say) else _in_shell(step)
    wanted = {Run: (), Read: _READERS, Replace: _EDITORS, Say: ()}[type(step)]
    tool = _find(tools, wanted) or _find(tools, _SHELLS)
    assert tool is not None, f"no tool for {step} among {[tool.name for tool in tools]}"
    text = step.text if isinstance(step, Say) else f"Step {spoken + 1}."
    return Turn(text=text, tool=tool.name, arguments=json.dumps(_arguments(tool, step, command)))


def _find(tools: Sequence[Tool], names: Sequence[str]) -> Tool | None:
    return next((tool for name in names for tool in tools if tool.name.lower() == name), None)


def _in_shell(step: Run | Read | Replace) -> str:
    if isinstance(step, Run):
        return step.command
    if isinstance(step, Read):
        return f"cat {step.path}"
    return f"sed -i 's/{step.old}/{step.new}/' {step.path}"


def _arguments(tool: Tool, step: Step, command: str) -> Json:
    """Values for the properties of the tool that this step fills, under the names that the agent gives them."""
    given: Json = {"command": command, "cmd": command, "description": "the next step", "isbackground": False}
    given |= {"yieldtimems": 30_000, "timeoutms": 120_000}  # a busy machine's first `cargo test`; Codex waits 10 s
    if isinstance(step, Read | Replace):
        given |= {"filepath": str(step.path), "absolutepath": str(step.path)}
    if isinstance(step, Replace):
        given |= {"oldstring": step.old, "newstring": step.new}
    names: Mapping[str, Json] = tool.parameters["properties"]
    values = {name: given[plain] for name in names if (plain := name.replace("_", "").lower()) in given}
    return {
        name: ["bash", "-lc", value] if names[name].get("type") == "array" else value for name, value in values.items()
    }


def tools_in(body: Json) -> list[Tool]:
    """The tools of a request of any of the three APIs."""
    found: list[Tool] = []
    for tool in body.get("tools") or ():
        inner: Json = tool.get("function") or tool
        schema = inner.get("parameters") or inner.get("input_schema")
        if schema and "properties" in schema:
            found.append(Tool(inner["name"], schema))
    return found


def spoken_turns(body: Json) -> int:
    """How often the model has called a tool so far."""
    calls = 0
    for message in body.get("messages") or ():
        blocks = message["content"] if isinstance(message.get("content"), list) else ()
        calls += len(message.get("tool_calls") or ()) + sum(block.get("type") == "tool_use" for block in blocks)
    return calls + sum(item.get("type") in ("function_call", "local_shell_call") for item in body.get("input") or ())


# The three APIs


class Chat:
    """/v1/chat/completions."""

    @staticmethod
    def whole(turn: Turn, number: int, model: str) -> Json:
        message: Json = {"role": "assistant", "content": turn.text}
        if turn.tool:
            function = {"name": turn.tool, "arguments": turn.arguments}
            message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if turn.tool else "stop"}
        return {**_chat_head(number, model, "chat.completion"), "choices": [choice], "usage": USAGE}

    @classmethod
    def events(cls, turn: Turn, number: int, model: str) -> list[bytes]:
        head = _chat_head(number, model, "chat.completion.chunk")
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in _pieces(turn.text)]
        if turn.tool:
            function = {"name": turn.tool, "arguments": ""}
            deltas.append(
                {"tool_calls": [{"index": 0, "id": f"call_{number}", "type": "function", "function": function}]}
            )
            deltas += [
                {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in _pieces(turn.arguments)
            ]
        chunks: list[Json] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if turn.tool else "stop"})
        events = [_event({**head, "choices": [chunk]}) for chunk in chunks]
        return [*events, _event({**head, "choices": [], "usage": USAGE}), b"data: [DONE]\n\n"]


class Responses:
    """/v1/responses."""

    @classmethod
    def whole(cls, turn: Turn, number: int, model: str) -> Json:
        return {**_response(number, model, "completed"), "output": cls._items(turn, number), "usage": _USED}

    @classmethod
    def events(cls, turn: Turn, number: int, model: str) -> list[bytes]:
        events: list[Json] = [{"type": "response.created", "response": _response(number, model, "in_progress")}]
        for index, item in enumerate(cls._items(turn, number)):
            where = {"output_index": index, "item_id": item["id"]}
            empty = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
            added = {**item, **empty, "status": "in_progress"}
            events.append({"type": "response.output_item.added", "output_index": index, "item": added})
            if item["type"] == "message":
                events += [
                    {"type": "response.output_text.delta", **where, "content_index": 0, "delta": piece}
                    for piece in _pieces(turn.text)
                ]
            else:
                events += [
                    {"type": "response.function_call_arguments.delta", **where, "delta": piece}
                    for piece in _pieces(turn.arguments)
                ]
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
        events.append({"type": "response.completed", "response": cls.whole(turn, number, model)})
        return [_event({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(events)]

    @staticmethod
    def _items(turn: Turn, number: int) -> list[Json]:
        items: list[Json] = []
        if turn.text:
            content = [{"type": "output_text", "text": turn.text, "annotations": []}]
            said = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
            items.append({**said, "content": content})
        if turn.tool:
            call = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "status": "completed"}
            items.append({**call, "name": turn.tool, "arguments": turn.arguments})
        return items


class Messages:
    """/v1/messages."""

    @classmethod
    def whole(cls, turn: Turn, number: int, model: str) -> Json:
        content: list[Json] = [{"type": "text", "text": turn.text}] if turn.text else []
        if turn.tool:
            call = {"type": "tool_use", "id": f"toolu_{number}", "name": turn.tool}
            content.append({**call, "input": json.loads(turn.arguments)})
        reason = "tool_use" if turn.tool else "end_turn"
        return {**_anthropic(number, model), "content": content, "stop_reason": reason}

    @classmethod
    def events(cls, turn: Turn, number: int, model: str) -> list[bytes]:
        whole = cls.whole(turn, number, model)
        start = {**_anthropic(number, model), "content": [], "stop_reason": None}
        events: list[Json] = [{"type": "message_start", "message": start}]
        for index, block in enumerate(whole["content"]):
            text = block["type"] == "text"
            opened = {**block, "text": ""} if text else {**block, "input": {}}
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            kind, name = ("text_delta", "text") if text else ("input_json_delta", "partial_json")
            events += [
                {"type": "content_block_delta", "index": index, "delta": {"type": kind, name: piece}}
                for piece in _pieces(turn.text if text else turn.arguments)
            ]
            events.append({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 10}})
        events.append({"type": "message_stop"})
        return [_event(event, event["type"]) for event in events]


_WIRES: dict[str, type[Chat] | type[Responses] | type[Messages]] = {
    "/v1/chat/completions": Chat,
    "/v1/responses": Responses,
    "/v1/messages": Messages,
}
_USED = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}


def _chat_head(number: int, model: str, kind: str) -> Json:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1, "model": model}


def _response(number: int, model: str, status: str) -> Json:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": model,
        "output": [],
    }


def _anthropic(number: int, model: str) -> Json:
    usage = {"input_tokens": 100, "output_tokens": 10}
    head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model}
    return {**head, "stop_sequence": None, "usage": usage}


def _pieces(text: str) -> list[str]:
    """`text` as a model would stream it: a word at a time."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def _event(data: Json, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()
