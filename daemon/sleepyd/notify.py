"""What the daemon tells its service manager, and what it is handed by it (sd_notify(3), sd_listen_fds(3)).

The protocol is a datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names. Outside of a service manager
nothing is sent. Ten lines of AF_UNIX, so that there is no library to keep.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Final

_FIRST_FD: Final = 3
_SEND_SECONDS: Final = 5.0


def notify(*assignments: str, environ: Mapping[str, str] = os.environ, seconds: float = _SEND_SECONDS) -> bool:
    """Send `NAME=value` lines; whether there was somebody to send them to.

    A service manager that cannot be reached, or does not take it within `seconds`, is no reason to end the daemon: it
    notices by itself that it hears nothing.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(seconds)
            channel.sendto("\n".join(assignments).encode(), target)
    except OSError:
        return False
    return True


def ready(said: str = "") -> bool:
    """The daemon has started, or has finished reloading."""
    return notify("READY=1", *([_status(said)] if said else []))


def status(said: str) -> bool:
    """One line for `systemctl status`."""
    return notify(_status(said), seconds=0)


def stopping(said: str = "") -> bool:
    """The daemon has begun to stop."""
    return notify("STOPPING=1", *([_status(said)] if said else []))


def reloading() -> bool:
    """Settings are read anew; `ready` ends it. The time is what Type=notify-reload (systemd 253) asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog() -> bool:
    """The daemon is alive. To be said at least every `watchdog_seconds`, best at half of it."""
    return notify("WATCHDOG=1", seconds=0)  # the next one comes soon, and the gateway's loop must not wait


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How long the service manager waits for a `watchdog` before it kills this process; None when it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit = environ.get("WATCHDOG_USEC", "")
    return int(limit) / 1e6 if limit.isdecimal() and int(limit) > 0 else None


def listen_fds(environ: MutableMapping[str, str] = os.environ) -> tuple[socket.socket, ...]:
    """The listening sockets that were opened for this process before it was started, in the unit's order.

    Child processes do not get them: they are close-on-exec from here on, and the variables are removed, so a second
    call finds none. Other files that were handed over are left alone.
    """
    for_whom, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if for_whom != str(os.getpid()) or not count.isdecimal():
        return ()
    found: list[socket.socket] = []
    for descriptor in range(_FIRST_FD, _FIRST_FD + int(count)):
        with contextlib.suppress(OSError):  # no socket, or closed
            os.set_inheritable(descriptor, False)
            handed_over = socket.socket(fileno=descriptor)
            handed_over.setblocking(False)
            found.append(handed_over)
    return tuple(found)


def _status(said: str) -> str:
    return f"STATUS={' '.join(said.split())}"
