"""What a request asks for and which of its headers go on: pure decisions, no input or output."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from multidict import CIMultiDict, MultiMapping

from sleepy_coder.types import WireApi

WIRES: Final[Mapping[str, WireApi]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
MODELS: Final = "/v1/models"
# Whoever may ask the model need not be allowed to change it; the nights load adapters at the server itself.
REFUSED: Final = frozenset(("v1/load_lora_adapter", "v1/unload_lora_adapter"))

_TAGGED: Final = re.compile(r"/s/([^/?]+)(/v1/.*)", re.DOTALL)
_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_MADE_ANEW: Final = frozenset(("host", "content-length", "accept-encoding", "expect"))
_CREDENTIALS: Final = frozenset(("authorization", "x-api-key"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `path` and `query` (with its question mark) are as they came."""

    tag: str
    path: str
    query: str

    @property
    def wire(self) -> WireApi:
        return WIRES.get(self.path.rstrip("/"), "other")

    @property
    def refused(self) -> bool:
        return "/".join(part for part in unquote(self.path).split("/") if part) in REFUSED


def read_target(raw: str) -> Target | None:
    """The target in a request line; None when it is not under /v1/.

    A path with dot segments is None as well: what it means is up to whoever resolves it, and under /v1/ or
    not must not be. So is one with a fragment, which is cut off on the way and is no part of a request.
    """
    tag = ""
    if tagged := _TAGGED.fullmatch(raw):
        tag, raw = unquote(tagged[1]), tagged[2]
    path, mark, query = raw.partition("?")
    if "#" in raw or not path.startswith("/v1/") or {".", ".."} & set(unquote(path).split("/")):
        return None
    return Target(tag, path, mark + query)


def passed_headers(headers: MultiMapping[str], *, dropped: frozenset[str] = frozenset()) -> CIMultiDict[str]:
    """The headers that are meant for the other end, repeated ones included.

    A value that is no UTF-8 stays behind: the HTTP library cannot send it.
    """
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    away = _HOP_BY_HOP | named | dropped
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in away and _sendable(value)
    )


def _sendable(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def request_headers(
    headers: MultiMapping[str], *, exchange_id: str, guarded: bool, server_key: str | None, decoded: bool
) -> CIMultiDict[str]:
    """The headers for the model server.

    With a key of the gateway's own (`guarded`) the caller's credentials end here. A body that was `decoded`
    on arrival goes on without its encoding. The reply has to come uncompressed, because the copy is read.
    """
    dropped = _MADE_ANEW
    if guarded:
        dropped |= _CREDENTIALS
    if decoded:
        dropped |= {"content-encoding"}
    out = passed_headers(headers, dropped=dropped)
    out["Accept-Encoding"] = "identity"
    # vLLM makes it part of the reply's id, so that its log and the record name the same request.
    out.setdefault("X-Request-Id", exchange_id)
    if guarded and server_key:
        out["Authorization"] = f"Bearer {server_key}"
    return out


def key_fits(headers: MultiMapping[str], key: str) -> bool:
    """Whether the caller presents `key`, as a bearer token or as x-api-key. Takes the same time for any wrong key."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    presented = (token.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", ""))
    fits = [hmac.compare_digest(given.encode(errors="replace"), key.encode()) for given in presented]
    return any(fits)
