"""The last of these tests: what `uninstall` leaves. It runs after the others, by the name of its file."""

from __future__ import annotations

import pytest
from installed import COMMAND, HOME, SERVICE
from machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_uninstall_removes_what_install_made_and_never_data(service: Machine) -> None:
    said = service.run(COMMAND, "service", "uninstall").stdout
    assert HOME in said
    assert service.said("systemctl", "is-active", SERVICE, "sleepy-coder.socket") == "inactive\ninactive"
    folders = ("/etc/systemd", "/etc/sysusers.d", "/etc/tmpfiles.d", "/etc/polkit-1")
    left = service.said("find", *folders, "-type", "f", "-name", "*sleepy-*")
    assert left == ""
    service.run("test", "-s", f"{HOME}/state/sleepy.db")
    assert "nothing is installed" in service.run(COMMAND, "service", "uninstall").stdout
