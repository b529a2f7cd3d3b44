"""The daemon's JSON lines, read for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final, cast

_NIGHT_PARTS: Final = ("night", "mix", "train", "eval", "gate", "adapter", "schedule")
_SHOWN_APART: Final = ("event", "timestamp", "level", "part", "night_id")
_MARKS: Final = {"warning": "!", "error": "x", "critical": "x"}
_LONGEST: Final = 300


def readable(
    lines: Iterable[str], *, nights: bool = False, raw: bool = False, skipped: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """One line an event: local time, name, and what it says. `nights` leaves out all but the nights' own lines;
    `raw` gives the JSON line itself. What is no JSON line of ours (a traceback, systemd's words) is passed as it is,
    but not with `nights`, nor with `raw`, of which `skipped` hears."""
    for line in lines:
        entry = _entry(line)
        if entry is None:
            if line.strip() and raw:
                skipped(line)
            elif line.strip() and not nights:
                yield line.rstrip()
        elif not nights or "night_id" in entry or str(entry["event"]).partition(".")[0] in _NIGHT_PARTS:
            yield line.strip() if raw else _sentence(entry)


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) and "event" in entry else None


def _sentence(entry: dict[str, Any]) -> str:
    said = "  ".join(f"{name}={_short(value)}" for name, value in entry.items() if name not in _SHOWN_APART)
    mark = _MARKS.get(str(entry.get("level")), " ")
    return f"{_when(entry)} {mark} {entry['event']:<24} {said}".rstrip()


def _when(entry: dict[str, Any]) -> str:
    try:
        return f"{datetime.fromisoformat(str(entry.get('timestamp'))).astimezone():%m-%d %H:%M:%S}"
    except ValueError:
        return "              "


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
