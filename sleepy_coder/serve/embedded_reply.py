"""One generation request of the embedded server, from its rows' pieces to a body or to chunks."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request

from sleepy_coder.serve.embedded_format import ChatFormat, Json, TextFormat, usage
from sleepy_coder.serve.embedded_protocol import GenerationRequest
from sleepy_coder.serve.embedded_rows import Piece, Row


class Reply:
    """One generation request from its rows' pieces to its body or its chunks."""

    def __init__(
        self,
        request: Request,
        body: GenerationRequest,
        model: str,
        rows: Sequence[Row],
        queue: asyncio.Queue[tuple[int, Piece]],
        style: ChatFormat | TextFormat,
        scores: Sequence[tuple[list[float], list[int]]] = (),
    ) -> None:
        self.rows = rows
        self._body, self._queue, self._style = body, queue, style
        self._scores = scores
        self._asked_for_tokens = bool(body.return_token_ids)
        self._head: Json = {
            "id": f"{style.prefix}-{request.headers.get('x-request-id') or uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    async def whole(self) -> Json:
        """The body, once every row has finished."""
        choices: dict[int, Json] = {}
        while len(choices) < len(self.rows):
            index, piece = await self._queue.get()
            choices[index] = self._style.choice(index, piece) | self._tokens(piece)
            if self._asked_for_tokens:
                choices[index] |= self._style.prompt_of_choice(self.rows[index].prompt)
            if self._scores:
                scored = self._scores[index // self._body.n]
                choices[index] |= self._style.prompt_scores(self.rows[index].prompt, *scored)
        ordered = [choices[index] for index in sorted(choices)]
        body = self._head | {"object": self._style.whole, "choices": ordered, "usage": self._usage()}
        return body | self._prompt_of_body()

    async def chunks(self) -> AsyncIterator[Json]:
        """The chunks as their text becomes known; the token counts last where they were asked for."""
        started: set[int] = set()
        finished = 0
        while finished < len(self.rows):
            index, piece = await self._queue.get()
            delta = self._style.delta(index, piece) | self._tokens(piece)
            if index not in started:
                started.add(index)
                if opening := self._style.opening(index):
                    yield self._chunk(opening) | self._prompt_of_body()
                if self._asked_for_tokens:
                    delta |= self._style.prompt_of_choice(self.rows[index].prompt)
            yield self._chunk(delta)
            finished += piece.finish_reason is not None
        if self._body.stream_options and self._body.stream_options.include_usage:
            yield self._head | {"object": self._style.part, "choices": [], "usage": self._usage()}

    def _chunk(self, choice: Json) -> Json:
        return self._head | {"object": self._style.part, "choices": [choice]}

    def _tokens(self, piece: Piece) -> Json:
        return {"token_ids": list(piece.tokens)} if self._asked_for_tokens else {}

    def _prompt_of_body(self) -> Json:
        return self._style.prompt_of_body(self.rows[0].prompt) if self._asked_for_tokens else {}

    def _usage(self) -> Json:
        rows = self.rows
        prompts = sum(len(row.prompt) for row in rows[:: self._body.n])
        return usage(prompts, sum(len(row.tokens) for row in rows))
