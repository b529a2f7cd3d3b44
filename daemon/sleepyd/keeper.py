"""Keeps the model servers as they should be: what serves and what a rollback goes to is loaded, and little else.

Adapters that were loaded at run time are gone after a restart of the server. The keeper looks every few seconds,
and at once when the gateway asks because a request met a server that does not know the adapter. It wakes nobody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

from sleepy_coder import log
from sleepy_coder.adapter_manifest import is_adapter_name
from sleepy_coder.deploy import ensure_loaded, stand_in, unload
from sleepy_coder.errors import AdapterError, InfraError, ServerError, ServerUnreachable, SleepyError
from sleepy_coder.journal import no_night
from sleepy_coder.ports import ModelServer, Replica
from sleepy_coder.registry import Registry
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import Adapter, AdapterState

_log = log.get("server")

LOOK_SECONDS: Final = 5.0
_SLOWEST_SECONDS: Final = 60.0
_OPENING_SECONDS: Final = 10.0


Held = Literal["proved", "refused", "unproved"]
"""Loaded and proved; refused, by the server or for its files; or loaded and not proved, maybe by the server's fault."""


class Users(Protocol):
    """Who uses an adapter now; the gateway's `InFlight` counts its own callers."""

    def of(self, model: str) -> int: ...

    def total(self) -> int: ...


class Keeper:
    """Looks after the replicas of `server`, each by itself: one that is gone does not keep the others waiting for long.

    `lock` is the file that a running night holds: while it does, nothing is unloaded. At most `max_loras` adapters
    stay loaded. `on_load` hears in each look, of each adapter and server (its URL), whether it is there: `Held`.
    """

    def __init__(
        self,
        registry: Registry,
        server: ModelServer,
        prover: Prover,
        users: Users,
        lock: Path,
        max_loras: int,
        on_load: Callable[[str, str, Held], object] = lambda adapter, server, held: None,
    ) -> None:
        self._on_load = on_load
        self._registry, self._server, self._prover = registry, server, prover
        self._users, self._lock, self._max_loras = users, lock, max_loras
        self._one_at_a_time = threading.Lock()
        self._proved: dict[str, set[str]] = {replica.url: set() for replica in server.replicas}
        self._complaints: dict[str, str] = {}
        self._asked: asyncio.Task[bool] | None = None

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the servers that are kept."""
        return tuple(self._proved)

    def complaints(self) -> dict[str, str]:
        """A copy: what cannot be kept now (a server's URL; `registry` and `keeper`: all of them), and why."""
        return dict(self._complaints)

    # When

    async def reconcile(self) -> None:
        """Look now, for a request that met an unknown adapter; requests that ask meanwhile share one look."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(asyncio.to_thread(self._guarded_look))
        await asyncio.shield(self._asked)

    def run(self, stop: threading.Event, looked: threading.Event) -> None:
        """Look until `stop`, ever more seldom while something is wrong; `looked` is set after the first time."""
        pause = LOOK_SECONDS
        while not stop.is_set():
            well = self._guarded_look()
            looked.set()
            pause = LOOK_SECONDS if well else min(2 * pause, _SLOWEST_SECONDS)
            stop.wait(pause)

    def _guarded_look(self) -> bool:
        """A keeper that dies of one bad look would leave a restarted server without its adapters for ever."""
        try:
            well = self.look()
        except Exception as error:  # noqa: BLE001 - the next look tries again
            return self._complain("keeper", InfraError(f"{type(error).__name__}: {error}", "it is tried again"))
        self._praise("keeper")
        return well

    def look(self) -> bool:
        """Put right what is wrong, once; whether all is well now. Never raises SleepyError."""
        with self._one_at_a_time:
            try:
                wanted = self._wanted()
            except AdapterError as error:
                return self._step_back("registry", error)
            except SleepyError as error:
                return self._complain("registry", error)
            self._praise("registry")
            return all([self._look_at(replica, wanted) for replica in self._server.replicas])

    # What

    def _wanted(self) -> tuple[Adapter, ...]:
        """What serves, and what a rollback goes to."""
        wanted = [self._registry.active()]
        if previous := self._registry.previous():
            try:
                wanted.append(self._registry.get(previous))
            except AdapterError:  # a rollback goes to the base instead
                for server in self._proved:
                    self._on_load(previous, server, "refused")
        return tuple(adapter for adapter in wanted if adapter is not None)

    def _look_at(self, replica: Replica, wanted: tuple[Adapter, ...]) -> bool:
        proved = self._proved[replica.url]
        try:
            if replica.asleep():
                proved.clear()  # vLLM has woken without its adapters' weights before: each is asked again
                return True
            held = {model.name for model in replica.models()}
            proved &= held
            missing = [adapter for adapter in wanted if adapter.name not in proved]
            for adapter in wanted:
                if adapter not in missing:
                    self._on_load(adapter.name, replica.url, "proved")
            self._load(replica, missing, proved)
            self._make_room(replica, {adapter.name for adapter in wanted})
        except ServerUnreachable as error:
            proved.clear()
            return self._complain(replica.url, error)
        except AdapterError as error:
            return self._step_back(replica.url, error)
        except SleepyError as error:
            return self._complain(replica.url, error)
        self._praise(replica.url)
        return True

    def _load(self, replica: Replica, missing: Sequence[Adapter], proved: set[str]) -> None:
        """All of them that can be: one that is refused must not keep the others away. Raises the first refusal."""
        refused: list[SleepyError] = []
        # Where what serves answers otherwise and stays, so does the one before it: the sessions of a canary are given
        # both, and have to be answered alike.
        keep = False
        for adapter in missing:  # what serves is the first of them
            try:
                ensure_loaded(self._registry, replica, adapter, self._prover, keep=keep)
            except ServerUnreachable:
                raise
            except SleepyError as error:
                refused.append(error)
                held = self._held(replica, adapter, error, keep)
                keep = keep or (held == "unproved" and adapter.state is AdapterState.ACTIVE)
                self._on_load(adapter.name, replica.url, held)
            else:
                proved.add(adapter.name)
                self._on_load(adapter.name, replica.url, "proved")
        if refused:
            raise refused[0]

    def _held(self, replica: Replica, adapter: Adapter, error: SleepyError, kept: bool) -> Held:
        """What became of an adapter that was not proved. Raises ServerError."""
        if isinstance(error, ServerError):
            return "refused"
        # Wrong bytes of what serves are stepped back from, and its wrong answers may be the server's. So may those of
        # one that was kept beside it, unless its files are what is wrong: then it is not there.
        if not isinstance(error, AdapterError) or adapter.state is AdapterState.ACTIVE:
            return "unproved"
        return "unproved" if kept and adapter.name in {model.name for model in replica.models()} else "refused"

    def _make_room(self, replica: Replica, keep: set[str]) -> None:
        """Unload what may never serve again, and the oldest of the others above the limit.

        Only what nobody uses: no request of the gateway's, no night, and nobody who goes around the gateway.
        """
        held = sorted(model.name for model in replica.models() if is_adapter_name(model.name))
        spare = [name for name in held if name not in keep]
        above = len(held) - self._max_loras
        rejected = {name for name in spare if self._may_never_serve(name)}
        gone = [name for name in spare if name in rejected]
        gone += [name for name in spare if name not in rejected][: max(above - len(rejected), 0)]
        for name in gone:
            with no_night(self._lock) as quiet:
                if quiet and not self._users.of(name) and replica.busy() <= self._users.total():
                    unload(replica, name, replica.url)

    def _may_never_serve(self, name: str) -> bool:
        try:
            return not self._registry.get(name).state.may_serve
        except AdapterError:
            return False  # another registry's, which may need it

    def _step_back(self, whose: str, error: AdapterError) -> bool:
        """Step back if it is what serves that is damaged, and complain: of what hinders that, or else of `error`."""
        try:
            stand_in(self._registry)
        except SleepyError as hindrance:
            return self._complain(whose, hindrance)
        return self._complain(whose, error)

    # Said once

    def _complain(self, whose: str, error: SleepyError) -> bool:
        if self._complaints.get(whose) != error.message:
            self._complaints[whose] = error.message
            _log.warning("keeper.waiting", server=whose, reason=error.message, remedy=error.remedy)
        return False

    def _praise(self, whose: str) -> None:
        if self._complaints.pop(whose, None) is not None:
            _log.warning("keeper.restored", server=whose)


@asynccontextmanager
async def kept_by(keeper: Keeper) -> AsyncGenerator[None]:
    """Keep while this is open. Enters after the first look, or soon without it: agents should not wait for a server."""
    stop, looked = threading.Event(), threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop, looked), name="keeper", daemon=True)
    thread.start()
    try:
        await asyncio.to_thread(looked.wait, _OPENING_SECONDS)
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, _OPENING_SECONDS)
