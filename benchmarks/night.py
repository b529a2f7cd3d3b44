"""How long a whole night takes, split by phase. One JSON line.

A day of real tasks is met first, then one night runs on the embedded server with an empty verdict
cache for its new answers. The peer is the same night's evaluation as a client without batching would
do it: one request at a time, on a sample of the frozen tasks in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from sleepy_coder import wiring
from sleepy_coder.cli_koans import choose_tasks
from sleepy_coder.collect.agent import work_through
from sleepy_coder.config import load_config
from sleepy_coder.deploy import measure
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.tasks import load_split

GOAL_SECONDS = 60


def day(parts: Parts, count: int) -> float:
    """Let the agent meet `count` tasks; seconds."""
    started = time.perf_counter()
    tasks = choose_tasks(load_split("day"), set(), count, None, 0)
    for _ in work_through(
        tasks,
        parts.base.name,
        parts.server,
        parts.verifier,
        parts.config.agent,
        parts.clock,
        "bench",
        parts.store.save_episode,
    ):
        pass
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=320)
    parser.add_argument("--peer-tasks", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        config = load_config(Path(home))
        model = wiring.model_path(config)
        arguments = ("--served-model-name", config.server.base_name)
        with EmbeddedServer(model, Path(home) / "log", threads=os.cpu_count() or 1, arguments=arguments) as server:
            config = config.model_copy(update={"server": config.server.model_copy(update={"url": server.url})})
            with wiring.open_parts(config, wiring.Silent()) as parts:
                day_seconds = day(parts, options.tasks)
                report = run_night(parts)
                alone = config.eval.model_copy(update={"concurrency": 1})
                few = parts.frozen[: options.peer_tasks]
                one_by_one = measure(parts, "other", None, few, alone, lambda: None)
    total = sum(phase.seconds for phase in report.phases)
    baseline = next(arm for arm in report.reports if arm.arm == "baseline")
    batched = len(baseline.samples) / baseline.seconds
    line = {
        "benchmark": "night",
        "seconds": round(total, 1),
        "goal_seconds": GOAL_SECONDS,
        "phases": {phase.name: phase.seconds for phase in report.phases},
        "day_seconds": round(day_seconds, 1),
        "outcome": report.outcome,
        "rows": sum(report.counts.values()),
        "steps": report.steps,
        "frozen_tasks": len(baseline.samples),
        "evaluated_per_second": round(batched, 2),
        "one_by_one_per_second": round(len(few) / one_by_one.seconds, 2),
        "ratio": round(batched / (len(few) / one_by_one.seconds), 2),
        "cores": os.cpu_count(),
    }
    print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
