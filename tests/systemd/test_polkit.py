"""The polkit rule: the service's user may keep the machine awake and restart the model server, and nothing else.

Asked from under the daemon's own unit, so that its hardening is in the way if it is.
"""

from __future__ import annotations

import sys

import pytest
from installed import await_model_server, beside
from machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AWAKE = """
import subprocess, time
from pathlib import Path
from sleepyd.nights import NightProcess

def locked():
    listed = ["systemd-inhibit", "--list", "--no-pager", "--no-legend"]
    return "sleepy-coder" in subprocess.run(listed, capture_output=True, text=True).stdout

def becomes(wanted, seconds=120):
    # logind grants and frees a lock in its own time
    deadline = time.monotonic() + seconds
    while locked() != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return "yes" if locked() == wanted else "no"

over = Path("/tmp/night-over")
night = NightProcess(Path("/"), ("sh", "-c", f"until test -e {over}; do sleep 0.1; done"), inhibit_sleep=True)
night.start()
print("awake", becomes(True))
over.touch()
while night.ended() is None:
    time.sleep(0.1)
print("free", becomes(False))
"""


@pytest.fixture(scope="module")
def guarded(service: Machine) -> Machine:
    """The machine with what a desktop or server has, and a container mostly lacks: a bus, logind and polkit."""
    if service.run("systemctl", "cat", "polkit.service", "dbus.service", check=False).returncode:
        pytest.skip("needs polkit and D-Bus: `apt install polkitd dbus`")
    service.run("systemctl", "start", "dbus.service", "systemd-logind.service")
    service.run("systemctl", "restart", "polkit.service")
    return service


def test_a_night_keeps_the_machine_awake_as_long_as_it_runs(guarded: Machine) -> None:
    guarded.write("/opt/awake.py", AWAKE)
    said = beside(guarded, "awake", sys.executable, "/opt/awake.py")
    assert "awake yes" in said and "free yes" in said, said


def test_the_model_server_and_no_other_unit_may_be_restarted(guarded: Machine) -> None:
    guarded.write("/etc/systemd/system/other.service", "[Service]\nExecStart=/bin/sleep infinity\n")
    guarded.run("systemctl", "daemon-reload")
    ask = "systemctl --no-ask-password"
    asked = (f"{ask} restart sleepy-vllm", f"{ask} stop sleepy-vllm", f"{ask} restart other")
    script = "; ".join(f"{command}; echo status $$?" for command in asked)
    said = beside(guarded, "restarts", f"/bin/sh -c '{script}'")
    await_model_server(guarded)  # for the tests that come after
    assert [line for line in said.splitlines() if line.startswith("status")] == ["status 0", "status 1", "status 1"], (
        said
    )
