"""Requests cut into the messages that are sent again with every turn, and put together again, byte for byte.

An agent sends its whole conversation with each request, so whole requests grow with the square of its length.
What is cut where does not matter for what comes back: the pieces joined are the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Final, cast

# A shorter piece is no longer than what it takes to name it and to keep it apart.
SHORTEST: Final = 128
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


def skeleton_of(request: str, name: Callable[[str], int]) -> str:
    """A JSON list of what is kept as it is (texts) and what is kept apart (the numbers that `name` gives)."""
    parts: list[str | int] = []
    for piece in cut(request):
        if len(piece) >= SHORTEST:
            parts.append(name(piece))
        elif parts and isinstance(last := parts[-1], str):
            parts[-1] = last + piece
        else:
            parts.append(piece)
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def named_in(skeleton: str) -> frozenset[int]:
    """The numbers of the pieces that a skeleton needs."""
    return frozenset(part for part in _parts(skeleton) if isinstance(part, int))


def request_of(skeleton: str, pieces: Mapping[int, str]) -> str:
    """The request, byte for byte. Raises KeyError when a piece is missing."""
    return "".join(pieces[part] if isinstance(part, int) else part for part in _parts(skeleton))


def cut(request: str) -> list[str]:
    """A JSON object in pieces: the values in it, the elements of lists in it, and what is between; else all as one."""
    try:
        bounds = sorted({0, len(request), *_bounds(request)})
    except (ValueError, IndexError, RecursionError):
        bounds = [0, len(request)]
    return [request[start:end] for start, end in pairwise(bounds)]


def _parts(skeleton: str) -> list[str | int]:
    return cast("list[str | int]", json.loads(skeleton))


def _bounds(text: str) -> Iterator[int]:
    """Where the values of the object begin and end, and the elements of those that are lists."""
    at = _after(text, 0, "{")
    while text[at] != "}":
        _, at = _DECODER.raw_decode(text, at)
        at = _after(text, at, ":")
        yield at
        if text[at] == "[":
            at = _after(text, at, "[")
            while text[at] != "]":
                yield at
                _, at = _DECODER.raw_decode(text, at)
                yield at
                at = _after(text, at, ",", "]")
            at += 1
        else:
            _, at = _DECODER.raw_decode(text, at)
        yield at
        at = _after(text, at, ",", "}")


def _after(text: str, at: int, sign: str, end: str = "") -> int:
    """Behind `sign` and the space around it; at `end` where that stands instead. Raises ValueError."""
    at = _skip(text, at)
    if text[at] == end:
        return at
    if text[at] != sign:
        raise ValueError(f"{sign} is missing")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at
