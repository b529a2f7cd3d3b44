"""Who answers to the alias now, and how many requests each model still has in flight."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from sleepy_coder import log
from sleepy_coder.canary import old_name
from sleepy_coder.errors import SleepyError
from sleepy_coder.registry import Registry

from .lots import Lots

_log = log.get("gateway")

_RETRY_SECONDS: Final = 1.0


class Serving:
    """The model name behind the alias: the active adapter, or the base when there is none. While a promotion is
    watched, some sessions get what served before (`name_for`).

    Asked for each request, so it only looks whether the registry's pointer is another file than before. A pointer
    that cannot be read while the gateway runs leaves the last known name; at the start it is an error.
    """

    def __init__(self, registry: Registry, base: str, lots: Lots | None = None) -> None:
        """Raises AdapterError when the registry does not say what serves."""
        self._registry, self._base = registry, base
        self._lots = lots or Lots(share=1.0)
        self._mark = registry.pointer_mark()
        self._name = self._read()
        self._look_again = 0.0

    def name(self) -> str:
        """The name that a request for the alias goes to now. Never raises."""
        if time.monotonic() < self._look_again:
            return self._name
        try:
            mark = self._registry.pointer_mark()
            if mark != self._mark:
                before, self._name = self._name, self._read()
                self._mark = mark
                _log.info("gateway.switched", before=before, now=self._name)
        except (SleepyError, OSError) as error:
            self._look_again = time.monotonic() + _RETRY_SECONDS
            _log.error("gateway.pointer_unreadable", reason=str(error), serving=self._name)
        return self._name

    @property
    def divided(self) -> bool:
        """Whether sessions may get another model than `name` says."""
        return self._lots.open

    def name_for(self, session: str) -> str:
        """The name that a request of `session` for the alias goes to now: the same as long as it is watched."""
        name = self.name()
        return name if self._lots.gives_new(session) else self._old

    def note(self, exchange: str, session: str) -> None:
        """Remember whose exchange this is, for whoever looks at its reply later."""
        self._lots.note(exchange, session)

    def _read(self) -> str:
        pointer = self._registry.pointer()
        self._old = old_name(self._registry, pointer, self._base)
        self._lots.begin(pointer.promotion)
        return pointer.name or self._base


class InFlight:
    """Requests that have begun and not ended, by the model that they began with.

    An adapter may be unloaded when it is no longer the alias's and its count is 0. Counted on the event loop's
    thread; other threads may read.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @contextmanager
    def one(self, model: str) -> Generator[None]:
        """A request on `model` runs while this is open."""
        self._counts[model] = self._counts.get(model, 0) + 1
        try:
            yield
        finally:
            left = self._counts[model] - 1
            if left:
                self._counts[model] = left
            else:
                # Names are the callers' words: keeping those that are done would let the table grow for ever.
                del self._counts[model]

    def of(self, model: str) -> int:
        return self._counts.get(model, 0)

    def all(self) -> Mapping[str, int]:
        """A copy: model to requests, without those that have none."""
        return dict(self._counts)

    def total(self) -> int:
        return sum(self.all().values())
