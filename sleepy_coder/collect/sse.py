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
    data: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line[6:] if line.startswith("data: ") else line[5:])
    if data:
        yield "\n".join(data)
