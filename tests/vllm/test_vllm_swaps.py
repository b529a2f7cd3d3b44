"""Adapters are swapped on a real vLLM while clients stream through the gateway, and nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from real_vllm import ALIAS, Shelf
from swapping import Crowd, Swaps, failures, mixed, swap_under_load

from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.store import Store

CLIENTS, SWAPS = 8, 21


def test_no_reply_fails_and_none_is_of_two_adapters(
    vllm: ServerProcess, client: VllmClient, shelf: Shelf, through: ServerProcess
) -> None:
    swaps = Swaps(shelf, client, through.url, SWAPS)
    known = swaps.known(vllm.url)
    crowd = Crowd(through.url, ALIAS, CLIENTS)
    asyncio.run(swap_under_load(crowd, swaps.swap, SWAPS))
    assert (swaps.promotions, swaps.rollbacks) == (14, 7)
    assert not failures(crowd.replies)
    assert not mixed(crowd.replies, known)
    assert set(Counter(known[reply.text][1] for reply in crowd.replies)) == {1, 2}
    through.stop()
    with Store(shelf.home / "state" / "sleepy.db") as store:
        kept = list(store.exchanges())
    assert len(kept) == len(crowd.replies)
    for exchange in kept:
        assert exchange.whole
        text = json.loads(exchange.response)["choices"][0]["message"]["content"]
        assert known[text][1] == swaps.weights[exchange.served_by], exchange.served_by
    assert {exchange.served_by for exchange in kept} == swaps.served
