"""Beside the gateway: the inbox, and conversations that come to rest, become episodes. Two threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from sleepy_coder import log
from sleepy_coder.collect.gathering import gather_resting
from sleepy_coder.errors import SleepyError
from sleepy_coder.ports import Clock
from sleepy_coder.store import Store

from .inbox import Inbox

_log = log.get("collect")
_AGAIN_SECONDS: Final = 30.0


@asynccontextmanager
async def collecting(store: Store, inbox: Inbox, clock: Clock, rest: timedelta) -> AsyncGenerator[None]:
    """Collect while this is open; on leaving, what is at work is finished and nothing new begun."""
    stop = threading.Event()
    between = rest.total_seconds() / 4

    def gather() -> None:
        while not stop.wait(between):
            _guarded(lambda: gather_resting(store, clock.now(), rest))

    def take_in() -> None:
        while not stop.is_set():
            _guarded(lambda: inbox.run(stop))
            stop.wait(_AGAIN_SECONDS)

    threads = [threading.Thread(target=work, name=work.__name__, daemon=True) for work in (gather, take_in)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        inbox.wake()
        for thread in threads:
            await asyncio.to_thread(thread.join)


def _guarded(work: Callable[[], object]) -> None:
    """What fails must end neither the gateway nor the thread: the next look tries again."""
    try:
        work()
    except SleepyError as error:
        _log.error("collect.failed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - what agents say comes in every form
        _log.error("collect.failed", reason=f"{type(error).__name__}: {error}")
