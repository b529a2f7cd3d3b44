"""`sleepyd`: gateway, inbox and nights as one process, for as long as the machine is on.

By day everything of `gateway_main`; each minute the schedule looks whether a night is due, and begins it as a process
of its own (nights.py). systemd hears that it is ready, what it waits for, and that its threads live.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import uvloop

from sleepy_coder import log, wiring
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import AlreadyRuns, SleepyError
from sleepy_coder.journal import alone
from sleepy_coder.store_database import in_doubt
from sleepy_coder.store_rescue import rescue_if_damaged

from . import notify
from .gateway_main import Day, working
from .nights import NightProcess
from .schedule import Schedule

_log = log.get("daemon")

_LOOK_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 5.0
"""How long a model server may take to say whether it is in use."""
_THREADS: Final[frozenset[str]] = frozenset(("recorder", "gather", "take_in", "keeper", "canary"))
_READ_ANEW: Final = ("night", "mix", "recipe", "eval", "gate", "agent", "store", "model")
"""The sections that are read when a night begins or the schedule looks, so that a reload is enough."""


class Daemon:
    """One daemon a home. `run` returns when it was asked to stop and everything is put away."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = asyncio.Event()
        nights = NightProcess(config.home, inhibit_sleep=config.night.inhibit_sleep)
        self._schedule = Schedule(lambda: self._config, wiring.SystemClock(), _hindrance, nights)

    async def run(self) -> None:
        """Raises StoreError when another daemon runs in this home, and ConfigError when its address is taken."""
        self._config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(wiring.daemon_lock(self._config), "daemon"):
            look_after_store(self._config)
            self._listen_to_signals()
            handed = notify.listen_fds()
            async with working(self._config, sock=handed[0] if handed else None, nights=self._schedule) as day:
                self._schedule.start()
                self._say_ready(day)
                await self._until_stopped()
                began = time.monotonic()
                notify.stopping("replies in flight end, a night pauses")
                # Both at once: a night takes as long to save its work as a reply to end.
                pausing = asyncio.create_task(asyncio.to_thread(self._schedule.stop))
            await pausing
        _log.info("daemon.stopped", seconds=round(time.monotonic() - began, 3))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _say_ready(self, day: Day) -> None:
        _log.info("daemon.started", url=day.url, server=self._config.server.url, window=self._config.night.window)
        notify.ready(f"{day.url} passes on to {self._config.server.url}")

    async def _until_stopped(self) -> None:
        """Tell the service manager that the threads live, until it is time to stop.

        Nothing is told while one is dead: then the manager waits for the watchdog in vain, and restarts the daemon.
        """
        limit = notify.watchdog_seconds()
        said, well = "", True
        while not self._stop.is_set():
            self._schedule.keep_time()
            missing = missing_parts((thread.name for thread in threading.enumerate()), self._schedule.alive)
            if not missing:
                notify.watchdog()
            elif well:
                _log.error("daemon.unhealthy", missing=missing)
            well = not missing
            why = self._schedule.outlook().why
            if why != said and notify.status(f"nights: {why}"):
                said = why
            try:
                async with asyncio.timeout(min(_LOOK_SECONDS, limit / 2 if limit else _LOOK_SECONDS)):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def _reload(self) -> None:
        """SIGHUP: take what can be taken without a restart, and say what cannot."""
        notify.reloading()
        try:
            new = load_config(self._config.home)
        except SleepyError as error:
            _log.error("daemon.reload_failed", reason=error.message, remedy=error.remedy)
        else:
            changed = [name for name in Config.model_fields if getattr(new, name) != getattr(self._config, name)]
            later = [name for name in changed if name not in _READ_ANEW]
            kept = {name: getattr(self._config, name) for name in later}
            self._config = new.model_copy(update=kept)
            _log.warning("daemon.reloaded", applied=[name for name in changed if name not in later], restart=later)
        notify.ready()


def look_after_store(config: Config) -> None:
    """A store that was found damaged, by this daemon, by a night or by a command, is replaced before it is opened.

    Not while a night of an earlier daemon has it open: that one breaks off by itself. Raises InfraError and StoreError.
    """
    path = config.store_file
    if not in_doubt(path).exists():
        return  # to read all of a large store would keep agents waiting at each start
    try:
        with alone(wiring.night_lock(config)):
            done = rescue_if_damaged(path)
    except AlreadyRuns:
        return
    if done is not None:
        backup = str(done.backup) if done.backup else None
        _log.error("store.rescued", backup=backup, episodes=done.episodes, damaged=str(done.damaged))


def missing_parts(threads: Iterable[str], schedule_alive: bool) -> list[str]:
    """Which parts of the daemon do not work any more, given the names of the threads that live."""
    missing = set(_THREADS).difference(threads)
    return sorted(missing if schedule_alive else missing | {"schedule"})


def _hindrance(config: Config) -> str:
    """What keeps the machine busy; the schedule has asked the calendar already.

    A server that hangs must not hold up the look, which also stops nights and ends with the daemon.
    """
    any_time = config.night.model_copy(update={"window": ""})
    found = wiring.idleness(config.patient(_ASK_SECONDS).model_copy(update={"night": any_time}))
    return "" if found.idle else f"waits for {found.waits_for}"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script `sleepyd`."""
    parser = argparse.ArgumentParser(prog="sleepyd", description=__doc__, epilog="Example: sleepyd --home ~/sleepy")
    parser.add_argument("--home", type=Path, help="folder with adapters/, episodes/ and state/")
    options = parser.parse_args(argv)
    log.set_up(verbose=True, to=sys.stdout)
    os.umask(0o077)  # what passed the gateway is its owner's alone
    try:
        daemon_config = load_config(options.home)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(Daemon(daemon_config).run())
    except SleepyError as error:
        _log.error("daemon.failed", reason=error.message, remedy=error.remedy)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
