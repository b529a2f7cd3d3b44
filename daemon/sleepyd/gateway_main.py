"""The gateway as a process of its own: `python -m sleepyd.gateway_main`, which `sleepy-coder gateway` becomes."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import uvloop
from aiohttp import web

from sleepy_coder import log, wiring
from sleepy_coder.config import Config, GatewaySettings, ServerSettings, load_config
from sleepy_coder.console import err, explained
from sleepy_coder.errors import ConfigError
from sleepy_coder.ports import Clock

from .collector import collecting
from .gateway import Gateway
from .inbox import Inbox
from .meters import Meters
from .recorder import Recorder
from .serving import Serving

_log = log.get("gateway")


@asynccontextmanager
async def listening(
    settings: GatewaySettings,
    server: ServerSettings,
    serving: Serving,
    recorder: Recorder,
    meters: Meters,
    clock: Clock,
    *,
    port: int | None = None,
) -> AsyncGenerator[tuple[Gateway, str]]:
    """A gateway that takes requests while this is open, and its URL; `port` 0 takes a free one.

    On leaving, requests in flight get `drain_seconds` to finish. Raises ConfigError when the address is taken.
    """
    gateway = Gateway(settings, server, serving, recorder, meters, clock)
    await gateway.open()
    runner = web.ServerRunner(
        web.Server(gateway.handle, handler_cancellation=True, access_log=None),
        shutdown_timeout=settings.drain_seconds,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port if port is None else port)
        try:
            await site.start()
        except OSError as error:
            where = f"{settings.host}:{settings.port if port is None else port}"
            raise ConfigError(f"{where} cannot be listened on ({error.strerror})", "Choose another --port") from error
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield gateway, f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await gateway.close()


async def serve(config: Config, port: int | None) -> None:
    """Run until SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    settings, meters, in_flight = config.gateway, Meters(), 0
    redactor = wiring.open_redactor(config)
    serving = Serving(wiring.open_registry(config), config.server.base_name)
    with wiring.open_store(config) as store:
        recorder = Recorder(store.save_exchanges, redactor, settings, meters)
        inbox = Inbox(config.episodes, store.save_episodes, redactor.redact)
        clock, rest = wiring.SystemClock(), timedelta(minutes=settings.rest_minutes)
        recorder.start()
        try:
            async with listening(settings, config.server, serving, recorder, meters, clock, port=port) as (
                gateway,
                url,
            ):
                _announce(config, url, recorder)
                async with collecting(store, inbox, clock, rest):
                    await ended.wait()
                in_flight = gateway.in_flight.total()
        finally:
            unsaved = recorder.close()
    _log.info("gateway.stopped", in_flight=in_flight, unsaved=unsaved)


def _announce(config: Config, url: str, recorder: Recorder) -> None:
    recording = recorder.wants()
    _log.info("gateway.started", url=url, alias=config.gateway.alias, server=config.server.url, recording=recording)
    err.print(f"{url}/v1 passes on to {config.server.url}; agents ask for {config.gateway.alias}; Ctrl-C ends it")
    if not recording:
        err.print("[bold]nothing is recorded:[/] gateway.record is off")


def main(argv: Sequence[str] | None = None) -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(argv)
    log.set_up(verbose=options.verbose)
    with explained():
        config = load_config(options.home)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, options.port))


if __name__ == "__main__":
    main()
