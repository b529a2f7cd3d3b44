"""vLLM's requests and errors, for the embedded server: what is read and what is refused.

The shapes follow vLLM 0.32's OpenAI-compatible server. A field that would change the answer and is
not implemented here is refused with 400 instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sleepy_coder.serve.embedded_rows import Sampling

Json = dict[str, Any]

# Fields of vLLM that change the answer, with the values at which they do nothing.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "top_k": (None, 0, -1),
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "logit_bias": (None, {}),
    "echo": (None, False),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "use_beam_search": (None, False),
    "prompt_logprobs": (None,),
    "response_format": (None, {"type": "text"}),
    "structured_outputs": (None,),
    "continue_final_message": (None, False),
}


class ApiError(Exception):
    """An answer with an error status and vLLM's body: {"error": {message, type, param, code}}."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"message": message, "type": kind, "param": param, "code": status}}


class StreamOptions(BaseModel):
    """`include_usage` adds a last chunk with the token counts and no choices."""

    include_usage: bool = False


class GenerationRequest(BaseModel):
    """The fields that chat and plain completions share."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    n: Annotated[int, Field(ge=1, le=64)] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None

    def refuse_unknown(self) -> None:
        """Raises ApiError for a field that would change the answer and is not implemented."""
        for name, value in (self.model_extra or {}).items():
            if name in _NEUTRAL and value not in _NEUTRAL[name]:
                raise ApiError(400, f"The embedded server does not support {name}={value!r}; vLLM does.", param=name)

    def sampling(self, index: int, max_tokens: int, logprobs: int | None) -> Sampling:
        """How to sample choice `index`; like vLLM, choices of one request get consecutive seeds."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed + index,
            stop=tuple(text for text in stop if text),
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
        )


class TextPart(BaseModel):
    """One text part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message; parts of its content are joined by newlines before the template sees them."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[TextPart] | None = None

    def for_template(self) -> Json:
        content = self.content
        if isinstance(content, list):
            content = "\n".join(part.text for part in content)
        return {**(self.model_extra or {}), "role": self.role, "content": content or ""}


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    add_generation_prompt: bool = True
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None

    def refuse_unknown(self) -> None:
        super().refuse_unknown()
        if self.tools and self.tool_choice != "none":
            raise ApiError(
                400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            )


class CompletionRequest(GenerationRequest):
    """POST /v1/completions; `prompt` is one or several texts or token lists."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    prompt_logprobs: int | None = None

    def refuse_unknown(self) -> None:
        super().refuse_unknown()
        if self.prompt_logprobs is not None and self.stream:
            raise ApiError(400, "`prompt_logprobs` are not available when `stream=True`.", param="prompt_logprobs")
        if self.prompt_logprobs:
            name = f"prompt_logprobs={self.prompt_logprobs}"
            raise ApiError(400, f"The embedded server does not support {name}; vLLM does.", param="prompt_logprobs")

    def prompts(self) -> list[str | list[int]]:
        """The prompts as a list, texts not yet tokenized."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [part for part in self.prompt if not isinstance(part, int)]


class TokenizeRequest(BaseModel):
    """POST /tokenize, of a text or of messages under the chat template."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None


class DetokenizeRequest(BaseModel):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int]


class LoadRequest(BaseModel):
    """POST /v1/load_lora_adapter."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


class UnloadRequest(BaseModel):
    """POST /v1/unload_lora_adapter."""

    lora_name: str = ""


def overflow(limit: int, requested: int, prompt: int) -> ApiError:
    """vLLM's answer to a request that does not fit its context; all in tokens."""
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens. However, you requested {requested} output "
        f"tokens and your prompt contains at least {prompt} input tokens, for a total of at least "
        f"{prompt + requested} tokens. Please reduce the length of the input prompt or the number of "
        f"requested output tokens. (parameter=input_tokens, value={prompt})",
        param="input_tokens",
    )
