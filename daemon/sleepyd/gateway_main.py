"""The gateway as a process of its own: `python -m sleepyd.gateway_main`, which `sleepy-coder gateway` becomes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path

import typer
import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from sleepy_coder import log, wiring
from sleepy_coder.canary import last_state
from sleepy_coder.collect.redact_memory import RememberingRedactor
from sleepy_coder.config import Config, GatewaySettings, ServerSettings
from sleepy_coder.config_load import load_config
from sleepy_coder.console import err, explained
from sleepy_coder.errors import ConfigError
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.ports import Clock
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.window import zone_named

from .checks import KeepCheck, keeping_checks
from .collector import collecting
from .feedback import keeping
from .figures import HomeMetrics, Remembered, Snapshot
from .gateway import LONGEST_HEADER, Beside, Gateway
from .inbox import Inbox
from .keeper import Keeper, kept_by
from .live_page import live_page
from .lots import Lots
from .meters import Meters
from .napping import Gate, recovering
from .pages import Home, Nights
from .recorder import Recorder
from .serving import InFlight, Serving
from .watch import CanaryWatch, heard_by, watched_by

_log = log.get("gateway")


@asynccontextmanager
async def listening(
    settings: GatewaySettings,
    server: ServerSettings,
    serving: Serving,
    recorder: Recorder,
    meters: Meters,
    clock: Clock,
    gate: Gate,
    beside: Beside,
    *,
    port: int | None = None,
    sock: socket.socket | None = None,
) -> AsyncGenerator[tuple[Gateway, str]]:
    """A gateway that takes requests while this is open, and its URL; `port` 0 takes a free one.

    With `sock`, a socket that listens already (`notify.listen_fds`), host and port of the settings do not count.
    On leaving, requests in flight get `drain_seconds` to finish. Raises ConfigError when the address is taken.
    """
    gateway = Gateway(settings, server, serving, recorder, meters, clock, gate, beside)
    await gateway.open()
    runner = web.ServerRunner(
        web.Server(
            gateway.handle,
            handler_cancellation=True,
            access_log=None,
            logger=_server_log(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        ),
        shutdown_timeout=settings.drain_seconds,
    )
    await runner.setup()
    try:
        await _listen(runner, settings.host, settings.port if port is None else port, sock)
        host, on = runner.addresses[0][:2] if sock else (settings.host, runner.addresses[0][1])
        yield gateway, f"http://{f'[{host}]' if ':' in host else host}:{on}"
    finally:
        await runner.cleanup()
        await gateway.close()


def _server_log() -> logging.Logger:
    """What aiohttp says of requests that are no HTTP is said without their bytes, which may be a credential."""

    def without_bytes(record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.exc_info = None
        return True

    found = logging.getLogger("sleepyd.http")
    found.filters = [without_bytes]
    return found


async def _listen(runner: web.ServerRunner, host: str, port: int, sock: socket.socket | None) -> None:
    site = web.SockSite(runner, sock) if sock else web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        where = f"{host}:{port}"
        raise ConfigError(f"cannot listen on {where} ({error.strerror})", "Choose another --port") from error


@dataclass(frozen=True, slots=True)
class Day:
    """What works by day: the gateway at `url`, its recorder, and the requests in flight."""

    url: str
    recorder: Recorder
    in_flight: InFlight


@asynccontextmanager
async def working(
    config: Config, *, port: int | None = None, sock: socket.socket | None = None, nights: Nights | None = None
) -> AsyncGenerator[Day]:
    """Gateway, recorder, inbox, collector and keeper, for as long as this is open."""
    settings, meters, in_flight = config.gateway, Meters(), InFlight()
    redactor, registry = wiring.open_redactor(config), wiring.open_registry(config)
    clock, rest = wiring.SystemClock(), timedelta(minutes=settings.rest_minutes)
    lots = Lots(config.canary.share if config.canary.enabled else 1.0)
    serving = Serving(registry, config.server.base_name, lots)
    with wiring.open_store(config) as store, wiring.open_server(config) as server:
        lock, max_loras = wiring.night_lock(config), config.server.max_loras
        watch = CanaryWatch(store, registry, lots, config.canary, config.server.base_name, clock)
        keeper = Keeper(registry, server, wiring.prover(config), in_flight, lock, max_loras, watch.loaded)
        recorder = Recorder(heard_by(store.save_exchanges, watch), RememberingRedactor(redactor), settings, meters)
        inbox = Inbox(config.episodes, store.save_episodes, redactor.redact)
        home = _home(config, store, registry, nights, keeping_checks(store, redactor, clock))
        assert home.snapshot is not None
        outlook = nights.outlook if nights else None
        meters.add(HomeMetrics(home.snapshot, keeper.servers, keeper.complaints, outlook))
        beside = Beside(in_flight, keeping(store, redactor), keeper.reconcile, home)
        gate = Gate(NapFiles(config.state), settings, meters)
        listener = listening(
            settings, config.server, serving, recorder, meters, clock, gate, beside, port=port, sock=sock
        )
        left = 0
        recorder.start()
        try:
            async with watched_by(watch), kept_by(keeper), listener as (_, url):
                _announce(config, url, recorder)
                async with collecting(store, inbox, clock, rest), recovering(config):
                    yield Day(url, recorder, in_flight)
                left = in_flight.total()
        finally:
            unsaved = recorder.close()
    _log.info("gateway.stopped", in_flight=left, unsaved=unsaved)


def _home(config: Config, store: Store, registry: Registry, nights: Nights | None, keep_check: KeepCheck) -> Home:
    """What the pages show of this home, read when they are asked for."""
    zone = zone_named(config.night.timezone)

    def snapshot() -> Snapshot:
        midnight = datetime.combine(datetime.now(zone).date(), time(), zone)
        return Snapshot(
            figures=store.figures(midnight),
            serving=registry.serving(config.server.base_name),
            since=registry.since(),
            canary=last_state(store, config.canary),
        )

    def dashboard() -> str:
        remembered.get()  # what the page asks for first
        return live_page(config.home)

    remembered = Remembered(snapshot)
    return Home(remembered, Remembered(dashboard), nights, keep_check, config.home)


async def serve(config: Config, port: int | None) -> None:
    """Run until SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    async with working(config, port=port) as day:
        err.print(
            f"{day.url}/v1 passes on to {config.server.url}; agents ask for {config.gateway.alias}; Ctrl-C ends it"
        )
        if not day.recorder.wants():
            err.print("[bold]nothing is recorded:[/] gateway.record is off")
        await ended.wait()


def _announce(config: Config, url: str, recorder: Recorder) -> None:
    recording = recorder.wants()
    _log.info("gateway.started", url=url, alias=config.gateway.alias, server=config.server.url, recording=recording)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the settings and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(argv)
    os.umask(0o077)  # what agents say to a model is for nobody else on this machine
    log.set_up(verbose=options.verbose)
    try:
        with explained():
            config = load_config(options.home)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(config, options.port))
    except typer.Exit as ended:  # which typer's own commands would turn into the status; what happened was said
        sys.exit(ended.exit_code)


if __name__ == "__main__":
    main()
