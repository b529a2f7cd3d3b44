"""Which of several model servers a request goes to.

A session stays where it is, because the server that answered it before has its beginning in the prefix cache:
rendezvous hashing, so that a server that comes or goes moves only its own sessions. Requests without a session go
where the fewest are in flight. A server that refuses the connection is put aside for a while; nothing is asked of it
but when all others refuse too. So is one that lacks a model and cannot load it, for requests of that model: it may well
have the other one that serves while a promotion is watched.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from sleepy_coder import log
from sleepy_coder.config import without_v1

from .passing import Lacking, Refused


class _Answer(Protocol):
    @property
    def status(self) -> int: ...


T = TypeVar("T", bound=_Answer)
_log = log.get("gateway")

ASIDE_SECONDS: Final = 15.0


class Upstreams:
    """The base URLs of servers that serve the same models, without `/v1`. Used on the event loop's thread."""

    def __init__(self, urls: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        """`urls` may repeat themselves and may end in `/v1`; the first is the one that errors name."""
        self.bases: Final = tuple(dict.fromkeys(map(without_v1, urls)))
        self._now = now
        self._in_flight = dict.fromkeys(self.bases, 0)
        self._back_at: dict[tuple[str, str], float] = {}  # of a server, and of a model at a server; "": of any
        self._told: set[tuple[str, str]] = set()

    def order(self, session: str, model: str = "") -> list[str]:
        """All servers, the one to ask for `model` first in front; `session` may be empty."""
        if len(self.bases) == 1:
            return list(self.bases)
        now = self._now()

        def rank(base: str) -> tuple[bool, float]:
            aside = any(self._back_at.get((base, of), now) > now for of in ("", model))
            return aside, _weight(session, base) if session else self._in_flight[base]

        return sorted(self.bases, key=rank)

    async def first(self, session: str, ask: Callable[[str, bool], Awaitable[T]], model: str = "") -> T:
        """What `ask` gets from the first server that does not refuse; it is also told whether others can be asked.

        `model` is asked for. Raises as `ask` does; Refused if all of them refuse.
        """
        refused: Refused | None = None
        order = self.order(session, model)
        for base in order:
            try:
                with self.one(base):
                    answer = await ask(base, base != order[-1])
            except Lacking as error:
                self.put_aside(base, str(error), model)
                refused = error
            except Refused as error:
                self.put_aside(base, str(error))
                refused = error
            else:
                self._told.discard((base, ""))
                if answer.status < HTTPStatus.BAD_REQUEST:  # else it is not the model that answered
                    self._back_at.pop((base, model), None)
                    self._told.discard((base, model))
                return answer
        assert refused is not None, "there is always one to ask"
        raise refused

    def put_aside(self, base: str, reason: str = "", model: str = "") -> None:
        """`base` refused, or lacks `model`. Said once until it answers again, with that model."""
        self._back_at[base, model] = self._now() + ASIDE_SECONDS
        if len(self.bases) > 1 and (base, model) not in self._told:
            self._told.add((base, model))
            _log.warning("gateway.server_aside", server=base, reason=reason)

    @contextmanager
    def one(self, base: str) -> Generator[None]:
        """A request at `base` runs while this is open."""
        self._in_flight[base] += 1
        try:
            yield
        finally:
            self._in_flight[base] -= 1

    def in_flight(self) -> Mapping[str, int]:
        """A copy: base URL to requests."""
        return dict(self._in_flight)


def _weight(session: str, base: str) -> float:
    digest = hashlib.blake2b(f"{session}\0{base}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest)
