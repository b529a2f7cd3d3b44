"""The catalogue of log events is complete, and nothing outside it can be logged."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder import events, log
from sleepy_coder.serve.rollout import in_parallel

PACKAGE = Path(log.__file__).parent
DAEMON = PACKAGE.parent / "daemon" / "sleepyd"
METHODS = {"debug", "info", "warning", "error", "exception"}


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(path: Path) -> Iterator[tuple[str, frozenset[str], bool]]:
    """Event, fields, and whether there are more by `**`, of calls like `_log.info("event", ...)`.

    Also of `_log.info("a" if ... else "b")`.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            logger = ast.unparse(node.func.value)
            if logger in ("_log", "self._log") or logger.startswith("log.get("):
                event = node.args[0]
                choices = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
                fields = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
                more = any(keyword.arg is None for keyword in node.keywords)
                yield from ((ast.literal_eval(choice), fields, more) for choice in choices)


CALLS = [call for path in [*PACKAGE.rglob("*.py"), *DAEMON.rglob("*.py")] for call in logged(path)]


def test_the_source_logs_exactly_the_events_of_the_catalogue() -> None:
    assert {event for event, _, _ in CALLS} == set(log.EVENTS)


@pytest.mark.parametrize("event", log.EVENTS)
def test_every_event_is_named_by_part_and_explained_in_sentences(event: str) -> None:
    assert event.count(".") == 1
    assert log.EVENTS[event].sentence.endswith(".")


@pytest.mark.parametrize("event", log.EVENTS)
def test_the_fields_of_an_event_are_those_that_the_source_gives_it(event: str) -> None:
    calls = [(fields, more) for name, fields, more in CALLS if name == event]
    said = frozenset[str]().union(*(fields for fields, _ in calls))
    assert said <= log.EVENTS[event].fields.keys()
    if not any(more for _, more in calls):
        assert said == log.EVENTS[event].fields.keys()


def test_no_event_has_a_field_of_its_own_with_a_common_name() -> None:
    assert not [name for name, event in log.EVENTS.items() if events.COMMON.keys() & event.fields.keys()]


@pytest.mark.parametrize(
    ("event", "said", "complaint"),
    [
        ("night.dreamed", {}, "night.dreamed"),
        ("night.started", {"moon": "full"}, "moon is not in the catalogue"),
        ("night.started", {"cycle": "four"}, "cycle is 'four', not integer"),
    ],
)
def test_what_is_outside_the_catalogue_is_an_error_in_tests(event: str, said: dict[str, str], complaint: str) -> None:
    log.set_up(as_json=True)
    with pytest.raises(log.UnknownEvent, match=complaint):
        log.get("night").warning(event, **said)


def test_what_is_outside_the_catalogue_is_written_and_named_in_production(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(log.STRICT_VARIABLE)
    log.set_up(as_json=True)
    log.get("night").warning("night.started", cycle=4, moon="full")
    log.get("night").warning("night.dreamed", cycle=4)
    known, unknown = map(json.loads, capsys.readouterr().err.splitlines())
    assert (known["moon"], known["unlisted"]) == ("full", ["moon"])
    assert (unknown["event"], unknown["unlisted"]) == ("night.dreamed", ["event"])


VALUES = st.one_of(
    st.text(max_size=9000),
    st.lists(st.text(max_size=300), max_size=200),
    st.dictionaries(st.text(max_size=20), st.text(max_size=500), max_size=60),
)


@given(reason=VALUES, exception=VALUES)
def test_a_line_fits_into_the_journal_and_says_what_it_left_out(reason: Any, exception: Any) -> None:
    told = StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(log.STRICT_VARIABLE)
        log.set_up(as_json=True, to=told)
        log.get("night").warning("night.failed", cycle=4, reason=reason, exception=exception)
    (line,) = told.getvalue().splitlines()
    assert len(line.encode()) < 4096
    said = json.loads(line)
    assert said["cycle"] == 4
    for name, length in said.get("shortened", {}).items():
        assert length > len(said[name])


def test_a_list_that_is_cut_keeps_its_beginning_and_tells_how_long_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True)
    reasons = [f"reason-{number}" for number in range(1000)]
    log.get("night").warning("gate.decided", cycle=4, decision="reject", reasons=reasons)
    said = json.loads(capsys.readouterr().err)
    assert said["shortened"] == {"reasons": 1000}
    assert said["reasons"] == reasons[: len(said["reasons"])] != []


def test_every_line_of_a_night_names_it_also_those_of_its_threads(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True)

    def work(number: int) -> None:
        log.get("night").warning("night.phase", phase=str(number))

    with log.night(7):
        list(in_parallel(work, range(5), 3))
    log.get("night").warning("night.phase", phase="later")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["phase"]: line.get("night_id") for line in lines} == {
        **{str(number): "night-0007" for number in range(5)},
        "later": None,
    }


def test_a_line_is_a_json_object_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True)
    log.get("night").warning("night.started", cycle=4)
    said = capsys.readouterr()
    line = json.loads(said.err)
    assert said.out == ""
    assert (line["event"], line["part"], line["cycle"], line["level"]) == ("night.started", "night", 4, "warning")
    assert line["timestamp"].endswith("Z")


def test_whoever_catches_the_error_of_a_night_speaks_of_that_night(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(as_json=True)
    with pytest.raises(ValueError, match="disk"), log.night(7):
        raise ValueError("disk")
    log.get("night").error("night.broke_off", reason="disk")
    assert json.loads(capsys.readouterr().err)["night_id"] == "night-0007"


@pytest.mark.parametrize(("verbose", "lines"), [(False, 0), (True, 1)])
def test_the_small_print_is_only_for_those_who_ask(
    capsys: pytest.CaptureFixture[str], verbose: bool, lines: int
) -> None:
    log.set_up(verbose=verbose, as_json=True)
    log.get("train").info("train.step", step=1)
    assert len(capsys.readouterr().err.splitlines()) == lines


class FullDisk(StringIO):
    """A file on a disk without room."""

    def write(self, _: str) -> int:
        raise OSError("No space left on device")


@pytest.mark.parametrize("stream", [FullDisk(), StringIO()], ids=["full", "closed"])
def test_a_stream_that_refuses_costs_the_line_and_ends_nobody(stream: StringIO) -> None:
    log.set_up(as_json=True, to=stream)
    if not isinstance(stream, FullDisk):
        stream.close()
    log.get("night").error("night.failed", cycle=1, reason="the line is lost")
