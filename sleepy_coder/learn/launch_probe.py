"""What `accelerate launch` would make of its arguments, on this machine, as one JSON line. It starts nothing.

A process of its own (`launch.read_launch`), because accelerate needs torch to read them.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from sleepy_coder.learn.launch import Launch


def read(arguments: Sequence[str]) -> Launch:
    """Raises ValueError, or ends the process as argparse does, when the launcher would not take them."""
    given = launch_command_parser().parse_args(list(arguments))
    if not given.module or given.training_script != "child":
        raise ValueError(f"{given.training_script} is no argument of accelerate launch")
    read: Any = _validate_launch_command(given)[0]
    machines, processes = int(read.num_machines), int(read.num_processes)
    meets = read.main_process_ip and read.main_process_port
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if read.gpu_ids not in (None, "all"):
        gpus = min(gpus, len(read.gpu_ids.split(",")))
    return Launch(
        machines=machines,
        rank=int(read.machine_rank or 0),
        here=processes // machines,
        gpus=gpus,
        met_at=f"{read.main_process_ip}:{read.main_process_port}" if meets else "",
    )


if __name__ == "__main__":
    try:
        print(read(sys.argv[1:]).model_dump_json())  # noqa: T201
    except (ValueError, ZeroDivisionError) as error:
        sys.exit(f"error: {error}")
