"""What agents ask through the gateway, over each API that vLLM has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_vllm import ALIAS, VLLM, Shelf

from sleepy_coder.collect.wires import read
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.store import Store
from sleepy_coder.types import WireApi

QUESTION = [{"role": "user", "content": "Fix fn main 日本語 🙂"}]


@dataclass(frozen=True)
class Wire:
    """How one API is asked and read: the text of a reply, and the text that one event of a stream adds."""

    body: dict[str, Any]
    text: Callable[[Any], str]
    added: Callable[[Any], str]


def _choice(value: Any) -> Any:
    return value["choices"][0] if value.get("choices") else {}


WIRES = {
    "chat/completions": Wire(
        {"messages": QUESTION, "max_tokens": 24},
        lambda reply: _choice(reply)["message"]["content"],
        lambda event: _choice(event).get("delta", {}).get("content") or "",
    ),
    "completions": Wire(
        {"prompt": "fn main", "max_tokens": 24},
        lambda reply: _choice(reply)["text"],
        lambda event: _choice(event).get("text", ""),
    ),
    "responses": Wire(
        {"input": QUESTION, "max_output_tokens": 24},
        lambda reply: "".join(part["text"] for item in reply["output"] for part in item.get("content") or ()),
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    ),
    "messages": Wire(
        {"messages": QUESTION, "max_tokens": 24},
        lambda reply: "".join(block["text"] for block in reply["content"]),
        lambda event: event["delta"]["text"] if event["type"] == "content_block_delta" else "",
    ),
}


def events(stream: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(event) for event in data if event != "[DONE]"]


@pytest.mark.parametrize("path", WIRES)
def test_the_alias_answers_streamed_and_whole_and_both_are_recorded_whole(
    path: str, client: VllmClient, shelf: Shelf, through: ServerProcess, vllm: ServerProcess
) -> None:
    wire, adapter = WIRES[path], shelf.stage(1, cycle=1)
    shelf.load(client, adapter)
    shelf.registry.activate(adapter.name)

    def ask(url: str, model: str, **more: Any) -> str:
        body = {**wire.body, "model": model, "temperature": 0, **more}
        return httpx.post(f"{url}/v1/{path}", json=body, timeout=600).raise_for_status().text

    expected = wire.text(json.loads(ask(vllm.url, adapter.name)))
    whole, streamed = ask(through.url, ALIAS), ask(through.url, ALIAS, stream=True)
    assert wire.text(json.loads(whole)) == "".join(wire.added(event) for event in events(streamed)) == expected
    for said in (whole, streamed):
        assert f'"{ALIAS}"' in said and adapter.name not in said

    through.stop()
    with Store(shelf.home / "state" / "sleepy.db") as store:
        kept = list(store.exchanges())
    assert [(e.path, e.streamed, e.whole) for e in kept] == [(f"/v1/{path}", s, True) for s in (False, True)]
    assert {(e.asked_model, e.served_by) for e in kept} == {(ALIAS, adapter.name)}
    assert [wire.text(json.loads(e.response)) for e in kept] == [expected, expected]


def _text(said: str, kind: str = "text") -> dict[str, Any]:
    return {"type": kind, "text": said}


BILL = "x-anthropic-billing-header: cch=1f2e3;"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "view", "arguments": '{"path": "a.rs"}'}}
CUSTOM = {"call_id": "c2", "name": "apply_patch"}
ASKED: dict[WireApi, dict[str, Any]] = {
    "messages": {
        "max_tokens": 8,
        "system": [_text(BILL), _text("You are Claude Code."), _text("Be brief.")],
        "messages": [
            {"role": "user", "content": [_text("<reminder>"), _text(""), _text("Mend it.")]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm, ", "signature": "s"},
                    {"type": "thinking", "thinking": "so.", "signature": "s"},
                    {"type": "redacted_thinking", "data": "eA=="},
                    _text("I look."),
                    {"type": "tool_use", "id": "c1", "name": "view", "input": {"path": "a.rs"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [_text("fn main() {"), _text("}")]},
                    _text("Go on."),
                ],
            },
            {"role": "system", "content": [_text(BILL), _text("Mind "), _text("the tests.")]},
        ],
        "tools": [
            {"name": "view", "description": "Show.", "input_schema": SCHEMA},
            {"name": "b", "input_schema": SCHEMA},
        ],
    },
    "chat": {
        "messages": [
            {"role": "system", "content": [_text("You mend code."), _text("Be brief.")]},
            {"role": "user", "content": "Mend it."},
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [_text("fn main() {"), _text("}")]},
            {"role": "assistant", "content": "So.", "reasoning": "One.", "reasoning_content": "Two."},
            {"role": "user", "content": "Go on."},
        ],
        "tools": [
            {"type": "function", "function": {"parameters": SCHEMA, "name": "view", "description": "Show.", "x": 1}},
            {"type": "function", "function": {"name": "b", "strict": True}},
        ],
    },
    "responses": {
        "instructions": "You mend code.",
        "input": [
            {"type": "message", "role": "user", "content": [_text("See", "input_text"), _text("this.", "input_text")]},
            {
                "type": "reasoning",
                "id": "r",
                "summary": [],
                "content": [_text("Hm.", "reasoning_text")],
            },
            {"type": "message", "role": "assistant", "content": [_text("I look.", "output_text")]},
            {"type": "function_call", "call_id": "c1", "name": "view", "arguments": '{"path": "a.rs"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "fn main() {"},
            {"type": "custom_tool_call", **CUSTOM, "input": "*** Begin Patch"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
            {"type": "message", "role": "user", "content": [_text("Go on.", "input_text")]},
        ],
        "tools": [
            {"type": "function", "name": "view", "description": "Show.", "parameters": SCHEMA, "strict": False},
            {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": {"type": "text"}},
        ],
    },
}


def test_what_is_read_of_a_request_is_what_vllm_gives_to_the_chat_template() -> None:
    asked = [(wire, {"model": "m", **body}) for wire, body in ASKED.items()]
    script = [VLLM.with_name("python"), Path(__file__).with_name("as_template.py")]
    done = subprocess.run(script, input=json.dumps(asked), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for (wire, body), shown in zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True):
        said = read(wire, body, {})
        assert said.messages == read("chat", shown, {}).messages, wire
        assert json.loads(said.tools) == shown["tools"], wire
