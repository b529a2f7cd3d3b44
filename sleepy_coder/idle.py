"""Whether anybody needs the machine: signals are read here, and one pure function decides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sleepy_coder import log
from sleepy_coder.config import Config, GatewaySettings, NightSettings
from sleepy_coder.errors import ServerError
from sleepy_coder.ports import Clock, ModelServer
from sleepy_coder.serve.gateway_client import gateway_state
from sleepy_coder.store import Store
from sleepy_coder.types import Record

_ASK_SECONDS = 60.0
_log = log.get("night")


class Signals(Record):
    """What was seen at `at`. None is unknown, which is never taken for idle nor, but for the server, for busy.

    `requests` run or wait at the model server; `in_flight` are those the gateway holds or passes on; `exchange` is
    when the last one that was recorded began, and `episode` when the last episode did, which of the built-in agent is
    all there is; `gpu_percent` is the busiest GPU's.
    """

    at: datetime
    in_window: bool
    requests: int | None
    in_flight: int | None
    exchange: datetime | None
    episode: datetime | None
    gpu_percent: int | None


class Idleness(Record):
    """The decision; `waits_for` says what stands against it, and is empty when `idle`."""

    idle: bool
    waits_for: str
    signals: Signals


def decide(signals: Signals, settings: NightSettings) -> Idleness:
    """Idle is: in the window, nobody asks, nobody has asked for `quiet_minutes`, and the GPU does not compute.

    Pure. A server that does not tell what it does is not idle; a gateway or a GPU that is not there has no say.
    """
    against = ""
    if not signals.in_window:
        against = f"the window {settings.window}"
    elif signals.requests is None:
        against = "the model server, which does not say whether it is in use"
    elif signals.requests or signals.in_flight:
        against = f"requests in flight ({max(signals.requests, signals.in_flight or 0)})"
    elif _recent(signals.at, signals.exchange, settings):
        against = f"{settings.quiet_minutes:g} quiet minutes after the exchange of {signals.exchange:%H:%M} UTC"
    elif _recent(signals.at, signals.episode, settings):
        against = f"{settings.quiet_minutes:g} quiet minutes after the episode of {signals.episode:%H:%M} UTC"
    elif signals.gpu_percent is not None and signals.gpu_percent > settings.gpu_percent:
        against = f"the GPU, which is busy at {signals.gpu_percent}%"
    return Idleness(idle=not against, waits_for=against, signals=signals)


def _recent(now: datetime, last: datetime | None, settings: NightSettings) -> bool:
    """Whether `last` is within the quiet minutes. A time to come, of a clock that was wrong, is not waited for."""
    return last is not None and timedelta(0) <= now - last < timedelta(minutes=settings.quiet_minutes)


def look(config: Config, server: ModelServer, store: Store, clock: Clock) -> Idleness:
    """Read every signal and decide. Raises StoreError and ConfigError; a server that fails is a signal."""
    now, hours = clock.now(), config.night.hours()
    signals = Signals(
        at=now,
        in_window=hours is None or hours.now_open(now) is not None,
        requests=_requests(server),
        in_flight=in_flight(config.gateway),
        exchange=store.latest_exchange(),
        episode=store.latest_episode(),
        gpu_percent=gpu_percent(),
    )
    found = decide(signals, config.night)
    _log.info("night.idle", idle=found.idle, waits_for=found.waits_for, **signals.model_dump(mode="json"))
    return found


def wait_until_idle(ask: Callable[[], Idleness], clock: Clock, say: Callable[[str], object]) -> Idleness:
    """Ask once a minute until the answer is yes; `say` hears what is waited for, whenever that changes."""
    said = ""
    while not (found := ask()).idle:
        if found.waits_for != said:
            said = found.waits_for
            say(f"not idle yet: waits for {said}; Ctrl-C ends it")
        clock.sleep(_ASK_SECONDS)
    return found


def _requests(server: ModelServer) -> int | None:
    with suppress(ServerError):
        return server.busy()
    return None


def in_flight(settings: GatewaySettings, *, held: bool = True) -> int | None:
    """Requests that the gateway passes on now and, if asked, holds; None when no gateway answers."""
    state = gateway_state(settings)
    return sum(state.in_flight.values()) + (state.held if held else 0) if state else None


def gpu_percent() -> int | None:
    """How much the busiest GPU computes, whatever memory is held on it; None without NVML."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return _nvml_percent(pynvml)


def _nvml_percent(nvml: Any) -> int | None:
    """The same, read through `nvml`; its library may be there without a driver."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        devices = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return max((int(nvml.nvmlDeviceGetUtilizationRates(device).gpu) for device in devices), default=None)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()
