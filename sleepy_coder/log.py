"""Structured logs: one JSON object a line for machines, coloured lines for a terminal.

Events are named `part.what_happened`; the names in use are listed in EVENTS, and logging any other
one is an error, so that whoever filters the journal can rely on them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

EVENTS: dict[str, str] = {
    "night.started": "A night began or was resumed.",
    "night.phase": "A phase of the night finished; seconds, and whether it was found done.",
    "night.mix": "The training mix is built; shares and counts.",
    "night.skipped": "There was too little to learn from.",
    "night.verdict": "The gate decided; decision and reasons.",
    "night.promoted": "The alias now points to a new adapter.",
    "night.kept": "The incumbent keeps serving.",
    "night.failed": "A night ended in an error; everything is as it was.",
    "train.step": "An optimiser step; loss, KL to the base and learning rate.",
    "train.resumed": "Training goes on from a checkpoint.",
    "train.left_out": "Answers that are not trained on; the reason, and how many.",
    "eval.drifted": "The base answers otherwise than it did: the baseline is measured anew.",
    "server.adapter_loaded": "The model server loaded an adapter.",
    "server.adapter_unloaded": "The model server unloaded an adapter.",
    "gateway.started": "The gateway takes requests; address, alias, model server, and whether it records.",
    "gateway.stopped": "The gateway has ended; requests still in flight and exchanges still unsaved.",
    "gateway.switched": "New requests for the alias go to another adapter from now on.",
    "gateway.pointer_unreadable": "The registry does not say what serves; the last known adapter goes on serving.",
    "gateway.upstream_failed": "The model server did not answer, or broke off in the middle of a reply.",
    "exchange.recorded": "A request and its reply were saved.",
    "exchange.dropped": "Requests and replies were passed on, but not kept; reason and how many.",
    "collect.failed": "Nothing could be collected this time; what is there waits.",
    "episode.gathered": "Conversations that came to rest were stored as episodes; how many are new.",
    "episode.recorded": "The episodes of a file in the inbox were stored; how many are new.",
    "episode.quarantined": "A file in the inbox has bad entries and was put aside; the first reason.",
    "inbox.waiting": "A file in the inbox cannot be stored now; it stays and is tried again.",
    "store.quarantined": "Bad input was put aside with its reason.",
}


class UnknownEvent(ValueError):
    """An event that is not in the catalogue."""


def _known_events_only(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if event["event"] not in EVENTS:
        raise UnknownEvent(f"{event['event']!r} is not in sleepy_coder.log.EVENTS")
    return event


def set_up(*, verbose: bool = False, as_json: bool | None = None) -> None:
    """Log to stderr; JSON unless stderr is a terminal. Only warnings and worse unless `verbose`."""
    json_lines = not sys.stderr.isatty() if as_json is None else as_json
    renderer = structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            _known_events_only,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def get(part: str) -> structlog.stdlib.BoundLogger:
    """The logger of a part of the program."""
    return structlog.get_logger(part=part)
