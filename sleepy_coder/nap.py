"""The nap: the model server sleeps while a night trains on its GPU, and wakes when somebody asks for it.

Between this process and the gateway's there are the files of `nap_files`. The order is: say so, so that the gateway
lets nothing more through; wait until what went through has ended; sleep; train; wake; prove it; take the word back.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sleepy_coder import log
from sleepy_coder.config import Config
from sleepy_coder.deploy import incumbent
from sleepy_coder.errors import AdapterError, AlreadyRuns, ServerError, SleepyError, TrainingPaused
from sleepy_coder.idle import in_flight
from sleepy_coder.journal import alone
from sleepy_coder.nap_files import Nap, NapFiles
from sleepy_coder.parts import Parts
from sleepy_coder.ports import Clock, ModelServer
from sleepy_coder.registry import Registry
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import Message

T = TypeVar("T")
Pause = Callable[[], bool]
_DRAIN_LOOK, _QUIET_LOOK, _START_LOOK = 0.2, 5.0, 1.0  # seconds
_PROOF = (Message(role="user", content="Are you awake?"),)
_log = log.get("nap")


def undisturbed(parts: Parts, why: str, work: Callable[[Pause], T]) -> T:
    """The result of `work`, which hears through its argument when to stop with TrainingPaused.

    With `night.share_gpu` the server sleeps meanwhile. When a request wants it, work pauses, the server wakes, and
    after `night.quiet_minutes` without requests work is called again, to go on where it was. Raises NightPaused when
    the curfew ends it, and ServerError when the server does not wake.
    """
    files = NapFiles(parts.config.state)
    while True:
        parts.curfew.check()
        try:
            if not parts.config.night.share_gpu:
                return work(parts.curfew.over)
            with _asleep(parts, files, why):
                return work(lambda: files.wanted() or parts.curfew.over())
        except TrainingPaused:
            parts.curfew.check()
            _wait_until_quiet(parts)


@contextmanager
def _asleep(parts: Parts, files: NapFiles, why: str) -> Generator[None]:
    """The server sleeps while this is open. Raises TrainingPaused when it is needed too much to begin."""
    config, began = parts.config, time.monotonic()
    files.begin(Nap(why=why, since=parts.clock.now(), pid=os.getpid()))
    try:
        _drain(parts, files)
        parts.server.sleep(config.night.sleep_level)
        _log.info("nap.began", why=why, drained=round(time.monotonic() - began, 3))
        yield
        if files.wanted():
            _log.info("nap.wanted")
    finally:
        # An error on the way to sleep leaves the server in a state that only looking at it tells.
        Waker.of(parts).end()
        _log.info("nap.ended", seconds=round(time.monotonic() - began, 3))


def _drain(parts: Parts, files: NapFiles) -> None:
    """Wait until no request is at the server nor on its way there.

    The gateway's own count closes the gap between its look at the files and the request's arrival.
    """
    until = parts.clock.now() + timedelta(seconds=parts.config.night.drain_seconds)
    while parts.server.busy() or passing(parts.config):
        if files.wanted() or parts.curfew.over() or parts.clock.now() > until:
            _log.info("nap.postponed", wanted=files.wanted())
            raise TrainingPaused("the model server is in use", "training begins when it is quiet")
        parts.clock.sleep(_DRAIN_LOOK)


def passing(config: Config) -> int:
    """Requests that the gateway has let through and that have not ended; 0 without a gateway."""
    return in_flight(config.gateway, held=False) or 0


def _wait_until_quiet(parts: Parts) -> None:
    """Let `night.quiet_minutes` pass without a request. Raises NightPaused and ServerError."""
    quiet, since = timedelta(minutes=parts.config.night.quiet_minutes), parts.clock.now()
    while True:
        parts.curfew.check()
        now = parts.clock.now()
        busy = parts.server.busy() or passing(parts.config)
        times = (now if busy else since, parts.store.latest_exchange())
        # A time to come, of a clock that was wrong, is not waited for.
        since = max((time for time in times if time is not None and time <= now), default=now)
        if not busy and now - since >= quiet:
            return
        parts.clock.sleep(_QUIET_LOOK)


@dataclass(frozen=True, slots=True)
class Waker:
    """Ends naps: wakes the model server, and proves that it answers with the adapter that serves."""

    config: Config
    registry: Registry
    server: ModelServer
    prover: Prover
    clock: Clock

    @classmethod
    def of(cls, parts: Parts) -> Waker:
        return cls(parts.config, parts.registry, parts.server, parts.prover, parts.clock)

    def end(self) -> None:
        """Wake the server and let requests through again.

        Raises ServerError when it does not answer in the end: the nap stays. Raises AdapterError when it does, but not
        with the adapter that serves.
        """
        files = NapFiles(self.config.state)
        try:
            self._rouse()
        except AdapterError:
            files.end()  # it is awake, and has all but the adapter
            raise
        files.end()

    def end_left_behind(self) -> bool:
        """`end` a nap that a killed night left; False when there is none. For who holds the lock of naps."""
        if NapFiles(self.config.state).mark() is None:
            return False
        self.end()
        _log.warning("nap.recovered")
        return True

    def recover(self) -> bool:
        """The same for who does not: False also when the nap's night is alive."""
        files = NapFiles(self.config.state)
        if files.mark() is None:
            return False
        try:
            with alone(files.lock):
                return self.end_left_behind()  # unless its night has ended it meanwhile
        except AlreadyRuns:
            return False

    def _rouse(self) -> None:
        """Wake it if it sleeps. Where it does not, `server.restart_command` is run; so it is after a sleep of level 2,
        from which a server wakes without weights."""
        try:
            if self.server.asleep():
                if self.config.night.sleep_level == 2:
                    raise ServerError("a sleep of level 2 dropped the weights")
                self.server.wake_up()
            self._prove()
        except (ServerError, AdapterError) as error:
            if not self.config.server.restart_command:
                raise
            self._restart(error)
            self._prove()

    def _prove(self) -> None:
        """One token from the model that serves: /health and /v1/models answer in the sleep as well."""
        active = incumbent(self.registry, self.server, self.prover)
        self.server.chat(active.name if active else self.server.models()[0].name, _PROOF, max_tokens=1)

    def _restart(self, reason: SleepyError) -> None:
        command, seconds = self.config.server.restart_command, self.config.server.restart_seconds
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=seconds, text=True)
        except subprocess.CalledProcessError as error:
            raise ServerError(f"{command[0]} ended with {error.returncode}: {error.stderr.strip()[-500:]}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"the model server could not be restarted ({error})", "start it by hand") from error
        until = self.clock.now() + timedelta(seconds=seconds)
        while True:
            with contextlib.suppress(ServerError):
                self.server.models()
                break
            if self.clock.now() > until:
                remedy = "look at its log, or raise server.restart_seconds"
                raise ServerError(f"the model server did not answer {seconds:g} s after {command}", remedy)
            self.clock.sleep(_START_LOOK)
        _log.warning("server.restarted", reason=reason.message)
