"""The daemon as a unit of somebody's own service manager."""

from __future__ import annotations

import pytest
from installed import COMMAND, SERVICE
from machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HOME = "/opt/mine"
MINE = ("env", "XDG_RUNTIME_DIR=/run/user/0", "HOME=/root")


def test_a_user_installs_it_for_themselves_and_takes_it_away_again(machine: Machine) -> None:
    machine.write(f"{HOME}/sleepy-coder.toml", "[gateway]\nport = 8500\n")
    machine.run("systemctl", "start", "user@0.service")
    said = machine.run(*MINE, COMMAND, "service", "install", "--user", "--home", HOME).stdout
    assert HOME in said and "loginctl enable-linger" in said
    assert machine.said(*MINE, "systemctl", "--user", "is-active", SERVICE) == "active"
    ask = "import httpx; print(httpx.get('http://127.0.0.1:8500/healthz', timeout=300).status_code)"
    assert machine.python(ask) == "200"

    again = machine.run(*MINE, COMMAND, "service", "install", "--user").stdout
    assert f"home: {HOME}\n" in again
    machine.run(*MINE, "systemctl", "--user", "kill", "--signal=KILL", SERVICE)
    machine.python(
        "import time, httpx\n"
        "for _ in range(600):\n"
        "    try:\n"
        "        if httpx.get('http://127.0.0.1:8500/healthz', timeout=300).status_code == 200: break\n"
        "    except httpx.TransportError: time.sleep(0.2)\n"
        "else: raise SystemExit('it was not started again')"
    )

    assert HOME in machine.run(*MINE, COMMAND, "service", "uninstall", "--user").stdout
    assert machine.said(*MINE, "systemctl", "--user", "is-active", SERVICE) == "inactive"
    machine.run("test", "-s", f"{HOME}/state/sleepy.db")
    machine.run("systemctl", "stop", "user@0.service")
