"""What to do about an error answer of vLLM: its own words (0.30 to 0.33), and the flag that mends each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from sleepy_coder.errors import ContextTooLong, ModelNotFound, ServerError, SleepyError

LORA_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's --max-lora-rank takes."""

_ADAPTERS: Final = "_lora_adapter"
_SLEEPING: Final = ("/sleep", "/wake_up", "/is_sleeping")
_PAGE: Final = "a web page, which no model server sends"
_TOO_LONG: Final = re.compile(r"maximum context length|longer than the maximum model length")


def rank_flag(rank: int) -> int:
    """The smallest --max-lora-rank that serves adapters of `rank`."""
    return next((known for known in LORA_RANKS if known >= rank), LORA_RANKS[-1])


def check(response: httpx.Response) -> None:
    """Raises the error that fits an error status."""
    if not response.is_error:
        return
    try:
        message = _message(response.json())
    except ValueError:
        page = "html" in response.headers.get("Content-Type", "")
        message = f"{_PAGE} ({response.reason_phrase})" if page else response.text[:500]
    asked = response.request.url
    raise error_of(str(asked.copy_with(raw_path=b"/")).rstrip("/"), asked.path, response.status_code, message)


def _message(body: Any) -> str:
    """vLLM's error text: under "error" since 0.10, at the top before."""
    error: Any = body.get("error", body) if hasattr(body, "get") else body
    return str(error.get("message", error) if hasattr(error, "get") else error)


def error_of(url: str, path: str, status: int, message: str) -> SleepyError:
    """The error for an answer with `status` to a request of `path`, in the server's words and with what to do."""
    said = f"{url}{path} answered {status}: {message.rstrip('.')}"
    if _TOO_LONG.search(message):
        return ContextTooLong(
            said, "Send less, ask for fewer tokens, or start the server with a larger --max-model-len"
        )
    kind = ModelNotFound if status == 404 else ServerError
    return kind(said, remedy(path, status, message), status)


@dataclass(frozen=True, slots=True)
class _Line:
    """One kind of error. `words` are searched in the message; `fits` looks at path and status."""

    words: str
    remedy: str | Callable[[re.Match[str]], str]
    fits: Callable[[str, int], bool] = lambda _path, _status: True


def _adapter(path: str, _status: int) -> bool:
    return path.endswith(_ADAPTERS)


# The first line that fits is the answer; the general ones come last.
_LINES: Final = (
    _Line(
        _PAGE,
        "Does server.url name the model server, and does a proxy before it pass this path on?",
        lambda _path, status: status == 404,
    ),
    _Line(
        r"LoRA rank (\d+) is greater than max_lora_rank",
        lambda found: (
            f"Start vLLM with --max-lora-rank {rank_flag(int(found[1]))}, or train with a smaller recipe.rank, "
            "from the next night on: `sleepy-coder night --abandon` ends one that is unfinished."
        ),
    ),
    _Line("LoRA is not enabled", "Start vLLM with --enable-lora."),
    _Line("does not support LoRA", "vLLM has no LoRA for this architecture: serve another base model."),
    _Line(
        "api_server_count", "Start vLLM with --api-server-count 1: each server process has its own list of adapters."
    ),
    _Line(
        "greater than the number of GPU LoRA slots|No free lora slots",
        "Start vLLM with a larger --max-loras (as large as server.max_loras).",
    ),
    _Line(
        "already been loaded",
        "Unload that name first (POST /v1/unload_lora_adapter); a name is never loaded over another one.",
    ),
    _Line(
        "No adapter found|was found but could not be loaded",
        "The folder must exist and be readable, under this very path, on the server's machine: mount adapters/ there.",
        _adapter,
    ),
    _Line(
        "Permission denied",
        "The server's user may not read the adapters: run it as the daemon's user, or let it into the home folder.",
        _adapter,
    ),
    _Line(
        "DoRA|modules_to_save|[Aa]dapter bias|rslora",
        "vLLM serves plain LoRA only: train without this option.",
        _adapter,
    ),
    _Line(
        "expected target modules|unexpected modules",
        "The adapter has layers that this model lacks: was it trained on another base, or started with "
        "--lora-target-modules?",
        _adapter,
    ),
    _Line(
        "Not Found|^$",
        "Start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment.",
        lambda path, status: _adapter(path, status) and status == 404,
    ),
    _Line(
        "",
        "Start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 in its environment.",
        lambda path, status: path in _SLEEPING and status == 404,
    ),
    _Line(
        "[Ss]leep mode is not enabled|enable_sleep_mode",
        "Start vLLM with --enable-sleep-mode.",
        lambda path, _status: path in _SLEEPING,
    ),
    _Line(
        "requires --enable-auto-tool-choice",
        "Start vLLM with --enable-auto-tool-choice and the --tool-call-parser of this model.",
    ),
    _Line(
        "chat template",
        "The model's tokenizer has no chat template: start vLLM with --chat-template FILE.",
        lambda _path, status: status == 400,
    ),
    _Line(
        "EngineCore|EngineDead|engine is dead",
        "The engine has died: restart vLLM (Restart=always in its unit; it ends with status 0).",
    ),
    _Line(
        "",
        "Set server.api_key to the key that the server was started with (--api-key).",
        lambda _path, status: status in (401, 403),
    ),
    _Line(
        "",
        "GET /v1/models lists the names that the server knows; adapters vanish when it restarts.",
        lambda _path, status: status == 404,
    ),
    _Line("", "Look at the server's log.", lambda _path, status: status >= 500),
)


def remedy(path: str, status: int, message: str) -> str:
    """What to do about an error answer; empty when vLLM's own message says it."""
    for line in _LINES:
        found = re.search(line.words, message)
        if found and line.fits(path, status):
            return line.remedy if isinstance(line.remedy, str) else line.remedy(found)
    return ""
