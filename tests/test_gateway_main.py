"""The gateway as people run it: a process that says what it does, and ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import TinyServer
from fakes import FakeClock, FakeRedactor, says
from gateway_house import gateway_house, run
from sleepyd.gateway import Beside
from sleepyd.gateway_main import listening
from sleepyd.meters import Meters
from sleepyd.napping import Gate
from sleepyd.recorder import Recorder
from sleepyd.serving import Serving

from sleepy_coder.config import HOME_VARIABLE, GatewaySettings, ServerSettings
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ConfigError
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.registry import Registry
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import free_port
from sleepy_coder.store import Store
from sleepy_coder.types import Message


@contextmanager
def process(home: Path, port: int, **environment: str) -> Generator[subprocess.Popen[str]]:
    """`sleepy-coder gateway`, ended by SIGTERM at the latest."""
    command = [sys.executable, "-m", "sleepy_coder", "--home", str(home), "gateway", "--port", str(port), "--log"]
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}, start_new_session=True
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        started.communicate(timeout=120)


def wait_for(url: str, running: subprocess.Popen[str]) -> None:
    while running.poll() is None:
        try:
            httpx.get(f"{url}/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the gateway ended at once: {running.communicate()[1]}")


@pytest.mark.slow
def test_the_process_serves_keeps_what_passes_and_ends_on_ctrl_c(tmp_path: Path, tiny_server: TinyServer) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"SLEEPY_CODER_SERVER__URL": tiny_server.url, "SLEEPY_CODER_SERVER__BASE_NAME": "tiny"}
    with process(tmp_path, port, **settings) as running:
        wait_for(url, running)
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
        with VllmClient(url) as client:
            question = (Message(role="user", content="hi"),)
            through = client.chat("sleepy-coder", question, max_tokens=4)
            body = {"model": "sleepy-coder", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            streamed = httpx.post(f"{url}/v1/chat/completions", json=body | {"temperature": 0, "max_tokens": 4}).text
            # The server is shared: other tests may have loaded adapters.
            assert [model.name for model in client.models()][:2] == ["sleepy-coder", "tiny"]
        with VllmClient(tiny_server.url) as direct:
            assert through == direct.chat("tiny", question, max_tokens=4).model_copy(update={"model": "sleepy-coder"})
        lines = [line.removeprefix("data: ") for line in streamed.splitlines()]
        chunks = [json.loads(line) for line in lines if line.startswith("{")]
        assert {chunk["model"] for chunk in chunks} == {"sleepy-coder"}
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == through.text
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=120)[1]
    assert running.returncode == 0, said
    assert f"{url}/v1 passes on to {tiny_server.url}" in said
    with Store(tmp_path / "state" / "sleepy.db") as store:
        assert [exchange.served_by for exchange in store.exchanges()] == ["tiny", "tiny"]
    events = [json.loads(line)["event"] for line in said.splitlines() if line.startswith("{")]
    assert (events[0], events[-1]) == ("gateway.started", "gateway.stopped")


@pytest.mark.slow
def test_real_replies_are_recorded_alike_streamed_or_not(tmp_path: Path, tiny_server: TinyServer) -> None:
    body = {"model": "sleepy-coder", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "seed": 1}

    async def story() -> None:
        server = {"url": tiny_server.url}
        async with gateway_house(tmp_path, says(b""), server=server) as house:
            # The house's base goes by another name than the tiny server's.
            for more in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
                asked = json.dumps({**body, **more, "model": "tiny"}).encode()
                assert (await house.post("/v1/chat/completions", asked))[0] == 200
            whole, streamed = await house.recorded()
            assert whole.whole and streamed.whole and streamed.streamed and streamed.served_by == "tiny"
            mine, theirs = json.loads(streamed.response), json.loads(whole.response)
            for choice in (mine["choices"][0], theirs["choices"][0]):
                choice["message"] = {k: choice["message"][k] for k in ("role", "content")}
            same = ("index", "message", "finish_reason")
            assert [mine["choices"][0][k] for k in same] == [theirs["choices"][0][k] for k in same]
            assert mine["object"] == theirs["object"] and mine["usage"] == theirs["usage"]

    run(story)


def test_a_socket_that_was_opened_by_somebody_else_is_listened_on(tmp_path: Path) -> None:
    async def story(sock: socket.socket) -> None:
        settings, server, meters, clock = GatewaySettings(), ServerSettings(), Meters(), FakeClock()
        serving = Serving(Registry(tmp_path / "adapters", clock), server.base_name)
        with Store(tmp_path / "store.db") as store:
            recorder = Recorder(store.save_exchanges, FakeRedactor(), settings, meters)
            gate = Gate(NapFiles(tmp_path), settings, meters)
            async with listening(settings, server, serving, recorder, meters, clock, gate, Beside(), sock=sock) as (
                _,
                url,
            ):
                assert url == f"http://127.0.0.1:{sock.getsockname()[1]}"
                async with httpx.AsyncClient() as http:
                    assert (await http.get(f"{url}/healthz", timeout=60)).status_code == 200

    with socket.create_server(("127.0.0.1", 0)) as sock:
        run(lambda: story(sock))


@pytest.mark.slow
def test_a_gateway_that_cannot_start_says_why_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "sleepyd.gateway_main", "--home", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is not a folder" in done.stderr and "Traceback" not in done.stderr


def test_a_taken_port_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            port = int(house.url.rsplit(":", 1)[1])
            with process(tmp_path / "other", port) as running:
                said = (await asyncio.to_thread(running.communicate, timeout=60))[1]
        assert running.returncode == 1
        assert "cannot listen on" in said and "--port" in said

    run(story)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_machines_are_let_in_with_a_key_only(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__HOST", host)
    with pytest.raises(ConfigError, match="gateway.api_key"):
        load_config(tmp_path)
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__API_KEY", "long enough")
    assert load_config(tmp_path).gateway.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert GatewaySettings(host=host).api_key is None
