"""Watches a promotion by day: counts what ended, hears how replies look, and takes it back when it does harm.

A thread of its own in the gateway's process. The gateway draws the lots (lots.py); here they are put into the store,
before anything that they led to is counted.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from typing import Final

from sleepy_coder import log
from sleepy_coder.canary import Hours, abandon, look, old_name, roll_back
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import AdapterError, SleepyError
from sleepy_coder.judge.replies import PATIENCE, ReplyWatch, heard
from sleepy_coder.ports import Clock
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.store_canary import AHEAD, LiveTrial, Patience
from sleepy_coder.types import Exchange

from .keeper import Held
from .lots import Lots

_log = log.get("canary")
LOOK_SECONDS: Final = 2.0


class CanaryWatch:
    """`look` is called every few seconds; `hear` by the recorder, `loaded` by the keeper, each on its own thread."""

    def __init__(
        self, store: Store, registry: Registry, lots: Lots, settings: CanarySettings, base: str, clock: Clock
    ) -> None:
        self._store, self._registry, self._lots = store, registry, lots
        self._settings, self._base, self._clock = settings, base, clock
        self._lock = threading.Lock()
        self._trial: LiveTrial | None = None
        self._replies: dict[str, ReplyWatch] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._hours = Hours()
        self._complaint = ""
        self._taken_up = False

    def open(self) -> None:
        """The first look, before anybody asks: each session keeps the adapter that it had before a restart."""
        self._guarded(self.look)

    def close(self) -> None:
        """Save the lots that were drawn last, if the store takes them: drawn again they come out alike."""
        with suppress(SleepyError), self._lock:
            self._save_lots()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`."""
        while not stop.wait(LOOK_SECONDS):
            self._guarded(self.look)

    def _guarded(self, work: Callable[[], object]) -> None:
        """What fails is said once, and tried again: replies matter more than who watches them."""
        try:
            work()
            self._complaint = ""
        except Exception as error:  # noqa: BLE001 - no harm would be seen ever again
            why = error.message if isinstance(error, SleepyError) else f"{type(error).__name__}: {error}"
            if why != self._complaint:
                _log.error("canary.watch_failed", reason=why)
            self._complaint = why

    def look(self) -> None:
        """One look. Raises StoreError and AdapterError."""
        with self._lock:
            self._take_up()
            self._save_lots()
            self._count_replies()
            trial = look(self._store, self._registry, self._settings, self._base, self._clock.now(), self._hours)
            if trial is None:
                self._trial, self._replies = None, {}
                return
            self._replies = {trial.id: self._replies_of(trial.id)}
            if self._trial is None or self._trial.id != trial.id:
                self._refused = {}
            self._trial = trial
            self._lots.set_share(trial.id, trial.share)
            if trial.running:
                self._act(trial)

    def _take_up(self) -> None:
        """Take up what was drawn before a restart, once: tried again with each look until the store tells it."""
        if self._taken_up:
            return
        trial = self._store.canary(self._lots.promotion) if self._settings.enabled else None
        if trial is not None and trial.stage != "abandoned":
            self._lots.restore(trial.id, self._store.assigned(trial.id))
        self._taken_up = True

    def _save_lots(self) -> None:
        """Keep what was drawn; from then on the first replies of these sessions are waited for."""
        now, drawn = self._clock.now(), self._lots.drawn()
        for promotion, lots in groupby(drawn, key=lambda one: one[0]):
            self._store.save_assigned(promotion, [lot for _, lot in lots])
        for promotion, lot in drawn:
            self._replies_of(promotion).drew(lot, now)
        self._lots.saved()

    def _replies_of(self, promotion: str) -> ReplyWatch:
        if promotion not in self._replies:
            replies = ReplyWatch(self._settings)
            replies.resume(self._store.counted(promotion, "form"))
            self._replies[promotion] = replies
        return self._replies[promotion]

    def _count_replies(self) -> None:
        """Count the first replies that nothing holds up any more; what the store refuses is told it again."""
        trial, now = self._trial, self._clock.now()
        if trial is None or not trial.running:
            return
        replies = self._replies_of(trial.id)
        if said := replies.said(Patience(now - PATIENCE, now + AHEAD)):
            self._store.count_replies(trial.id, said)
            replies.kept()

    def _act(self, trial: LiveTrial) -> None:
        """The hard triggers: no statistics are needed for an adapter that cannot even be loaded."""
        of_new, of_old = self._refusals(trial)
        if alarm := self._replies[trial.id].alarm:
            roll_back(self._store, self._registry, trial, alarm, self._clock.now())
        elif of_new >= self._settings.refusals:
            why = f"a model server refused to load it {of_new} times, but not what served before"
            # The base is never loaded: it does not show that this server takes adapters at all.
            blamed = trial.previous != self._base
            roll_back(self._store, self._registry, trial, why, self._clock.now(), quarantine=blamed)
        elif of_old >= self._settings.refusals:
            why = f"{trial.previous} cannot be loaded any more"
            abandon(self._store, trial, why, self._clock.now())
            self._lots.set_share(trial.id, 1.0)
            self._lots.forget()

    def _refusals(self, trial: LiveTrial) -> tuple[int, int]:
        """In how many looks in a row one server refused the new adapter, but not the old; and the old, holding the new.

        What befalls both on a server, as when it was restarted with another dtype, speaks against neither.
        """
        new, old = trial.adapter, trial.previous
        of_new = [n for (name, at), n in self._refused.items() if name == new and not self._refused.get((old, at))]
        of_old = [n for (name, at), n in self._refused.items() if name == old and self._refused.get((new, at)) == 0]
        return max(of_new, default=0), max(of_old, default=0)

    # What others saw

    def loaded(self, adapter: str, server: str, held: Held) -> None:
        """What the keeper found of `adapter` on a server, once a look. Kept are refusals in a row; 0: it is there."""
        with self._lock:
            before = self._refused.get((adapter, server), 0)
            self._refused[adapter, server] = before + 1 if held == "refused" else 0

    def hear(self, exchanges: Sequence[Exchange]) -> None:
        """Replies that have been saved. Raises StoreError."""
        with self._lock:
            self._save_lots()
            watched = [(self._replies[promotion], self._arms_of(promotion)) for promotion in self._replies]
            for exchange in exchanges if watched else ():
                session, reply = self._lots.session_of(exchange.id), heard(exchange)
                for replies, (new, old) in watched if session and reply else ():
                    drawn = replies.lot_of(session)
                    if reply and drawn and exchange.served_by == (new if drawn.new else old):
                        replies.hear(session, reply)
            self._count_replies()

    def _arms_of(self, promotion: str) -> tuple[str, str]:
        """The new adapter and the old one, "" once nobody wants to know.

        The first replies after a promotion are there before the look that begins its canary: without them their
        sessions would hold up all others.
        """
        trial = self._trial
        if trial is not None and trial.id == promotion:
            return (trial.adapter, trial.previous) if trial.running else ("", "")
        with suppress(AdapterError):
            pointer = self._registry.pointer()
            if pointer.name is not None and pointer.promotion == promotion:
                return pointer.name, old_name(self._registry, pointer, self._base)
        return "", ""


def heard_by(save: Callable[[Sequence[Exchange]], object], watch: CanaryWatch) -> Callable[[Sequence[Exchange]], None]:
    """`save`, and the watch hears of it. A watch that cannot count must not cost the record."""

    def both(exchanges: Sequence[Exchange]) -> None:
        save(exchanges)
        try:
            watch.hear(exchanges)
        except Exception as error:  # noqa: BLE001 - what models say comes in every form
            _log.error("canary.watch_failed", reason=f"{type(error).__name__}: {error}")

    return both


@asynccontextmanager
async def watched_by(watch: CanaryWatch) -> AsyncGenerator[None]:
    """Watch while this is open; on leaving, the last lots are saved."""
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="canary", daemon=True)
    await asyncio.to_thread(watch.open)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
        await asyncio.to_thread(watch.close)
