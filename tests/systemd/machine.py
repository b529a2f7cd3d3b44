"""A machine with a real systemd: systemd-nspawn boots one over an overlay of this machine's own root.

Nothing of it stays: its disk is memory, and the mounts live in a mount namespace that ends with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
MISSING = "needs root and systemd-nspawn: `apt install systemd-container`, then `sudo make test-systemd`"
BOOT_SECONDS = 300

# $1: an empty folder. A machine-id makes it a machine that was set up before: without one the first boot
# would enable every unit that its distribution likes.
_BOOT = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
printf '%s\\n' "$2" > "$1/root/etc/machine-id"
rm -rf "$1/root/var/log/journal"
root=$1; shift 2
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1
exec systemd-nspawn --quiet --register=no --keep-unit --boot --private-network --resolv-conf=off --link-journal=no \\
    --directory="$root/root" "$@" systemd.unit=basic.target
"""


def possible() -> bool:
    """Whether such a machine can be booted here."""
    return os.geteuid() == 0 and all(map(shutil.which, ("systemd-nspawn", "nsenter", "unshare", "setpriv")))


@dataclass(frozen=True, slots=True)
class Machine:
    """A booted machine. `leader` is its first process, as this machine numbers it."""

    leader: int

    def run(self, *argv: str, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root, with its output as text."""
        enter = ("nsenter", "--target", str(self.leader), "--all", "--", "/usr/bin/env", f"PATH={os.environ['PATH']}")
        # What is set for the tests here is not for the services there.
        own = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPY_CODER_")}
        done = subprocess.run((*enter, *argv), capture_output=True, text=True, timeout=timeout, check=False, env=own)
        assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def said(self, *argv: str) -> str:
        """What a command prints, without the line's end."""
        return self.run(*argv, check=False).stdout.strip()

    def python(self, code: str, *arguments: str, timeout: float = 600) -> str:
        """What a program prints that runs in it under this Python."""
        return self.run(sys.executable, "-c", code, *arguments, timeout=timeout).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file in it, with the folders that it needs."""
        self.python("import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.parent.mkdir(parents=True, exist_ok=True);"
                    "p.write_text(sys.argv[2])", path, text)  # fmt: skip

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.said("systemctl", "show", "--property", name, "--value", unit)

    def await_state(self, unit: str, seconds: float = 300, **wanted: str) -> None:
        """Wait until the unit's properties are as `wanted`."""
        deadline = time.monotonic() + seconds
        lines = [f"{name}={value}" for name, value in sorted(wanted.items())]
        asked = ("systemctl", "show", f"--property={','.join(wanted)}", unit)
        while (found := sorted(self.said(*asked).splitlines())) != lines:
            assert time.monotonic() < deadline, f"{unit} is {found}, not {lines}\n{self.log(unit)}"
            time.sleep(0.2)

    def log(self, unit: str, lines: int = 40) -> str:
        return self.said("journalctl", "--unit", unit, "--lines", str(lines), "--no-pager")


@contextmanager
def booted(binds: Sequence[Path]) -> Iterator[Machine]:
    """A machine that lives as long as this is open, and as this process; `binds` are shown in it, read-only."""
    folder = Path("/run") / f"sleepy-systemd-{secrets.token_hex(4)}"
    folder.mkdir()
    name = f"sleepy-{secrets.token_hex(4)}"
    shown = [f"--bind-ro={path}" for path in dict.fromkeys(binds)]
    command = ("unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL")
    # Not a pipe: one that nobody reads fills up, and holds the machine.
    with tempfile.TemporaryFile("w+") as console:
        boot = subprocess.Popen(
            (*command, "sh", "-c", _BOOT, "boot", str(folder), secrets.token_hex(16), f"--machine={name}", *shown),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _leader(boot, console)
        finally:
            _halt(boot)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _leader(boot: subprocess.Popen[bytes], console: IO[str]) -> Machine:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        if boot.poll() is not None:
            console.seek(0)
            raise RuntimeError(f"the machine does not boot: {console.read()}")
        children = subprocess.run(("pgrep", "-P", str(boot.pid)), capture_output=True, text=True, check=False)
        for child in children.stdout.split():
            machine = Machine(int(child))
            # Children that are not inside yet would have this machine's own systemd answer.
            if _own_processes(child) and machine.said("systemctl", "is-system-running") in ("running", "degraded"):
                return machine
        time.sleep(0.2)
    raise RuntimeError("the machine does not boot in time")


def _own_processes(process: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    return False


def _halt(boot: subprocess.Popen[bytes]) -> None:
    """SIGTERM has nspawn power the machine off; one that hangs is killed with all that is in it."""
    boot.terminate()
    try:
        boot.wait(120)
    except subprocess.TimeoutExpired:
        boot.kill()
        boot.wait()
