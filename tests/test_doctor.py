"""The doctor against a real server, and against the same one with one thing wrong with it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import TinyServer
from fakes import FakeClock, make_episode
from test_registry import MIX, RECIPE
from typer.testing import CliRunner

from sleepy_coder import doctor
from sleepy_coder.cli import app
from sleepy_coder.config import (
    HOME_VARIABLE,
    Config,
    EvalSettings,
    GatePolicy,
    GatewaySettings,
    ModelSettings,
    NightSettings,
    RecipeSettings,
    ServerSettings,
    TrainingSettings,
)
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.doctor import check_training, examine
from sleepy_coder.errors import ConfigError, TrainingError
from sleepy_coder.learn.launch import Launch
from sleepy_coder.learn.trainer import require
from sleepy_coder.registry import Registry, model_sha256
from sleepy_coder.serve.checkup import Finding, check_server
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import free_port
from sleepy_coder.types import Adapter, Outcome
from sleepy_coder.wiring import open_store, prover

Answer = tuple[int, str]


@contextmanager
def beside(real: str, **wrong: Answer) -> Iterator[str]:
    """A server that passes everything on to `real`, but answers the paths in `wrong` (`is_sleeping`) by itself."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = self.path.partition("?")[0].rsplit("/", 1)[-1]
            if name in wrong:
                status, content, headers = wrong[name][0], wrong[name][1].encode(), {"Content-Type": "application/json"}
            else:
                sent = {key: value for key, value in self.headers.items() if key in ("Content-Type", "X-Request-Id")}
                reply = httpx.request(self.command, real + self.path, content=body, headers=sent, timeout=60)
                status, content = reply.status_code, reply.content
                headers = {"Content-Type": reply.headers.get("Content-Type", "text/plain")}
                headers |= {"X-Request-Id": sent["X-Request-Id"]} if "X-Request-Id" in sent else {}
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def settings(home: Path, tiny: TinyServer, url: str = "", **server: Any) -> Config:
    return Config(
        home=home,
        server=ServerSettings(**{"url": url or tiny.url, "base_name": "tiny", "max_loras": 2, **server}),
        model=ModelSettings(path=tiny.model, max_length=256),
        recipe=RecipeSettings(rank=8),
        eval=EvalSettings(max_tokens=100),
        gateway=GatewaySettings(port=free_port()),
    )  # pyright: ignore[reportCallIssue]


def look(config: Config, active: Adapter | None = None) -> dict[str, Finding]:
    with VllmClient(config.server.url, timeout=60) as client:
        found = check_server(client, config, config.model.path, active, prover(config), "base")
    return {finding.name: finding for finding in found}


def examined(config: Config) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(config)}


def levels(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.level for name, finding in found.items()}


def loaded(tiny: TinyServer) -> list[str]:
    with VllmClient(tiny.url) as client:
        return [model.name for model in client.models() if model.name.startswith("doctor-")]


ADAPTERS_LINES = {"adapters", "adapter slots"}


def test_a_sound_server_passes_every_check_and_is_left_as_it_was(tmp_path: Path, tiny_server: TinyServer) -> None:
    with beside(tiny_server.url) as url:  # which echoes request ids, as vLLM does when asked to
        found = look(settings(tmp_path, tiny_server, url))
    fine = {"server", "base name", "request ids", "sleep", "context", "load tracking", *ADAPTERS_LINES}
    assert set(found) == fine
    assert set(levels(found).values()) == {"ok"}
    assert loaded(tiny_server) == []
    assert not (tmp_path / "adapters").exists()


def test_load_tracking_is_seen_where_it_is(tmp_path: Path, tiny_server: TinyServer) -> None:
    assert look(settings(tmp_path, tiny_server))["load tracking"].level == "ok"


@pytest.mark.parametrize(
    ("check", "level", "remedy", "wrong"),
    [
        ("server", "fail", "server's log", {"version": (500, "{}")}),
        ("server", "fail", "Does server.url", {"version": (200, "[]")}),
        ("server", "fail", "server.api_key", {"version": (401, '{"error": "Unauthorized"}')}),
        ("asleep", "warn", "wake_up", {"is_sleeping": (200, '{"is_sleeping": true}')}),
        ("base name", "fail", "--served-model-name tiny", {"models": (200, '{"data": [{"id": "other"}]}')}),
        (
            "base name",
            "fail",
            "set server.base_name to qwen",
            {"models": (200, '{"data": [{"id": "qwen"}, {"id": "tiny"}]}')},
        ),
        ("context", "fail", "--max-model-len 256", {"models": (200, '{"data":[{"id":"tiny","max_model_len":128}]}')}),
        ("context", "warn", "Update", {"models": (200, '{"data": [{"id": "tiny"}]}')}),
        ("request ids", "warn", "--enable-request-id-headers", {"models": (200, '{"data": [{"id": "tiny"}]}')}),
        ("load tracking", "warn", "--enable-server-load-tracking", {"load": (200, '{"server_load": 0}')}),
        (
            "adapters",
            "fail",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            {"load_lora_adapter": (404, '{"detail":"Not Found"}')},
        ),
        (
            "adapters",
            "fail",
            "--max-lora-rank 8",
            {"load_lora_adapter": (500, '{"error":{"message":"LoRA rank 8 is greater than max_lora_rank 1."}}')},
        ),
        (
            "adapters",
            "fail",
            "Restart the server",
            {
                "load_lora_adapter": (200, "{}"),
                "completions": (
                    200,
                    '{"choices":[{"index":0,"token_ids":[1],"logprobs":{"token_logprobs":[-1.0]},"finish_reason":""}]}',
                ),
            },
        ),
        (
            "adapter slots",
            "fail",
            "--max-loras 2",
            {"metrics": (200, 'vllm:lora_requests_info{max_lora="1",running_lora_adapters=""} 1.0\n')},
        ),
        ("adapter slots", "warn", "--max-loras", {"metrics": (200, "")}),
    ],
)
def test_what_is_wrong_comes_with_how_to_mend_it(
    tmp_path: Path, tiny_server: TinyServer, check: str, level: str, remedy: str, wrong: dict[str, Answer]
) -> None:
    with beside(tiny_server.url, **wrong) as url:
        found = look(settings(tmp_path, tiny_server, url))
    assert found[check].level == level, found
    assert remedy in found[check].remedy
    assert loaded(tiny_server) == []


@pytest.mark.parametrize(("shared", "level"), [(True, "warn"), (False, "ok")])
def test_a_server_that_cannot_sleep_is_found_where_nights_need_it(
    tmp_path: Path, tiny_server: TinyServer, shared: bool, level: str
) -> None:
    config = settings(tmp_path, tiny_server).model_copy(update={"night": NightSettings(share_gpu=shared)})
    with beside(tiny_server.url, is_sleeping=(404, '{"detail": "Not Found"}')) as url:
        server = config.server.model_copy(update={"url": url})
        found = look(config.model_copy(update={"server": server}))["sleep"]
    assert (found.level, "VLLM_SERVER_DEV_MODE=1" in found.remedy) == (level, shared)


def test_nobody_there_is_one_finding(tmp_path: Path, tiny_server: TinyServer) -> None:
    found = look(settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}"))
    assert levels(found) == {"server": "fail"}
    assert "Start the model server" in found["server"].remedy


def active_adapter(config: Config, tiny: TinyServer) -> tuple[Registry, Adapter]:
    registry = Registry(config.adapters, FakeClock())
    staged = registry.stage(
        tiny.adapters["a1"],
        cycle=1,
        parent=None,
        base=tiny.model,
        base_model="tiny",
        base_sha256=model_sha256(tiny.model),
        mix=MIX,
        recipe=RECIPE.model_copy(update={"rank": 8, "alpha": 16}),
    )
    return registry, registry.activate(staged.name)


def test_the_whole_examination_names_what_serves_and_whether_it_is_loaded(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    config = settings(tmp_path, tiny_server)
    registry, active = active_adapter(config, tiny_server)
    missing = examined(config)
    assert (missing["active adapter"].level, missing["active adapter"].what) == ("fail", f"{active.name} is not loaded")
    with VllmClient(tiny_server.url) as client:
        ensure_loaded(registry, client, active, prover(config))
        try:
            found = examined(config)
        finally:
            client.unload(active.name)
    assert (found["active adapter"].level, found["registry"].level, found["base model"].level) == ("ok", "ok", "ok")
    assert (found["gateway"].level, found["gateway"].remedy) == ("warn", "Start it: `sleepy-coder gateway`.")


def test_another_base_model_than_the_adapter_s_is_found(tmp_path: Path, tiny_server: TinyServer) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    _, active = active_adapter(config, tiny_server)
    (active.path / "manifest.json").write_text(
        (active.path / "manifest.json").read_text().replace(model_sha256(tiny_server.model), "0" * 64)
    )
    found = examined(config)
    assert found["base model"].level == "fail" and "rollback" in found["base model"].remedy


def test_a_base_that_nights_cannot_train_is_found_before_one_begins(tmp_path: Path, tiny_server: TinyServer) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_server.model, model)
    config = json.loads((model / "config.json").read_text()) | {"quantization_config": {"quant_method": "awq"}}
    (model / "config.json").write_text(json.dumps(config))
    named = settings(tmp_path, tiny_server).model_copy(update={"model": ModelSettings(path=model)})
    found = examined(named)["base model"]
    assert found.level == "fail" and "awq" in found.what and "full-precision" in found.remedy


def test_a_model_server_beside_which_nights_would_train_the_nano_model_is_found(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    unset = config.model_copy(update={"model": config.model.model_copy(update={"path": None})})
    found = examined(unset)["base model"]
    assert (found.level, found.remedy) == ("fail", "Set model.path to the folder of tiny, as vLLM has it.")


def test_a_damaged_store_and_a_disk_with_too_little_room_for_a_night_are_found(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    config = config.model_copy(update={"night": config.night.model_copy(update={"min_free_gib": 9_999})})
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sleepy.db").write_bytes(b"noise" * 8000)
    found = examined(config)
    assert (found["store"].level, found["disk"].level) == ("fail", "fail")
    assert "episodes rescue" in found["store"].remedy and "a night needs 9999" in found["disk"].what


@pytest.mark.parametrize(
    ("policy", "level"),
    [
        ({}, "ok"),
        ({"autonomous_clusters": 300}, "warn"),
        ({"autonomous_clusters": 300, "small_sets": "frozen-set-only"}, "ok"),
        ({"autonomous_clusters": 500, "min_clusters": 400, "small_sets": "frozen-set-only"}, "warn"),
        ({"min_clusters": 300}, "warn"),
    ],
)
def test_a_frozen_set_on_which_nothing_can_be_promoted_is_found(
    tmp_path: Path, tiny_server: TinyServer, policy: dict[str, Any], level: str
) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    found = examined(config.model_copy(update={"gate": GatePolicy(**policy)}))["frozen set"]
    assert found.level == level and "372 tasks in 233 clusters" in found.what


def test_without_a_daemon_nobody_begins_nights(tmp_path: Path, tiny_server: TinyServer) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    found = examined(config)
    assert (found["nights"].level, found["store"].level) == ("warn", "ok")
    assert "service install" in found["nights"].what


@pytest.mark.parametrize(("source", "level"), [("tool-text", "warn"), ("verifier", "ok")])
def test_twenty_passed_episodes_of_which_none_can_train_are_found(
    tmp_path: Path, tiny_server: TinyServer, source: str, level: str
) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    with open_store(config) as store:
        store.save_episodes(make_episode(number, Outcome.PASS, source=source) for number in range(20))
    found = examined(config)["episodes"]
    assert (found.level, "sleepy-coder run -- AGENT" in found.remedy) == (level, level == "warn")


def test_checks_most_of_which_cannot_be_run_are_found_with_the_words_of_the_last(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    config = settings(tmp_path, tiny_server, f"http://127.0.0.1:{free_port()}")
    with open_store(config) as store:
        store.save_episodes([make_episode(1, Outcome.PASS), make_episode(2, Outcome.INFRA)])
        assert examined(config)["episodes"].level == "ok"
        blind = [make_episode(number, Outcome.INFRA) for number in (3, 4)]
        store.save_episodes(e.model_copy(update={"attempts": (), "reason": f"no go for {e.id}"}) for e in blind)
    found = examined(config)["episodes"]
    assert found.level == "warn" and "3 of the last 4 checks" in found.what and "no go for e4" in found.what


def test_a_look_makes_no_home_of_a_folder(tmp_path: Path, tiny_server: TinyServer) -> None:
    examine(settings(tmp_path, tiny_server))
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_written_is_found(tmp_path: Path, tiny_server: TinyServer) -> None:
    (tmp_path / "file").touch()
    found = examined(settings(tmp_path / "file", tiny_server, f"http://127.0.0.1:{free_port()}"))["home"]
    assert (found.level, "--home" in found.remedy) == ("fail", True)


def test_a_registry_that_cannot_be_opened_hides_nothing_that_was_found_before(
    tmp_path: Path, tiny_server: TinyServer
) -> None:
    (tmp_path / "adapters").touch()
    found = examined(settings(tmp_path, tiny_server))
    assert found["registry"].level == "fail"
    assert {"store", "sandbox", "gateway"} <= found.keys()


def test_a_recipe_whose_extra_is_missing_is_found_before_a_night_needs_it(
    tmp_path: Path, tiny_server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, tiny_server)
    config = config.model_copy(update={"recipe": config.recipe.model_copy(update={"name": "grpo"})})
    monkeypatch.setattr("sleepy_coder.doctor.require_for", lambda _: require("no_such_package", "trl"))
    found = examined(config)["recipe"]
    assert (found.level, "sleepy-coder[trl]" in found.remedy) == ("fail", True)


@pytest.mark.parametrize(
    ("launch", "level", "said"),
    [
        ({}, "ok", "4 processes, on the CPU"),
        ({"gpus": 4}, "ok", "on 4 GPUs"),
        ({"gpus": 3}, "fail", "3 GPUs here"),
        ({"machines": 2, "here": 2, "gpus": 2, "met_at": "10.0.0.1:29500"}, "ok", "2 of them here, on 2 GPUs"),
        ({"machines": 3, "here": 1, "met_at": "10.0.0.1:29500"}, "fail", "on 3 machines"),
        ({"machines": 2, "here": 2, "met_at": "10.0.0.1:29500", "rank": 1}, "fail", "number 1"),
        ({"machines": 2, "here": 2}, "fail", "where to meet"),
    ],
)
def test_a_training_that_could_not_start_is_found_before_a_night_dreams(
    monkeypatch: pytest.MonkeyPatch, launch: dict[str, Any], level: str, said: str
) -> None:
    usual = {"machines": 1, "rank": 0, "here": 4, "gpus": 0, "met_at": ""}
    monkeypatch.setattr(doctor, "read_launch", lambda *_: Launch.model_validate({**usual, **launch}))
    found = check_training(Config.model_validate({"training": {"processes": 4}}))
    assert found.level == level and said in found.what


def test_more_processes_than_rows_in_a_step_are_refused_where_they_would_train_together() -> None:
    many: dict[str, Any] = {"training": {"processes": 8}, "recipe": {"batch_size": 4}}
    with pytest.raises(TrainingError, match="8 processes cannot share 4 rows"):
        check_training(Config.model_validate(many))
    many["recipe"]["name"] = "sdft"
    assert "8 processes" in check_training(Config.model_validate(many)).what, "it trains in one"


def test_the_training_of_several_processes_is_a_line_of_the_examination(
    tmp_path: Path, tiny_server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Launch:
        raise ConfigError("accelerate launch does not take these settings", "mend them")

    monkeypatch.setattr(doctor, "read_launch", refuse)
    one = settings(tmp_path, tiny_server)
    assert "training" not in examined(one)
    together = TrainingSettings(processes=2)  # pyright: ignore[reportCallIssue]
    assert levels(examined(one.model_copy(update={"training": together})))["training"] == "fail"


def test_each_of_several_servers_is_looked_at(tmp_path: Path, tiny_server: TinyServer) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    found = {finding.name: finding for finding in examine(settings(tmp_path, tiny_server, replicas=(gone,)))}
    assert found[f"server ({tiny_server.url})"].level == "ok"
    assert found[f"server ({gone})"].level == "fail"


def test_the_command_ends_with_1_when_something_failed_and_with_0_otherwise(
    tmp_path: Path, tiny_server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("SLEEPY_CODER_SERVER__URL", tiny_server.url)
    monkeypatch.setenv("SLEEPY_CODER_SERVER__BASE_NAME", "tiny")
    monkeypatch.setenv("SLEEPY_CODER_MODEL__PATH", str(tiny_server.model))
    monkeypatch.setenv("SLEEPY_CODER_MODEL__MAX_LENGTH", "256")
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__PORT", str(free_port()))
    fine = CliRunner().invoke(app, ["doctor", "--json"])
    assert not [finding for finding in json.loads(fine.stdout) if finding["level"] == "fail"]
    assert fine.exit_code == 0
    monkeypatch.setenv("SLEEPY_CODER_SERVER__BASE_NAME", "other")
    wrong = CliRunner().invoke(app, ["doctor"])
    assert wrong.exit_code == 1
    assert "--served-model-name other" in " ".join(wrong.stdout.split())
