"""What the embedded server promises beyond the protocol's conformance suite."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from conftest import TinyServer
from safetensors.torch import load_file, save_file

from sleepy_coder.errors import ServerError, ServerUnreachable
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.types import Message

ASKED = (Message(role="user", content="fn main"),)


@pytest.fixture
def client(tiny_server: TinyServer) -> Iterator[VllmClient]:
    with VllmClient(tiny_server.url, timeout=60) as client:
        yield client


def with_tensors(adapter: Path, folder: Path, fill: float) -> Path:
    """A copy of `adapter` whose every number is `fill`."""
    folder.mkdir()
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({k: torch.full_like(v, fill) for k, v in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    return folder


@pytest.mark.parametrize("path", ["/sleep", "/wake_up", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example:8399"}],
    ids=["origin", "fetch-site", "rebound"],
)
def test_a_page_of_another_site_changes_nothing(tiny_server: TinyServer, path: str, headers: dict[str, str]) -> None:
    assert httpx.post(tiny_server.url + path, headers=headers, timeout=60).status_code == 403
    assert httpx.get(f"{tiny_server.url}/is_sleeping", timeout=60).json() == {"is_sleeping": False}


def test_nan_weights_load_as_in_vllm_and_harm_nobody_else(
    tiny_server: TinyServer, client: VllmClient, tmp_path: Path
) -> None:
    before = client.chat("tiny", ASKED)
    client.load("nan", with_tensors(tiny_server.adapters["a1"], tmp_path / "nan", float("nan")))
    assert client.chat("nan", ASKED, temperature=1.0, max_tokens=4).completion_tokens > 0
    assert client.fingerprint("nan", ["fn"], max_tokens=2).tokens
    client.unload("nan")
    assert client.chat("tiny", ASKED) == before


def test_all_zero_weights_load_as_in_vllm_and_answer_like_the_base(
    tiny_server: TinyServer, client: VllmClient, tmp_path: Path
) -> None:
    client.load("zero", with_tensors(tiny_server.adapters["a1"], tmp_path / "zero", 0.0))
    same = client.fingerprint("zero", ["fn"]).matches(client.fingerprint("tiny", ["fn"]))
    client.unload("zero")
    assert same


def test_a_rank_above_the_limit_is_refused_with_the_flag_to_set(
    tiny_server: TinyServer, client: VllmClient, tmp_path: Path
) -> None:
    from serve_model import tiny_adapter

    with pytest.raises(ServerError, match="--max-lora-rank 32") as caught:
        client.load("wide", tiny_adapter(tiny_server.model, tmp_path / "wide", seed=3, rank=24))
    assert caught.value.status == 500
    assert "wide" not in [served.name for served in client.models()]


def test_more_adapters_than_run_at_once_all_answer_as_themselves(
    tiny_server: TinyServer, client: VllmClient, tmp_path: Path
) -> None:
    """The server runs with --max-loras 2; further adapters wait for a place."""
    from serve_model import tiny_adapter

    names = [f"many-{seed}" for seed in range(4)]
    for seed, name in enumerate(names):
        client.load(name, tiny_adapter(tiny_server.model, tmp_path / name, seed=10 + seed))
    alone = [client.chat(name, ASKED, max_tokens=20).text for name in names]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda name: client.chat(name, ASKED, max_tokens=20).text, names * 4))
    for name in names:
        client.unload(name)
    assert together == alone * 4
    assert len(set(alone)) == 4


def test_samples_of_one_prompt_at_once_are_those_of_one_by_one(client: VllmClient) -> None:
    def sample(seed: int) -> str:
        return client.chat("tiny", ASKED, temperature=1.0, seed=seed, max_tokens=20).text

    alone = [sample(seed) for seed in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(sample, range(16))) == alone


@pytest.mark.parametrize(
    "field", [{"repetition_penalty": 1.1}, {"top_k": 20}, {"response_format": {"type": "json_object"}}]
)
def test_a_field_that_would_change_the_answer_and_is_not_there_is_refused(
    tiny_server: TinyServer, field: dict[str, Any]
) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "fn"}], "max_tokens": 1, **field}
    answer = httpx.post(f"{tiny_server.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == next(iter(field))


def test_a_narrow_nucleus_is_the_greedy_answer(tiny_server: TinyServer) -> None:
    body = {"model": "tiny", "prompt": "fn", "max_tokens": 12, "temperature": 1.0, "top_p": 1e-6, "seed": 5}
    asked = (body, body | {"temperature": 0.0, "top_p": 1.0})
    answers = [httpx.post(f"{tiny_server.url}/v1/completions", json=each, timeout=60).json() for each in asked]
    assert answers[0]["choices"][0]["text"] == answers[1]["choices"][0]["text"]


def test_sleeping_at_once_aborts_what_runs(tiny_server: TinyServer, client: VllmClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        body = {"model": "tiny", "prompt": ["fn"] * 32, "n": 16, "max_tokens": 480, "ignore_eos": True}  # minutes
        running = pool.submit(httpx.post, f"{tiny_server.url}/v1/completions", json=body, timeout=60)
        while not client.busy() and not running.done():
            time.sleep(0.005)
        httpx.post(f"{tiny_server.url}/sleep?level=1", timeout=60)
        choices = running.result().json()["choices"]
        client.wake_up()
    assert {choice["finish_reason"] for choice in choices} == {"abort"}
    assert client.chat("tiny", ASKED).text


def test_a_wake_up_ends_a_sleep_that_is_still_draining(tiny_server: TinyServer, client: VllmClient) -> None:
    with ThreadPoolExecutor(2) as pool:
        body = {"model": "tiny", "prompt": "fn", "n": 16, "max_tokens": 480, "ignore_eos": True}
        running = pool.submit(httpx.post, f"{tiny_server.url}/v1/completions", json=body, timeout=60)
        while not client.busy() and not running.done():
            time.sleep(0.005)
        falling_asleep = pool.submit(client.sleep)
        while not client.asleep() and not running.done():
            time.sleep(0.005)
        client.wake_up()
        falling_asleep.result(60)
        assert {choice["finish_reason"] for choice in running.result().json()["choices"]} == {"length"}
    assert not client.asleep()


def test_metrics_name_the_adapters_limit(tiny_server: TinyServer) -> None:
    text = httpx.get(f"{tiny_server.url}/metrics", timeout=60).text
    assert 'vllm:lora_requests_info{max_lora="2"' in text
    assert 'vllm:num_requests_waiting{model_name="tiny"} 0.0' in text


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ServerUnreachable, match="not a Qwen2 model"):
        EmbeddedServer(tmp_path, tmp_path / "log").start()


def test_a_stopped_server_is_unreachable(tiny_server: TinyServer, tmp_path: Path) -> None:
    server = EmbeddedServer(tiny_server.model, tmp_path / "log")
    with server, VllmClient(server.url) as client:
        assert client.models()
    assert not server.running
    with VllmClient(server.url) as client, pytest.raises(ServerUnreachable, match="nobody answered"):
        client.models()
