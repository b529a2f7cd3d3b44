"""Several servers with the same model, used as one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

from sleepy_coder.errors import ModelNotFound
from sleepy_coder.ports import Replica, ServedModel
from sleepy_coder.types import Message, Reply

T = TypeVar("T")


class Fleet:
    """`ports.ModelServer` over `replicas`.

    What changes a server is done on all of them, at once, and the first error is raised when all have ended; each
    method may be repeated, which goes on where it failed. Chats take turns, so an evaluation is as many times as fast.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = tuple(replicas)
        self._turn = itertools.count()
        self._pool = ThreadPoolExecutor(len(self._replicas), thread_name_prefix="fleet")

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The servers, in the order of the settings."""
        return self._replicas

    def close(self) -> None:
        """End the threads; the replicas belong to whoever made them."""
        self._pool.shutdown()

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        """One chat completion, of the server whose turn it is."""
        replica = self._replicas[next(self._turn) % len(self._replicas)]
        return replica.chat(model, messages, temperature=temperature, seed=seed, max_tokens=max_tokens)

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        """Of the server whose turn it is."""
        return self._replicas[next(self._turn) % len(self._replicas)].nll(model, messages, completion)

    def load(self, name: str, path: Path) -> None:
        """Load the adapter where it is missing."""

        def load(replica: Replica) -> None:
            if not any((m.name, m.root) == (name, str(path)) for m in replica.models()):
                replica.load(name, path)

        self._all(load)

    def unload(self, name: str) -> None:
        """Unload the adapter where it is. Raises ModelNotFound when it is nowhere."""

        def unload(replica: Replica) -> bool:
            try:
                replica.unload(name)
            except ModelNotFound:
                return False
            return True

        if not any(self._all(unload)):
            raise ModelNotFound(f"no server holds {name}", status=404)

    def models(self) -> tuple[ServedModel, ...]:
        """What every server holds: the base, and adapters under the same name from the same folder."""
        first, *others = self._all(lambda replica: replica.models())
        keys = [{_key(model) for model in other} for other in others]
        return tuple(model for model in first if all(_key(model) in held for held in keys))

    def version(self) -> str:
        """The servers' version; all of them when they differ."""
        return " + ".join(sorted(set(self._all(lambda replica: replica.version()))))

    def precision(self) -> str:
        """The numbers the servers compute with; all of them when they differ, "" when none says it."""
        return " + ".join(sorted(set(self._all(lambda replica: replica.precision())) - {""}))

    def asleep(self) -> bool:
        """Whether any of them sleeps."""
        return any(self._all(lambda replica: replica.asleep()))

    def sleep(self, level: int = 1) -> None:
        """Send all to sleep. One that is asleep already stays so."""
        self._all(lambda replica: replica.sleep(level))

    def wake_up(self) -> None:
        """Wake all of them."""
        self._all(lambda replica: replica.wake_up())

    def busy(self) -> int:
        """Requests running or waiting anywhere."""
        return sum(self._all(lambda replica: replica.busy()))

    def _all(self, work: Callable[[Replica], T]) -> list[T]:
        """`work` on every server at once; none is left half done when another one fails."""
        running: list[Future[T]] = [self._pool.submit(copy_context().run, work, replica) for replica in self._replicas]
        for future in running:
            future.exception()
        return [future.result() for future in running]


def _key(model: ServedModel) -> tuple[str, str | None]:
    # The base may lie in another folder on another machine; adapters come from the one registry.
    return model.name, model.root if model.parent else None
