"""The parent of a merge: hands base and adapter to a child process and follows its progress.

A child, because torch must not live in a command that a person waits for, and because a model that does not fit into
memory takes only the child with it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TextIO, cast

from sleepy_coder.adapter_manifest import quantised_by
from sleepy_coder.errors import ConfigError, InfraError, TrainingError
from sleepy_coder.learn.child_process import message_in, running
from sleepy_coder.learn.endings import NO_SPACE
from sleepy_coder.learn.launch import TRAINER_VARIABLE
from sleepy_coder.types import Record

STEPS: Final = ("load", "ask", "merge", "write", "prove")
_QUOTED_LINES: Final = 20
_ROOM: Final = (
    "Free as much as the base takes, with --dtype float32 up to twice that; `export` takes another disk (--out)"
)


class MergeJob(Record):
    """What the child needs: two folders to read, an existing one to write to, and in which precision."""

    model: Path
    adapter: Path
    out: Path
    dtype: Literal["base", "float32"]


class MergeProof(Record):
    """Mean KL in nats per token on fixed texts: `update` is KL(base || base with adapter), what the adapter changes;
    `error` is KL(base with adapter || merged), what of it the merged files say otherwise."""

    update: float
    error: float

    @property
    def lost(self) -> float:
        """What share of the update the merged files say otherwise."""
        return self.error / self.update if self.update else 0.0


def merge(job: MergeJob, on_step: Callable[[str, int], None] = lambda _, __: None) -> MergeProof:
    """Merge in `python -m sleepy_coder.learn.merge_lora`; `on_step` hears each of STEPS with its number from 1.

    Raises ConfigError for a quantised base, whose weights cannot take the update, InfraError when the disk is full,
    and TrainingError, with the end of the child's own words, when it ends without a model whose proof holds.
    """
    if quantised_by(job.model):
        raise ConfigError("the base is quantised", "serve the adapter beside it, or set model.path to the full weights")
    argv = [sys.executable, "-m", "sleepy_coder.learn.merge_lora", job.model_dump_json()]
    last: deque[str] = deque(maxlen=_QUOTED_LINES)
    proof: MergeProof | None = None
    environment = {**os.environ, TRAINER_VARIABLE: str(os.getpid())}
    with running(argv, environment, 0.0) as child, cast("TextIO", child.stdout) as lines:
        for line in lines:
            said = message_in(line)
            if said is None:
                last.append(line.rstrip())
            elif said.pop("event") == "step":
                on_step(STEPS[int(said["step"]) - 1], int(said["step"]))
            else:
                proof = MergeProof.model_validate(said)
    if child.returncode != 0 or proof is None:
        if any(NO_SPACE in line for line in last):
            raise InfraError(f"the disk of {job.out.parent} is full; nothing was written", _ROOM)
        killed = child.returncode == -signal.SIGKILL
        remedy = "it needs 4 bytes of memory per parameter" if killed else "nothing was written"
        raise TrainingError("\n".join((f"merging ended with status {child.returncode}", *last)), remedy)
    return proof
