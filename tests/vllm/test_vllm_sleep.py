"""A real vLLM is put to sleep and woken. Its CPU build frees no memory by that; what is promised here is the rest."""

from __future__ import annotations

import asyncio

from real_vllm import ALIAS, BASE, Shelf
from swapping import QUESTIONS, Crowd, Swaps, failures, mixed

from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess


def test_streams_finish_whole_before_it_sleeps_and_every_model_is_itself_afterwards(
    vllm: ServerProcess, client: VllmClient, shelf: Shelf, through: ServerProcess
) -> None:
    base = client.fingerprint(BASE, QUESTIONS)  # before anything serves that the gateway's keeper would ask beside it
    swaps = Swaps(shelf, client, through.url, count=1)
    known = swaps.known(vllm.url)
    before = {BASE: base} | {name: client.fingerprint(name, QUESTIONS) for name in swaps.weights}
    crowd = Crowd(through.url, ALIAS, clients=6)

    async def story() -> None:
        async with crowd.asking():
            await crowd.more(crowd.clients)
            await asyncio.to_thread(client.sleep)  # those that ask from now on wait
            assert await asyncio.to_thread(client.asleep)
            ended = len(crowd.replies)
            await asyncio.to_thread(client.wake_up)
            await crowd.more(crowd.clients)
            assert ended >= crowd.clients

    asyncio.run(story())
    through.stop()  # its keeper proves the adapter again after a sleep
    assert not failures(crowd.replies) and not mixed(crowd.replies, known)
    # One after another: beside an adapter's requests the CPU build answers the base's with its weights.
    assert [name for name, was in before.items() if not was.matches(client.fingerprint(name, QUESTIONS))] == []
    assert not any(before[BASE].matches(before[name]) for name in swaps.weights)
