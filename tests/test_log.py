"""The catalogue of log events is complete, and nothing outside it can be logged."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from sleepy_coder import log

PACKAGE = Path(log.__file__).parent
DAEMON = PACKAGE.parent / "daemon" / "sleepyd"
METHODS = {"debug", "info", "warning", "error", "exception"}


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(path: Path) -> Iterator[str]:
    """The events in calls like `_log.info("event", ...)`, also in `_log.info("a" if ... else "b")`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            logger = ast.unparse(node.func.value)
            if logger == "_log" or logger.startswith("log.get("):
                event = node.args[0]
                choices = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
                yield from (ast.literal_eval(choice) for choice in choices)


def test_the_source_logs_exactly_the_events_of_the_catalogue() -> None:
    assert {event for path in (*PACKAGE.rglob("*.py"), *DAEMON.rglob("*.py")) for event in logged(path)} == set(
        log.EVENTS
    )


@pytest.mark.parametrize("event", log.EVENTS)
def test_every_event_is_named_by_part_and_explained_in_sentences(event: str) -> None:
    assert event.count(".") == 1
    assert log.EVENTS[event].endswith(".")


def test_an_event_outside_the_catalogue_is_an_error() -> None:
    log.set_up(as_json=True)
    with pytest.raises(log.UnknownEvent, match="night.dreamed"):
        log.get("night").warning("night.dreamed")


def test_a_line_is_a_json_object_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True)
    log.get("night").warning("night.started", cycle=4)
    said = capsys.readouterr()
    line = json.loads(said.err)
    assert said.out == ""
    assert (line["event"], line["part"], line["cycle"], line["level"]) == ("night.started", "night", 4, "warning")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("verbose", "lines"), [(False, 0), (True, 1)])
def test_the_small_print_is_only_for_those_who_ask(
    capsys: pytest.CaptureFixture[str], verbose: bool, lines: int
) -> None:
    log.set_up(verbose=verbose, as_json=True)
    log.get("train").info("train.step", step=1)
    assert len(capsys.readouterr().err.splitlines()) == lines
