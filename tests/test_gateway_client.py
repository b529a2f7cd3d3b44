"""What a command tells the gateway, and what it makes of the answers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fakes import tasks_of

from sleepy_coder.config import Config, GatewaySettings
from sleepy_coder.errors import ServerError, ServerUnreachable
from sleepy_coder.serve.gateway_client import (
    HomeState,
    Outlook,
    VerifierWord,
    begin_night,
    command_in,
    running,
    tell_feedback,
    tell_verdict,
)
from sleepy_coder.types import Outcome, SessionCheck, Verdict

(TASK,) = tasks_of([1])
CHECK = SessionCheck(session="run-1", task=TASK, verdict=Verdict(outcome=Outcome.PASS, stage="done"))
AWAITED = VerifierWord(session="run-1", nonce="drawn", state="awaited")
SPOKEN = VerifierWord(session="run-1", nonce="drawn", state="spoken", check=CHECK)
NOTED = (200, {"status": "noted"})


@contextmanager
def answering(answers: Sequence[tuple[int, object]]) -> Iterator[tuple[GatewaySettings, list[str]]]:
    """Something on the gateway's port that gives these answers in turn; whom it was asked for."""
    left, asked = list(answers), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            status, body = left.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output clean."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield GatewaySettings(port=server.server_port), asked  # pyright: ignore[reportCallIssue]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepy_coder.serve.gateway_client._PAUSES", (0.0, 0.0))


def test_a_verdict_outlives_a_gateway_that_cannot_keep_it_for_a_while() -> None:
    busy = (503, {"error": {"message": "the store is locked"}})
    with answering([busy, busy, NOTED]) as (settings, asked):
        tell_verdict(settings, SPOKEN)
    assert asked == ["/admin/check"] * 3


def test_a_verdict_that_is_refused_for_good_is_told_once() -> None:
    with (
        answering([(409, {"error": {"message": "somebody else speaks"}})]) as (settings, asked),
        pytest.raises(ServerError, match="somebody else speaks"),
    ):
        tell_verdict(settings, SPOKEN)
    assert len(asked) == 1


def test_an_agent_does_not_start_while_the_gateway_cannot_await_its_verifier() -> None:
    with answering([(503, {})]) as (settings, asked), pytest.raises(ServerUnreachable, match="503"):
        tell_verdict(settings, AWAITED)
    assert len(asked) == 1


@pytest.mark.parametrize("answer", [{}, [], "night", {"status": "ok"}])
def test_something_else_on_the_port_is_not_taken_for_a_daemon(answer: object) -> None:
    with answering([(200, answer)]) as (settings, _), pytest.raises(ServerUnreachable, match="something else does"):
        begin_night(settings)


def test_only_the_gateway_runs_and_the_remedy_is_the_daemon() -> None:
    refusal = (404, {"error": {"message": "Only the daemon runs nights; use POST to ask for one."}})
    with answering([refusal]) as (settings, _), pytest.raises(ServerError, match="Only the daemon") as caught:
        begin_night(settings)
    assert "`sleepyd`" in caught.value.remedy


def state(home: Path | None, nights: Outlook | None = None) -> tuple[int, dict[str, object]]:
    """What a gateway or daemon of `home` says of itself; one of before says no home."""
    said = HomeState(
        alias="a", serving="b", in_flight={}, servers={}, asleep=False, held=0, recording=True, waiting=0, since=None,
        episodes_today=None, last_night=None, nights=nights, home=home,
    )  # fmt: skip
    return 200, said.model_dump(mode="json", exclude=set() if home else {"home"})


@pytest.mark.parametrize(("theirs", "other"), [("/other", True), ("", False), (None, False)])
def test_a_daemon_is_another_home_s_only_when_it_says_so(tmp_path: Path, theirs: str | None, other: bool) -> None:
    home = None if theirs is None else tmp_path / theirs
    with answering([state(home)]) as (settings, _):
        found = running(Config(home=tmp_path, gateway=settings))  # pyright: ignore[reportCallIssue]
    assert (found.elsewhere, found.state is None) == (home if other else None, other)


def test_what_is_typed_for_another_home_is_typed_as_its_owner(tmp_path: Path) -> None:
    assert command_in(tmp_path / "a b", "pause") == f"sleepy-coder --home '{tmp_path}/a b' pause"
    foreign = next((path for path in (Path("/proc/1"), Path("/")) if path.stat().st_uid != os.geteuid()), None)
    if foreign is not None:
        assert command_in(foreign, "pause").startswith(f"sudo -u {foreign.owner()} /")


def test_feedback_that_is_refused_says_why() -> None:
    with (
        answering([(400, {"error": {"message": "the note is not kept"}})]) as (settings, _),
        pytest.raises(ServerError, match="the note is not kept"),
    ):
        tell_feedback(settings, "s", good=True, note="-----BEGIN")
