"""The daemon that is installed on the machine of these tests: its names, and how to ask for it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from machine import Machine

BIN = Path(sys.prefix) / "bin"
COMMAND = str(BIN / "sleepy-coder")
SERVICE = "sleepy-coder.service"
HOME = "/var/lib/sleepy-coder"
INSTALL = (COMMAND, "service", "install", "--model-server")


def events(machine: Machine) -> list[dict[str, object]]:
    """What the daemon has logged since it was started, as journalctl gives it back."""
    started = f"_SYSTEMD_INVOCATION_ID={machine.show(SERVICE, 'InvocationID')}"
    text = machine.said("journalctl", started, "-o", "cat", "--no-pager")
    return [json.loads(line) for line in text.splitlines()]


def told(machine: Machine, *wanted: str, seconds: float = 120) -> list[dict[str, object]]:
    """What it has logged once all `wanted` events are there: journald, another process, takes its time."""
    deadline = time.monotonic() + seconds
    while True:
        logged = events(machine)
        if missing := {*wanted} - {line.get("event") for line in logged}:
            assert time.monotonic() < deadline, f"{missing} is missing\n{machine.log(SERVICE)}"
            time.sleep(0.5)
        else:
            return logged


def pid(machine: Machine) -> int:
    return int(machine.show(SERVICE, "MainPID"))


def beside(machine: Machine, name: str, *argv: str) -> str:
    """What a command says that runs to its end under the daemon's own unit, hardening and user and all.

    It goes to a file: the journal may still lack the last lines of a unit that has ended.
    """
    output = f"/run/{name}.said"
    unit = machine.said("cat", f"/etc/systemd/system/{SERVICE}")
    for line, other in (
        (r"^ExecStart=.*$", f"ExecStart={' '.join(argv)}"),
        (r"^Type=.*$", f"Type=oneshot\nStandardOutput=truncate:{output}\nStandardError=inherit"),
        (r"^TimeoutStartSec=.*$", "TimeoutStartSec=infinity"),
        (r"^(Restart|WatchdogSec|NotifyAccess)=.*$", ""),
    ):
        unit = re.sub(line, other, unit, flags=re.MULTILINE)
    machine.write(f"/etc/systemd/system/{name}.service", unit)
    machine.run("systemctl", "daemon-reload")
    done = machine.run("systemctl", "start", f"{name}.service", check=False, timeout=2400)
    said = machine.said("cat", output)
    assert done.returncode == 0, said
    return said


def await_model_server(machine: Machine) -> None:
    """Wait until the embedded model server answers."""
    machine.python("import time, httpx\n"
                   "while True:\n"
                   "    try:\n"
                   "        if httpx.get('http://127.0.0.1:8399/health').status_code == 200: break\n"
                   "    except httpx.TransportError: time.sleep(0.2)")  # fmt: skip


def wait_for_another(machine: Machine, before: int) -> None:
    """Wait until systemd has started the daemon anew."""
    machine.await_state(SERVICE, ActiveState="active", SubState="running", NRestarts="1")
    assert pid(machine) not in (0, before)


def healthy(machine: Machine) -> int:
    return int(
        machine.python("import httpx; print(httpx.get('http://127.0.0.1:8400/healthz', timeout=300).status_code)")
    )
