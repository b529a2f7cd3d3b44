"""Training that a SIGKILL ends at a certain step: the child sends it to itself, since a parent may come too late."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_CHILD = """
import os, signal, sys
from sleepy_coder.learn import train_lora
said = train_lora.say
def say(event, **fields):
    said(event, **fields)
    if event == "step" and fields["step"] == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
train_lora.say = say
train_lora.main()
"""


def killed_at(step: int, workdir: Path) -> int:
    """Train what the job in `workdir` asks for; the exit status of the child, which dies after `step`."""
    argv = [sys.executable, "-c", _CHILD, str(workdir), str(step)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(argv, stdout=subprocess.DEVNULL, env=environment, check=False).returncode
