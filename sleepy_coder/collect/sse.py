"""Server-sent events, read from bytes that are all there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def event_data(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, in order; the other fields and comments are left out.

    An event that lacks its closing empty line is given all the same: whether its data is complete is for the
    reader of the data to see.
    """
    text = b"".join(chunks).decode(errors="replace").removeprefix(_MARK)
    for block in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        if "\n" in block:
            yield from _data_in(block)
        elif block.startswith("data:"):
            yield _value(block)


def _data_in(block: str) -> Iterator[str]:
    data: list[str] = []
    for line in (*block.split("\n"), ""):
        if line.startswith("data:"):
            data.append(_value(line))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _value(line: str) -> str:
    return line[6:] if line.startswith("data: ") else line[5:]
