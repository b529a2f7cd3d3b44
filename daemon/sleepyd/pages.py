"""The gateway's own pages: health for everyone; for whoever may administer metrics, state, nights and the live page.

A page in somebody's browser may not ask for the latter in that person's name: requests from other sites are refused,
and without a key so are those under a host name, which may be anybody's (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from pydantic import ValidationError

from sleepy_coder import log
from sleepy_coder.canary import CanaryState
from sleepy_coder.config import GatewaySettings, is_loopback
from sleepy_coder.errors import StoreError
from sleepy_coder.serve.gateway_client import GatewayState, HomeState, Outlook, VerifierWord
from sleepy_coder.serve.same_site import from_another_site

from .checks import KeepCheck
from .figures import Remembered, Snapshot
from .meters import Meters
from .passing import TooLarge, read_body
from .routing import key_fits

_log = log.get("gateway")

ASK_WITH_KEY: Final = "Send gateway.api_key as a bearer token or as x-api-key."
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_PAGE_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Nights(Protocol):
    """Whoever holds the nights in this process."""

    def outlook(self) -> Outlook:
        """What the nights wait for."""
        ...

    def begin_now(self) -> str:
        """Have a night begin at once, whatever the hour; what became of the wish, in a sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Home:
    """What the pages know besides the gateway's own numbers; the live page is made in a thread. It lies in `folder`."""

    snapshot: Remembered[Snapshot] | None = None
    dashboard: Remembered[str] | None = None
    nights: Nights | None = None
    keep_check: KeepCheck | None = None
    folder: Path | None = None


class State(HomeState):
    """And the canary, which is shown as it is."""

    canary: CanaryState | None


class Pages:
    """`find` a page by its path."""

    def __init__(
        self,
        settings: GatewaySettings,
        meters: Meters,
        home: Home,
        state: Callable[[], GatewayState],
        ready: Callable[[], Awaitable[bool]],
    ) -> None:
        self._key, self._meters, self._home = settings.api_key, meters, home
        self._limit = settings.body_bytes
        self._state_of_gateway, self._is_ready = state, ready
        self._open: dict[str, Handler] = {"/healthz": self._healthz, "/readyz": self._readyz}
        self._guarded: dict[str, Handler] = {
            "/metrics": self._metrics,
            "/admin/state": self._state,
            "/admin/night": self._night,
            "/admin/check": self._check,
            "/dashboard": self._dashboard,
        }

    def find(self, path: str) -> Handler | None:
        """Who answers at `path`; None when it is no page."""
        if path in self._open:
            return self._open[path]
        return self._guard if path in self._guarded else None

    async def _guard(self, request: web.BaseRequest) -> web.StreamResponse:
        if from_another_site(request.method, request.headers, any_host=self._key is not None):
            return self._refuse(403, "permission_error", "Pages of other sites may not ask for this.")
        if not self._may_administer(request):
            refused = self._refuse(401, "authentication_error", ASK_WITH_KEY)
            if request.path == "/dashboard" and self._key is not None:
                refused.headers["WWW-Authenticate"] = 'Basic realm="sleepy-coder: gateway.api_key is the password"'
            return refused
        return await self._guarded[request.path](request)

    def _may_administer(self, request: web.BaseRequest) -> bool:
        """With a key only who has it, a browser as the password; without one only this machine."""
        if self._key is None:
            return is_loopback(request.remote or "")
        return key_fits(request.headers, self._key) or _password_fits(request, self._key)

    def _refuse(self, status: int, kind: str, message: str) -> web.Response:
        self._meters.request("refused", status)
        return problem(status, kind, message)

    async def _healthz(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        """200 when a model server answers."""
        ready = await self._is_ready()
        said = "ready" if ready else "the model server does not answer"
        return web.json_response({"status": said}, status=200 if ready else 503)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        page = await asyncio.to_thread(self._meters.page)  # which may read the store
        return web.Response(body=page, headers={"Content-Type": _PROMETHEUS})

    async def _state(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answered at once: a night that waits for the end of requests asks often. Figures may be some seconds old."""
        snapshot = self._home.snapshot
        known = snapshot.last() if snapshot else None
        if snapshot and snapshot.stale:
            asyncio.get_running_loop().run_in_executor(None, snapshot.get)
        last = known.figures.last if known else None
        state = State(
            **self._state_of_gateway().model_dump(),
            since=known.since if known else None,
            episodes_today=known.figures.today if known else None,
            last_night=(last.cycle, last.outcome) if last else None,
            canary=known.canary if known else None,
            nights=self._home.nights.outlook() if self._home.nights else None,
            home=self._home.folder,
        )
        return web.json_response(text=state.model_dump_json(), headers={"Cache-Control": "no-store"})

    async def _night(self, request: web.BaseRequest) -> web.StreamResponse:
        """POST has a night begin now."""
        nights = self._home.nights
        if request.method != "POST" or nights is None:
            return self._refuse(404, "not_found", "Only the daemon runs nights; use POST to ask for one.")
        return web.json_response({"night": nights.begin_now()}, status=202)

    async def _check(self, request: web.BaseRequest) -> web.StreamResponse:
        """POST keeps what a verifier says of a session."""
        keep = self._home.keep_check
        if request.method != "POST" or keep is None:
            return self._refuse(404, "not_found", "Use POST to report what a verifier says of a session.")
        try:
            word = VerifierWord.model_validate_json(await read_body(request, self._limit))
        except TooLarge:
            return self._refuse(413, "request_too_large", "The check exceeds gateway.max_body_mib.")
        except ValidationError as error:
            return self._refuse(400, "invalid_request_error", f"not a valid check: {error.errors()[0]['msg']}")
        try:
            kept = await asyncio.to_thread(keep, word)
        except StoreError as error:
            _log.error("gateway.check_lost", session=word.session, reason=str(error))
            return self._refuse(503, "store_error", error.message)
        if not kept:
            return self._refuse(409, "conflict", "Only whoever announced this session's verifier may speak for it.")
        return web.json_response({"status": "noted"})

    async def _dashboard(self, request: web.BaseRequest) -> web.StreamResponse:
        """The live page: what `sleepy-coder report` writes, with the numbers of the moment above it."""
        page = await asyncio.to_thread(self._home.dashboard.get) if self._home.dashboard else None
        if page is None:
            return self._refuse(503, "store_error", "The store cannot be read now; see the log.")
        return web.Response(text=page, headers=_PAGE_HEADERS)


def problem(status: int, kind: str, message: str) -> web.Response:
    """An error of the gateway's own, in a form that OpenAI's and Anthropic's clients both read."""
    error = {"type": kind, "message": f"sleepy-coder gateway: {message}", "param": None, "code": status}
    return web.json_response({"type": "error", "error": error}, status=status)


def _password_fits(request: web.BaseRequest, key: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        _, _, password = b64decode(given, validate=True).partition(b":")
    except ValueError:
        return False
    return hmac.compare_digest(password, key.encode())
