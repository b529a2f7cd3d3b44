"""How the embedded server writes its answers: vLLM's chat and plain completions, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sleepy_coder.serve.embedded_protocol import Json
from sleepy_coder.serve.embedded_rows import Piece, TokenLogprob

Decode = Callable[[Sequence[int]], str]


class ChatFormat:
    """How a chat completion is written, whole or in chunks."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def opening(self, index: int) -> Json | None:
        """The chunk that names the role, before any text."""
        return {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def choice(self, index: int, piece: Piece) -> Json:
        return {"message": {"role": "assistant", "content": piece.text}, **self._common(index, piece)}

    def delta(self, index: int, piece: Piece) -> Json:
        return {"delta": {"content": piece.text}, **self._common(index, piece)}

    def prompt_of_body(self, prompt: Sequence[int]) -> Json:
        """A chat has one prompt, so its tokens stand beside the choices."""
        return {"prompt_token_ids": list(prompt)}

    def prompt_of_choice(self, prompt: Sequence[int]) -> Json:
        return {}

    def prompt_scores(self, prompt: Sequence[int], logprobs: Sequence[float], ranks: Sequence[int]) -> Json:
        return {}

    def _common(self, index: int, piece: Piece) -> Json:
        return {
            "index": index,
            "logprobs": {"content": [self._logprob(entry) for entry in piece.logprobs]} if piece.logprobs else None,
            "finish_reason": piece.finish_reason,
            "stop_reason": piece.stop_reason,
        }

    def _logprob(self, entry: TokenLogprob) -> Json:
        return {
            **self._token(entry.token, entry.logprob),
            "top_logprobs": [self._token(token, value) for token, value in entry.top],
        }

    def _token(self, token: int, logprob: float) -> Json:
        text = self._decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


class TextFormat:
    """How a plain completion is written, whole or in chunks."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._offsets: dict[int, int] = {}

    def opening(self, index: int) -> Json | None:
        """Plain completions start with their first text."""
        return None

    def choice(self, index: int, piece: Piece) -> Json:
        return {
            "index": index,
            "text": piece.text,
            "logprobs": self._logprobs(index, piece.logprobs) if piece.logprobs else None,
            "finish_reason": piece.finish_reason,
            "stop_reason": piece.stop_reason,
        }

    delta = choice

    def prompt_of_body(self, prompt: Sequence[int]) -> Json:
        return {}

    def prompt_of_choice(self, prompt: Sequence[int]) -> Json:
        """Plain completions may have several prompts, so each choice names its own."""
        return {"prompt_token_ids": list(prompt)}

    def prompt_scores(self, prompt: Sequence[int], logprobs: Sequence[float], ranks: Sequence[int]) -> Json:
        """How likely the prompt's own tokens are; of the first nothing can be said."""
        entries = [
            {str(token): {"logprob": logprob, "rank": rank, "decoded_token": self._decode([token])}}
            for token, logprob, rank in zip(prompt[1:], logprobs, ranks, strict=True)
        ]
        return {"prompt_logprobs": [None, *entries]}

    def _logprobs(self, index: int, entries: Sequence[TokenLogprob]) -> Json:
        offset, offsets = self._offsets.get(index, 0), list[int]()
        tokens = [self._decode([entry.token]) for entry in entries]
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        self._offsets[index] = offset
        return {
            "text_offset": offsets,
            "token_logprobs": [entry.logprob for entry in entries],
            "tokens": tokens,
            "top_logprobs": [
                {self._decode([token]): value for token, value in (*entry.top, (entry.token, entry.logprob))}
                for entry in entries
            ],
        }


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Token counts as OpenAI names them."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
    }


def model_card(name: str, root: str, parent: str | None, max_model_len: int | None) -> Json:
    """One entry of /v1/models; adapters have a parent and no max_model_len, as in vLLM."""
    return {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [],
    }
