"""What the gateway of this home, or the daemon that it is part of, says of itself: the records, and who asks."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Self, cast

import httpx
from pydantic import ValidationError, model_validator

from sleepy_coder.config import Config, GatewaySettings
from sleepy_coder.errors import ConfigError, ServerError, ServerUnreachable
from sleepy_coder.types import Record, SessionCheck

_SECONDS = 30.0  # a refused connection says so at once; a busy machine takes its time
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between tries, as long as a restart may take
_START = "start it: sleepy-coder gateway"
_START_DAEMON = "start it: `sleepyd`, which takes the place of a `sleepy-coder gateway`"
NEEDS_KEY = (
    "Set gateway.api_key; for an installed service: `sudo env CREDENTIALS_DIRECTORY=/etc/sleepy-coder sleepy-coder ...`"
)


class VerifierWord(Record):
    """What `sleepy-coder run` says of a session's verifier: it is awaited, it has spoken (`check`), or it has
    nothing to speak of, since what would pass was not there (`not_passed`).

    `nonce` is the same in all words of one run, and nobody else's: the agent knows its session, and could speak too.
    """

    session: str
    nonce: str
    state: Literal["awaited", "spoken", "not_passed"]
    check: SessionCheck | None = None

    @model_validator(mode="after")
    def _one_session(self) -> Self:
        if (self.check is not None) != (self.state == "spoken"):
            raise ValueError("a check goes with the state `spoken`, and with no other")
        if self.check is not None and self.check.session != self.session:
            raise ValueError("the check is another session's")
        return self


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
    outcome of the last one that ended; `nights` is the daemon's only. Older ones do not tell their `home`."""

    since: datetime | None
    episodes_today: int | None
    last_night: tuple[int, str] | None
    nights: Outlook | None
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """What answers where a home's gateway would: `state` when it is that home's, `elsewhere` the home of another one's.
    One that is `silent` tells nothing without its key."""

    state: HomeState | None = None
    elsewhere: Path | None = None
    silent: bool = False

    @property
    def holds_nights(self) -> bool:
        """Whether somebody begins nights by themselves, as far as is known."""
        return self.silent if self.state is None else self.state.nights is not None


def running(config: Config) -> Running:
    """The gateway or daemon of this home, or that of another home on its port."""
    state = gateway_state(config.gateway)
    if state is None:
        return Running(silent=gateway_answers(config.gateway))
    if state.home is not None and state.home != config.home:
        return Running(elsewhere=state.home)
    return Running(state)


def refuse_elsewhere(config: Config, words: str) -> None:
    """Raises ConfigError when what runs here works in another home and would not hear of the command `words`."""
    if other := running(config).elsewhere:
        where = config.gateway.local_url
        remedy = f"type `{command_in(other, words)}`, or give this home a gateway.port of its own"
        raise ConfigError(f"the daemon at {where} works in {other}, not in {config.home}", remedy)


def command_in(home: Path, words: str) -> str:
    """What to type for another home: as its owner, whose daemon could not read what somebody else leaves there."""
    typed = f"--home {shlex.quote(str(home))} {words}"
    with suppress(OSError, KeyError):
        if home.stat().st_uid != os.geteuid():
            return f"sudo -u {home.owner()} {Path(sys.prefix) / 'bin' / 'sleepy-coder'} {typed}"
    return f"sleepy-coder {typed}"


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


def tell_verdict(settings: GatewaySettings, word: VerifierWord) -> None:
    """Have the gateway keep a verifier's word, which it frees of secrets. Raises ServerError."""
    tell = partial(_said, settings, "gateway", "/admin/check", word.model_dump_json(), _START)
    for pause in _PAUSES if word.state == "spoken" else ():  # an agent's work is behind it: a restart must not lose it
        with suppress(ServerUnreachable):
            tell()
            return
        time.sleep(pause)
    tell()


def tell_feedback(settings: GatewaySettings, session: str, good: bool, note: str) -> None:
    """Have the gateway keep what somebody says of a session. Raises ServerError."""
    said = json.dumps({"session": session, "good": good, "note": note})
    _said(settings, "gateway", "/v1/feedback", said, _START)


def begin_night(settings: GatewaySettings) -> str:
    """Have the daemon begin a night; what became of the wish. Raises ServerError when none lets itself be asked."""
    remedy = f"{_START_DAEMON}; or run the night in this terminal with `sleepy-coder night`"
    answer = _said(settings, "daemon", "/admin/night", "", remedy)
    if "night" not in answer:
        raise ServerUnreachable(f"no daemon answers at {settings.local_url}, but something else does", remedy)
    return str(answer["night"])


def _said(settings: GatewaySettings, who: str, path: str, body: str, remedy: str) -> dict[str, Any]:
    """What it answers when it is told something.

    Raises ServerUnreachable when it does not answer now, ServerError with what it says against it.
    """
    url, headers = settings.local_url, {"Content-Type": "application/json"}
    try:
        with _direct(settings) as client:
            answer = client.post(path, content=body, headers=headers)
        said = answer.raise_for_status().json()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            raise ServerError(f"the {who} at {url} wants its key", NEEDS_KEY, status) from error
        kind = ServerUnreachable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ServerError
        raise kind(f"{url}{path} refuses: {_reason(error.response)}", remedy, status) from error
    except (httpx.HTTPError, ValueError) as error:
        raise ServerUnreachable(f"no {who} answers at {url} ({error})", remedy) from error
    if not isinstance(said, dict):
        raise ServerUnreachable(f"no {who} answers at {url}, but something else does", remedy)
    return cast("dict[str, Any]", said)


def _reason(refusal: httpx.Response) -> str:
    try:
        return str(refusal.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(refusal.status_code)


def _direct(settings: GatewaySettings) -> httpx.Client:
    """A client with the key, whatever proxy the environment names: that would see it, and not reach this machine."""
    key = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
    return httpx.Client(base_url=settings.local_url, headers=key, timeout=_SECONDS, trust_env=False)
