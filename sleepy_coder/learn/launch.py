"""How a training child is started: by itself, or as several processes under `accelerate launch`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TRAINER_VARIABLE: Final = "SLEEPY_TRAINER_PID"
"""Names the process that wants the adapter to the processes behind the launcher."""

_CONFIG: Final = Path(__file__).with_name("accelerate.json")


def command(module: str, workdir: Path, processes: int, arguments: Sequence[str] = ()) -> list[str]:
    """The command that trains in `workdir` with so many processes; `arguments` are more of `accelerate launch`'s own.

    `--multi_gpu` only says that there are several processes: without GPUs they meet on the CPU. The config file of ours
    stands in for the one that `accelerate config` made for other work.
    """
    if processes == 1:
        return [sys.executable, "-m", module, str(workdir)]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    plain += ["--config_file", str(_CONFIG)]
    return [*launcher, *plain, *arguments, "--module", module, str(workdir)]
