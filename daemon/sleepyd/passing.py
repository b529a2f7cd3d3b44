"""One request on its way through: to the model server, and the reply back as it comes."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from . import rename
from .capture import STREAM, Capture
from .routing import MODELS, Target, passed_headers
from .usage import UsageTaker

_READY_SECONDS: Final = 10.0
_LENGTH: Final = frozenset(("content-length",))
_KEYS: Final = frozenset(("authorization", "x-api-key"))
_AUTOMATIC: Final = frozenset(("User-Agent", "Accept", "Content-Type"))
_LARGE: Final = 1 << 20  # aiohttp sends larger bytes in one go, which holds up every other request


Restore = Callable[[], Awaitable[None]]


class TooLarge(Exception):
    """A request beyond the limit."""


class UpstreamBroke(Exception):
    """The model server did not answer, or ended in the middle of its reply."""


class Refused(UpstreamBroke):
    """The model server takes no connections: nothing of the request has reached it."""


class Lacking(Refused):
    """The model server answers, but does not have what serves and cannot load it: nothing was generated."""


@contextmanager
def translated() -> Generator[None]:
    """What fails on the way to the model server is Refused or UpstreamBroke."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Refused(str(error) or type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamBroke(str(error) or type(error).__name__) from error


@dataclass(slots=True)
class Passage:
    """What is known of a request that is being passed on.

    `alias` is what `served` is called in the reply; with `takes_usage` the token counts of a stream were asked for by
    the gateway and go no further; `restore` has the model server load again what a restart made it forget.
    """

    request: web.BaseRequest
    target: Target
    body: bytes
    headers: CIMultiDict[str]
    served: str
    alias: str
    arrived: float
    capture: Capture | None = None
    takes_usage: bool = False
    base: str = ""
    status: int = 0
    added: float = 0.0
    broke: str = ""
    restore: Restore | None = None

    @property
    def renames(self) -> bool:
        return bool(self.alias) and self.alias != self.served

    @property
    def lists_models(self) -> bool:
        return self.request.method == "GET" and self.target.path.rstrip("/") == MODELS


async def is_ready(client: aiohttp.ClientSession, base: str) -> bool:
    """Whether the model server answers that it is well."""
    try:
        async with client.get(f"{base}/health", timeout=aiohttp.ClientTimeout(total=_READY_SECONDS)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be."""
    if (request.content_length or 0) > limit:
        raise TooLarge
    await _answer_expectation(request)
    if not request.body_exists:
        return b""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


async def _answer_expectation(request: web.BaseRequest) -> None:
    """Say "go on" to a client that waits for that before it sends its body, as curl does with large ones."""
    if request.version >= aiohttp.HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the reply itself has not begun


async def pass_on(client: aiohttp.ClientSession, base: str, passage: Passage, others: bool) -> web.StreamResponse:
    """Ask the model server and give its reply to the caller. Raises Refused or UpstreamBroke without any reply.

    Where `others` can be asked, a server that cannot load what serves raises Lacking; else its 404 is the reply.
    """
    passage.base = base
    passage.added = time.perf_counter() - passage.arrived
    upstream = await _ask(client, base, passage)
    if upstream.status == HTTPStatus.NOT_FOUND and passage.restore:
        upstream.close()
        await passage.restore()
        upstream = await _ask(client, base, passage)
        if others and upstream.status == HTTPStatus.NOT_FOUND and await _lacks(client, base, passage):
            upstream.close()
            raise Lacking(f"it does not have {passage.served}")
    try:
        passage.status = upstream.status
        if passage.capture:
            passage.capture.status = upstream.status
            passage.capture.content_type = upstream.headers.get("Content-Type", "")
        if _changes_as_a_whole(passage, upstream):
            return await _whole(passage, upstream)
        return await _stream(passage, upstream)
    finally:
        # Ends the request at the server when the reply is not through: that is how a caller that hangs up cancels.
        if upstream.content.at_eof():
            upstream.release()
        else:
            upstream.close()


async def _ask(client: aiohttp.ClientSession, base: str, passage: Passage) -> aiohttp.ClientResponse:
    """The head of the model server's reply. May be called again: nothing has gone to the caller yet."""
    target = passage.target
    with translated():
        return await client.request(
            passage.request.method,
            URL(base + target.path + target.query, encoded=True),
            headers=passage.headers,
            data=io.BytesIO(passage.body) if len(passage.body) > _LARGE else passage.body or None,
            allow_redirects=False,
            skip_auto_headers=_AUTOMATIC,
        )


async def _lacks(client: aiohttp.ClientSession, base: str, passage: Passage) -> bool:
    """Whether it is for want of the model that the server answers 404: a path may be unknown, or an id in the body."""
    keys = {name: value for name, value in passage.headers.items() if name.lower() in _KEYS}
    try:
        async with client.get(
            f"{base}{MODELS}", headers=keys, timeout=aiohttp.ClientTimeout(total=_READY_SECONDS)
        ) as got:
            return got.status == HTTPStatus.OK and f'"{passage.served}"'.encode() not in await got.read()
    except (aiohttp.ClientError, OSError):
        return False


def _changes_as_a_whole(passage: Passage, upstream: aiohttp.ClientResponse) -> bool:
    json = upstream.headers.get("Content-Type", "").startswith("application/json")
    concerned = passage.renames or (passage.lists_models and bool(passage.alias))
    return concerned and json and _readable(upstream) and passage.request.method != "HEAD"


def _readable(upstream: aiohttp.ClientResponse) -> bool:
    return upstream.headers.get("Content-Encoding", "identity") == "identity"


async def _whole(passage: Passage, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """A JSON reply with the names put right; its length changes, so it has to be there first."""
    body = b"".join([chunk async for chunk in _chunks(passage, upstream)])
    came = time.perf_counter()
    if passage.lists_models:
        body = rename.list_alias(body, passage.alias, passage.served)
    else:
        body = rename.rename(body, passage.served, passage.alias)
    headers = passed_headers(upstream.headers, dropped=_LENGTH)
    passage.added += time.perf_counter() - came
    return web.Response(status=upstream.status, reason=upstream.reason, headers=headers, body=body)


async def _stream(passage: Passage, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Any other reply, as it comes."""
    streamed = upstream.headers.get("Content-Type", "").startswith(STREAM)
    filters = _filters(passage) if streamed and _readable(upstream) else []
    headers = passed_headers(upstream.headers, dropped=_LENGTH if filters else frozenset())
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
    try:
        writer = await response.prepare(passage.request)
        if streamed and writer is not None:
            writer.send_headers()  # or they would wait for the first event
        first = True
        async for chunk in _chunks(passage, upstream):
            came = time.perf_counter() if first else 0.0
            out = chunk
            for change in filters:
                out = change.feed(out)
            if out:
                await response.write(out)
            if first:
                passage.added += time.perf_counter() - came
                first = False
        rest = b""
        for change in filters:
            rest = change.feed(rest) + change.rest()
        if rest:
            await response.write(rest)
        await response.write_eof()
    except UpstreamBroke as error:
        # A reply that broke off must not look finished: the caller's connection ends without its end mark.
        passage.broke = str(error)
        if passage.request.transport is not None:
            passage.request.transport.abort()
    except ConnectionResetError:
        pass  # the caller has hung up, and nobody is left to answer
    return response


def _filters(passage: Passage) -> list[UsageTaker | rename.StreamRenamer]:
    """What a stream goes through on its way to the caller."""
    filters: list[UsageTaker | rename.StreamRenamer] = [UsageTaker()] if passage.takes_usage else []
    if passage.renames:
        filters.append(rename.StreamRenamer(passage.served, passage.alias))
    return filters


async def _chunks(passage: Passage, upstream: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The reply's bytes as they come, with a copy for the capture. Raises UpstreamBroke when they end too soon."""
    capture = passage.capture
    try:
        async for chunk in upstream.content.iter_any():
            if capture:
                capture.add(chunk)
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamBroke(str(error) or type(error).__name__) from error
