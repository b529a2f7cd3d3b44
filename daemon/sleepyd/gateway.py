"""The gateway: everything under /v1/ goes to the model server as it is, and a copy of it is kept.

The one thing that changes on the way is the model's name: the alias becomes the name of the adapter that serves
now, and back (rename.py). Recording happens elsewhere (recorder.py); here a finished capture is only handed over.
docs/gateway.md says what passes, what is changed, what is kept and who may ask.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp import web

from sleepy_coder import log
from sleepy_coder.config import GatewaySettings, ServerSettings, is_loopback
from sleepy_coder.ports import Clock

from .capture import Capture, kept_headers
from .meters import Meters
from .passing import Passage, TooLarge, UpstreamBroke, pass_on, read_body
from .recorder import Recorder
from .rename import Named, name_model
from .routing import Target, key_fits, read_target, request_headers
from .serving import InFlight, Serving

_log = log.get("gateway")

_CONNECT_SECONDS: Final = 5.0
_READY_SECONDS: Final = 2.0
_KEEPALIVE_SECONDS: Final = 4.0  # below uvicorn's 5 s, or a request may meet a connection that is being closed
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_HUNG_UP: Final = 499  # counted for callers that went before there was a status
_ASK_WITH_KEY: Final = "Send gateway.api_key as a bearer token or as x-api-key."
_DECODED: Final = frozenset(("gzip", "deflate", "br", "zstd"))  # what aiohttp decodes as a body arrives

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Gateway:
    """Handles requests; `open` and `close` it on the loop that serves."""

    def __init__(
        self,
        settings: GatewaySettings,
        server: ServerSettings,
        serving: Serving,
        recorder: Recorder,
        meters: Meters,
        clock: Clock,
    ) -> None:
        self.in_flight = InFlight()
        self._settings, self._serving, self._recorder = settings, serving, recorder
        self._meters, self._clock = meters, clock
        self._base = server.url.rstrip("/").removesuffix("/v1")
        self._server_key = server.api_key
        self._limit = settings.max_body_mib << 20
        self._client: aiohttp.ClientSession | None = None
        self._own: dict[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/admin/state": self._state,
        }
        meters.watch(self.in_flight.all, lambda: recorder.depth)

    async def open(self) -> None:
        """Open the way to the model server. Replies have no time-out: a long answer takes as long as it takes."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if own := self._own.get(request.path):
            return await own(request)
        target = read_target(request.raw_path)
        if target is None:
            return self._refuse(404, "not_found", f"{request.path} is not under /v1/, and nothing else is passed on.")
        if not self._may_ask(request):
            return self._refuse(401, "authentication_error", _ASK_WITH_KEY)
        if target.refused:
            return self._refuse(403, "permission_error", "Adapters are loaded at the model server, not from here.")
        try:
            body = await read_body(request, self._limit)
        except TooLarge:
            mib = self._settings.max_body_mib
            return self._refuse(413, "request_too_large", f"The request is above gateway.max_body_mib ({mib} MiB).")
        return await self._pass(request, target, body)

    def _refuse(self, status: int, kind: str, message: str) -> web.Response:
        self._meters.request("refused", status)
        return problem(status, kind, message)

    # The way through

    async def _pass(self, request: web.BaseRequest, target: Target, body: bytes) -> web.StreamResponse:
        assert self._client is not None, "the gateway is not open"
        arrived = time.perf_counter()
        serving = self._serving.name()
        needed = target.wire != "other" and request.method == "POST"
        named = name_model(body, self._settings.alias, serving, needed=needed) if body else Named(body, "", "")
        passage = self._passage(request, target, named, body, serving, arrived)
        try:
            if not named.served:
                return await pass_on(self._client, self._base, passage)
            with self.in_flight.one(named.served):
                return await pass_on(self._client, self._base, passage)
        except UpstreamBroke as error:
            passage.broke, passage.status = str(error), 502
            return problem(502, "upstream_error", f"The model server at {self._base} failed: {error}.")
        finally:
            # Also when the caller hung up: Codex closes its connection right after the closing event.
            self._finish(passage)

    def _passage(
        self, request: web.BaseRequest, target: Target, named: Named, body: bytes, serving: str, arrived: float
    ) -> Passage:
        exchange_id = uuid.uuid4().hex
        alias = self._settings.alias
        renamed = named.body is not body or named.asked == alias
        passage = Passage(
            request=request,
            target=target,
            body=named.body,
            headers=request_headers(
                request.headers,
                exchange_id=exchange_id,
                guarded=self._settings.api_key is not None,
                server_key=self._server_key,
                decoded=request.headers.get("Content-Encoding", "").lower() in _DECODED,
            ),
            served=named.served or serving,
            alias=alias if renamed or not named.served else "",
            arrived=arrived,
        )
        if target.wire != "other" and request.method == "POST" and self._recorder.wants():
            passage.capture = Capture(
                id=exchange_id,
                wire=target.wire,
                tag=target.tag,
                path=target.path,
                asked=named.asked,
                served=named.served,
                headers=kept_headers(request.headers),
                request=body,
                started=self._clock.now(),
                limit=self._settings.record_mib << 20,
                began=arrived,
            )
        return passage

    def _finish(self, passage: Passage) -> None:
        if passage.broke:
            _log.warning("gateway.upstream_failed", path=passage.target.path, reason=passage.broke)
        self._meters.request(passage.target.wire, passage.status or _HUNG_UP)
        self._meters.added(passage.added)
        if passage.capture and passage.capture.status:
            passage.capture.end()
            self._recorder.offer(passage.capture)

    # Who may ask

    def _may_ask(self, request: web.BaseRequest) -> bool:
        key = self._settings.api_key
        return key is None or key_fits(request.headers, key)

    def _may_administer(self, request: web.BaseRequest) -> bool:
        """With a key only who has it; without one only this machine."""
        if self._settings.api_key is not None:
            return self._may_ask(request)
        return is_loopback(request.remote or "")

    # Its own pages

    async def _healthz(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        """200 when the model server answers."""
        assert self._client is not None, "the gateway is not open"
        timeout = aiohttp.ClientTimeout(total=_READY_SECONDS)
        try:
            async with self._client.get(f"{self._base}/health", timeout=timeout) as answer:
                ready = answer.status == 200
        except (aiohttp.ClientError, OSError):
            ready = False
        said = "ready" if ready else "the model server does not answer"
        return web.json_response({"status": said}, status=200 if ready else 503)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        if not self._may_administer(request):
            return self._refuse(401, "authentication_error", _ASK_WITH_KEY)
        return web.Response(body=self._meters.page(), headers={"Content-Type": _PROMETHEUS})

    async def _state(self, request: web.BaseRequest) -> web.StreamResponse:
        """What serves, what is in flight on which model, and what waits to be saved."""
        if not self._may_administer(request):
            return self._refuse(401, "authentication_error", _ASK_WITH_KEY)
        state = {
            "alias": self._settings.alias,
            "serving": self._serving.name(),
            "in_flight": dict(self.in_flight.all()),
            "recording": self._recorder.wants(),
            "waiting": self._recorder.depth,
        }
        return web.json_response(state)


def problem(status: int, kind: str, message: str) -> web.Response:
    """An error of the gateway's own, in a form that OpenAI's and Anthropic's clients both read."""
    error = {"type": kind, "message": f"sleepy-coder gateway: {message}", "param": None, "code": status}
    return web.json_response({"type": "error", "error": error}, status=status)
