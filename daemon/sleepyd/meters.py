"""The gateway's numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Meters:
    """What the gateway and the recorder count. A registry of their own: several gateways fit in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, descriptors, and since when the process runs
        self._requests = Counter(
            "sleepy_gateway_requests", "Requests by wire and status.", ["wire", "status"], registry=self._registry
        )
        self._recorded = Counter("sleepy_gateway_recorded", "Exchanges that were saved.", registry=self._registry)
        self._dropped = Counter(
            "sleepy_gateway_dropped",
            "Exchanges that passed and were not saved, by reason.",
            ["reason"],
            registry=self._registry,
        )
        self._added = Histogram(
            "sleepy_gateway_added_seconds",
            "Time that the gateway adds to the first byte of a reply.",
            buckets=_BUCKETS,
            registry=self._registry,
        )

        self._napping = Counter(
            "sleepy_gateway_napping",
            "Requests that met a sleeping model server: held, refused at once, or held for too long (timed_out).",
            ["what"],
            registry=self._registry,
        )

    def napping(self, what: str) -> None:
        self._napping.labels(what).inc()

    def request(self, wire: str, status: int) -> None:
        self._requests.labels(wire, str(status)).inc()

    def recorded(self, count: int) -> None:
        self._recorded.inc(count)

    def dropped(self, reason: str, count: int = 1) -> None:
        self._dropped.labels(reason).inc(count)

    def added(self, seconds: float) -> None:
        self._added.observe(seconds)

    def watch(self, in_flight: Callable[[], Mapping[str, int]], depth: Callable[[], int], limit: int) -> None:
        """Read these whenever the numbers are asked for; `limit` is how many captures may wait."""
        self._registry.register(_Gauges(in_flight, depth, limit))

    def add(self, numbers: Collector) -> None:
        """Have these on the page as well."""
        self._registry.register(numbers)

    def value(self, name: str, **labels: str) -> float:
        """One number, 0 when it was never counted."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def page(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, in_flight: Callable[[], Mapping[str, int]], depth: Callable[[], int], limit: int) -> None:
        self._in_flight, self._depth, self._limit = in_flight, depth, limit

    def collect(self) -> Iterator[Metric]:
        running = GaugeMetricFamily("sleepy_gateway_in_flight", "Requests in flight by model.", labels=["model"])
        for model, count in self._in_flight().items():
            running.add_metric([model], count)
        yield running
        yield GaugeMetricFamily("sleepy_gateway_queue_depth", "Exchanges that wait to be saved.", value=self._depth())
        yield GaugeMetricFamily("sleepy_gateway_queue_limit", "Exchanges that may wait at most.", value=self._limit)
