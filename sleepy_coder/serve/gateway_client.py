"""What the gateway of this home, or the daemon that it is part of, says of itself: the records, and who asks."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

import httpx
from pydantic import ValidationError

from sleepy_coder.config import GatewaySettings
from sleepy_coder.errors import ServerUnreachable
from sleepy_coder.types import Record

_SECONDS = 30.0  # a refused connection says so at once; a busy machine takes its time
NEEDS_KEY = (
    "Set gateway.api_key; for an installed service: `sudo env CREDENTIALS_DIRECTORY=/etc/sleepy-coder sleepy-coder ...`"
)


class Outlook(Record):
    """What the daemon says of its nights: what they wait for, whether one runs, when the window opens next, and when
    the schedule looked last."""

    why: str
    running: bool
    next: datetime | None
    looked: datetime | None


class GatewayState(Record):
    """What serves, what is in flight on which model and server, what is held while it naps, what waits to be saved."""

    alias: str
    serving: str
    in_flight: dict[str, int]
    servers: dict[str, int]
    asleep: bool
    held: int
    recording: bool
    waiting: int


class HomeState(GatewayState):
    """`GET /admin/state`, with what the home says: `since` is when the pointer was moved last, `last_night` number and
    outcome of the last one that ended; `nights` is the daemon's only."""

    since: datetime | None
    episodes_today: int | None
    last_night: tuple[int, str] | None
    nights: Outlook | None


def gateway_state(settings: GatewaySettings) -> HomeState | None:
    """What it says; None when nobody answers, or something else does on that port.

    One that was updated and not yet restarted, or the other way round, may say more: that is left out.
    """
    try:
        with _direct(settings) as client:
            answer = client.get("/admin/state")
        return HomeState.model_validate_json(answer.raise_for_status().content, extra="ignore")
    except (httpx.HTTPError, ValidationError):
        return None


def gateway_answers(settings: GatewaySettings) -> bool:
    """Whether one runs, also one that does not tell its state because it wants a key that is not known here."""
    try:
        with _direct(settings) as client:
            return client.get("/healthz").json() == {"status": "ok"}
    except (httpx.HTTPError, ValueError):
        return False


def begin_night(settings: GatewaySettings) -> str:
    """Have the daemon begin a night; what became of the wish. Raises ServerUnreachable when no daemon lets itself be
    asked."""
    try:
        with _direct(settings) as client:
            answer = client.post("/admin/night")
        return str(answer.raise_for_status().json()["night"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == HTTPStatus.UNAUTHORIZED:
            raise ServerUnreachable(f"the daemon at {settings.local_url} wants its key", NEEDS_KEY) from error
        remedy = "start it, or run the night in this terminal with `sleepy-coder night`"
        raise ServerUnreachable(f"no daemon answers at {settings.local_url} ({error})", remedy) from error


def _direct(settings: GatewaySettings) -> httpx.Client:
    """A client with the key, whatever proxy the environment names: that would see it, and not reach this machine."""
    key = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    return httpx.Client(base_url=settings.local_url, headers=key, timeout=_SECONDS, trust_env=False)
