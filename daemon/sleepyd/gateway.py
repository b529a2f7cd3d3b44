"""The gateway: everything under /v1/ goes to the model server as it is, and a copy of it is kept.

What changes on the way is the model's name: the alias becomes the name of the adapter that serves now, and back
(rename.py). Streams are asked for token counts, which the caller does not see (usage.py). Recording happens elsewhere
(recorder.py); here a finished capture is only handed over.
docs/gateway.md says what passes, what is changed, what is kept and who may ask.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, cast

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from sleepy_coder import log
from sleepy_coder.adapter_manifest import is_adapter_name
from sleepy_coder.collect.identify import PURPOSE_HEADER, identify, sticky_name
from sleepy_coder.collect.sessions import EVALUATION
from sleepy_coder.collect.streams import read_json
from sleepy_coder.config import GatewaySettings, ServerSettings
from sleepy_coder.errors import SecretFound, StoreError
from sleepy_coder.ports import Clock
from sleepy_coder.serve.gateway_client import GatewayState

from .capture import Capture, kept_headers
from .feedback import FEEDBACK, KeepFeedback, WrongFeedback, read_feedback
from .meters import Meters
from .napping import Asleep, Gate
from .pages import ASK_WITH_KEY, Home, Pages, problem
from .passing import Passage, Restore, TooLarge, UpstreamBroke, is_ready, pass_on, read_body
from .recorder import Recorder
from .rename import Named, name_model
from .routing import Target, key_fits, read_target, request_headers
from .serving import InFlight, Serving
from .sockets import SocketRefused, asks_for_socket, name_in_query, pass_socket
from .upstreams import Upstreams
from .usage import ask_usage

_log = log.get("gateway")

LONGEST_HEADER: Final = 64 << 10
"""Bytes of a line of a head, in both directions: keys that are signed tokens are longer than aiohttp's own 8 KiB."""

_CONNECT_SECONDS: Final = 5.0
_KEEPALIVE_SECONDS: Final = 4.0  # below uvicorn's 5 s, or a request may meet a connection that is being closed
_HUNG_UP: Final = 499  # counted for callers that went before there was a status
_DECODED: Final = frozenset(("gzip", "deflate", "br", "zstd"))  # what aiohttp decodes as a body arrives


@dataclass(frozen=True, slots=True)
class Beside:
    """What works beside the gateway: who counts its requests, keeps what is said of sessions (without it there is no
    /v1/feedback), has the model server load again what a restart made it forget, and knows the home and its nights."""

    in_flight: InFlight = field(default_factory=InFlight)
    keep_feedback: KeepFeedback | None = None
    restore: Restore | None = None
    home: Home = field(default_factory=Home)


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
        gate: Gate,
        beside: Beside,
    ) -> None:
        self.in_flight, self._restore, self._keep_feedback = beside.in_flight, beside.restore, beside.keep_feedback
        self._settings, self._serving, self._recorder = settings, serving, recorder
        self._meters, self._clock, self._gate = meters, clock, gate
        self._upstreams = Upstreams((server.url, *server.replicas))
        self._server_key = server.api_key
        self._limit = settings.body_bytes
        self._client: aiohttp.ClientSession | None = None
        self._pages = Pages(settings, meters, beside.home, self._state, self._ready)
        meters.watch(self.in_flight.all, lambda: recorder.depth, settings.queue_size)

    async def open(self) -> None:
        """Open the way to the model server. Replies have no time-out: a long answer takes as long as it takes."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._gate.close()
        if self._client is not None:
            await self._client.close()

    def _open_client(self) -> aiohttp.ClientSession:
        assert self._client is not None, "the gateway is not open"
        return self._client

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if page := self._pages.find(request.path):
            return await page(request)
        target = read_target(request.raw_path)
        if target is None:
            return self._refuse(404, "not_found", f"{request.path} is not under /v1/, and nothing else is passed on.")
        if not self._may_ask(request) and not _is_preflight(request):
            return self._refuse(401, "authentication_error", ASK_WITH_KEY)
        if target.refused:
            return self._refuse(403, "permission_error", "Adapters are loaded at the model server, not from here.")
        if asks_for_socket(request):
            refused = await self._refused_asleep()
            return await self._socket(request, target) if refused is None else refused
        try:
            body = await read_body(request, self._limit)
        except TooLarge:
            mib = self._settings.max_body_mib
            return self._refuse(413, "request_too_large", f"The request exceeds gateway.max_body_mib ({mib} MiB).")
        if self._keep_feedback and request.method == "POST" and target.path == FEEDBACK:
            return await self._feedback(target, body)
        # The others, such as the list of models, are answered asleep as well.
        if request.method == "POST" and (refused := await self._refused_asleep()) is not None:
            return refused
        return await self._pass(request, target, body)

    async def _refused_asleep(self) -> web.Response | None:
        """Wait until the model server may be asked; what to answer instead when it may not be."""
        try:
            await self._gate.awake()
        except Asleep as asleep:
            return self._refuse(503, "overloaded_error", asleep.reason, asleep.retry_after)
        return None

    def _refuse(self, status: int, kind: str, message: str, retry_after: int | None = None) -> web.Response:
        self._meters.request("refused", status)
        response = problem(status, kind, message)
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        return response

    # The way through

    async def _pass(self, request: web.BaseRequest, target: Target, body: bytes) -> web.StreamResponse:
        arrived = time.perf_counter()
        serving = self._serving.name()
        needed = target.wire != "other" and request.method == "POST"
        named = name_model(body, self._settings.alias, serving, needed=needed) if body else Named(body, "", "")
        session = ""
        if needed and named.served == serving and named.asked != serving and self._serving.divided:
            session = _sticky(request, target, body)
            serving = self._serving.name_for(session)
            named = name_model(body, self._settings.alias, serving, needed=needed)
        passage = self._passage(request, target, named, body, serving, arrived)
        if session and passage.capture:
            self._serving.note(passage.capture.id, session)
        try:
            with self.in_flight.one(named.served) if named.served else nullcontext():
                client, place = self._open_client(), _session(request, target)
                return await self._upstreams.first(
                    place, lambda base, others: pass_on(client, base, passage, others), named.served
                )
        except UpstreamBroke as error:
            passage.broke, passage.status = str(error), 502
            return problem(502, "upstream_error", f"The model server at {passage.base} failed: {error}.")
        finally:
            # Also when the caller hung up: Codex closes its connection right after the closing event.
            self._finish(passage)

    async def _socket(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """A WebSocket, until one of its ends closes it."""
        serving = self._serving.name_for(_session(request, target))
        query, served = name_in_query(target.query, self._settings.alias, serving)
        headers = self._headers(request, uuid.uuid4().hex)

        try:
            with self.in_flight.one(served) if served else nullcontext():
                client, session = self._open_client(), _session(request, target)
                response = await self._upstreams.first(
                    session, lambda base, _: pass_socket(client, base, request, target, query, headers)
                )
        except SocketRefused as error:
            return self._refuse(error.status, "upstream_error", "The model server refuses this WebSocket.")
        except UpstreamBroke as error:
            _log.warning("gateway.upstream_failed", path=target.path, reason=str(error))
            return self._refuse(502, "upstream_error", f"No model server accepts this WebSocket: {error}.")
        self._meters.request("socket", 101)
        return response

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
            headers=self._headers(request, exchange_id),
            served=named.served or serving,
            alias=alias if renamed or not named.served else "",
            arrived=arrived,
            # A server that was restarted a moment ago does not know the adapter behind the alias.
            restore=self._restore if renamed and named.served == serving and is_adapter_name(serving) else None,
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
                limit=self._settings.record_bytes,
                began=arrived,
            )
            if self._settings.ask_usage and target.wire in ("chat", "completions"):
                passage.body = ask_usage(named.body, prompts=target.wire == "completions")
                passage.takes_usage = passage.body is not named.body
        return passage

    def _headers(self, request: web.BaseRequest, exchange_id: str) -> CIMultiDict[str]:
        return request_headers(
            request.headers,
            exchange_id=exchange_id,
            guarded=self._settings.api_key is not None,
            server_key=self._server_key,
            decoded=request.headers.get("Content-Encoding", "").lower() in _DECODED,
        )

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

    async def _feedback(self, target: Target, body: bytes) -> web.StreamResponse:
        """Keep what somebody says of a session or a reply."""
        assert self._keep_feedback is not None
        try:
            await asyncio.to_thread(self._keep_feedback, read_feedback(target.tag, body))
        except WrongFeedback as error:
            return self._refuse(400, "invalid_request_error", str(error))
        except SecretFound as error:
            return self._refuse(400, "invalid_request_error", f"the note is not kept: {error.message}")
        except StoreError as error:
            _log.error("gateway.feedback_lost", reason=str(error))
            return self._refuse(503, "store_error", error.message)
        self._meters.request("feedback", 200)
        return web.json_response({"status": "noted"})

    # What its pages show

    async def _ready(self) -> bool:
        client = self._open_client()
        return any(await asyncio.gather(*(is_ready(client, base) for base in self._upstreams.bases)))

    def _state(self) -> GatewayState:
        return GatewayState(
            alias=self._settings.alias,
            serving=self._serving.name(),
            in_flight=dict(self.in_flight.all()),
            servers=dict(self._upstreams.in_flight()),
            asleep=self._gate.closed,
            held=self._gate.held,
            recording=self._recorder.wants(),
            waiting=self._recorder.depth,
        )


def _is_preflight(request: web.BaseRequest) -> bool:
    """Whether a browser asks if it may ask, which it always does without a key."""
    headers = request.headers
    return request.method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def _sticky(request: web.BaseRequest, target: Target, body: bytes) -> str:
    """What the request's conversation is known by from its first request on; "" for an evaluation, which asks what
    serves, and for what is no conversation."""
    headers = kept_headers(request.headers)
    if headers.get(PURPOSE_HEADER) == EVALUATION:
        return ""
    known = identify(target.tag, headers, {})
    if known.session:
        return known.session
    try:
        asked = read_json(body)
    except ValueError:
        return ""
    fields = cast("dict[str, Any]", asked) if isinstance(asked, dict) else {}
    return sticky_name(identify("", {}, fields), headers.get("user-agent", ""), fields)


def _session(request: web.BaseRequest, target: Target) -> str:
    """The session as far as path and headers tell it: the body is not read for this."""
    return identify(target.tag, kept_headers(request.headers), {}).session
