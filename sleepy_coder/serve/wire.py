"""vLLM's answers as they come over HTTP: streams in pieces, and error statuses as our errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from sleepy_coder.errors import ServerError
from sleepy_coder.serve.explain import error_of


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """A part of a streamed reply. The last one has a `finish_reason` and maybe token counts."""

    text: str
    model: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


def pieces(response: httpx.Response) -> Iterator[StreamPiece]:
    """The pieces of a server-sent event stream; the role chunk has no text and is left out."""
    for line in _lines(response):
        if not line.startswith("data: "):
            continue
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise ServerError(f"the stream broke: {_message(chunk)}", "Look at the server's log; send it again.")
        if usage := chunk.get("usage"):
            counts = (usage["prompt_tokens"], usage["completion_tokens"])
            yield StreamPiece("", chunk["model"], None, *counts)
        for choice in chunk["choices"]:
            text, reason = choice["delta"].get("content") or "", choice["finish_reason"]
            if text or reason:
                yield StreamPiece(text, chunk["model"], reason)
    raise ServerError("the stream ended without [DONE]", "The server stopped mid-answer; look at its log.")


def _lines(response: httpx.Response) -> Iterator[str]:
    """The lines as they come. httpx's own end at U+2028 too, which a server's JSON may hold as it is."""
    begun = ""
    for text in response.iter_text():
        *lines, begun = (begun + text).split("\n")
        yield from (line.removesuffix("\r") for line in lines)
    yield begun


def _message(body: Any) -> str:
    """vLLM's error text: under "error" since 0.10, at the top before."""
    error: Any = body.get("error", body) if hasattr(body, "get") else body
    return str(error.get("message", error) if hasattr(error, "get") else error)


def check(response: httpx.Response) -> None:
    """Raises the error that fits an error status."""
    if not response.is_error:
        return
    try:
        message = _message(response.json())
    except ValueError:
        message = response.text[:500]
    asked = response.request.url
    raise error_of(str(asked.copy_with(raw_path=b"/")).rstrip("/"), asked.path, response.status_code, message)
