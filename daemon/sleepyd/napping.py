"""What requests meet while the model server naps: they wait, or are told to come back, and may have it woken."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from sleepy_coder import log, wiring
from sleepy_coder.config import Config, GatewaySettings
from sleepy_coder.errors import SleepyError
from sleepy_coder.nap import Waker
from sleepy_coder.nap_files import NapFiles

from .meters import Meters

_log = log.get("gateway")

_LOOK_SECONDS: Final = 0.05
_RETRY_AFTER: Final = 60  # seconds; how long a night still trains is not known
_RECOVER_SECONDS: Final = 5.0


class Asleep(Exception):
    """The request is not passed on; its caller may try again in `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Gate:
    """Open while nobody naps. Requests that were held leave in the order in which they came."""

    def __init__(self, files: NapFiles, settings: GatewaySettings, meters: Meters) -> None:
        self._files, self._meters = files, meters
        self._policy, self._patience = settings.while_asleep, settings.hold_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watch: asyncio.Task[None] | None = None
        self._said: tuple[int, int] | None = None
        self.held = 0

    @property
    def closed(self) -> bool:
        """Whether the model server naps now."""
        return self._files.mark() is not None

    async def awake(self) -> None:
        """Return when the model server may be asked; without a wait, and with one look at a file, when it may already.

        Raises Asleep when `gateway.while_asleep` refuses, or the wait was longer than `gateway.hold_seconds`.
        """
        if (mark := self._files.mark()) is None:
            return
        self._say(mark)
        if self._policy == "refuse":
            self._meters.napping("refused")
            raise Asleep("The model server sleeps while a night trains.", _RETRY_AFTER)
        self._meters.napping("held")
        self.held += 1
        try:
            async with asyncio.timeout(self._patience):
                # Looked at again after each wait: the next nap may have begun before this request's turn came.
                while (mark := self._files.mark()) is not None:
                    await self._end_of(mark)
        except TimeoutError:
            self._meters.napping("timed_out")
            raise Asleep(f"The model server still sleeps after {self._patience:g} s.", _RETRY_AFTER) from None
        finally:
            self.held -= 1

    def _say(self, mark: tuple[int, int]) -> None:
        if mark != self._said:
            self._said = mark
            _log.warning("gateway.held", policy=self._policy)

    async def _end_of(self, mark: tuple[int, int]) -> None:
        if self._policy == "wake":
            self._files.wish()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._watch is None:
            self._watch = asyncio.create_task(self._release_after(mark))
        await turn

    async def _release_after(self, mark: tuple[int, int]) -> None:
        """One look at the file for all who wait."""
        while self._files.mark() == mark and any(not turn.done() for turn in self._waiting):
            await asyncio.sleep(_LOOK_SECONDS)
        self._watch = None
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its caller is gone
                turn.set_result(None)

    async def close(self) -> None:
        """End the watch; called when no request waits any more."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch


@asynccontextmanager
async def recovering(config: Config) -> AsyncGenerator[None]:
    """Now, and every _RECOVER_SECONDS while this is open, end a nap that a killed night left behind."""
    task = asyncio.create_task(_recover_again_and_again(config))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _recover_again_and_again(config: Config) -> None:
    files = NapFiles(config.state)
    while True:
        if files.mark() is not None:
            await asyncio.to_thread(_recover, config)
        await asyncio.sleep(_RECOVER_SECONDS)


def _recover(config: Config) -> None:
    try:
        with wiring.open_server(config) as server:
            Waker(config, wiring.open_registry(config), server, wiring.prover(config), wiring.SystemClock()).recover()
    except SleepyError as error:
        _log.error("nap.recovery_failed", reason=str(error))
