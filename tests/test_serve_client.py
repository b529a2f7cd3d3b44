"""The client against servers that misbehave: real sockets, scripted answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from sleepy_coder import wiring
from sleepy_coder.config import EvalSettings
from sleepy_coder.errors import AnswerTimedOut, ModelNotFound, ServerError, ServerUnreachable
from sleepy_coder.judge.evaluate import stack_id
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.process import free_port
from sleepy_coder.types import Message

ASKED = (Message(role="user", content="hi"),)


@contextmanager
def answering(status: int, body: str, kind: str = "application/json") -> Iterator[tuple[str, list[str]]]:
    """A server with one answer for everything; yields its URL and the request lines it saw."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}".strip())
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_a_server_without_runtime_lora_says_which_flags_to_set() -> None:
    with answering(404, '{"detail": "Not Found"}') as (url, _), VllmClient(url) as client:
        with pytest.raises(ModelNotFound, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True") as caught:
            client.unload("x")
        assert "--enable-lora" in caught.value.remedy


def test_a_server_without_sleep_is_awake_and_says_which_flags_to_set() -> None:
    with answering(404, '{"detail": "Not Found"}') as (url, _), VllmClient(url) as client:
        assert not client.asleep()
        with pytest.raises(ServerError, match="--enable-sleep-mode"):
            client.sleep()


def test_an_error_that_is_not_json_is_shown_as_it_is() -> None:
    with answering(502, "Bad Gateway", "text/plain") as (url, _), VllmClient(url) as client:
        with pytest.raises(ServerError, match="502: Bad Gateway") as caught:
            client.chat("m", ASKED)
        assert caught.value.status == 502


@pytest.mark.parametrize(("status", "todo"), [(404, "server.url"), (401, "server.api_key"), (502, "server's log")])
def test_a_web_page_is_not_shown_and_what_to_do_follows_from_its_status(status: int, todo: str) -> None:
    with answering(status, "<html>Welcome</html>", "text/html; charset=utf-8") as (url, _), VllmClient(url) as client:
        with pytest.raises(ServerError, match="a web page") as caught:
            client.models()
        assert todo in caught.value.remedy and "Welcome" not in caught.value.message
        assert status != 404 or not client.asleep()  # a proxy may pass on /v1 alone


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_what_the_model_thought_comes_beside_what_it_said(name: str) -> None:
    message = {"role": "assistant", "content": "1|x", name: "Hm."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    with answering(200, json.dumps(body)) as (url, _), VllmClient(url) as client:
        reply = client.chat("m", ASKED)
    assert (reply.text, reply.reasoning) == ("1|x", "Hm.")


def test_the_api_key_is_sent_and_v1_in_the_url_is_harmless() -> None:
    with answering(200, '{"data": []}') as (url, seen), VllmClient(f"{url}/v1/", api_key="k") as client:
        assert client.models() == ()
        assert seen == ["GET /v1/models Bearer k"]


def test_a_failed_completion_is_sent_once() -> None:
    with answering(500, "{}") as (url, seen), VllmClient(url) as client:
        with pytest.raises(ServerError):
            client.chat("m", ASKED)
        assert len(seen) == 1


def test_an_answer_that_is_not_vllms_is_the_servers_error() -> None:
    with (
        answering(200, '{"object": "list"}') as (url, _),
        VllmClient(url) as client,
        pytest.raises(ServerError, match="/v1/chat/completions"),
    ):
        client.chat("m", ASKED)


def test_nobody_there_is_said_with_the_url() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with VllmClient(url) as client, pytest.raises(ServerUnreachable, match=url):
        client.busy()


def test_who_listens_and_does_not_answer_is_told_from_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with VllmClient(url, timeout=0.05) as client, pytest.raises(AnswerTimedOut, match="did not answer in time"):
            client.busy()


def server_info(dtype: str) -> str:
    model, cache = {"dtype": dtype, "quantization": None}, {"cache_dtype": "auto"}
    return json.dumps({"vllm_config": {"model_config": model, "cache_config": cache}, "vllm_env": {}})


def test_a_server_that_tells_its_settings_tells_its_dtype() -> None:
    with answering(200, server_info("torch.bfloat16")) as (url, seen), VllmClient(url) as client:
        assert client.precision() == "bfloat16, quantization None, KV cache auto"
        assert seen == ["GET /server_info?config_format=json"]


@pytest.mark.parametrize(
    ("status", "body"), [(404, '{"detail": "Not Found"}'), (500, "oops"), (200, '{"vllm_config": "model=x, dtype=y"}')]
)
def test_a_server_that_does_not_tell_its_dtype_is_asked_no_further(status: int, body: str) -> None:
    with answering(status, body) as (url, _), VllmClient(url) as client:
        assert client.precision() == ""


def test_measurements_in_another_dtype_or_by_another_version_of_this_program_are_of_another_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stack(dtype: str) -> str:
        told = server_info(dtype).replace("{", '{"version": "1", ', 1)
        with answering(200, told) as (url, _), VllmClient(url) as client, closing(Fleet([client])) as fleet:
            judge = SimpleNamespace(fingerprint_of=lambda _: "rustc")
            return stack_id(EvalSettings(), wiring.environment_of(fleet, judge, ()))  # pyright: ignore[reportArgumentType, reportCallIssue]

    before = stack("torch.float32")
    assert before == stack("torch.float32") != stack("torch.bfloat16")
    monkeypatch.setattr(wiring, "__version__", "0.0.0")
    assert before != stack("torch.float32")
