"""Every error answer of vLLM that is known comes with the flag that mends it."""

from __future__ import annotations

import pytest

from sleepy_coder.errors import ContextTooLong, ModelNotFound, ServerError
from sleepy_coder.serve.explain import LORA_RANKS, error_of, rank_flag, remedy

LOAD, CHAT, SLEEP = "/v1/load_lora_adapter", "/v1/chat/completions", "/sleep"


@pytest.mark.parametrize(
    ("path", "status", "message", "flag"),
    [
        (LOAD, 404, "{'detail': 'Not Found'}", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
        (LOAD, 500, "LoRA rank 24 is greater than max_lora_rank 16.", "--max-lora-rank 32"),
        (LOAD, 500, "LoRA is not enabled. Use --enable-lora to enable LoRA.", "--enable-lora"),
        (LOAD, 500, "Qwen9ForCausalLM does not support LoRA yet.", "another base model"),
        (LOAD, 400, "LoRA adapter loading is not allowed with api_server_count > 1.", "--api-server-count 1"),
        (CHAT, 500, "Number of requested LoRAs (3) is greater than the number of GPU LoRA slots (2).", "--max-loras"),
        (LOAD, 500, "No free lora slots", "--max-loras"),
        (LOAD, 400, "The lora adapter 'a' has already been loaded. If you want to load ...", "unload_lora_adapter"),
        (LOAD, 404, "Loading lora a failed: No adapter found for /srv/a", "server's machine"),
        (LOAD, 400, "LoRA adapter 'a' was found but could not be loaded.", "server's machine"),
        (LOAD, 500, "vLLM does not yet support DoRA.", "plain LoRA"),
        (LOAD, 500, "vLLM only supports modules_to_save being None.", "plain LoRA"),
        (LOAD, 500, "Adapter bias is not supported.", "plain LoRA"),
        (LOAD, 500, "While loading a, expected target modules in ['q'] but received ['w']", "another base"),
        ("/v1/unload_lora_adapter", 404, "The lora adapter 'a' cannot be found.", "vanish when it restarts"),
        (LOAD, 500, "[Errno 13] Permission denied: '/h/adapters/a/adapter_config.json'", "as the daemon's user"),
        (SLEEP, 404, "Not Found", "--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"),
        (SLEEP, 500, "Sleep mode is not enabled in the model config", "--enable-sleep-mode"),
        (CHAT, 400, '"auto" tool choice requires --enable-auto-tool-choice and ...', "--tool-call-parser"),
        (CHAT, 400, "As of transformers v4.44, default chat template is no longer allowed", "--chat-template"),
        (CHAT, 500, "EngineCore encountered an issue. See stack trace for the root cause.", "restart vLLM"),
        (CHAT, 401, "Unauthorized", "server.api_key"),
        (CHAT, 403, "Forbidden", "server.api_key"),
        (CHAT, 404, "The model `sc-1` does not exist.", "/v1/models"),
        (CHAT, 502, "Bad Gateway", "server's log"),
    ],
)
def test_an_error_says_what_to_do(path: str, status: int, message: str, flag: str) -> None:
    assert flag in remedy(path, status, message)


def test_an_error_that_says_enough_itself_stands_alone() -> None:
    assert remedy(CHAT, 400, "temperature must be non-negative") == ""


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, you requested 600",
        "The decoder prompt (length 600) is longer than the maximum model length of 512.",
    ],
)
def test_a_conversation_beyond_the_context_is_an_error_of_its_own(message: str) -> None:
    error = error_of("http://a:1", CHAT, 400, message)
    assert isinstance(error, ContextTooLong)
    assert "--max-model-len" in error.remedy


def test_errors_name_the_server_and_keep_the_status() -> None:
    error = error_of("http://a:1", CHAT, 404, "The model `x` does not exist.")
    assert isinstance(error, ModelNotFound) and error.status == 404
    assert error.message == f"http://a:1{CHAT} answered 404: The model `x` does not exist"
    assert type(error_of("http://a:1", CHAT, 500, "")) is ServerError


@pytest.mark.parametrize(("rank", "flag"), [(1, 1), (2, 8), (8, 8), (9, 16), (200, 256), (512, 512)])
def test_the_rank_is_rounded_up_to_one_that_vllm_takes(rank: int, flag: int) -> None:
    assert rank_flag(rank) == flag
    assert flag in LORA_RANKS
