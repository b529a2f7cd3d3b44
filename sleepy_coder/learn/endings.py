"""How a training ended that left no adapter: what its child's status and last words tell about it.

Behind `accelerate launch` the status is the launcher's, and one process's end takes the others with it: their words
stand beside each other, and whatever was not the machine's fault counts first.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Final

from sleepy_coder.errors import InfraError, ProcessesLost, TrainingError, TrainingKilled
from sleepy_coder.types import Objective

NOT_JUDGED: Final = os.EX_UNAVAILABLE
"""A child's status when the machine failed it: what it says last is how."""
ORPHANED: Final = "the parent is gone"
"""What a child says that nobody waits for any more."""

_TOLD_LINES: Final = 40  # a launcher frames the child's words with its own
# Behind the launcher a status is lost: what it says last tells that a process was killed.
_KILLED: Final = "Signal 9 (SIGKILL)"
_NO_MEMORY: Final = ("out of memory", "outofmemoryerror", "can't allocate memory")  # the last are a CPU's words
NO_SPACE: Final = "No space left"
_LITTLE_SPACE: Final = 64 << 20  # bytes; the checkpoint that found no room is removed again

_RAISED: Final = re.compile(r"^[ \t[]*(?:rank\d+\]:\s*)?([A-Za-z_][\w.]*(?:Error|Exception): \S.*)$", re.MULTILINE)
"""The last line of a traceback, as a process wrote it and as the launcher shows it."""
# What gloo, NCCL and torch's stores say of a process that is gone, silent, or never came.
_LOST: Final = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "DistStoreError",
    "DistNetworkError",
    "DistBackendError",
    "ncclRemoteError",
    "Watchdog caught collective",
    ORPHANED,  # of another machine's launcher: to a lost parent of their own nobody listens
)
_OWN_MISTAKE: Final = "ncclInvalid"  # the same exceptions, of processes that share a GPU


def ending(status: int, said: str, workdir: Path, objective: Objective, several: bool) -> TrainingError | InfraError:
    """What to call it that a child ended with `status`, after having `said` this, one of `several` processes or alone.

    The machine is no fault of the training's: it goes on later.
    """
    if status == -signal.SIGKILL or _KILLED in said:  # the kernel's way to get memory back
        return TrainingKilled(
            "training was killed from outside", "look for `Out of memory` in the kernel's log (dmesg)"
        )
    if NO_SPACE in said or shutil.disk_usage(workdir).free < _LITTLE_SPACE:
        return InfraError(f"the disk of {workdir} is full", "Free some: the night goes on from its checkpoint")
    if status == NOT_JUDGED:
        return InfraError(said.rpartition("\n")[2], "See `sleepy-coder doctor`: the night goes on from its checkpoint")
    told, kept = "\n".join(said.splitlines()[-_TOLD_LINES:]), f"its work is kept in {workdir}"
    if any(words in said.lower() for words in _NO_MEMORY):
        return TrainingError(
            f"training ran out of memory, with status {status}:\n{told}",
            f"lower {less_memory(objective)}, or set night.share_gpu, so that the model server sleeps"
            f" meanwhile; {kept}",
        )
    if several and (words := lost_words(said)):
        return ProcessesLost(
            f"the processes of the training lost each other, or did not meet: {words}",
            "see that training runs on every machine and that they reach each other; it goes on from its checkpoint",
        )
    return TrainingError(f"training ended with status {status}:\n{told}", f"{kept}; the next night trains anew")


def lost_words(said: str) -> str:
    """The line of `said` that tells of a process that is gone; "" where a process failed for another reason."""
    raised = [line.strip() for line in _RAISED.findall(said)]
    if _OWN_MISTAKE in said or any(not _of_loss(line) for line in raised):
        return ""
    return next((line for line in (*raised, *said.splitlines()) if _of_loss(line)), "").strip()[:300]


def _of_loss(line: str) -> bool:
    return any(words in line for words in _LOST)


def less_memory(objective: Objective) -> str:
    """The settings that training takes less memory with when they are lowered. A batch is generated at once."""
    usual = "training.rows_at_once or model.max_length"
    return f"recipe.batch_size (for grpo to 8 at the least), {usual}" if objective in ("grpo", "sdft") else usual
