"""Replies that name the request they answer, as vLLM's do with --enable-request-id-headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADER: Final = "X-Request-Id"


@dataclass(frozen=True, slots=True)
class RequestIds:
    """ASGI middleware that sends the caller's X-Request-Id back with whatever `app` answers."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(scope=scope).get(_HEADER) if scope["type"] == "http" else None

        async def named(message: Message) -> None:
            if asked and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[_HEADER] = asked
            await send(message)

        await self.app(scope, receive, named)
