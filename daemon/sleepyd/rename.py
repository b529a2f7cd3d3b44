"""Puts another name into the `model` member of a JSON text, and leaves every other byte as it is.

Nothing is serialised anew: the value's place is found, and the bytes around it are kept. Texts are read as
Latin-1, in which every byte is a character: JSON's own characters are ASCII and never part of a longer UTF-8
sequence, so the structure is read right whatever the bytes between say. What is no JSON up to its model stays
untouched; where only one member can be the model, what comes after it is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, cast

MODEL: Final = b'"model"'
LONGEST_LINE: Final = 8 << 20
"""A line of a stream is held until it is complete, up to this size; a longer one passes as it comes."""

_NESTED: Final = ("response", "message")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
# Numbers stay texts, so that one with thousands of digits costs nothing and cannot fail.
_DECODER: Final = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
# `data: {"id":"x","created":1,"model":"name"`: plain members up to the model prove that it is at the top.
_FLAT: Final = re.compile(
    rb'(?:data:)?\s*\{\s*(?:"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*?"model"\s*:\s*("[^"\\]*")'
)
_UNREADABLE: Final = (ValueError, IndexError, RecursionError)


@dataclass(frozen=True, slots=True)
class Named:
    """A request's body for the model server. `asked` is the name that it came with, `served` the one it goes with."""

    body: bytes
    asked: str
    served: str


def name_model(body: bytes, alias: str, serving: str, *, needed: bool) -> Named:
    """Ask for `serving` where `body` asks for `alias`, or for nothing although a model is `needed`.

    Other names, and bodies that are no JSON object, pass as they are.
    """
    try:
        span = _model_span(body)
        if span is None:
            place = _first_member(body) if needed else None
            if place is None:
                return Named(body, "", "")
            rest = body[place:]
            comma = b"" if rest.lstrip().startswith(b"}") else b","
            return Named(body[:place] + MODEL + b":" + _quoted(serving) + comma + rest, "", serving)
        start, end = span
        value: object = json.loads(body[start:end])
    except _UNREADABLE:
        return Named(body, "", "")
    if value == alias or (needed and value in ("", None)):
        return Named(body[:start] + _quoted(serving) + body[end:], str(value or ""), serving)
    asked = value if isinstance(value, str) else ""
    return Named(body, asked, asked)


def rename(text: bytes, old: str, new: str, *, event: bool = False) -> bytes:
    """`text` (a JSON object; an `event` may be a line `data: {...}`) with the model `old` called `new`."""
    if MODEL not in text:
        return text
    try:
        span = _model_span(text, event=event)
        if span is None or json.loads(text[span[0] : span[1]]) != old:
            return text
    except _UNREADABLE:
        return text
    return text[: span[0]] + _quoted(new) + text[span[1] :]


class StreamRenamer:
    """`rename` for server-sent events, whatever chunks they come in.

    Gives out every line as soon as it is complete; `rest` is what the stream ended with.
    """

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self._held = b""
        self._passing = False
        self._known: tuple[bytes, bytes] | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can go on, now that `chunk` has come."""
        if not self._held and not self._passing and chunk.endswith(b"\n"):
            return self._renamed(chunk)  # whole lines, as nearly all chunks are
        data = self._held + chunk
        self._held = b""
        out = b""
        if self._passing:
            end = _first_line_end(data)
            if end is None:
                return data
            out, data, self._passing = data[:end], data[end:], False
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        lines, held = data[:end], data[end:]
        if len(held) > LONGEST_LINE:
            self._passing = True
            return out + self._renamed(lines) + held
        self._held = held
        return out + self._renamed(lines)

    def rest(self) -> bytes:
        """The last line, when it lacks its end."""
        held, self._held = self._held, b""
        return self._renamed(held)

    def _renamed(self, lines: bytes) -> bytes:
        # The events of a reply begin alike up to their model: what was found in one holds for the next.
        if self._known and lines.startswith(self._known[0]) and lines.count(MODEL) == 1:
            return self._known[1] + lines[len(self._known[0]) :]
        if MODEL not in lines:
            return lines
        return b"".join(self._line(line) for line in lines.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return line
        if self._known and line.startswith(self._known[0]) and line.count(MODEL) == 1:
            return self._known[1] + line[len(self._known[0]) :]
        out = rename(line, self._old, self._new, event=True)
        if out != line and line.count(MODEL) == 1 and (flat := _FLAT.match(line)):
            self._known = line[: flat.end()], out[: flat.end() + len(out) - len(line)]
        return out


def list_alias(listing: bytes, alias: str, serving: str) -> bytes:
    """The answer of /v1/models with a card for `alias` before the others; as it is when it has one or is no list.

    First, because clients that take whatever is there take the first.
    """
    try:
        text = listing.decode("latin-1")
        span = next(((start, end) for key, start, end in _members(text) if key == "data"), None)
        data: object = json.loads(listing[span[0] : span[1]]) if span else None
    except _UNREADABLE:
        return listing
    cards = [_card(card) for card in cast("list[object]", data)] if isinstance(data, list) else []
    if span is None or not isinstance(data, list) or any(card.get("id") == alias for card in cards):
        return listing
    served = next((card for card in cards if card.get("id") == serving), dict[str, object]())
    lengths = (card.get("max_model_len") for card in cards)
    card = {
        "id": alias,
        "object": "model",
        "created": served.get("created", 0),
        "owned_by": "sleepy-coder",
        "root": serving,
        "parent": served.get("parent"),
        "max_model_len": next((length for length in lengths if length), None),
    }
    rest = listing[span[0] + 1 :]
    comma = b"," if cards else b""
    return listing[: span[0] + 1] + json.dumps(card, separators=(",", ":")).encode() + comma + rest


def top_values(body: bytes, names: Collection[str]) -> dict[str, bytes]:
    """The JSON texts of these members of the object `body`; none when it is broken."""
    try:
        text = body.decode("latin-1")
        return {key: body[start:end] for key, start, end in _members(text) if key in names}
    except _UNREADABLE:
        return {}


def with_member(body: bytes, member: bytes) -> bytes:
    """The JSON object `body`, which must not be empty, with `member` before its others."""
    place = body.index(b"{") + 1
    return body[:place] + member + b"," + body[place:]


def _card(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _quoted(name: str) -> bytes:
    return json.dumps(name).encode()


def _first_line_end(data: bytes) -> int | None:
    ends = [place for place in (data.find(b"\n"), data.find(b"\r")) if place >= 0]
    return min(ends) + 1 if ends else None


def _model_span(data: bytes, *, event: bool = False) -> tuple[int, int] | None:
    """Where the value of the model is; of two members with this name the last one counts, as for all parsers."""
    only = data.count(MODEL) == 1
    if only and (flat := _FLAT.match(data)):
        return flat.span(1)
    text = data.decode("latin-1")
    start = len("data:") if event and text.startswith("data:") else 0
    found: tuple[int, int] | None = None
    for key, begin, end in _members(text, start):
        if key == "model":
            found = (begin, end)
        elif event and key in _NESTED and text[begin] == "{":
            for inner, inner_begin, inner_end in _members(text, begin):
                if inner == "model":
                    found = (inner_begin, inner_end)
        if only and found:
            break
    return found


def _first_member(data: bytes) -> int | None:
    """Where the first member of a JSON object goes. Raises one of _UNREADABLE when the object is broken."""
    text = data.decode("latin-1")
    for _ in _members(text):
        pass
    start = _after_space(text, 0)
    return start + 1 if text[start] == "{" else None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _members(text: str, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """(key, start, end of the value) of the object at `start`. Raises one of _UNREADABLE when it is broken."""
    at = _after_space(text, start)
    if text[at] != "{":
        return
    at = _after_space(text, at + 1)
    if text[at] == "}":
        return
    while True:
        key, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if not isinstance(key, str) or text[at] != ":":
            raise ValueError("no member")
        begin = _after_space(text, at + 1)
        _, end = _DECODER.raw_decode(text, begin)
        yield key, begin, end
        at = _after_space(text, end)
        if text[at] == "}":
            return
        if text[at] != ",":
            raise ValueError("no comma")
        at = _after_space(text, at + 1)
