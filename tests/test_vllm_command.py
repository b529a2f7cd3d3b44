"""The command line that starts vLLM follows from the settings."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.config import HOME_VARIABLE, Config, ModelSettings, NightSettings, RecipeSettings, ServerSettings
from sleepy_coder.errors import ConfigError
from sleepy_coder.serve import client, embedded
from sleepy_coder.serve.explain import LORA_RANKS
from sleepy_coder.serve.vllm_command import vllm_command
from sleepy_coder.wiring import embedded_arguments, model_path

MODEL = Path("/srv/a model")


def config(**server: object) -> Config:
    return Config(server=ServerSettings.model_validate(server))  # pyright: ignore[reportCallIssue]


def value(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def test_the_flags_are_those_of_the_settings() -> None:
    settings = config(url="http://127.0.0.1:8123/v1", base_name="mine", max_loras=3).model_copy(
        update={"model": ModelSettings(max_length=2048)}  # pyright: ignore[reportCallIssue]
    )
    argv = vllm_command(settings, MODEL).argv
    assert argv[:3] == ("vllm", "serve", str(MODEL))
    flags = ("--served-model-name", "--host", "--port", "--max-model-len", "--max-loras", "--max-lora-rank")
    assert [value(argv, flag) for flag in flags] == ["mine", "127.0.0.1", "8123", "2048", "3", "16"]
    assert value(vllm_command(settings, MODEL, port=9).argv, "--port") == "9"


def test_the_embedded_server_runs_as_many_adapters_at_once_as_the_settings_say() -> None:
    assert value(embedded_arguments(config(max_loras=3)), "--max-loras") == "3"


@given(st.integers(1, 512))
def test_the_rank_is_one_that_vllm_takes_and_large_enough(rank: int) -> None:
    settings = config().model_copy(update={"recipe": RecipeSettings.model_validate({"rank": rank})})
    taken = int(value(vllm_command(settings, MODEL).argv, "--max-lora-rank"))
    assert taken in LORA_RANKS and taken >= rank


def test_the_endpoints_of_its_development_mode_are_open_only_where_nights_need_them() -> None:
    alone = vllm_command(config(), MODEL)
    assert "VLLM_SERVER_DEV_MODE" not in alone.environment and "--enable-sleep-mode" not in alone.argv
    shared = vllm_command(config().model_copy(update={"night": NightSettings(share_gpu=True)}), MODEL)
    assert shared.environment["VLLM_SERVER_DEV_MODE"] == "1" and "--enable-sleep-mode" in shared.argv


def test_both_servers_hold_an_idle_connection_far_longer_than_the_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second more is not enough: a process that is starved on a busy machine sends late."""
    given = dict[str, Any]()
    monkeypatch.setattr(embedded.uvicorn, "run", lambda _, **options: given.update(options))
    embedded.main(["--model", str(model_path(config())), "--port", "1"])
    held = int(vllm_command(config(), MODEL).environment["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"])
    assert min(held, given["timeout_keep_alive"]) > 10 * client._KEEPALIVE_SECONDS  # pyright: ignore[reportPrivateUsage]


def test_extra_arguments_come_last_so_that_they_win() -> None:
    argv = vllm_command(config(extra_args=("--max-loras", "9")), MODEL).argv
    assert argv[-2:] == ("--max-loras", "9")


def test_the_key_goes_into_the_environment_and_not_where_every_user_can_read_it() -> None:
    command = vllm_command(config(api_key="hidden"), MODEL)
    assert command.environment["VLLM_API_KEY"] == "hidden"
    assert "hidden" not in command.argv
    assert "hidden" not in str(command)


def test_the_line_means_the_same_to_a_shell() -> None:
    command = vllm_command(config(), MODEL)
    words = shlex.split(str(command))
    assert tuple(words[len(command.environment) :]) == command.argv
    assert words[: len(command.environment)] == [f"{name}={value}" for name, value in command.environment.items()]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "gpu.example.org"])
def test_it_does_not_listen_where_other_machines_reach_it(host: str) -> None:
    with pytest.raises(ConfigError, match="load adapters") as caught:
        vllm_command(config(url=f"http://{host}:8000"), MODEL)
    assert "gateway" in caught.value.remedy


def serve(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sleepy_coder", "serve", *arguments]
    environment = {**os.environ, HOME_VARIABLE: str(home), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_serve_becomes_the_vllm_of_the_settings_and_prints_the_same_line(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ['VLLM_ALLOW_RUNTIME_LORA_UPDATING']]))\n"
    )
    program.chmod(0o755)
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    settings = {
        "SLEEPY_CODER_SERVER__ENGINE": "vllm",
        "SLEEPY_CODER_SERVER__VLLM": str(program),
        "SLEEPY_CODER_MODEL__PATH": str(model),
    }
    argv, runtime_loras = json.loads(serve(tmp_path, **settings).stdout)
    assert runtime_loras == "True"
    printed = shlex.split(serve(tmp_path, "--print", **settings).stdout)
    assert printed[-len(argv) :] == argv and argv[0] == "serve"
    missing = serve(tmp_path, **{**settings, "SLEEPY_CODER_SERVER__VLLM": "no-such-vllm"})
    assert missing.returncode == 1 and "server.vllm" in missing.stderr
