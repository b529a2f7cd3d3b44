"""What agents ask through the gateway, over each API that vLLM has."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from real_vllm import ALIAS, Shelf

from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.store import Store

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
