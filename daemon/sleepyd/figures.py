"""What the store and the registry know, for the metrics, the state and the live page.

Nights run in another process, so nothing of theirs is counted here: it is read from the store whenever somebody asks,
at most every few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, Generic, TypeVar, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sleepy_coder import log
from sleepy_coder.adapter_manifest import adapter_cycle
from sleepy_coder.canary import CanaryState
from sleepy_coder.errors import SleepyError
from sleepy_coder.serve.gateway_client import Outlook
from sleepy_coder.store_figures import Figures
from sleepy_coder.types import Decision, NightOutcome, Record

T = TypeVar("T")
_log = log.get("gateway")
_KEEP_SECONDS: Final = 10.0

# A series that begins with its first night has no change that an alert could see.
_NO_NIGHTS: Final = dict.fromkeys(get_args(NightOutcome), 0)
_NO_DECISIONS: Final = dict.fromkeys((str(decision) for decision in Decision), 0)


class Snapshot(Record):
    """The store's figures, and the registry's word on what serves; `since` is when the pointer was moved last.

    `canary` is the last promotion that was watched, or is still.
    """

    figures: Figures
    serving: str
    since: datetime | None
    canary: CanaryState | None = None


class Remembered(Generic[T]):
    """What `read` gave, for `seconds`; then it is read anew. For several threads, of which one reads at a time."""

    def __init__(
        self, read: Callable[[], T], seconds: float = _KEEP_SECONDS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._seconds, self._now = read, seconds, now
        self._lock = threading.Lock()
        self._value: T | None = None
        self._until = float("-inf")

    @property
    def stale(self) -> bool:
        """Whether it is time to read, and nobody is at it."""
        return self._is_over() and not self._lock.locked()

    def _is_over(self) -> bool:
        return self._now() >= self._until

    def last(self) -> T | None:
        """What was read last, at once and however old; None before the first time and after a failure."""
        return self._value

    def get(self) -> T | None:
        """What there is to read now; None when it cannot be read."""
        with self._lock:
            if self._is_over():
                try:
                    self._value = self._read()
                except SleepyError as error:
                    self._value = None
                    _log.error("gateway.figures_unreadable", reason=str(error))
                self._until = self._now() + self._seconds
            return self._value


class HomeMetrics(Collector):
    """The numbers of this home: episodes, nights, what serves, and whether the model servers agree.

    `out_of_order` has a reason for every model server that does not hold what serves; `servers` names all of them, and
    any other name in it concerns them all.
    """

    def __init__(
        self,
        snapshot: Remembered[Snapshot],
        servers: tuple[str, ...] = (),
        out_of_order: Callable[[], Mapping[str, str]] = dict[str, str],
        outlook: Callable[[], Outlook] | None = None,
    ) -> None:
        self._snapshot, self._servers = snapshot, servers
        self._out_of_order, self._outlook = out_of_order, outlook

    def collect(self) -> Iterator[Metric]:
        found = self._snapshot.get()
        yield GaugeMetricFamily(
            "sleepy_store_up", "1 while store and registry can be read; without them their numbers are missing.",
            value=found is not None,
        )  # fmt: skip
        if found is not None:
            yield from _of_store(found.figures)
            yield from _of_registry(found)
            yield from _of_canary(found.canary)
        wrong = self._out_of_order()
        everywhere = wrong.keys() - set(self._servers)
        order = GaugeMetricFamily(
            "sleepy_server_in_order", "1 when a model server holds what the pointer names, proved.", labels=["server"]
        )
        for server in self._servers:
            order.add_metric([server], not everywhere and server not in wrong)
        yield order
        if self._outlook is not None:
            yield from _of_outlook(self._outlook())


def _counts(name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        metric.add_metric([value], count)
    return metric


def _of_store(figures: Figures) -> Iterator[Metric]:
    episodes = GaugeMetricFamily("sleepy_episodes", "Episodes in the store.", labels=["source", "outcome"])
    for one in figures.episodes:
        episodes.add_metric([one.source, one.outcome], one.count)
    yield episodes
    yield GaugeMetricFamily("sleepy_episodes_today", "Episodes made since midnight.", value=figures.today)
    yield GaugeMetricFamily("sleepy_quarantined", "Inputs that were refused and put aside.", value=figures.quarantined)
    nights, decisions = {**_NO_NIGHTS, **figures.nights}, {**_NO_DECISIONS, **figures.decisions}
    yield _counts("sleepy_nights", "Nights that ended, by what became of them.", "outcome", nights)
    yield _counts("sleepy_gate_decisions", "What the gate said.", "decision", decisions)
    if figures.last is not None:
        last = figures.last
        yield GaugeMetricFamily("sleepy_last_night_cycle", "Number of the last night that ended.", value=last.cycle)
        yield GaugeMetricFamily(
            "sleepy_last_night_finished_timestamp_seconds", "When it ended.", value=last.finished.timestamp()
        )
        yield _counts("sleepy_last_night_phase_seconds", "Wall-clock time of each of its steps.", "phase", last.phases)


def _of_registry(found: Snapshot) -> Iterator[Metric]:
    yield _counts("sleepy_serving_info", "What the pointer names; always 1.", "model", {found.serving: 1})
    cycle = adapter_cycle(found.serving) or 0
    yield GaugeMetricFamily(
        "sleepy_serving_cycle", "The night that made what serves, 0 for the base; falls by a rollback.", value=cycle
    )
    if found.since is not None:
        yield GaugeMetricFamily(
            "sleepy_serving_since_timestamp_seconds", "When the pointer was moved last.", value=found.since.timestamp()
        )


def _of_canary(canary: CanaryState | None) -> Iterator[Metric]:
    running = canary is not None and canary.trial.running
    yield GaugeMetricFamily("sleepy_canary_running", "1 while a promotion is watched.", value=running)
    if canary is None:
        return
    found = canary.evidence
    values = {"sessions": found.sessions_e, "replies": found.replies_e, "replay": found.replay_e}
    yield _counts("sleepy_canary_e_value", "Evidence of harm, by its kind.", "kind", values)
    judged = {"new": found.new.sessions, "old": found.old.sessions}
    yield _counts("sleepy_canary_sessions", "Sessions that a verifier judged, by adapter.", "arm", judged)
    failures = {"new": found.new.failures, "old": found.old.failures}
    yield _counts("sleepy_canary_failures", "Those that it did not pass, by adapter.", "arm", failures)


def _of_outlook(outlook: Outlook) -> Iterator[Metric]:
    yield GaugeMetricFamily("sleepy_night_running", "1 while a night of this daemon runs.", value=outlook.running)
    if outlook.next is not None:
        yield GaugeMetricFamily(
            "sleepy_next_window_timestamp_seconds", "When the next window opens.", value=outlook.next.timestamp()
        )
