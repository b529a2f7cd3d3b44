"""The one client for vLLM's HTTP protocol, for a real vLLM and for the embedded server alike.

Thread-safe: one instance and one connection pool serve all threads of an evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from sleepy_coder.errors import ContextTooLong, ModelNotFound, ServerError, ServerUnreachable
from sleepy_coder.ports import ServedModel
from sleepy_coder.types import Message, Record, Reply

_CONNECT_RETRIES = 2  # only where no byte was sent, so safe for every call
_KEEPALIVE_SECONDS = 4.0  # below uvicorn's 5 s, or a request may meet a connection that is being closed
_CONNECT_SECONDS = 5.0
_QUEUED = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank takes


@dataclass(frozen=True, slots=True)
class StreamPiece:
    """A part of a streamed reply. The last one has a `finish_reason` and maybe token counts."""

    text: str
    model: str
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Fingerprint(Record):
    """What a model answers greedily to fixed prompts: proof of which weights answered.

    `tokens` and `logprobs` (natural, before temperature) have one tuple per prompt.
    """

    tokens: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]

    def matches(self, other: Fingerprint, tolerance: float = 0.01) -> bool:
        """Same tokens, and logprobs within `tolerance`; wider for bfloat16 (0.1) than for float32."""
        pairs = [
            (mine, theirs)
            for row, other_row in zip(self.logprobs, other.logprobs, strict=False)
            for mine, theirs in zip(row, other_row, strict=False)
        ]
        return self.tokens == other.tokens and all(abs(mine - theirs) <= tolerance for mine, theirs in pairs)


class VllmClient:
    """Speaks to the server at `base_url`, with or without /v1.

    `timeout` is in seconds: for a whole answer, and in a stream for each next piece.

    Every method raises ServerUnreachable when nobody answers, ModelNotFound for an unknown model or
    adapter and ServerError for any other error status, each with what to do about it.
    """

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = 120.0) -> None:
        self._url = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
            transport=httpx.HTTPTransport(
                retries=_CONNECT_RETRIES,
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS),
            ),
        )

    def __enter__(self) -> VllmClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # Completions

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        """One chat completion. The reply's `model` is the name that the server says answered."""
        body = _chat_body(model, messages, temperature, seed, max_tokens)
        answer = self._post("/v1/chat/completions", body)
        return _reply(answer, answer["choices"][0]["message"]["content"] or "")

    def complete(
        self,
        model: str,
        prompt: str,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        """One plain completion of `prompt`, without a chat template."""
        body = {"model": model, "prompt": prompt, "temperature": temperature, "seed": seed}
        answer = self._post("/v1/completions", {**body, "max_tokens": max_tokens})
        return _reply(answer, answer["choices"][0]["text"])

    def chat_stream(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Iterator[StreamPiece]:
        """A chat completion as it is generated; closing the iterator aborts it on the server.

        Raises ServerError when the stream carries an error or ends without its end mark.
        """
        body = _chat_body(model, messages, temperature, seed, max_tokens)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        with (
            self._unreachable("/v1/chat/completions"),
            self._http.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            if response.is_error:
                response.read()
            _check(response)
            yield from _pieces(response)

    # Tokens and proofs

    def tokenize(self, model: str, text: str) -> tuple[int, ...]:
        """The tokens of `text`, special tokens included where the model adds them."""
        return tuple(self._post("/tokenize", {"model": model, "prompt": text})["tokens"])

    def fingerprint(self, model: str, prompts: Sequence[str], max_tokens: int = 8) -> Fingerprint:
        """Greedy continuations of `prompts` (at most `max_tokens` each) with their logprobs."""
        body = {"model": model, "prompt": list(prompts), "temperature": 0.0, "max_tokens": max_tokens}
        answer = self._post("/v1/completions", {**body, "logprobs": 1, "return_token_ids": True})
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return Fingerprint(
            tokens=tuple(tuple(choice["token_ids"]) for choice in choices),
            logprobs=tuple(tuple(choice["logprobs"]["token_logprobs"]) for choice in choices),
        )

    # Adapters

    def load(self, name: str, path: Path) -> None:
        """Load the adapter in `path` (absolute, as the server sees it) under `name`."""
        self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> None:
        """Unload an adapter; requests that run on it still finish."""
        self._post("/v1/unload_lora_adapter", {"lora_name": name})

    def models(self) -> tuple[ServedModel, ...]:
        """The base model, then the adapters."""
        cards = self._get("/v1/models").json()["data"]
        return tuple(ServedModel(card["id"], card.get("parent"), card.get("root") or "") for card in cards)

    # State

    def health(self) -> bool:
        """True when the server says that it is well; asleep counts as well. Never raises ServerError."""
        try:
            self._get("/health")
        except ServerError:
            return False
        return True

    def version(self) -> str:
        """The server's own version string."""
        return str(self._get("/version").json()["version"])

    def busy(self) -> int:
        """Requests running or waiting: the larger of /load and the gauges, because either may miss some."""
        load = int(self._get("/load").json()["server_load"])
        families = text_string_to_metric_families(self._get("/metrics").text)
        queued = sum(s.value for family in families for s in family.samples if s.name in _QUEUED)
        return max(load, int(queued))

    def asleep(self) -> bool:
        """Whether the server sleeps. A server without the sleep endpoints (404) is never asleep."""
        try:
            return bool(self._get("/is_sleeping").json()["is_sleeping"])
        except ModelNotFound:
            return False

    def sleep(self, level: int = 1) -> None:
        """Free the GPU once the requests already there have finished; later ones wait for `wake_up`."""
        self._send("POST", f"/sleep?level={level}&mode=wait")

    def wake_up(self) -> None:
        """End the sleep."""
        self._send("POST", "/wake_up")

    # The wire

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        response = self._send("POST", path, body)
        return response.json() if response.headers.get("content-type", "").startswith("application/json") else None

    def _get(self, path: str) -> httpx.Response:
        """GET, asked a second time when the connection broke, which no GET of this protocol minds."""
        try:
            return self._send("GET", path)
        except ServerUnreachable:
            return self._send("GET", path)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        with self._unreachable(path):
            response = self._http.request(method, path, json=body)
        _check(response)
        return response

    @contextmanager
    def _unreachable(self, path: str) -> Generator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ServerUnreachable(
                f"{self._url}{path} did not answer in time ({type(error).__name__})",
                "Check the server's log and whether it sleeps: requests to a sleeping vLLM hang.",
            ) from error
        except httpx.TransportError as error:
            raise ServerUnreachable(
                f"nobody answered at {self._url}{path} ({error})",
                "Start the model server, or correct its URL in the configuration.",
            ) from error


def _chat_body(
    model: str, messages: Sequence[Message], temperature: float, seed: int, max_tokens: int
) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [message.model_dump() for message in messages],
        "temperature": temperature,
        "seed": seed,
        "max_tokens": max_tokens,
    }


def _reply(answer: Mapping[str, Any], text: str) -> Reply:
    return Reply(
        text=text,
        model=answer["model"],
        finish_reason=answer["choices"][0]["finish_reason"] or "",
        prompt_tokens=answer["usage"]["prompt_tokens"],
        completion_tokens=answer["usage"]["completion_tokens"],
    )


def _pieces(response: httpx.Response) -> Iterator[StreamPiece]:
    """The pieces of a server-sent event stream; the role chunk has no text and is left out."""
    for line in response.iter_lines():
        if not line.startswith("data: "):
            continue
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            return
        chunk = json.loads(data)
        if "error" in chunk:
            raise ServerError(f"the stream broke: {_message(chunk)}", "Look at the server's log; send it again.")
        if usage := chunk.get("usage"):
            counts = (usage["prompt_tokens"], usage["completion_tokens"])
            yield StreamPiece("", chunk["model"], None, *counts)
        for choice in chunk["choices"]:
            text, reason = choice["delta"].get("content") or "", choice["finish_reason"]
            if text or reason:
                yield StreamPiece(text, chunk["model"], reason)
    raise ServerError("the stream ended without [DONE]", "The server stopped mid-answer; look at its log.")


def _message(body: Any) -> str:
    """vLLM's error text: under "error" since 0.10, at the top before."""
    error: Any = body.get("error", body) if hasattr(body, "get") else body
    return str(error.get("message", error) if hasattr(error, "get") else error)


def _check(response: httpx.Response) -> None:
    """Raises the error that fits an error status."""
    if not response.is_error:
        return
    try:
        message = _message(response.json())
    except ValueError:
        message = response.text[:500]
    path, status = response.request.url.path, response.status_code
    if "maximum context length" in message:
        raise ContextTooLong(
            f"{path} answered {status}: {message.rstrip('.')}",
            "Send less, ask for fewer tokens, or start the server with a larger --max-model-len",
        )
    kind = ModelNotFound if status == 404 else ServerError
    raise kind(f"{path} answered {status}: {message.rstrip('.')}", _remedy(path, status, message), status)


def _remedy(path: str, status: int, message: str) -> str:
    """What to do about an error answer of vLLM; empty when its own message says it."""
    if path.endswith("_lora_adapter") and status == 404 and "lora" not in message.lower():
        return "Start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment."
    if too_big := re.search(r"LoRA rank (\d+) is greater than max_lora_rank", message):
        rank = next((r for r in _LORA_RANKS if r >= int(too_big[1])), _LORA_RANKS[-1])
        return f"Start vLLM with --max-lora-rank {rank}, or train with a smaller rank."
    if path.endswith("_lora_adapter") and "No adapter found" in message:
        return "The folder must exist, under this very path, on the server's machine."
    if path in ("/sleep", "/wake_up", "/is_sleeping") and status == 404:
        return "Start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 in its environment."
    if status == 404:
        return "GET /v1/models lists the names that the server knows; adapters vanish when it restarts."
    if status in (401, 403):
        return "Set the API key that the server was started with (--api-key)."
    if status >= 500:
        return "Look at the server's log."
    return ""
