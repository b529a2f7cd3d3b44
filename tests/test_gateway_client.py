"""What a command tells the gateway, and what it makes of the answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fakes import tasks_of

from sleepy_coder.config import GatewaySettings
from sleepy_coder.errors import ServerError, ServerUnreachable
from sleepy_coder.serve.gateway_client import VerifierWord, begin_night, tell_feedback, tell_verdict
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
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            status, body = left.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

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


def test_feedback_that_is_refused_says_why() -> None:
    with (
        answering([(400, {"error": {"message": "the note is not kept"}})]) as (settings, _),
        pytest.raises(ServerError, match="the note is not kept"),
    ):
        tell_feedback(settings, "s", good=True, note="-----BEGIN")
