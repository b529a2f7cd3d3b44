"""What is kept of a request while it passes, and how it becomes a record afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sleepy_coder.collect.identify import KEPT_HEADERS, PURPOSE_HEADER, clean, identify
from sleepy_coder.collect.streams import Assembled, assemble, read_json, read_reply
from sleepy_coder.types import Exchange, WireApi

STREAM = "text/event-stream"


class Unreadable(ValueError):
    """A request or a reply that is no JSON, of which no record can be made."""


@dataclass(slots=True)
class Capture:
    """One request and its reply as they passed: the caller's bytes, and the model server's.

    Only filled on the way; nothing is parsed or copied there. `limit` bounds the bytes that are held. Of the headers
    only those that identify are taken, so no credential is ever in here.
    """

    id: str
    wire: WireApi
    tag: str
    path: str
    asked: str
    served: str
    headers: Mapping[str, str]
    request: bytes
    started: datetime
    limit: int
    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    content_type: str = ""
    chunks: list[bytes] = field(default_factory=list[bytes])
    size: int = 0
    first_byte: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._grow(len(self.request))

    def add(self, chunk: bytes) -> None:
        """A piece of the reply came."""
        if not self.first_byte:
            self.first_byte = time.perf_counter() - self.began
        if not self.too_large:
            self.chunks.append(chunk)
            self._grow(len(chunk))

    def end(self) -> None:
        """The reply is over, in whatever way."""
        self.seconds = time.perf_counter() - self.began

    @property
    def too_large(self) -> bool:
        return self.size > self.limit

    def _grow(self, by: int) -> None:
        self.size += by
        if self.too_large:
            self.request = b""
            self.chunks.clear()


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that identify a session, an agent or a purpose, with names in lower case."""
    return {name: headers[name] for name in KEPT_HEADERS if name in headers}


def exchange_of(capture: Capture) -> Exchange:
    """The record of a capture, secrets included. Raises Unreadable."""
    try:
        request = capture.request.decode()
        body = read_json(request)
        streamed = capture.content_type.startswith(STREAM)
        reply = b"".join(capture.chunks)
        answer = assemble(capture.wire, (reply,)) if streamed else read_reply(capture.wire, reply)
        response = _json(answer) if streamed else reply.decode()
    except ValueError as error:
        raise Unreadable(str(error)) from error
    if not isinstance(body, dict):
        raise Unreadable("the request is not a JSON object")
    tokens_in, tokens_out = _tokens(answer.response)
    identity = identify(capture.tag, capture.headers, cast("dict[str, Any]", body))
    return Exchange(
        id=capture.id,
        session=identity.session,
        session_source=identity.source,
        agent=clean(capture.headers.get("user-agent")),
        wire=capture.wire,
        path=capture.path,
        asked_model=clean(capture.asked),
        # The server's own word counts: it knows which weights answered.
        served_by=clean(answer.response.get("model")) or clean(capture.served),
        request=request,
        response=response,
        status=capture.status,
        streamed=streamed,
        whole=answer.whole and capture.status == 200,
        finish_reason=clean(answer.finish_reason),
        started=capture.started,
        first_byte_seconds=capture.first_byte,
        seconds=capture.seconds,
        purpose=clean(capture.headers.get(PURPOSE_HEADER)),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
    )


def _tokens(response: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The tokens that were read and written; OpenAI's older APIs and the others have a name each."""
    usage: object = response.get("usage")
    said = cast("dict[str, object]", usage) if isinstance(usage, dict) else {}
    read, wrote = (
        next((said[name] for name in names if name in said), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    )
    return (read if isinstance(read, int) else None), (wrote if isinstance(wrote, int) else None)


def _json(answer: Assembled) -> str:
    text = json.dumps(answer.response, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        return json.dumps(answer.response, separators=(",", ":"))
    return text
