"""The parent of a training run: hands the mix to a child process and follows its progress.

A child, because torch must not live in the daemon, and because a training run that is killed by
the kernel must not take anything else with it. It has a process group of its own, so that a Ctrl-C
reaches it as what it is: a wish to stop at a checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import queue
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sleepy_coder import log
from sleepy_coder.adapter_check import check_adapter
from sleepy_coder.adapter_manifest import CONFIG, FULL_PRECISION, content_sha256, fast_weights, quantised_by
from sleepy_coder.config import ONE_PROCESS, TrainingSettings
from sleepy_coder.errors import AdapterError, ConfigError, TrainingError, TrainingPaused
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.child_process import kill_group, lines_of, message_in, running
from sleepy_coder.learn.endings import ending
from sleepy_coder.learn.launch import TRAINER_VARIABLE, command, command_elsewhere, machines_in
from sleepy_coder.learn.outputs import OUTPUT
from sleepy_coder.types import Adapter, Objective, Recipe, Record, TrainingMix

JOB_FILE = "job.json"
LAST_STEP = "last_step.json"
PAUSED = os.EX_TEMPFAIL  # the child's status when it stopped because it was asked to
_LOOK_SECONDS = 1.0
_LAST_LINES = 1000  # of several processes each may leave a traceback, and the launcher repeats them all
_TRL: Final = "sleepy_coder.learn.train_trl"
_CHILDREN: Final[Mapping[Objective, str]] = {"sft": "sleepy_coder.learn.train_lora", "grpo": _TRL, "sdft": _TRL}
_STOPPED: Final = "got signal: 15"  # behind the launcher a status is lost: it says that SIGTERM came
_GPUS: Final = "CUDA_VISIBLE_DEVICES"
_log = log.get("train")


class TrainingJob(Record):
    """All that the child needs, in one file of its work folder.

    Training goes on from the adapter in `parent`, of two learners the fast one from the weights in `fast`.
    `max_tokens` bounds the answers of a child that generates while it trains; `spread` says that several processes
    hold the base model together (FSDP) and not one copy each; `rows_at_once` how many rows go through the model
    together (None: what suits the machine). `base_sha256` is the model's hash, "" where nobody took it.
    """

    model: Path
    parent: Path | None
    fast: Path | None = None
    mix: TrainingMix
    recipe: Recipe
    max_tokens: int = 160
    spread: bool = False
    rows_at_once: int | None = None
    base_sha256: str = ""

    def identity(self) -> dict[str, str]:
        """What decides the result of learning from rows, each part by its content: a checkpoint fits an equal one.

        Folders may have moved, and other processes or fewer rows at once make the same up to rounding.
        """
        contents = {"mix": self.mix.model_dump_json(), "recipe": self.recipe.model_dump_json()}
        return {
            **{part: hashlib.sha256(content.encode()).hexdigest() for part, content in contents.items()},
            "model": self.base_sha256 or str(self.model),
            "parent": _content_of(self.parent),
            "fast": _content_of(self.fast),
        }


class Step(Record):
    """One optimiser step as the child reports it. Losses in nats per token; `reward` is the mean of its answers.

    `kl` to the base is None where the objective does not measure it.
    """

    step: int
    steps: int
    loss: float
    kl: float | None = None
    learning_rate: float
    reward: float | None = None


def _content_of(adapter: Path | None) -> str:
    """The hash of an adapter's folder; its path when it has none."""
    if adapter is None:
        return ""
    try:
        return content_sha256(adapter)
    except AdapterError:
        return str(adapter)


def last_step(workdir: Path) -> Step | None:
    """The last step of the training that ended in `workdir`; None when its trainer did not say, or did none."""
    file = workdir / LAST_STEP
    return Step.model_validate_json(file.read_bytes()) if file.is_file() else None


@dataclass(slots=True)
class ChildTrainer:
    """Trains in `python -m sleepy_coder.learn.train_lora WORKDIR`, or train_trl; see there for the methods.

    `on_step` hears of every optimiser step; `threads` bounds the CPU threads, 0 leaves it to torch. A child that is
    asked to pause gets `patience` seconds for its step and a checkpoint, and is killed after that. `max_tokens` is
    the longest answer, for recipes that generate; those train in one process, others in as many as `together` says.
    `base_sha256` is the model's hash, by which a checkpoint knows it again wherever it lies.
    """

    model: Path
    on_step: Callable[[Step], None] = lambda _: None
    threads: int = 0
    patience: float = 120.0
    max_tokens: int = 160
    together: TrainingSettings = ONE_PROCESS
    base_sha256: str = ""
    _steps: int = field(default=0, init=False)
    _last: Step | None = field(default=None, init=False)

    def train(
        self,
        mix: TrainingMix,
        parent: Adapter | None,
        recipe: Recipe,
        workdir: Path,
        pause: Callable[[], bool] = lambda: False,
    ) -> Path:
        """Train, or go on where an earlier child of the same job stopped; the folder of the new adapter.

        Raises TrainingPaused when `pause`, asked at least once a second, said so; TrainingKilled when the child was
        killed from outside, and ProcessesLost when several did not meet or lost each other; InfraError when the disk
        is full or no answer can be judged (the same call goes on from the last checkpoint then); TrainingError, with
        the end of the child's own words, when it ends without an adapter, and beforehand when the base is quantised;
        AdapterError when the adapter is none of this recipe for this base; and ConfigError when the recipe needs an
        extra that is not installed.
        """
        refuse_quantised(self.model)
        child_module, processes = _CHILDREN[recipe.objective], self.together.processes
        require_for(recipe.objective)
        if child_module == _TRL:
            processes = 1
        workdir.mkdir(parents=True, exist_ok=True)
        job = self._job(mix, parent.path if parent else None, recipe, processes)
        write_atomic(workdir / JOB_FILE, job.model_dump_json())
        environment = environment_for(recipe.objective, os.environ, self.threads)
        argv = command(child_module, workdir, processes, more := self.together.accelerate_args)
        if processes > 1 and (machines := machines_in(more)) > 1:
            there = command_elsewhere(child_module, workdir, processes, more)
            _log.warning("train.awaits_machines", machines=machines, command=there)
        last: deque[str] = deque(maxlen=_LAST_LINES)
        self._steps, self._last, began = 0, None, time.monotonic()
        with running(argv, environment, self.patience) as child:
            asked = self._follow(child, last, pause)
        if child.returncode == 0 and (workdir / OUTPUT / CONFIG).is_file():
            return self._finished(workdir, recipe, round(time.monotonic() - began, 3))
        said = "\n".join(last)
        # One that is still loading ends by SIGTERM itself, one that does not listen was killed.
        if asked and (child.returncode in (PAUSED, -signal.SIGTERM, -signal.SIGKILL) or _STOPPED in said):
            _log.warning("train.paused", workdir=str(workdir))
            raise TrainingPaused("training was asked to pause", "the same night goes on from the last checkpoint")
        raise ending(child.returncode, said, workdir, recipe.objective, processes > 1)

    def _job(self, mix: TrainingMix, start: Path | None, recipe: Recipe, processes: int) -> TrainingJob:
        return TrainingJob(
            model=self.model,
            parent=start,
            fast=fast_weights(start) if start and recipe.dual else None,
            mix=mix,
            recipe=recipe,
            max_tokens=self.max_tokens,
            spread=processes > 1 and self.together.strategy == "fsdp",
            rows_at_once=self.together.rows_at_once,
            base_sha256=self.base_sha256,
        )

    def _finished(self, workdir: Path, recipe: Recipe, seconds: float) -> Path:
        if self._last is not None:
            write_atomic(workdir / LAST_STEP, self._last.model_dump_json())
        loss = self._last.loss if self._last else None
        _log.info("train.finished", steps=self._steps, loss=loss, seconds=seconds)
        check_adapter(workdir / OUTPUT, recipe, self.model)  # before anybody loads it
        return workdir / OUTPUT

    def _follow(self, child: subprocess.Popen[str], last: deque[str], pause: Callable[[], bool]) -> bool:
        """Hear the child out, with its last words in `last`; whether it was asked to pause."""
        lines, kill_at = lines_of(child), None
        while True:
            if kill_at is None and pause():
                child.terminate()
                kill_at = time.monotonic() + self.patience
            elif kill_at is not None and time.monotonic() > kill_at:
                kill_group(child)
            with suppress(queue.Empty):
                line = lines.get(timeout=_LOOK_SECONDS)
                if line is None:
                    return kill_at is not None
                if not self._heard(line):
                    last.append(line.rstrip())

    def _heard(self, line: str) -> bool:
        """Whether `line` was a progress report."""
        data = message_in(line)
        if data is None:
            return False
        match data.pop("event"):
            case "resumed":
                _log.warning("train.resumed", **data)
            case "not_resumed":
                _log.warning("train.not_resumed", **data)
            case "left_out":
                _log.warning("train.left_out", **data)
            case "stopped_early":
                _log.warning("train.stopped_early", **data)
            case _:
                step = Step.model_validate(data)
                _log.info("train.step", **step.model_dump(exclude_none=True))
                self._steps, self._last = self._steps + 1, step
                self.on_step(step)
        return True


def environment_for(objective: Objective, own: Mapping[str, str], threads: int = 0) -> dict[str, str]:
    """The environment of a training child whose parent has `own`; `threads` bounds its CPU threads, 0 does not.

    What learns through TRL sees the first GPU alone: with several it would make a DataParallel of the model, which
    GRPO refuses and SDFT does not expect.
    """
    made = {
        **own,
        "HF_HUB_OFFLINE": "1",  # the model is on the disk, and TRL would send telemetry
        TRAINER_VARIABLE: str(os.getpid()),
    }
    if threads:
        made["OMP_NUM_THREADS"] = str(threads)
    if _CHILDREN[objective] == _TRL:
        made[_GPUS] = own.get(_GPUS, "0").partition(",")[0]
    return made


def require(package: str, extra: str) -> None:
    """Raises ConfigError, with the command that mends it, when an optional package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"this recipe needs the package {package}", f"pip install 'sleepy-coder[{extra}]'")


def require_for(objective: Objective) -> None:
    """Raises ConfigError when what trains for `objective` needs an extra that is not installed."""
    if _CHILDREN[objective] == _TRL:
        require("trl", "trl")


def refuse_quantised(model: Path) -> None:
    """Raises TrainingError when the base's weights are quantised, other than by an installed bitsandbytes.

    What else there is lets no gradient through, or needs packages of its own. Cheap: asked before anything is dreamed.
    """
    method = quantised_by(model)
    if method and not (method == "bitsandbytes" and importlib.util.find_spec(method)):
        raise TrainingError(f"{model} is quantised ({method}) and cannot be trained here", FULL_PRECISION)


def refuse_idle_processes(objective: Objective, rows: int, processes: int) -> None:
    """Raises TrainingError when each of `processes` cannot have one of the `rows` of a step. Cheap, as above."""
    if processes > rows and _CHILDREN[objective] != _TRL:  # which trains in one
        remedy = "raise recipe.batch_size or lower training.processes"
        raise TrainingError(f"{processes} processes cannot share {rows} rows", remedy)
