"""Structured logs: one JSON object a line for machines, coloured lines for a terminal.

Only events of the catalogue (events.py) are logged. One that is not in it, or a field that it does not list, is an
error where `SLEEPY_LOG_STRICT` is set, as in the tests; elsewhere the line is written all the same and names what is
wrong with it as `unlisted`: a night must not end because of what it says of itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, Final, TextIO, cast

import structlog

from sleepy_coder.events import COMMON, EVENTS, mistakes

__all__ = ["EVENTS", "LONGEST_LINE", "UnknownEvent", "get", "night", "night_id", "set_up"]

STRICT_VARIABLE: Final = "SLEEPY_LOG_STRICT"
LONGEST_LINE: Final = 4000
"""Bytes. Above 4096 `journalctl -o json` shows null instead of the line."""

_EventDict = structlog.typing.EventDict


class UnknownEvent(ValueError):
    """An event, or a field of one, that is not in the catalogue."""


def _strict(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    name = event["event"]
    if name not in EVENTS:
        raise UnknownEvent(f"{name!r} is not in sleepy_coder.events.EVENTS")
    for field, why in mistakes(name, event).items():
        raise UnknownEvent(f"{name}: {field} {why}")
    return event


def _lenient(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    name = event["event"]
    wrong = sorted(mistakes(name, event)) if name in EVENTS else ["event"]
    return {**event, "unlisted": wrong} if wrong else event


def _short_enough(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    """The longest field is cut in half until the line is short enough; `shortened` tells the lengths before."""
    lengths: dict[str, int] = {}
    while _size(event) > LONGEST_LINE:
        own = [name for name in event if name not in COMMON or name == "exception"]
        name = max(own, key=lambda name: _size(event[name]), default="")
        if not name or _size(event[name]) < 8:
            break
        value = _divisible(event[name])
        lengths.setdefault(name, len(value))
        event = {**event, name: _half(value, last=name == "exception"), "shortened": lengths}
    return event


def _divisible(value: object) -> str | list[Any] | dict[str, Any]:
    """`value` itself if it is a text or has several parts, else its text."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(parts := cast("dict[str, Any]", value)) > 1:
        return parts
    if isinstance(value, list | tuple) and len(items := list(cast("Iterable[Any]", value))) > 1:
        return items
    return json.dumps(value, default=repr)


def _half(value: str | list[Any] | dict[str, Any], *, last: bool) -> str | list[Any] | dict[str, Any]:
    """The first half, or the last: the end of a traceback says what happened."""
    keep = len(value) // 2
    if isinstance(value, dict):
        return dict(list(value.items())[:keep])
    return value[-keep:] if last else value[:keep]


def _size(value: object) -> int:
    return len(json.dumps(value, default=repr))


def set_up(*, verbose: bool = False, as_json: bool | None = None, to: TextIO | None = None) -> None:
    """Log to stderr, or `to`; JSON unless that is a terminal. Only warnings and worse unless `verbose`."""
    stream = to or sys.stderr
    json_lines = not stream.isatty() if as_json is None else as_json
    rendered = (
        (_short_enough, structlog.processors.JSONRenderer()) if json_lines else (structlog.dev.ConsoleRenderer(),)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _strict if os.environ.get(STRICT_VARIABLE) else _lenient,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *rendered,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        # One write a line: a daemon and its night share the stream, and lines must not run into each other.
        logger_factory=lambda *_: _LineLogger(stream),
    )


class _LineLogger(structlog.WriteLogger):
    """Writes lines. One that the stream refuses (a full disk, a pipe that was closed) is lost, and ends nobody."""

    def msg(self, message: str) -> None:
        with suppress(OSError, ValueError):
            super().msg(message)

    debug = info = warning = error = exception = msg


def night_id(cycle: int) -> str:
    """How the log names night `cycle`."""
    return f"night-{cycle:04d}"


@contextmanager
def night(cycle: int) -> Generator[None]:
    """Every line that is logged in this context says which night it belongs to.

    Threads have a context of their own: whoever starts some for a night hands them a copy (`contextvars.copy_context`).
    After an error it stays so until the next night, since whoever catches the error speaks of this one.
    """
    structlog.contextvars.bind_contextvars(night_id=night_id(cycle))
    yield
    structlog.contextvars.unbind_contextvars("night_id")


def get(part: str) -> structlog.stdlib.BoundLogger:
    """The logger of a part of the program."""
    return structlog.get_logger(part=part)
