"""The life of a canary: a promotion is watched, and taken back when it does harm.

`look` is called again and again by the gateway's process, and once by each night. Everything it knows is in the store
and in the registry's pointer, so it does not matter which process looks, and a restart changes nothing; only that the
hours are over is for the one that goes on looking to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sleepy_coder import log
from sleepy_coder.adapter_manifest import Pointer
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import AdapterError
from sleepy_coder.judge import paired
from sleepy_coder.judge.rollback import log_e
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.store_canary import AHEAD, Counted, LiveTrial, Stage
from sleepy_coder.store_shadow import Replayed
from sleepy_coder.types import AdapterState, Record

_log = log.get("canary")
SURE_SECONDS: Final = 600.0
_LARGEST = 1e12  # JSON has no infinity, and beyond this nobody asks how much


class Arm(Record):
    """Sessions that ended before their verifier, and how many of them did not pass it, for whatever reason."""

    sessions: int
    failures: int


class Evidence(Record):
    """What speaks against the new adapter: E-values of judged sessions, of replies and of the nights' replays.

    `drawn` are the sessions that the lot has given away so far, judged or not.
    """

    new: Arm
    old: Arm
    drawn: int
    sessions_e: float
    replies: int
    replies_e: float
    replayed: int
    replay_e: float

    def statistics(self) -> dict[str, float]:
        """In one level, for the log."""
        return {
            "e": self.sessions_e,
            "new_sessions": self.new.sessions,
            "new_failures": self.new.failures,
            "old_sessions": self.old.sessions,
            "old_failures": self.old.failures,
            "replies": self.replies,
            "replies_e": self.replies_e,
            "replayed": self.replayed,
            "replay_e": self.replay_e,
        }


class CanaryState(Record):
    """A canary as people are shown it."""

    trial: LiveTrial
    evidence: Evidence
    threshold: float


class Hours:
    """Tells whoever looks again and again whether the hours of a split are over; a single look cannot know.

    A clock that runs ahead says so as well, and there is no way back: it has to go on saying so for some minutes of
    `uptime`, which nobody sets. One that is behind finds the beginning ahead, and dates it anew in the past: counted is
    from the latest date that can be true.
    """

    def __init__(self, uptime: Callable[[], float] = time.monotonic) -> None:
        self._uptime = uptime
        self._first: tuple[str, float] | None = None

    def over(self, trial: LiveTrial, hours: float, now: datetime) -> bool:
        begun = [at for at in (trial.began, trial.since) if at <= now + AHEAD]
        if not begun or now - max(begun) < timedelta(hours=hours):
            self._first = None
            return False
        uptime = self._uptime()
        if self._first is None or self._first[0] != trial.id:
            self._first = trial.id, uptime
        return uptime - self._first[1] >= SURE_SECONDS


def look(
    store: Store, registry: Registry, settings: CanarySettings, base: str, now: datetime, hours: Hours | None = None
) -> LiveTrial | None:
    """Watch what serves: begin, count, go on to the next stage, or roll back.

    The canary of what served when it began to look, which may have ended; None where there is none. `base` is the name
    of the base model. Without `hours` no split ends by the clock. Raises StoreError and AdapterError.
    """
    # In this order: what is on the list began when the pointer named it, so that a promotion in between ends nothing.
    trials, pointer = store.canaries(), registry.pointer()
    _close_others(store, registry, settings, trials, pointer, now)
    trial = _begun(store, registry, settings, pointer, base, now)
    if trial is None or not trial.running:
        return trial
    patience = timedelta(minutes=settings.patience_minutes)
    new = store.count_finished(trial.id, now - patience, now + AHEAD)
    evidence = weigh(store, trial)
    if trial.stage == "split" and trial.since > now + AHEAD:
        why = f"it began at {trial.since:%Y-%m-%d %H:%M}, ahead of the clock, which was wrong then or is now"
        _enter(store, trial, "split", trial.share, now, why, evidence)
    if new:
        _log.info("canary.counted", adapter=trial.adapter, statistics=evidence.statistics())
    if why := harm(evidence, settings):
        roll_back(store, registry, trial, why, now)
    elif trial.stage == "split" and (why := _enough(trial, evidence, settings, now, hours)):
        stage: Stage = "holdback" if settings.holdback else "passed"
        _enter(store, trial, stage, 1 - settings.holdback, now, why, evidence)
    return store.canary(trial.id)


def state_of(store: Store, trial: LiveTrial, settings: CanarySettings) -> CanaryState:
    """What is known of a canary; changes nothing. Raises StoreError."""
    return CanaryState(trial=trial, evidence=weigh(store, trial), threshold=settings.threshold)


def last_state(store: Store, settings: CanarySettings) -> CanaryState | None:
    """That of the last canary there was, running or not; None before the first."""
    trials = store.canaries()
    return state_of(store, trials[-1], settings) if trials else None


def weigh(store: Store, trial: LiveTrial) -> Evidence:
    """All evidence on a canary, computed from its counts."""
    counted, replies = store.counted(trial.id), store.counted(trial.id, "reply")
    replayed = store.replayed(trial.id)
    return Evidence(
        new=_arm([one for one in counted if one.new]),
        old=_arm([one for one in counted if not one.new]),
        drawn=store.count_assigned(trial.id),
        sessions_e=plain(log_e(counted)),
        replies=len(replies),
        replies_e=plain(log_e(replies)),
        replayed=len(replayed),
        replay_e=plain(replay_log_e(replayed)),
    )


def replay_log_e(replayed: Sequence[Replayed]) -> float:
    """Log of the betting E-value against "what served before is no better", from the pairs of the replays."""
    return paired.log_e([one.previous - one.served for one in replayed], 0.0)


def harm(evidence: Evidence, settings: CanarySettings) -> str:
    """Why to roll back, "" while nothing says so."""
    if evidence.sessions_e >= settings.threshold:
        return f"fewer of its sessions pass than of the old adapter's (E {evidence.sessions_e:.3g})"
    if evidence.replay_e >= settings.threshold:
        return f"what served before does better on the same tasks (E {evidence.replay_e:.3g})"
    if evidence.replies_e >= settings.explosion_threshold:
        return f"its replies are broken, or too long or slow, more often (E {evidence.replies_e:.3g})"
    return ""


def roll_back(
    store: Store, registry: Registry, trial: LiveTrial, why: str, now: datetime, *, quarantine: bool = True
) -> None:
    """Take a promotion back, if it still serves: one move of the pointer, which needs no model server.

    Without `quarantine` it may be promoted again by hand. The pointer first: whoever is killed in between leaves a
    canary that the next look closes.
    """
    evidence = weigh(store, trial)
    if registry.roll_back_from(trial.adapter, why=why, statistics=evidence.statistics(), quarantine=quarantine):
        _enter(store, trial, "rolled_back", 0.0, now, why, evidence)


def abandon(store: Store, trial: LiveTrial, why: str, now: datetime) -> None:
    """Stop comparing, because there is nothing to compare with any more: everybody gets the new adapter."""
    _enter(store, trial, "abandoned", 1.0, now, why, weigh(store, trial))


def plain(log_value: float) -> float:
    """An E-value to show, from its log."""
    return float(f"{math.exp(min(log_value, math.log(_LARGEST))):.4g}")


def _begun(
    store: Store, registry: Registry, settings: CanarySettings, pointer: Pointer, base: str, now: datetime
) -> LiveTrial | None:
    if not settings.enabled or pointer.name is None or not pointer.promotion:
        return None
    previous = old_name(registry, pointer, base)
    if store.begin_canary(pointer.promotion, pointer.name, previous, settings.share, now):
        _log.info("canary.began", adapter=pointer.name, previous=previous, share=settings.share)
    return store.canary(pointer.promotion)


def old_name(registry: Registry, pointer: Pointer, base: str) -> str:
    """What the sessions get that the lot does not give to the new adapter: the base where the old one is damaged."""
    with suppress(AdapterError):
        return registry.get(pointer.previous).name if pointer.previous else base
    return base


def _close_others(
    store: Store,
    registry: Registry,
    settings: CanarySettings,
    trials: Sequence[LiveTrial],
    pointer: Pointer,
    now: datetime,
) -> None:
    """End what is watched although something else serves: somebody moved the pointer. Or although nobody wants it."""
    for trial in trials:
        if trial.running and trial.id == pointer.promotion and not settings.enabled:
            abandon(store, trial, "canary.enabled is off", now)
        elif trial.running and trial.id != pointer.promotion:
            try:
                # A pointer without a promotion was moved by a rollback, and not each of them puts in quarantine.
                back = not pointer.promotion or registry.get(trial.adapter).state is AdapterState.QUARANTINED
            except AdapterError:
                back = True  # damaged, or gone: nobody gets it any more
            stage: Stage = "rolled_back" if back else "superseded"
            why = f"{pointer.name or 'the base'} serves now"
            _enter(store, trial, stage, 0.0 if back else 1.0, now, why, weigh(store, trial))


def _enough(trial: LiveTrial, evidence: Evidence, settings: CanarySettings, now: datetime, hours: Hours | None) -> str:
    judged = evidence.new.sessions + evidence.old.sessions
    if judged >= settings.sessions:
        return f"{judged} sessions were judged and show no harm"
    if hours and hours.over(trial, settings.hours, now):
        return f"{settings.hours:g} hours are over; {judged} sessions were judged"
    return ""


def _enter(
    store: Store, trial: LiveTrial, stage: Stage, share: float, now: datetime, why: str, evidence: Evidence
) -> None:
    if store.enter_stage(trial.id, stage, share, now, why):
        _log.warning(
            "canary.entered",
            adapter=trial.adapter,
            stage=stage,
            share=share,
            why=why,
            statistics=evidence.statistics(),
        )


def _arm(counted: Sequence[Counted]) -> Arm:
    return Arm(sessions=len(counted), failures=sum(one.failed for one in counted))
