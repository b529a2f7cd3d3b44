"""What the daemon says to a service manager, over real sockets, and the sockets that it gets from one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sleepyd import notify

ROOT = Path(__file__).parent.parent


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(60)
        yield channel


def child(code: str, *, pass_fds: tuple[int, ...] = (), **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", **environment},
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
        text=True,
    )


def test_all_that_is_said_arrives_at_the_managers_socket_in_order(tmp_path: Path) -> None:
    code = """
from sleepyd import notify
notify.ready("serving sleepy-base\\nwith a line break")
notify.status("a night")
notify.reloading()
notify.watchdog()
notify.stopping()
"""
    with manager(str(tmp_path / "notify")) as channel:
        with child(code, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            heard = [channel.recv(4096).decode() for _ in range(5)]
        assert process.returncode == 0
    assert heard[:2] == ["READY=1\nSTATUS=serving sleepy-base with a line break", "STATUS=a night"]
    name, microseconds = heard[2].split("\n")
    assert name == "RELOADING=1"
    assert microseconds.removeprefix("MONOTONIC_USEC=").isdecimal()
    assert heard[3:] == ["WATCHDOG=1", "STOPPING=1"]


def test_an_abstract_socket_is_one_whose_address_begins_with_an_at() -> None:
    name = f"sleepy-coder-test-{os.getpid()}"
    with manager(f"\0{name}") as channel:
        assert notify.notify("READY=1", environ={"NOTIFY_SOCKET": f"@{name}"})
        assert channel.recv(100) == b"READY=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_manager_that_listens_nothing_happens(environ: dict[str, str]) -> None:
    assert notify.notify("READY=1", environ=environ) is False


def test_the_watchdogs_time_is_in_seconds_and_only_for_the_process_that_it_names() -> None:
    mine = str(os.getpid())
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": mine}) == 30
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "1500000"}) == 1.5
    assert notify.watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert notify.watchdog_seconds({}) is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_nonsense_in_the_environment_is_no_watchdog_and_no_socket(usec: str, fds: str) -> None:
    environ = {"WATCHDOG_USEC": f"x{usec}", "LISTEN_FDS": f"x{fds}", "LISTEN_PID": str(os.getpid())}
    assert notify.watchdog_seconds(environ) is None
    assert notify.listen_fds(environ) == ()
    assert "LISTEN_FDS" not in environ


def test_sockets_for_another_process_are_not_taken() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "gateway"}
    assert notify.listen_fds(environ) == ()
    assert environ == {}


def test_a_socket_that_was_opened_before_the_start_answers_and_is_kept_from_children() -> None:
    # A service manager forks, moves the socket to descriptor 3, names the child's own pid, and executes.
    code = """
import os, subprocess, sys
if "LISTEN_PID" not in os.environ:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="gateway:file")
    os.dup2(int(sys.argv[1]), 3)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 4)
    os.execv(sys.executable, [sys.executable, "-c", os.environ["CODE"], "0"])
from sleepyd import notify
sockets = notify.listen_fds()
assert len(sockets) == 1 and not any(name.startswith("LISTEN_") for name in os.environ)
assert notify.listen_fds() == ()
assert not os.get_inheritable(3)
sockets[0].setblocking(True)
caller, _ = sockets[0].accept()
caller.recv(1000)
caller.sendall(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
caller.close()
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        command = [sys.executable, "-c", code, str(fd)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", "CODE": code}
        with subprocess.Popen(command, env=environment, pass_fds=(fd,)) as process:
            assert httpx.get(f"http://127.0.0.1:{port}/", timeout=120).status_code == 204
        assert process.returncode == 0
