"""Which session a request belongs to, and who sent it, as far as the request itself says.

Agents name their sessions in different places (docs/gateway.md has the table). The surest is tried first: a tag
in the path, which someone chose on purpose, then headers, then fields of the body, then the key of the prompt
cache. A request that says nothing gets the session "" with the source "prefix": what continues it is found
later, by its growing conversation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from sleepy_coder.collect.wire_values import json_or_none, object_of, text_of
from sleepy_coder.types import SessionSource

SESSION_HEADERS: Final = (
    "x-claude-code-session-id",
    "x-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "helicone-session-id",
    "litellm_session_id",
    "x-litellm-session-id",
    "x-session-affinity",
)
PURPOSE_HEADER: Final = "x-sleepy-purpose"
KEPT_HEADERS: Final = frozenset((*SESSION_HEADERS, PURPOSE_HEADER, "user-agent"))
"""The only request headers that are looked at for the record; credentials are not among them."""

_LONGEST: Final = 200
_FIRST_WORDS: Final = 2000
_CLAUDE_SESSION: Final = re.compile(r"_session_([\w.-]+)\Z")


@dataclass(frozen=True, slots=True)
class Identity:
    """The session of a request and where it was found."""

    session: str
    source: SessionSource


def identify(tag: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Identity:
    """The session of a request with this path tag, these headers (names in lower case) and this body."""
    places: tuple[tuple[SessionSource, Iterable[object]], ...] = (
        ("path", (tag,)),
        ("header", (headers.get(name) for name in SESSION_HEADERS)),
        ("body", _in_body(body)),
        ("cache_key", (body.get("prompt_cache_key"),)),
    )
    for source, candidates in places:
        for candidate in candidates:
            if session := clean(candidate):
                return Identity(session, source)
    return Identity("", "prefix")


def sticky_name(identity: Identity, agent: str, body: Mapping[str, Any]) -> str:
    """What stays the same while a conversation grows: its session or, without one, a digest of the user's first words.

    "" for what is no conversation. Not the system prompt: some agents write the time into it, anew with each request.
    Conversations of one agent that begin alike have one name.
    """
    if identity.session:
        return identity.session
    first = _first_words(body)
    if not first:
        return ""
    digest = hashlib.blake2b(f"{agent}\0{first}".encode(errors="surrogatepass"), digest_size=16)
    return f"first-{digest.hexdigest()}"


def _first_words(body: Mapping[str, Any]) -> str:
    """What the user said first: in chats and messages, in the input of responses. A prompt is no conversation."""
    asked: object = body.get("messages") or body.get("input")
    if isinstance(asked, list):
        items = cast("list[object]", asked)
        turns = (cast("Mapping[str, object]", item) for item in items if isinstance(item, Mapping))
        asked = next((turn.get("content") for turn in turns if turn.get("role") == "user"), None)
    return text_of(cast(object, asked))[:_FIRST_WORDS] if isinstance(asked, str | list) else ""


def clean(value: object) -> str:
    """`value` as a short printable text; empty when it is no text."""
    if not isinstance(value, str):
        return ""
    if value.isascii() and value.isprintable():
        return value.strip()[:_LONGEST]
    printable = "".join(character for character in value[: 4 * _LONGEST] if character.isprintable())
    # Header bytes that are no UTF-8 arrive as lone surrogates, which no store can hold.
    return printable.encode(errors="ignore").decode().strip()[:_LONGEST]


def _in_body(body: Mapping[str, Any]) -> Iterator[object]:
    yield body.get("litellm_session_id")
    metadata: object = body.get("metadata")
    if isinstance(metadata, Mapping):
        fields = cast("Mapping[str, object]", metadata)
        yield fields.get("session_id")
        yield _claude_session(fields.get("user_id"))


def _claude_session(user_id: object) -> object:
    """The session inside Claude Code's user id.

    A plain user id names a person, not a conversation: taking it would put everything that one person does
    into one session.
    """
    if not isinstance(user_id, str):
        return None
    if found := _CLAUDE_SESSION.search(user_id):
        return found[1]
    if user_id.startswith("{"):
        return object_of(json_or_none(user_id)).get("session_id")
    return None
