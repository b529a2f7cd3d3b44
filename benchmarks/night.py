"""How long a whole night takes, split by phase. One JSON line.

Two days of real tasks, each followed by a night, on the embedded server. The first night of an installation
also writes the anchors and judges the frozen programs for the first time; the second is what every later
night is like. The peer is the same evaluation as a client without batching would do it: one request at a
time, on a sample of the frozen tasks in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from sleepy_coder import wiring
from sleepy_coder.collect.agent import work_through
from sleepy_coder.config_load import load_config
from sleepy_coder.deploy import incumbent, measure
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.tasks import choose_tasks, load_split
from sleepy_coder.types import NightReport

GOAL_SECONDS = 60


def day(parts: Parts, met: set[str], count: int) -> float:
    """Let what serves meet `count` tasks that are not in `met`; seconds."""
    started = time.perf_counter()
    tasks = choose_tasks(load_split("day"), met, count, None, 0)
    met |= {task.id for task in tasks}
    serving = incumbent(parts.registry, parts.server, parts.prover)
    for _ in work_through(
        tasks,
        serving.name if serving else parts.base.name,
        parts.server,
        parts.verifier,
        parts.config.agent,
        parts.clock,
        "bench",
        parts.store.save_episode,
    ):
        pass
    return time.perf_counter() - started


def summary(report: NightReport) -> dict[str, object]:
    """What one night did, and the seconds of each phase."""
    return {
        "seconds": round(sum(phase.seconds for phase in report.phases), 1),
        "phases": {phase.name: phase.seconds for phase in report.phases},
        "outcome": report.outcome,
        "rows": sum(report.counts.values()),
        "steps": report.steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=320)
    parser.add_argument("--peer-tasks", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        config = load_config(Path(home))
        with wiring.embedded_server(config) as served, wiring.open_parts(served, wiring.Silent()) as parts:
            met: set[str] = set()
            day_seconds = day(parts, met, options.tasks)
            first = run_night(parts)
            day(parts, met, options.tasks)
            second = run_night(parts)
            alone = config.eval.model_copy(update={"concurrency": 1})
            few = parts.frozen[: options.peer_tasks]
            one_by_one = measure(parts, "other", None, few, alone, lambda: None)
    candidate = next(arm for arm in second.reports if arm.arm == "candidate")
    batched = len(candidate.samples) / candidate.seconds
    line = {
        "benchmark": "night",
        "goal_seconds": GOAL_SECONDS,
        "night": summary(second),
        "first_night": summary(first),
        "day_seconds": round(day_seconds, 1),
        "frozen_tasks": len(candidate.samples),
        "evaluated_per_second": round(batched, 2),
        "one_by_one_per_second": round(len(few) / one_by_one.seconds, 2),
        "ratio": round(batched / (len(few) / one_by_one.seconds), 2),
        "cores": os.cpu_count(),
    }
    print(json.dumps(line))  # noqa: T201


if __name__ == "__main__":
    main()
