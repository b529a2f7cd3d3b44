"""Nights as a child process of the daemon: their threads and their memory stay out of the gateway's way.

A night evaluates with dozens of threads and holds a mix in memory; in the gateway's own process that would slow every
reply. What both have to agree on is in the home folder, so a night survives its daemon and the other way round.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from sleepy_coder import log

_log = log.get("schedule")
_ASK_SECONDS: Final = 30
# "sleep" alone: logind wants another right altogether for "sleep:idle", and going idle ends in a sleep too.
# "block", since "delay" holds for some seconds only.
_INHIBIT: Final = ("systemd-inhibit", "--what=sleep", "--mode=block", "--who=sleepy-coder", "--why=a night of training")


class NightProcess:
    """At most one night (`night_main`) at a time; its log goes where the daemon's goes."""

    def __init__(self, home: Path, command: tuple[str, ...] = (), inhibit_sleep: bool = False) -> None:
        """`command` is what is run instead of the night, for tests."""
        self._command = command or (sys.executable, "-m", "sleepyd.night_main", "--home", str(home))
        self._inhibit = inhibit_sleep
        self._process: subprocess.Popen[bytes] | None = None
        self._awake: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The running night's process id."""
        process = self._process  # `ended` may be called by another thread meanwhile
        return process.pid if process is not None and process.poll() is None else None

    def start(self, until: datetime | None = None) -> None:
        """Begin or go on with a night, which stops at `until`.

        It gets a process group of its own, to be ended as a whole.
        """
        self._process = subprocess.Popen(self._argv(until), stdin=subprocess.DEVNULL, start_new_session=True)
        _log.info("schedule.night_began", pid=self._process.pid)
        if self._inhibit:
            self._awake = _stay_awake(self._process.pid)

    def _argv(self, until: datetime | None) -> tuple[str, ...]:
        return (*self._command, "--until", until.isoformat()) if until else self._command

    def ended(self) -> int | None:
        """The exit status of a night that has ended since the last call; None while there is none."""
        if self._process is None or self._process.poll() is None:
            return None
        status, self._process = self._process.returncode, None
        if self._awake is not None:
            self._awake.wait()  # it ends with the night
            self._awake = None
        return status

    def stop(self, grace_seconds: float) -> None:
        """Ask the night to pause where it can go on, and end it when it does not within the grace."""
        if self.pid is None or self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            _log.warning("schedule.night_killed", pid=self._process.pid, seconds=grace_seconds)
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _stay_awake(pid: int) -> subprocess.Popen[bytes] | None:
    """Keep the machine from suspending for as long as process `pid` lives, where systemd lets this user ask for it."""
    if not shutil.which(_INHIBIT[0]):
        return None
    try:
        subprocess.run((*_INHIBIT, "true"), capture_output=True, text=True, check=True, timeout=_ASK_SECONDS)
    except subprocess.CalledProcessError as error:  # a service user needs the rule
        reason, remedy = error.stderr.strip(), "install the polkit rule: sleepy-coder service install"
    except subprocess.TimeoutExpired as error:
        reason, remedy = str(error), "look at it: systemctl status systemd-logind"
    else:
        # Not around the night: a signal to the night would end the wrapper first, and its status would be lost.
        return subprocess.Popen((*_INHIBIT, "tail", f"--pid={pid}", "-f", "/dev/null"), start_new_session=True)
    _log.warning("schedule.sleep_not_inhibited", reason=reason, remedy=remedy)
    return None
