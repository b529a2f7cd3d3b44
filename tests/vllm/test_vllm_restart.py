"""A real vLLM dies and comes back, and forgets the adapters that were loaded into it; agents need not know."""

from __future__ import annotations

import httpx
from real_vllm import ALIAS, Shelf
from swapping import QUESTIONS

from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.types import Message

ASKED = (Message(role="user", content=QUESTIONS[0]),)


def test_after_kill_9_the_first_request_for_the_alias_is_answered_by_the_adapter_that_served(
    vllm: ServerProcess, client: VllmClient, shelf: Shelf, through: ServerProcess
) -> None:
    for weights in (1, 2):
        adapter = shelf.stage(weights, cycle=weights)
        shelf.load(client, adapter)
        shelf.registry.activate(adapter.name)
    active, previous = shelf.registry.active(), shelf.registry.previous()
    assert active and previous
    with VllmClient(through.url, timeout=600) as agent:
        before = agent.chat(ALIAS, ASKED, max_tokens=24)
        vllm.kill()
        assert httpx.get(f"{through.url}/readyz", timeout=60).status_code == 503
        vllm.start()
        assert agent.chat(ALIAS, ASKED, max_tokens=24) == before
        assert client.chat(active.name, ASKED, max_tokens=24).text == before.text
        # The one that a rollback goes to is back as well, so that the rollback is as quick as ever.
        shelf.registry.rollback()
        after = agent.chat(ALIAS, ASKED, max_tokens=24)
        assert after.text == client.chat(previous, ASKED, max_tokens=24).text != before.text
