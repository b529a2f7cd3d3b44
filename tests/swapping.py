"""Streaming clients that ask one question after another while adapters are swapped, and what each of them got."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
import httpx
from real_vllm import Shelf, in_flight

from sleepy_coder.errors import ModelNotFound
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.types import Adapter

QUESTIONS = tuple(f"Fix the program: let a{i} = {i}; b{i} = a{i};" for i in range(8))
TOKENS = 48
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Reply:
    """One streamed reply. `failure` is empty when it ended as it should; `gaps` are seconds between its tokens."""

    question: int
    text: str
    failure: str
    first: float
    gaps: tuple[float, ...]


@dataclass
class Crowd:
    """Clients of `model` at `url`; `replies` grows while they ask."""

    url: str
    model: str
    clients: int
    replies: list[Reply] = field(default_factory=list)
    _ended: bool = False

    @asynccontextmanager
    async def asking(self) -> AsyncGenerator[None]:
        """All clients ask while this is open; on leaving, each gets its last reply whole."""
        timeout = aiohttp.ClientTimeout(total=600)
        unlimited = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=unlimited) as http, asyncio.TaskGroup() as group:
            for number in range(self.clients):
                group.create_task(self._ask_on(http, number))
            try:
                yield
            finally:
                self._ended = True

    async def more(self, count: int) -> None:
        """Wait until `count` more replies have ended."""
        wanted = len(self.replies) + count
        while len(self.replies) < wanted:
            await asyncio.sleep(POLL_SECONDS)

    async def _ask_on(self, http: aiohttp.ClientSession, number: int) -> None:
        asked = number
        while not self._ended:
            self.replies.append(await self._ask(http, asked % len(QUESTIONS)))
            asked += self.clients + 1

    async def _ask(self, http: aiohttp.ClientSession, question: int) -> Reply:
        body = {**_body(self.model, question), "stream": True}
        times, texts, finish, failure = [time.perf_counter()], list[str](), "", ""
        try:
            async with http.post(f"{self.url}/v1/chat/completions", json=body) as reply:
                if reply.status != 200:
                    return Reply(question, "", f"{reply.status} {await reply.text()}", 0, ())
                async for line in reply.content:
                    data = line.strip().removeprefix(b"data: ")
                    if data == b"[DONE]":
                        break
                    for choice in json.loads(data)["choices"] if data else ():
                        finish = choice["finish_reason"] or finish
                        if text := choice["delta"].get("content"):
                            texts.append(text)
                            times.append(time.perf_counter())
                else:
                    failure = "the stream has no end mark"
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
            failure = f"{type(error).__name__} {error}"
        failure = failure or ("" if finish == "length" else f"finish reason {finish!r}")
        gaps = [after - before for before, after in zip(times[1:], times[2:], strict=False)]
        return Reply(question, "".join(texts), failure, (times[1] if len(times) > 1 else times[0]) - times[0], (*gaps,))


def _body(model: str, question: int) -> dict[str, object]:
    asked = {"model": model, "messages": [{"role": "user", "content": QUESTIONS[question]}]}
    return {**asked, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}


def known_answers(url: str, names: Mapping[int, str]) -> dict[str, tuple[int, int]]:
    """Text to (question, weights): what the models of `names` (by weights) answer greedily when nobody else asks."""
    known: dict[str, tuple[int, int]] = {}
    with httpx.Client(base_url=url, timeout=600) as http:
        for weights, name in names.items():
            for question in range(len(QUESTIONS)):
                answer = http.post("/v1/chat/completions", json=_body(name, question)).raise_for_status().json()
                known[answer["choices"][0]["message"]["content"]] = question, weights
    assert len(known) == len(names) * len(QUESTIONS), "each of these adapters has to answer differently"
    return known


def failures(replies: Sequence[Reply]) -> list[str]:
    """What went wrong, of the replies that failed."""
    return [reply.failure for reply in replies if reply.failure]


def mixed(replies: Sequence[Reply], known: Mapping[str, tuple[int, int]]) -> list[Reply]:
    """The whole replies that are not exactly one adapter's answer to their question."""
    return [r for r in replies if not r.failure and known.get(r.text, (None, 0))[0] != r.question]


class Swaps:
    """Promotions and rollbacks, made as nights and `sleepy-coder adapters rollback` make them.

    Of three swaps two promote and one rolls back, and each changes the weights that answer. All adapters are staged
    and proved at the start, as a night's are before they are promoted; the first one serves.
    """

    def __init__(self, shelf: Shelf, client: VllmClient, gateway_url: str, count: int) -> None:
        self.registry, self._client, self._gateway, self._shelf = shelf.registry, client, gateway_url, shelf
        self.weights: dict[str, int] = {}
        self.served: set[str] = set()
        self.promotions = self.rollbacks = 0
        self._first = self._stage(1, 1)
        self._next = {i: self._stage(2 - i % 2, i + 2) for i in range(count) if i % 3 != 2}
        self._promote(self._first)

    def known(self, url: str) -> dict[str, tuple[int, int]]:
        """`known_answers` of both weights."""
        second = self._next[0]
        self._shelf.load(self._client, second)
        return known_answers(url, {1: self._first.name, 2: second.name})

    def _stage(self, weights: int, cycle: int) -> Adapter:
        adapter = self._shelf.stage(weights, cycle)
        self.weights[adapter.name] = weights
        self._shelf.load(self._client, adapter)
        self._client.unload(adapter.name)
        return adapter

    def swap(self) -> None:
        """The next swap; then what neither serves nor would after a rollback is unloaded, once nobody runs on it."""
        done = self.promotions + self.rollbacks
        if done % 3 == 2:
            self.registry.rollback()
            self.rollbacks += 1
        else:
            self._promote(self._next[done])
            self.promotions += 1
        self._tidy()

    def _promote(self, adapter: Adapter) -> None:
        self._shelf.load(self._client, adapter)
        self.registry.activate(adapter.name)
        self.served.add(adapter.name)

    def _tidy(self) -> None:
        active = self.registry.active()
        needed = {active.name if active else "", self.registry.previous()}
        for model in self._client.models():
            if model.name in self.weights.keys() - needed:
                while in_flight(self._gateway, model.name):
                    time.sleep(POLL_SECONDS)
                with suppress(ModelNotFound):  # the gateway's process unloads too
                    self._client.unload(model.name)


async def swap_under_load(crowd: Crowd, swap: Callable[[], None], count: int) -> None:
    """`count` swaps while the crowd asks; between two of them more replies end than had begun before."""
    async with crowd.asking():
        await crowd.more(crowd.clients)
        for _ in range(count):
            await asyncio.to_thread(swap)
            await crowd.more(crowd.clients + 1)
