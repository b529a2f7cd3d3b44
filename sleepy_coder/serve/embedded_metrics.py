"""The embedded server's /metrics, under vLLM's own names."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sleepy_coder.serve.embedded_engine import Counts


class Metrics(Collector):
    """Reads the engine's counts whenever it is scraped."""

    def __init__(self, model: str, max_loras: int, counts: Counts) -> None:
        self._model, self._max_loras, self._counts = model, max_loras, counts
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        gauges = {
            "vllm:num_requests_running": ("Requests in the running batch.", counts.running),
            "vllm:num_requests_waiting": ("Requests waiting to be processed.", counts.waiting),
        }
        counters = {
            "vllm:prompt_tokens": ("Prefill tokens processed.", counts.prompt_tokens),
            "vllm:generation_tokens": ("Generation tokens processed.", counts.generation_tokens),
        }
        for kind, metrics in ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters)):
            for name, (text, value) in metrics.items():
                family = kind(name, text, labels=["model_name"])
                family.add_metric([self._model], value)
                yield family
        loras = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Running stats on LoRA requests; the value is the time of the scrape.",
            labels=["max_lora", "waiting_lora_adapters", "running_lora_adapters"],
        )
        waiting, running = ",".join(counts.waiting_adapters), ",".join(counts.running_adapters)
        loras.add_metric([str(self._max_loras), waiting, running], time.time())
        yield loras
