"""The one client for vLLM's HTTP protocol, for a real vLLM and for the embedded server alike.

Thread-safe: one instance and one connection pool serve all threads of an evaluation.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sleepy_coder.config import without_v1
from sleepy_coder.errors import AnswerTimedOut, ModelNotFound, ServerError, ServerUnreachable
from sleepy_coder.ports import Fingerprint, ServedModel
from sleepy_coder.serve.explain import check
from sleepy_coder.types import Message, Reply

_CONNECT_RETRIES = 2  # only where no byte was sent, so safe for every call
_KEEPALIVE_SECONDS = 4.0  # below uvicorn's 5 s, or a request may meet a connection that is being closed
_CONNECT_SECONDS = 5.0
_QUEUED = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_LORAS = "vllm:lora_requests_info"


class VllmClient:
    """Speaks to the server at `base_url`, with or without /v1.

    `timeout` is in seconds: for a whole answer, and in a stream for each next piece.

    Every method raises ServerUnreachable when nobody answers, ModelNotFound for an unknown model or
    adapter and ServerError for any other error status, each with what to do about it.
    """

    def __init__(self, base_url: str, api_key: str | None = None, timeout: float = 120.0) -> None:
        self.url = without_v1(base_url)
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=_CONNECT_SECONDS),
            transport=httpx.HTTPTransport(
                retries=_CONNECT_RETRIES,
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS),
            ),
        )

    @property
    def replicas(self) -> tuple[VllmClient, ...]:
        """This one server."""
        return (self,)

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
        with self._understood("/v1/chat/completions"):
            message = answer["choices"][0]["message"]
            thoughts = message.get("reasoning") or message.get("reasoning_content")  # the second in older ones
            return _reply(answer, message["content"] or "", thoughts or "")

    # Tokens and proofs

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        """Mean negative log-likelihood of `completion` as the answer to `messages`, in nats per token.

        The end of the turn, which is no part of the text, is not counted. Raises ContextTooLong.
        """
        asked = [message.model_dump() for message in messages]
        head = self._post("/tokenize", {"model": model, "messages": asked, "add_generation_prompt": True})["tokens"]
        tail = self._post("/tokenize", {"model": model, "prompt": completion, "add_special_tokens": False})["tokens"]
        body = {"model": model, "prompt": [*head, *tail], "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        answer = self._post("/v1/completions", body)
        with self._understood("/v1/completions"):
            entries = answer["choices"][0]["prompt_logprobs"][len(head) :]
            likely = [entry[str(token)]["logprob"] for token, entry in zip(tail, entries, strict=True)]
            return -sum(likely) / max(1, len(likely))

    def fingerprint(self, model: str, prompts: Sequence[str], max_tokens: int = 8) -> Fingerprint:
        """Greedy continuations of `prompts` (at most `max_tokens` each) with their logprobs."""
        body = {"model": model, "prompt": list(prompts), "temperature": 0.0, "max_tokens": max_tokens}
        answer = self._post("/v1/completions", {**body, "logprobs": 1, "return_token_ids": True})
        with self._understood("/v1/completions"):
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
        with self._understood("/v1/models"):
            cards = self._get("/v1/models").json()["data"]
            return tuple(
                ServedModel(card["id"], card.get("parent"), card.get("root") or "", card.get("max_model_len"))
                for card in cards
            )

    def max_loras(self) -> int | None:
        """How many adapters run at once (--max-loras), as the metrics say it; None before the first LoRA request."""
        labels = [sample.labels for sample in self._samples() if sample.name == _LORAS]
        return int(labels[-1]["max_lora"]) if labels else None

    # State

    def version(self) -> str:
        """The server's own version string."""
        with self._understood("/version"):
            return str(self._get("/version").json()["version"])

    def precision(self) -> str:
        """The numbers it computes with: dtype, quantisation, KV cache; "" when it does not say.

        vLLM says it at /server_info, which VLLM_SERVER_DEV_MODE=1 opens, as sleeping needs it; older ones say it in a
        form that is for people.
        """
        try:
            with self._understood("/server_info"):
                told = self._get("/server_info?config_format=json").json()["vllm_config"]
                model, cache = told["model_config"], told["cache_config"]
                dtype = str(model["dtype"]).removeprefix("torch.")
                return f"{dtype}, quantization {model['quantization']}, KV cache {cache['cache_dtype']}"
        except ServerUnreachable:
            raise
        except ServerError:
            return ""

    def server_load(self) -> int:
        """Requests that /load counts; always 0 without --enable-server-load-tracking."""
        with self._understood("/load"):
            return int(self._get("/load").json()["server_load"])

    def busy(self) -> int:
        """Requests running or waiting: the larger of /load and the gauges, because either may miss some."""
        queued = sum(sample.value for sample in self._samples() if sample.name in _QUEUED)
        return max(self.server_load(), int(queued))

    def echoes_request_ids(self) -> bool:
        """Whether a reply names the request it answers (--enable-request-id-headers)."""
        asked = "sleepy-coder-doctor"
        return self._send("GET", "/v1/models", headers={"X-Request-Id": asked}).headers.get("X-Request-Id") == asked

    def can_sleep(self) -> bool:
        """Whether the server has the sleep endpoints."""
        try:
            self._get("/is_sleeping")
        except ModelNotFound:
            return False
        return True

    def asleep(self) -> bool:
        """Whether the server sleeps. A server without the sleep endpoints (404) is never asleep."""
        try:
            with self._understood("/is_sleeping"):
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
        if not response.headers.get("content-type", "").startswith("application/json"):
            return None
        with self._understood(path):
            return response.json()

    def _get(self, path: str) -> httpx.Response:
        """GET, asked a second time when the connection broke, which no GET of this protocol minds."""
        try:
            return self._send("GET", path)
        except ServerUnreachable:
            return self._send("GET", path)

    def _samples(self) -> list[Sample]:
        families = text_string_to_metric_families(self._get("/metrics").text)
        with self._understood("/metrics"):
            return [sample for family in families for sample in family.samples]

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        with self._unreachable(path):
            response = self._http.request(method, path, json=body, headers=headers)
        check(response)
        return response

    @contextmanager
    def _understood(self, path: str) -> Generator[None]:
        """Answers that are not vLLM's become ServerErrors: whatever listens there."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerError(
                f"{self.url}{path} gave an answer that is not vLLM's ({type(error).__name__}: {error})",
                "Does server.url name the model server?",
            ) from error

    @contextmanager
    def _unreachable(self, path: str) -> Generator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise ServerUnreachable(
                f"nobody answered at {self.url}{path} in {_CONNECT_SECONDS:g} s", "Is server.url right?"
            ) from error
        except httpx.TimeoutException as error:
            raise AnswerTimedOut(
                f"{self.url}{path} did not answer in time ({type(error).__name__})",
                "Check the server's log and whether it sleeps: requests to a sleeping vLLM hang.",
            ) from error
        except httpx.TransportError as error:
            raise ServerUnreachable(
                f"nobody answered at {self.url}{path} ({error})",
                "Start the model server (`sleepy-coder serve`), or correct server.url.",
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


def _reply(answer: Mapping[str, Any], text: str, reasoning: str) -> Reply:
    return Reply(
        text=text,
        model=answer["model"],
        finish_reason=answer["choices"][0]["finish_reason"] or "",
        prompt_tokens=answer["usage"]["prompt_tokens"],
        completion_tokens=answer["usage"]["completion_tokens"],
        reasoning=reasoning,
    )
