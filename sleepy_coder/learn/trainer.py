"""The parent of a training run: hands the mix to a child process and follows its progress.

A child, because torch must not live in the daemon, and because a training run that is killed by
the kernel must not take anything else with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.errors import TrainingError
from sleepy_coder.files import write_atomic
from sleepy_coder.types import Adapter, Recipe, Record, TrainingMix

JOB_FILE = "job.json"
OUTPUT = "adapter"
_log = log.get("train")


class TrainingJob(Record):
    """All that the child needs, in one file of its work folder. `sha256` names mix and recipe."""

    model: Path
    parent: Path | None
    mix: TrainingMix
    recipe: Recipe


class Step(Record):
    """One optimiser step as the child reports it. Losses in nats per token."""

    step: int
    steps: int
    loss: float
    kl: float
    learning_rate: float


class ChildTrainer:
    """Trains in `python -m sleepy_coder.learn.train_lora WORKDIR`; see there for the method.

    `on_step` hears of every optimiser step; `threads` bounds the CPU threads, 0 leaves it to torch.
    """

    def __init__(self, model: Path, on_step: Callable[[Step], None] = lambda _: None, threads: int = 0) -> None:
        self._model = model
        self._on_step = on_step
        self._threads = threads

    def train(self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path) -> Path:
        """Train, or go on where an earlier child of the same job stopped; the folder of the new adapter.

        Raises TrainingError, with the end of the child's own words, when it ends without an adapter.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        job = TrainingJob(model=self._model, parent=parent.path if parent else None, mix=mix, recipe=recipe)
        write_atomic(workdir / JOB_FILE, job.model_dump_json())
        environment = dict(os.environ)
        if self._threads:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        argv = [sys.executable, "-m", "sleepy_coder.learn.train_lora", str(workdir)]
        last: deque[str] = deque(maxlen=20)
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as child:
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    if not self._heard(line):
                        last.append(line.rstrip())
            except BaseException:
                child.terminate()
                raise
        if child.returncode != 0 or not (workdir / OUTPUT / "adapter_config.json").is_file():
            said = "\n".join(last)
            raise TrainingError(
                f"training ended with status {child.returncode}:\n{said}",
                f"its work is kept in {workdir}; the next night trains anew",
            )
        return workdir / OUTPUT

    def _heard(self, line: str) -> bool:
        """Whether `line` was a progress report."""
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            return False
        if not isinstance(data, dict) or "event" not in data:
            return False
        event = data.pop("event")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if event == "resumed":
            _log.warning("train.resumed", **data)
            return True
        if event == "left_out":
            _log.warning("train.left_out", **data)
            return True
        step = Step.model_validate(data)
        _log.info("train.step", **step.model_dump())
        self._on_step(step)
        return True
