"""One machine with a real systemd for all of these tests, with the service installed in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from installed import HOME, INSTALL, await_model_server
from machine import MISSING, ROOT, Machine, booted, possible

# The window opens in half a day, whenever these tests run: no night begins but those that they begin.
_LATER = datetime.now(UTC) + timedelta(hours=12)

# A night on a CPU in about two minutes; the service's own settings otherwise.
SETTINGS = f"""
[night]
timezone = "UTC"
window = "{_LATER:%H}:00-{_LATER + timedelta(hours=1):%H}:00"

[mix]
max_examples = {os.environ.get("SLEEPY_TEST_NIGHT_ROWS", "240")}
"""


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted machine on which nothing of sleepy-coder is installed yet."""
    if not possible():
        pytest.skip(MISSING)
    with booted([ROOT, Path(sys.prefix), Path(sys.base_prefix)]) as booted_machine:
        yield booted_machine


@pytest.fixture(scope="session")
def service(machine: Machine) -> Machine:
    """The same machine with the daemon and the embedded model server installed and ready."""
    machine.write(f"{HOME}/sleepy-coder.toml", SETTINGS)
    machine.run(*INSTALL)
    await_model_server(machine)
    return machine
