"""The long middle of a streamed chat reply, read without parsing: events that differ in one piece of text only.

A model writes hundreds of events that are alike but for the text in their delta. After one of them has been read in
full, the next is known by its beginning and its end; what is between them is the text, as long as nothing in it is
escaped. Everything else is for the reader of whole events.
"""

from __future__ import annotations

import re
from typing import Any, Final, cast

_TEXT: Final = re.compile(
    r'"delta"\s*:\s*\{\s*"(content|reasoning|reasoning_content)"\s*:\s*"((?:[^"\\]|\\.)*)"\s*\}', re.DOTALL
)


class TextRun:
    """Consecutive events of one shape. `flush` it before anything else is added to the reply."""

    def __init__(self) -> None:
        self._start, self._end, self._name = "", "", ""
        self._delta: dict[str, Any] | None = None
        self._pieces: list[str] = []

    def takes(self, data: str) -> bool:
        """Whether this event is one more of the run; then its text is kept."""
        if self._delta is None or not (data.startswith(self._start) and data.endswith(self._end)):
            return False
        piece = data[len(self._start) : len(data) - len(self._end)]
        if len(data) < len(self._start) + len(self._end) or '"' in piece or "\\" in piece or not piece.isprintable():
            return False
        self._pieces.append(piece)
        return True

    def flush(self) -> None:
        """Add the texts to the reply; the run is over."""
        if self._delta is not None and self._pieces:
            self._delta[self._name] += "".join(self._pieces)
        self._pieces, self._delta = [], None

    def begin(self, data: str, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        """A run may follow on this event: `choice` is its only one, `delta` what its delta was added to.

        Not when anything but the one text would add up: then each event has to be read.
        """
        said: object = choice.get("delta")
        if not isinstance(said, dict) or len(cast("dict[str, Any]", said)) != 1:
            return
        if any(value is not None and name not in ("index", "delta") for name, value in choice.items()):
            return
        found = _TEXT.search(data) if data.count('"delta"') == 1 else None
        if found and found[1] in said and isinstance(delta.get(found[1]), str):
            self._start, self._end, self._name = data[: found.start(2)], data[found.end(2) :], found[1]
            self._delta = delta
