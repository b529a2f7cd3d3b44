"""WebSockets (such as /v1/realtime): passed on both ways, message by message, and never recorded.

The model server is asked first; a caller whose request it refuses gets its status. Pings, pongs and closes are the
two ends' own business and are passed like messages. Whoever goes, the other end is closed too.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final
from urllib.parse import quote, unquote_plus

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from .passing import translated
from .routing import Target

_CLOSE_SECONDS: Final = 2.0
_UNSENDABLE: Final = frozenset((0, WSCloseCode.ABNORMAL_CLOSURE, 1005, 1015))
_PASSED: Final = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
_HANDSHAKE: Final = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")
_MODEL: Final = re.compile(r"(?<=[?&])model=([^&]*)")

_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class SocketRefused(Exception):
    """The model server answered the handshake with another status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def asks_for_socket(request: web.BaseRequest) -> bool:
    return request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"


def name_in_query(query: str, alias: str, serving: str) -> tuple[str, str]:
    """`query` with `serving` where its `model` is `alias`, and the model that it asks for then ("" for none)."""
    found = _MODEL.search(query)
    if found is None:
        return query, ""
    asked = unquote_plus(found[1])
    if asked != alias:
        return query, asked
    return query[: found.start(1)] + quote(serving, safe="") + query[found.end(1) :], serving


async def pass_socket(
    client: aiohttp.ClientSession,
    base: str,
    request: web.BaseRequest,
    target: Target,
    query: str,
    headers: CIMultiDict[str],
) -> web.StreamResponse:
    """Connect both ends until one of them closes. Raises SocketRefused, Refused or UpstreamBroke before it began."""
    asked = request.headers.get("Sec-WebSocket-Protocol", "")
    protocols = [name.strip() for name in asked.split(",") if name.strip()]
    for name in _HANDSHAKE:
        headers.popall(name, None)
    with translated():
        try:
            upstream = await client.ws_connect(
                URL(base + target.path + query, encoded=True),
                headers=headers,
                protocols=protocols,
                autoping=False,
                autoclose=False,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),  # pyright: ignore[reportCallIssue]
            )
        except aiohttp.WSServerHandshakeError as error:
            raise SocketRefused(error.status if error.status >= 400 else 502) from error
    caller = web.WebSocketResponse(
        protocols=[upstream.protocol] if upstream.protocol else (),
        autoping=False,
        autoclose=False,
        compress=False,
        max_msg_size=0,
        timeout=_CLOSE_SECONDS,
    )
    try:
        await caller.prepare(request)
        await _connect(caller, upstream)
    finally:
        # Also when the caller's connection is lost, which cancels this. Whoever was closed before stays so.
        for end in (upstream, caller):
            with suppress(ConnectionError, RuntimeError):
                await end.close(code=WSCloseCode.GOING_AWAY)
    return caller


async def _connect(caller: _Socket, upstream: _Socket) -> None:
    """Pass messages both ways until either end has closed, and the other has been told."""
    pumps = {
        asyncio.create_task(_pump(caller, upstream)): (caller, upstream),
        asyncio.create_task(_pump(upstream, caller)): (upstream, caller),
    }
    try:
        ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
    first = ended.pop()
    source, sink = pumps[first]
    code, reason = first.result()
    # The one that did not ask for it comes first: closing a caller's connection ends all that is done for it.
    await sink.close(code=code, message=reason)
    await source.close(code=code)


async def _pump(source: _Socket, sink: _Socket) -> tuple[int, bytes]:
    """Everything that `source` sends goes to `sink`. Returns the code and the reason with which it ended."""
    try:
        while True:
            message = await source.receive()
            if message.type is WSMsgType.CLOSE:
                code = 1000 if message.data in _UNSENDABLE else int(message.data)
                return code, (message.extra or "").encode()
            if message.type not in _PASSED:
                break
            data: bytes | str = message.data
            await sink.send_frame(data.encode() if isinstance(data, str) else data, message.type)
    except (ConnectionError, RuntimeError):
        pass  # `sink` is lost
    return WSCloseCode.GOING_AWAY, b""
