"""Bubblewrap: runs commands that may be hostile, and leaves nothing of them behind.

Inside: no network, own process, mount and IPC namespaces, a read-only system, a private `/tmp`, and the
files in a writable folder of bounded size in memory, so that nothing has to be removed from the disk.
rlimits are set inside, where they count only the command's own processes; the wall clock and the size
of the output are watched from outside. Memory is limited for each process by what it asks for, or watched from outside
for all of them by what they fill; where the machine runs out of it, the kernel ends the sandbox before anything else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sleepy_coder.errors import InfraError, SandboxUnavailable
from sleepy_coder.ports import Completed, Limits
from sleepy_coder.verify.sandbox_memory import LOOK_SECONDS, MemoryWatch, can_watch
from sleepy_coder.verify.sandbox_mounts import HOME, check_files, in_memory, names_known, packed, system_mounts

_UTILITIES = ("choom", "prlimit", "setpriv", "tar")
_END_SECONDS = 10.0
# Files come as one archive: bwrap takes no more than 9000 arguments, and one descriptor for each file.
_NOT_UNPACKED = 121
_UNPACK = ("/bin/sh", "-c", f'tar -xpof - || exit {_NOT_UNPACKED}; exec "$@" </dev/null', "sh")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": HOME, "TMPDIR": "/tmp", "LANG": "C.UTF-8"}
_KILL = 128 + signal.SIGKILL
_CHILD_PID = re.compile(rb'"child-pid": (\d+)\D')
_LIMIT_SIGNALS = {128 + signal.SIGXCPU: "cpu", 128 + signal.SIGXFSZ: "file"}

# The user ids that systemd leaves unused; each run takes the next, so that neither another run nor a
# program of the host counts towards the process limit, which the kernel keeps per user.
_USERS = range(60706, 61184)


@dataclass(frozen=True, slots=True)
class _Level:
    """One way to start bubblewrap, `isolate` being its namespaces and `proc` what /proc holds."""

    name: str
    isolate: tuple[str, ...]
    # Read-only, or who started without privileges could take back its place in the OOM killer's order.
    proc: tuple[str, ...] = ("--proc", "/proc", "--remount-ro", "/proc")


_NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_USER = ("--unshare-user", *_NAMESPACES, "--cap-drop", "ALL")
_TO_DROP_ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
_ROOT = (*_NAMESPACES, "--cap-drop", "ALL", *_TO_DROP_ROOT)
_NO_PROC = ("--perms", "0555", "--tmpfs", "/proc", "--remount-ro", "/proc")
_USER_LEVELS = (
    _Level("bwrap", ("--disable-userns", *_USER)),
    _Level("bwrap/nested-userns", _USER),
    _Level("bwrap/nested-userns/no-proc", _USER, _NO_PROC),
)
# Root sets up the mounts, then gives up root: rlimits on processes do not bind root, and the toolchain
# may lie where only root can reach it.
_ROOT_LEVELS = (
    _Level("bwrap-root/nested-userns", _ROOT),
    _Level("bwrap-root/nested-userns/no-proc", _ROOT, _NO_PROC),
)


@dataclass(slots=True)
class _Running:
    """A started sandbox and what was read of it so far."""

    process: subprocess.Popen[bytes]
    chunks: dict[str, list[bytes]] = field(default_factory=lambda: {"stdout": [], "stderr": [], "status": []})
    size: int = 0
    killed: str = ""

    def text(self, name: str, limit: int) -> str:
        return b"".join(self.chunks[name])[:limit].decode(errors="replace")


class BubblewrapSandbox:
    """`ports.Sandbox` by bubblewrap. `read_only` are host folders shown inside under the same path.

    They have to be readable by everyone: root becomes a user of its own inside. The files of a run lie in a folder of
    their own, to which the path of `stands_for`, a host folder, leads inside as well: read-only folders below it are
    shown among them, and nothing else of it is.
    The strongest level that works is found once, at construction, and named by `level`.
    Raises SandboxUnavailable when none works: model-written code is then not run at all.
    """

    def __init__(self, read_only: Iterable[Path] = (), stands_for: Path | None = None) -> None:
        self._tools = {tool: shutil.which(tool) for tool in ("bwrap", *_UTILITIES)}
        if not self._tools["bwrap"]:
            raise SandboxUnavailable("bubblewrap is not installed", "Run `apt install bubblewrap`")
        if missing := [tool for tool in _UTILITIES if not self._tools[tool]]:
            raise SandboxUnavailable(f"{' and '.join(missing)} not found", "Run `apt install util-linux tar`")
        self._as_root = os.geteuid() == 0
        self._users = itertools.count(os.getpid() * 37)
        self._system = system_mounts(read_only, stands_for)
        self._can_watch = can_watch()
        self._level = self._probe()

    @property
    def level(self) -> str:
        """The name of the level in use, to be kept with every result."""
        return self._level.name

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run `argv` in a fresh folder that holds `files` (relative paths); see `ports.Sandbox`.

        Raises InfraError when the sandbox cannot start, or when something other than the limits kills
        the command (the machine runs out of memory, for one).
        """
        return self._run(self._level, argv, files, limits, env or {})

    def _probe(self) -> _Level:
        reasons: list[str] = []
        for level in _ROOT_LEVELS if self._as_root else _USER_LEVELS:
            try:
                done = self._run(level, ("/bin/sh", "-c", "echo > probe"), {"a/b": "c"}, Limits(), {})
            except InfraError as error:
                reasons.append(f"{level.name}: {error.message}")
                continue
            if done.returncode == 0:
                return level
            reasons.append(f"{level.name}: {done.stderr.strip()}")
        raise SandboxUnavailable(
            f"no sandbox level works here ({'; '.join(reasons)})",
            "Allow user namespaces: `sysctl -w kernel.unprivileged_userns_clone=1 "
            "kernel.apparmor_restrict_unprivileged_userns=0`; in a container, grant CAP_SYS_ADMIN",
        )

    def _run(
        self,
        level: _Level,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str],
    ) -> Completed:
        check_files(files)
        with contextlib.ExitStack() as stack:
            started = time.monotonic()
            try:
                running, status = self._start(level, argv, files, limits, env, stack)
            except OSError as error:
                remedy = "Look at the limits on open files and processes (`ulimit -a`)"
                raise InfraError(f"the sandbox cannot start: {error}", remedy) from error
            _watch(running, status, limits, started + limits.wall_seconds)
        return _completed(running, limits, time.monotonic() - started)

    def _start(
        self,
        level: _Level,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str],
        stack: contextlib.ExitStack,
    ) -> tuple[_Running, IO[bytes]]:
        """The running sandbox and what bwrap itself reports; both are closed with `stack`."""
        status_out, status_in = os.pipe()
        status = stack.enter_context(os.fdopen(status_out, "rb", buffering=0))
        with contextlib.ExitStack() as handed_over:
            handed_over.callback(os.close, status_in)
            user, group = self._user()
            known = {
                path: handed_over.enter_context(in_memory(text))
                for path, text in names_known(user, group, socket.gethostname()).items()
            }
            names = (
                word for path, file in known.items() for word in ("--perms", "0644", "--file", str(file.fileno()), path)
            )
            mounts = (*self._system, *names, *level.proc, "--chdir", HOME, "--remount-ro", "/")
            watched = ("--die-with-parent", "--new-session", "--json-status-fd", str(status_in))
            first_to_end = (str(self._tools["choom"]), "-n", "1000", "--")
            bwrap = (*first_to_end, str(self._tools["bwrap"]), *level.isolate, *watched, *mounts, "--")
            process = subprocess.Popen(
                (*bwrap, *self._give_up_root(user), *_UNPACK, *self._limit(limits), *argv),
                env={**_ENVIRONMENT, **env},
                stdin=handed_over.enter_context(packed(files)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(status_in, *(file.fileno() for file in known.values())),
                start_new_session=True,
            )
        return _Running(stack.enter_context(process)), status

    def _user(self) -> tuple[int, int]:
        """Who the next command runs as: user and group."""
        if not self._as_root:
            return os.getuid(), os.getgid()
        user = _USERS[next(self._users) % len(_USERS)]
        return user, user

    def _give_up_root(self, user: int) -> tuple[str, ...]:
        if not self._as_root:
            return ()
        drop = ("--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
        return (str(self._tools["setpriv"]), f"--reuid={user}", f"--regid={user}", *drop)

    def _limit(self, limits: Limits) -> tuple[str, ...]:
        cpu = limits.cpu_seconds
        watched = limits.resident_bytes is not None and self._can_watch
        addresses = "unlimited" if watched else limits.memory_bytes
        memory = (f"--as={addresses}", f"--fsize={limits.file_bytes}", "--core=0")
        counts = (f"--cpu={cpu}:{cpu + 1}", f"--nproc={limits.processes}", f"--nofile={limits.open_files}")
        return (str(self._tools["prlimit"]), *memory, *counts)


def _watch(running: _Running, status: IO[bytes], limits: Limits, deadline: float) -> None:
    """Read all that the sandbox says until its end, or until a limit ends it."""
    process = running.process
    assert process.stdout and process.stderr
    init: int | None = None
    first: int | None = None
    memory = MemoryWatch(limits.resident_bytes)
    try:
        with selectors.DefaultSelector() as selector:
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr), ("status", status)):
                selector.register(pipe, selectors.EVENT_READ, name)
            while selector.get_map() and not running.killed:
                left = max(0.0, deadline - time.monotonic())
                wait = left if limits.resident_bytes is None else min(left, LOOK_SECONDS)
                ready = selector.select(wait)
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.data == "status":
                        running.chunks["status"].append(data)
                        first = _first_process(b"".join(running.chunks["status"]))
                        init = init or _descriptor(first)
                    else:
                        running.chunks[key.data].append(data)
                        running.size += len(data)
                if running.size > limits.output_bytes:
                    running.killed = "output"
                elif not ready and wait == left:
                    running.killed = "time"
                elif memory.exceeded(first):
                    running.killed = "memory"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if init is not None:
            _await_end(init)
            os.close(init)


def _first_process(status: bytes) -> int | None:
    """The sandbox's first process: when that is gone, the kernel has ended all others."""
    found = _CHILD_PID.search(status)
    return int(found.group(1)) if found else None


def _descriptor(process: int | None) -> int | None:
    try:
        return None if process is None else os.pidfd_open(process)
    except ProcessLookupError:
        return None


def _await_end(pidfd: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pidfd, selectors.EVENT_READ)
        if not selector.select(_END_SECONDS):
            raise InfraError("the processes of a killed sandbox do not end", "Look for a hung disk or kernel")


def _completed(running: _Running, limits: Limits, seconds: float) -> Completed:
    """Raises InfraError when bwrap did not get as far as the command, or something else killed it."""
    stderr = running.text("stderr", limits.output_bytes)
    killed, code = running.killed, running.process.returncode
    if not killed:
        if '"exit-code"' not in running.text("status", 1 << 16):
            raise InfraError(f"the sandbox cannot start: {stderr.strip()[-500:] or f'status {code}'}")
        if code == _NOT_UNPACKED and stderr.startswith("tar: "):
            raise InfraError(f"the files cannot be unpacked in the sandbox: {stderr.strip()[-500:]}")
        killed = _LIMIT_SIGNALS.get(code, "")
        if code == _KILL and seconds >= limits.cpu_seconds:
            killed = "cpu"
        elif code == _KILL:
            raise InfraError(
                "the command was killed from outside its limits",
                "Give the machine more memory, or fewer workers",
            )
    return Completed(code, running.text("stdout", limits.output_bytes), stderr, seconds, killed)
