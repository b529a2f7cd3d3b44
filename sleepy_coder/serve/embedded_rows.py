"""One sequence of the embedded server: what was asked, what was generated, and its text so far."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_BROKEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens and when to end, in vLLM's terms. `temperature` 0 is greedy.

    `logprobs` is the number of alternatives to report beside the chosen token, None for no logprobs.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log probability of a chosen token, and of the most likely ones at its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What a row has to say since its last piece. The last piece has a `finish_reason`."""

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    finish_reason: str | None
    stop_reason: str | int | None


class Detokenizer:
    """Turns tokens into text piece by piece, holding back what is not final yet.

    A character whose bytes are not complete is held until they are, and so is the longest tail that
    may turn out to be the start of a stop string. `stopped` is the stop string that was found; the
    text ends before it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._hold = max((len(text) for text in stop), default=1) - 1
        self._tokens: list[int] = []
        self._context = self._read = 0
        self._text, self._taken = "", 0
        self.stopped: str | None = None

    def add(self, token: int) -> None:
        """Take one more token; sets `stopped` when it completes a stop string."""
        self._tokens.append(token)
        known = self._decode(self._tokens[self._context : self._read])
        text = self._decode(self._tokens[self._context :])
        if len(text) <= len(known) or text.endswith(_BROKEN):
            return
        self._context, self._read = self._read, len(self._tokens)
        before = len(self._text)
        self._text += text[len(known) :]
        found = [
            (at, stop) for stop in self._stop if (at := self._text.find(stop, max(0, before - len(stop) + 1))) >= 0
        ]
        if found:
            at, self.stopped = min(found)
            self._text = self._text[:at]

    def take(self, final: bool) -> str:
        """The text that is certain and was not taken before; with `final` all that is left."""
        hold = 0 if final or self.stopped is not None else self._hold
        end = max(self._taken, len(self._text) - hold)
        taken, self._taken = self._text[self._taken : end], end
        return taken


@dataclass(slots=True, eq=False)
class Row:
    """One sequence from arrival to its last token. Owned by the engine's thread, but for `cancelled`.

    `adapter` is the engine's handle of the weights (None: the base); `sink` receives the pieces on the
    event loop's thread, one per step with `stream`, else a single one at the end.
    """

    prompt: tuple[int, ...]
    sampling: Sampling
    adapter: object
    stream: bool
    text: Detokenizer
    stop_tokens: frozenset[int]
    sink: Callable[[Piece], None]
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    cancelled: bool = False
    random: random.Random = field(init=False)
    _sent: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.sampling.seed)

    @property
    def cached(self) -> int:
        """Positions in the KV cache: all but the newest token, which the next step reads."""
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def newest(self) -> int:
        """The token that the next step reads."""
        return self.tokens[-1] if self.tokens else self.prompt[-1]

    def accept(self, token: int, logprob: TokenLogprob | None) -> None:
        """Append a generated token; sets `finish_reason` when it is the last one."""
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        sampling = self.sampling
        if token in sampling.stop_token_ids:
            self.finish_reason, self.stop_reason = "stop", token
            return
        if token in self.stop_tokens and not sampling.ignore_eos:
            self.finish_reason = "stop"
            return
        self.text.add(token)
        if self.text.stopped is not None:
            self.finish_reason, self.stop_reason = "stop", self.text.stopped
        elif len(self.tokens) >= sampling.max_tokens:
            self.finish_reason = "length"

    def piece(self) -> Piece | None:
        """What to send now; None while there is nothing to show."""
        final = self.finish_reason is not None
        text = self.text.take(final) if self.stream or final else ""
        if not (text or final):
            return None
        start, self._sent = self._sent, len(self.tokens)
        return Piece(
            text,
            tuple(self.tokens[start:]),
            tuple(self.logprobs[start:]),
            self.finish_reason,
            self.stop_reason,
        )
