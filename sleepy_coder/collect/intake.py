"""Files of episodes: entry by entry, redacted before anything else looks at them.

A `.jsonl` file holds one entry a line, a `.json` file one entry or a list of them. What cannot be taken in is
named with its place and the reason; the entries beside it are none the worse for it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, cast

from pydantic import Field

from sleepy_coder.collect.formats import ExportFormat, episode_in, exported
from sleepy_coder.collect.wire_values import Json, json_or_none
from sleepy_coder.errors import EpisodeFormatError, SecretFound, StoreError
from sleepy_coder.files import atomic_writer
from sleepy_coder.store import Store
from sleepy_coder.store_rows import encode, episode_row
from sleepy_coder.types import Episode, Record, is_empty

LARGEST_ENTRY: Final = 64 << 20
_BATCH: Final = 256
_REASONS: Final = 5
_LATEST: Final = 1 << 32


class ImportCounts(Record):
    """What became of the entries of an imported file, and why the first bad ones were put in quarantine."""

    imported: int
    known: int
    quarantined: int
    reasons: tuple[str, ...] = Field(default=(), exclude_if=is_empty)


@dataclass(frozen=True, slots=True)
class BadEntry:
    """An entry that is not taken in: its place in the file ("line 3", "entry 2"), the reason, its redacted text.

    The text is empty where not even that may be kept.
    """

    place: str
    reason: str
    text: str = ""


def import_file(path: Path, store: Store, redact: Callable[[str], str]) -> ImportCounts:
    """Store the episodes of a file that somebody vouches for, any number of times; bad entries go to the quarantine.

    Raises StoreError when `path` cannot be read or the store not written.
    """
    imported = known = quarantined = 0
    reasons: list[str] = []
    try:
        with path.open("rb") as file:
            lines = path.suffix != ".json"
            found = entries(file, lines=lines, redact=redact, when=written(file), trusted=True)
            for batch in _batches(found):
                good = [entry for entry in batch if isinstance(entry, Episode)]
                bad = [entry for entry in batch if isinstance(entry, BadEntry)]
                new = store.save_episodes(good)
                for entry in bad:
                    store.quarantine(f"{path.name}, {entry.place}", entry.reason, entry.text)
                reasons += [f"{entry.place}: {entry.reason}" for entry in bad[: _REASONS - len(reasons)]]
                imported, known, quarantined = imported + new, known + len(good) - new, quarantined + len(bad)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error})", "Check the path and its permissions") from error
    return ImportCounts(imported=imported, known=known, quarantined=quarantined, reasons=tuple(reasons))


def _batches(found: Iterable[Episode | BadEntry]) -> Iterator[list[Episode | BadEntry]]:
    """`found` in lists that fit a transaction (itertools.batched comes with Python 3.12)."""
    rest = iter(found)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def written(file: BinaryIO) -> datetime:
    """When an open file was last written. Its time can be set to anything, also to what no calendar has."""
    return datetime.fromtimestamp(min(max(os.fstat(file.fileno()).st_mtime, 0), _LATEST), UTC)


def export_file(path: Path, episodes: Iterable[Episode], form: ExportFormat) -> int:
    """Write `episodes` as lines of this format, whole; how many. Raises InfraError."""
    count = 0
    with atomic_writer(path) as file:
        for episode in episodes:
            line = encode(episode) if form is ExportFormat.EPISODES else _line(exported(episode, form))
            if line:
                file.write(line.encode() + b"\n")
                count += 1
    return count


def _line(row: Json | None) -> str:
    return json.dumps(row, ensure_ascii=False) if row else ""


def entries(
    file: BinaryIO, *, lines: bool, redact: Callable[[str], str], when: datetime, trusted: bool = False
) -> Iterator[Episode | BadEntry]:
    """The episodes of a file, one at a time. `lines` says that each line is an entry."""
    if lines:
        yield from _lines(file, redact, when, trusted)
        return
    data = file.read(LARGEST_ENTRY + 1)
    if len(data) > LARGEST_ENTRY:
        yield BadEntry("the file", f"it is larger than {LARGEST_ENTRY >> 20} MiB")
        return
    try:
        whole: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        if isinstance(json_or_none(data.partition(b"\n")[0]), dict):  # lines under the other ending
            yield from _lines(io.BytesIO(data), redact, when, trusted)
        else:
            yield BadEntry("the file", f"it is not JSON ({error})", _kept(data, redact))
        return
    if not isinstance(whole, list):
        yield _entry(data, "the file", redact, when, trusted)
        return
    for number, entry in enumerate(cast("list[object]", whole), 1):
        yield _entry(json.dumps(entry).encode(), f"entry {number}", redact, when, trusted)


def _lines(file: BinaryIO, redact: Callable[[str], str], when: datetime, trusted: bool) -> Iterator[Episode | BadEntry]:
    number = 0
    while line := file.readline(LARGEST_ENTRY + 1):
        number += 1
        if len(line) > LARGEST_ENTRY:
            while line and not line.endswith(b"\n"):
                line = file.readline(LARGEST_ENTRY)
            yield BadEntry(f"line {number}", f"it is longer than {LARGEST_ENTRY >> 20} MiB")
        elif line.strip():
            yield _entry(line, f"line {number}", redact, when, trusted)


def _entry(data: bytes, place: str, redact: Callable[[str], str], when: datetime, trusted: bool) -> Episode | BadEntry:
    """One entry: redacted as text, then read. What is stored was never without redaction in between."""
    text = ""
    try:
        text = redact(data.decode())
        value: object = json.loads(text)
        if not isinstance(value, dict):
            return BadEntry(place, "it is not a JSON object", text)
        episode = episode_in(cast(Json, value), when, trusted=trusted)
        episode_row(episode)  # what the store would refuse is refused here, with its place in the file
    except UnicodeDecodeError:
        return BadEntry(place, "it is not UTF-8")
    except (EpisodeFormatError, SecretFound, StoreError) as error:
        return BadEntry(place, error.message, text)
    except RecursionError:
        return BadEntry(place, "it is nested too deeply", text)
    except OverflowError as error:  # a time so near to the first or the last year that UTC has none for it
        return BadEntry(place, f"it holds a time that cannot be kept ({error})", text)
    except ValueError as error:
        return BadEntry(place, f"it is not JSON ({error})", text)
    return episode


def _kept(data: bytes, redact: Callable[[str], str]) -> str:
    try:
        return redact(data.decode(errors="backslashreplace"))
    except SecretFound:
        return ""
