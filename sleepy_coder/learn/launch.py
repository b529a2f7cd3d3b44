"""How a training child is started: by itself, or as several processes under `accelerate launch`."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sleepy_coder.errors import ConfigError, InfraError
from sleepy_coder.types import Record

TRAINER_VARIABLE: Final = "SLEEPY_TRAINER_PID"
"""Names the process that wants the adapter to the processes behind the launcher."""
MEETING_SECONDS: Final = 1800
"""So long do processes wait for each other. The launchers' own 15 minutes may pass while somebody starts the others',
NCCL's 10 while one waits for the lock or the disk."""

_CONFIG: Final = Path(__file__).with_name("accelerate.json")
_PROBE: Final = "sleepy_coder.learn.launch_probe"
_PROBE_SECONDS: Final = 120.0
_PLAIN: Final = ("--mixed_precision", "no", "--dynamo_backend", "no", "--rdzv_conf", f"timeout={MEETING_SECONDS}")


class Launch(Record):
    """What `accelerate launch` makes of its arguments: so many of the machines' processes run here, on so many GPUs.

    `gpus` is 0 on a machine that trains on its CPU; `met_at` is where several machines meet, "" when that is not said.
    """

    machines: int
    rank: int
    here: int
    gpus: int
    met_at: str


def command(module: str, workdir: Path, processes: int, arguments: Sequence[str] = ()) -> list[str]:
    """The command that trains in `workdir` with so many processes; `arguments` are more of `accelerate launch`'s own.

    `--multi_gpu` only says that there are several processes: without GPUs they meet on the CPU. The config file of ours
    stands in for the one that `accelerate config` made for other work.
    """
    if processes == 1:
        return [sys.executable, "-m", module, str(workdir)]
    own = ["--num_machines", "1", "--main_process_port", "0", "--config_file", str(_CONFIG)]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    return [*launcher, *_several(processes), *own, *arguments, "--module", module, str(workdir)]


def command_elsewhere(module: str, workdir: Path, processes: int, arguments: Sequence[str]) -> str:
    """The same for the second of several machines, as it is typed there; further ones have another machine_rank."""
    there = [*_several(processes), *arguments, "--machine_rank", "1", "--module", module, str(workdir)]
    return shlex.join(["accelerate", "launch", *there])


def _several(processes: int) -> list[str]:
    return ["--multi_gpu", "--num_processes", str(processes), *_PLAIN]


def machines_in(arguments: Sequence[str]) -> int:
    """How many machines these arguments of `accelerate launch` name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--num_machines", "--num-machines", type=int, default=1)
    try:
        return int(parser.parse_known_args(arguments)[0].num_machines)
    except (argparse.ArgumentError, SystemExit):
        return 1  # the launcher will say what is wrong with them


def read_launch(processes: int, arguments: Sequence[str]) -> Launch:
    """What the launcher would make of these settings, asked in a process of its own: it takes torch to know.

    Raises ConfigError, in the launcher's own words, when it does not take them; InfraError when it cannot be asked.
    """
    argv = command("child", Path("work"), processes, arguments)
    argv[argv.index("accelerate.commands.launch")] = _PROBE
    try:
        asked = subprocess.run(argv, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"accelerate launch said nothing in {_PROBE_SECONDS:.0f} s", "Ask again later.") from error
    if asked.returncode == 0:
        return Launch.model_validate_json(asked.stdout.splitlines()[-1])
    said = (asked.stderr.strip() or "it said nothing").splitlines()[-1]
    _, refused, why = said.partition("error: ")
    if not refused:
        raise InfraError(f"accelerate launch does not start: {said}", "Install sleepy-coder's packages again.")
    raise ConfigError(
        f"accelerate launch does not take these settings: {why}",
        "Mend training.accelerate_args; `accelerate launch --help` lists them.",
    )
