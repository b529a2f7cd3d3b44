"""A gateway between a scripted model server and a raw client, with a real store and a real registry."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import uvloop
from fakes import BASE, FakeClock, FakeRedactor, Script, ScriptedUpstream
from sleepyd.checks import keeping_checks
from sleepyd.feedback import keeping
from sleepyd.gateway import Beside, Gateway
from sleepyd.gateway_main import listening
from sleepyd.lots import Lots
from sleepyd.meters import Meters
from sleepyd.napping import Gate
from sleepyd.pages import Home
from sleepyd.passing import Restore
from sleepyd.recorder import Recorder
from sleepyd.serving import Serving

from sleepy_coder.config import GatewaySettings, ServerSettings
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.ports import Redactor
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.types import Exchange


@dataclass
class GatewayHouse:
    """Everything around one gateway. `http` has no defaults of its own that would blur what was sent."""

    gateway: Gateway
    url: str
    upstream: ScriptedUpstream
    http: aiohttp.ClientSession
    store: Store
    recorder: Recorder
    meters: Meters
    registry: Registry
    nap: NapFiles
    gate: Gate

    async def post(self, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Content-Type": "application/json", **named}
        async with self.http.post(self.url + path, data=body, headers=sent) as reply:
            return reply.status, await reply.read()

    async def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(self.url + path, headers=named) as reply:
            return reply.status, await reply.read()

    async def raw(self, request: bytes) -> bytes:
        """What comes back for these bytes, until the gateway closes the connection."""
        return await asyncio.to_thread(self._raw, request)

    def _raw(self, request: bytes) -> bytes:
        where, came = urlsplit(self.url), b""
        with socket.create_connection((where.hostname, where.port), timeout=60) as talk:
            # A refusal that comes while the request is still sent ends with a reset; asyncio would drop what came.
            with suppress(ConnectionError):
                talk.sendall(request)
            with suppress(ConnectionError):
                while piece := talk.recv(65536):
                    came += piece
        return came

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(self.url)
        return await asyncio.open_connection(where.hostname, where.port)

    async def recorded(self) -> list[Exchange]:
        """All that the recorder saved, once it has nothing left to do."""
        await asyncio.to_thread(self.recorder.close)
        return list(self.store.exchanges())


@asynccontextmanager
async def gateway_house(
    home: Path,
    script: Script,
    *,
    redactor: Redactor | None = None,
    save: Callable[[Sequence[Exchange]], object] | None = None,
    server: dict[str, Any] | None = None,
    restore: Restore | None = None,
    home_page: Home | None = None,
    lots: Lots | None = None,
    **settings: Any,
) -> AsyncGenerator[GatewayHouse]:
    meters, clock, nap = Meters(), FakeClock(), NapFiles(home)
    chosen = GatewaySettings(**{"drain_seconds": 0.2, **settings})
    gate = Gate(nap, chosen, meters)
    registry = Registry(home / "adapters", clock)
    with Store(home / "store.db") as store:
        redactor = redactor or FakeRedactor()
        recorder = Recorder(save or store.save_exchanges, redactor, chosen, meters)
        recorder.start()
        try:
            async with ScriptedUpstream(script) as upstream:
                where = ServerSettings(**{"url": upstream.url, **(server or {})})
                serving = Serving(registry, BASE, lots)
                pages = replace(home_page or Home(), keep_check=keeping_checks(store, redactor, clock))
                beside = Beside(keep_feedback=keeping(store, redactor), restore=restore, home=pages)
                listener = listening(chosen, where, serving, recorder, meters, clock, gate, beside, port=0)
                async with (
                    listener as (gateway, url),
                    aiohttp.ClientSession(auto_decompress=False) as http,
                ):
                    yield GatewayHouse(gateway, url, upstream, http, store, recorder, meters, registry, nap, gate)
        finally:
            await asyncio.to_thread(recorder.close)


def run(story: Callable[[], Awaitable[None]], seconds: float = 120) -> None:
    """Run a test's story on the gateway's own kind of event loop."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another task is about to do; `run` bounds it."""
    while not true():
        await asyncio.sleep(0.005)
