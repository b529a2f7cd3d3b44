"""The command line of a vLLM that suits the nights. Pure: settings in, words out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sleepy_coder.config import PATIENT_SECONDS, Config, is_loopback
from sleepy_coder.errors import ConfigError
from sleepy_coder.serve.explain import rank_flag

_KEY: Final = "VLLM_API_KEY"
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",  # without it the adapter endpoints are a 404
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(PATIENT_SECONDS),
}
_SLEEP_FLAG: Final = "--enable-sleep-mode"
_SLEEP_ENVIRONMENT: Final[Mapping[str, str]] = {"VLLM_SERVER_DEV_MODE": "1"}
"""Without it the sleep endpoints are a 404. It opens others as well, to whoever reaches the port and without a key
(vLLM, docs/usage/security.md), so that only nights that need it have it."""


@dataclass(frozen=True, slots=True)
class VllmCommand:
    """`argv` to run with `environment` on top of one's own."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        """One line for a shell, with a variable in the place of the key: what is printed gets pasted elsewhere."""
        shown = {**self.environment, **({_KEY: f"${_KEY}"} if _KEY in self.environment else {})}
        variables = (f"{name}={value if name == _KEY else shlex.quote(value)}" for name, value in shown.items())
        return " ".join((*variables, shlex.join(self.argv)))


def listens_at(url: str, port: int | None = None) -> tuple[str, int]:
    """Host and port of a server that is reached at `url`, or at another `port` of it."""
    where = urlsplit(url)
    return where.hostname or "127.0.0.1", port or where.port or 8000


def vllm_command(config: Config, model: Path, port: int | None = None) -> VllmCommand:
    """How to start vLLM for `config` with the base model in `model`.

    Listens on `port`, by default that of `server.url`. `server.extra_args` come last, so that they win. Raises
    ConfigError for a URL that other machines reach: an API key does not guard vLLM's adapter and sleep endpoints.
    """
    host, number = listens_at(config.server.url, port)
    if not is_loopback(host):
        raise ConfigError(
            f"server.url names {host}, where whoever reaches the port could load adapters and put vLLM to sleep",
            "Let vLLM listen on 127.0.0.1 and others come through `sleepy-coder gateway`, or start it there by hand",
        )
    argv = (
        *(config.server.vllm, "serve", str(model)),
        *("--served-model-name", config.server.base_name),
        *("--host", host, "--port", str(number)),
        *("--max-model-len", str(config.model.max_length)),
        *("--enable-lora", "--max-loras", str(config.server.max_loras)),
        *("--max-lora-rank", str(rank_flag(config.recipe.largest_rank))),
        *("--enable-server-load-tracking", "--enable-request-id-headers"),
        *((_SLEEP_FLAG,) if config.night.share_gpu else ()),
        *config.server.extra_args,
    )
    asleep = _SLEEP_ENVIRONMENT if config.night.share_gpu else {}
    key = {_KEY: config.server.api_key} if config.server.api_key else {}
    return VllmCommand(argv, {**_ENVIRONMENT, **asleep, **key})
