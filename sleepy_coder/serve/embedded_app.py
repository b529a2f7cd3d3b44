"""The embedded server's HTTP side: vLLM's routes over one engine, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sleepy_coder import __version__
from sleepy_coder.adapter_manifest import CONFIG
from sleepy_coder.errors import AdapterError, problems
from sleepy_coder.serve.embedded_engine import Engine, Limits, LoadedAdapter
from sleepy_coder.serve.embedded_format import ChatFormat, Json, TextFormat, model_card
from sleepy_coder.serve.embedded_metrics import Metrics
from sleepy_coder.serve.embedded_model import Weights
from sleepy_coder.serve.embedded_protocol import (
    ApiError,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    GenerationRequest,
    LoadRequest,
    TokenizeRequest,
    UnloadRequest,
    overflow,
)
from sleepy_coder.serve.embedded_reply import Reply
from sleepy_coder.serve.embedded_rows import Detokenizer, Piece, Row
from sleepy_coder.serve.request_ids import RequestIds
from sleepy_coder.serve.same_site import from_another_site

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Text:
    """The tokenizer as the server uses it. `decode` drops special tokens, `show` keeps them."""

    encode: Callable[[str, bool], list[int]]
    chat: Callable[[list[Json], bool], list[int]]
    decode: Callable[[Sequence[int]], str]
    show: Callable[[Sequence[int]], str]


class Server:
    """The routes and what they share; all on the event loop's thread."""

    def __init__(
        self,
        name: str,
        root: Path,
        weights: Weights,
        text: Text,
        stop_tokens: frozenset[int],
        limits: Limits,
        *,
        any_host: bool = False,
    ) -> None:
        self.name, self.root, self.text, self.limits, self._any_host = name, root, text, limits, any_host
        self._stop_tokens = stop_tokens
        self._adapters: dict[str, LoadedAdapter] = {}
        self._loading = asyncio.Lock()
        self._load = 0
        self._asleep = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.engine = Engine(weights, limits, self._publish)
        self._metrics = Metrics(name, limits.max_loras, self.engine.counts)

    def application(self) -> Starlette:
        """The ASGI application; its lifespan starts and stops the engine."""
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/v1/load_lora_adapter", self._guarded(self.load_adapter), methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._guarded(self.unload_adapter), methods=["POST"]),
            Route("/health", self.health),
            Route("/version", self.version),
            Route("/load", self.server_load),
            Route("/metrics", self.metrics),
            Route("/sleep", self._guarded(self.sleep), methods=["POST"]),
            Route("/wake_up", self._guarded(self.wake), methods=["POST"]),
            Route("/is_sleeping", self.is_sleeping),
        ]
        handlers: dict[Any, Any] = {
            ApiError: _api_error,
            ValidationError: _invalid,
            HTTPException: _http_error,
        }
        named = [Middleware(RequestIds)]
        return Starlette(routes=routes, exception_handlers=handlers, middleware=named, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        self._loop = asyncio.get_running_loop()
        self.engine.start()
        yield
        await asyncio.to_thread(self.engine.stop)

    def _publish(self, pieces: Sequence[tuple[Row, Piece]]) -> None:
        def deliver() -> None:
            for row, piece in pieces:
                row.sink(piece)

        if self._loop is not None:
            self._loop.call_soon_threadsafe(deliver)

    def _guarded(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """`answer`, but not to a page in somebody's browser: what it changes, it changes for everybody."""

        async def guarded(request: Request) -> Response:
            if from_another_site(request.method, request.headers, any_host=self._any_host):
                raise ApiError(403, "Pages of other sites may not ask for this.", "PermissionDeniedError")
            return await answer(request)

        return guarded

    # Generation

    async def chat(self, request: Request) -> Response:
        body = await _body(request, ChatRequest)
        prompt = self._chat_tokens(body.messages, body.add_generation_prompt)
        logprobs = (body.top_logprobs or 0) if body.logprobs else None
        asked = body.max_completion_tokens or body.max_tokens
        wanted = asked or max(1, self.limits.max_model_len - len(prompt))
        return await self._generate(request, body, [prompt], wanted, logprobs, ChatFormat(self.text.show))

    async def complete(self, request: Request) -> Response:
        body = await _body(request, CompletionRequest)
        prompts = [self.text.encode(p, True) if isinstance(p, str) else p for p in body.prompts()]
        return await self._generate(
            request,
            body,
            prompts,
            body.max_tokens or 16,
            body.logprobs,
            TextFormat(self.text.show),
            scored=body.prompt_logprobs is not None,
        )

    async def _generate(
        self,
        request: Request,
        body: GenerationRequest,
        prompts: Sequence[list[int]],
        max_tokens: int,
        logprobs: int | None,
        style: ChatFormat | TextFormat,
        scored: bool = False,
    ) -> Response:
        adapter = self._resolve(body.model)
        body.refuse_unknown()
        if not self.engine.alive:
            raise ApiError(
                500, "EngineCore encountered an issue. See stack trace for the root cause.", "EngineDeadError"
            )
        for prompt in prompts:
            if not prompt:
                raise ApiError(400, "The decoder prompt cannot be empty")
            if len(prompt) + max_tokens > self.limits.max_model_len:
                raise overflow(self.limits.max_model_len, max_tokens, len(prompt))
        scores = await asyncio.wrap_future(self.engine.score(adapter, prompts)) if scored else ()
        queue: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()
        rows: list[Row] = []
        for index in range(len(prompts) * body.n):
            prompt, sampling = (
                tuple(prompts[index // body.n]),
                body.sampling(index % body.n, max_tokens, logprobs),
            )
            text = Detokenizer(self.text.decode, sampling.stop)
            rows.append(Row(prompt, sampling, adapter, body.stream, text, self._stop_tokens, _sink(queue, index)))
        reply = Reply(request, body, adapter.name if adapter else self.name, rows, queue, style, scores)
        if body.stream:
            return StreamingResponse(self._stream(reply), media_type="text/event-stream; charset=utf-8")
        return await self._whole(request, reply)

    async def _stream(self, reply: Reply) -> AsyncIterator[str]:
        with self._running(reply.rows):
            async for chunk in reply.chunks():
                yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
            yield "data: [DONE]\n\n"

    async def _whole(self, request: Request, reply: Reply) -> Response:
        """The full answer, unless the client goes first, which ends the rows as well."""
        with self._running(reply.rows):
            answer, gone = asyncio.ensure_future(reply.whole()), asyncio.ensure_future(_disconnect(request))
            try:
                await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
                return JSONResponse(answer.result()) if answer.done() else Response(status_code=499)
            finally:
                answer.cancel()
                gone.cancel()

    @contextmanager
    def _running(self, rows: Sequence[Row]) -> Generator[None]:
        """Rows run while this is open; leaving it early, as a client that hangs up does, cancels them."""
        self._load += 1
        self.engine.submit(rows)
        try:
            yield
        finally:
            self._load -= 1
            if any(row.finish_reason is None for row in rows):
                self.engine.cancel(rows)

    def _resolve(self, model: str | None) -> LoadedAdapter | None:
        if not model or model == self.name:
            return None
        if model not in self._adapters:
            raise ApiError(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
        return self._adapters[model]

    def _chat_tokens(self, messages: Sequence[ChatMessage], add_generation_prompt: bool) -> list[int]:
        return self.text.chat([message.for_template() for message in messages], add_generation_prompt)

    # Tokens

    async def tokenize(self, request: Request) -> Response:
        body = await _body(request, TokenizeRequest)
        self._resolve(body.model)
        if body.messages is not None:
            tokens = self._chat_tokens(body.messages, body.add_generation_prompt)
        elif body.prompt is not None:
            tokens = self.text.encode(body.prompt, body.add_special_tokens)
        else:
            raise ApiError(400, "prompt or messages: Field required", "Bad Request")
        strings = [self.text.show([token]) for token in tokens] if body.return_token_strs else None
        length = self.limits.max_model_len
        return JSONResponse({"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": strings})

    async def detokenize(self, request: Request) -> Response:
        body = await _body(request, DetokenizeRequest)
        self._resolve(body.model)
        return JSONResponse({"prompt": self.text.show(body.tokens)})

    # Adapters

    async def models(self, request: Request) -> Response:
        cards = [model_card(self.name, str(self.root), None, self.limits.max_model_len)]
        cards += [model_card(a.name, a.path, self.name, None) for a in self._adapters.values()]
        return JSONResponse({"object": "list", "data": cards})

    async def load_adapter(self, request: Request) -> Response:
        body = await _body(request, LoadRequest)
        name, path = body.lora_name, Path(body.lora_path)
        if not name or not body.lora_path:
            raise ApiError(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        async with self._loading:
            if name in self._adapters and not body.load_inplace:
                raise ApiError(
                    400,
                    f"The lora adapter '{name}' has already been loaded. If you want to load the adapter "
                    "in place, set 'load_inplace' to True.",
                    "InvalidUserInput",
                )
            if not (path / CONFIG).is_file():
                message = f"Loading lora {name} failed: No adapter found for {body.lora_path}"
                raise ApiError(404, message, "NotFoundError")
            try:
                adapter = await asyncio.wrap_future(self.engine.read_adapter(name, path))
            except (AdapterError, ValueError, KeyError) as error:
                raise ApiError(500, str(error), "InternalServerError") from error
            if replaced := self._adapters.get(name):
                self.engine.forget(replaced)
            self._adapters[name] = adapter
        return Response(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_adapter(self, request: Request) -> Response:
        body = await _body(request, UnloadRequest)
        if not body.lora_name:
            raise ApiError(400, "'lora_name' needs to be provided to unload a LoRA adapter.", "InvalidUserInput")
        adapter = self._adapters.pop(body.lora_name, None)
        if adapter is None:
            raise ApiError(404, f"The lora adapter '{body.lora_name}' cannot be found.", "NotFoundError")
        self.engine.forget(adapter)
        return Response(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    # State

    async def health(self, request: Request) -> Response:
        return Response(status_code=200 if self.engine.alive else 503)

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": f"sleepy-coder-embedded-{__version__}"})

    async def server_load(self, request: Request) -> Response:
        return JSONResponse({"server_load": self._load})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def sleep(self, request: Request) -> Response:
        wait = request.query_params.get("mode", "abort") == "wait"
        self._asleep = True
        await asyncio.wrap_future(self.engine.sleep(wait))
        return Response()

    async def wake(self, request: Request) -> Response:
        await asyncio.wrap_future(self.engine.wake())
        self._asleep = False
        return Response()

    async def is_sleeping(self, request: Request) -> Response:
        return JSONResponse({"is_sleeping": self._asleep})


def _sink(queue: asyncio.Queue[tuple[int, Piece]], index: int) -> Callable[[Piece], None]:
    return lambda piece: queue.put_nowait((index, piece))


async def _body(request: Request, kind: type[Body]) -> Body:
    return kind.model_validate_json(await request.body())


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _api_error(request: Request, error: ApiError) -> Response:
    return JSONResponse(error.body, error.status)


async def _invalid(request: Request, error: ValidationError) -> Response:
    return JSONResponse(ApiError(400, "; ".join(problems(error)), "Bad Request").body, 400)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return JSONResponse(ApiError(error.status_code, error.detail, error.detail).body, error.status_code)
