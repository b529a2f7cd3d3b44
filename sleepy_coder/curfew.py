"""When a night has to stop: asked before each request to the model server, and each second of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sleepy_coder.errors import NightPaused
from sleepy_coder.ports import Clock, ModelServer
from sleepy_coder.serve.relay import Relay
from sleepy_coder.types import Message, Reply


@dataclass(frozen=True, slots=True)
class Curfew:
    """The night's work stops at `ends`, in UTC; None lets it take as long as it takes."""

    clock: Clock
    ends: datetime | None = None

    def over(self) -> bool:
        """Whether it is time to stop."""
        return self.ends is not None and self.clock.now() >= self.ends

    def check(self) -> None:
        """Raises NightPaused when it is time to stop."""
        if self.ends is not None and self.over():
            raise NightPaused(
                f"the window of the nights closed at {self.ends:%H:%M} UTC",
                "what is finished is kept; the next `sleepy-coder night` goes on from here",
            )


class PunctualServer(Relay):
    """`ports.ModelServer` that answers no chat after the curfew, so that what is queued behind it ends at once.

    Only chats take long. Loading and unloading go through, so that a night whose measuring is done may be finished.
    """

    def __init__(self, server: ModelServer, curfew: Curfew) -> None:
        super().__init__(server)
        self._curfew = curfew

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        """Raises NightPaused."""
        self._curfew.check()
        return super().chat(model, messages, temperature=temperature, seed=seed, max_tokens=max_tokens)

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        """Raises NightPaused."""
        self._curfew.check()
        return super().nll(model, messages, completion)
