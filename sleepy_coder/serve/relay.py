"""A model server that hands everything on to another one; what it does differently is for its subclasses to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sleepy_coder.ports import ModelServer, Replica, ServedModel
from sleepy_coder.types import Message, Reply


class Relay:
    """`ports.ModelServer` that is `inner`."""

    def __init__(self, inner: ModelServer) -> None:
        self._inner = inner

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self._inner.replicas

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        return self._inner.chat(model, messages, temperature=temperature, seed=seed, max_tokens=max_tokens)

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        return self._inner.nll(model, messages, completion)

    def load(self, name: str, path: Path) -> None:
        self._inner.load(name, path)

    def unload(self, name: str) -> None:
        self._inner.unload(name)

    def models(self) -> tuple[ServedModel, ...]:
        return self._inner.models()

    def asleep(self) -> bool:
        return self._inner.asleep()

    def sleep(self, level: int = 1) -> None:
        self._inner.sleep(level)

    def wake_up(self) -> None:
        self._inner.wake_up()

    def busy(self) -> int:
        return self._inner.busy()
