"""A server as a child process: started, waited for and ended as one unit."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from sleepy_coder.errors import ServerUnreachable

_LOG_TAIL = 2000  # characters of the log that go into an error
_POLL_SECONDS = 0.1
_START_SECONDS = 120.0


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerProcess:
    """Context manager: `command` in a process group of its own; `port` of the loopback interface is where it listens.

    Entering waits until `health` answers 200, at most `start_seconds`; leaving ends the whole group, by force what
    is still there after `grace_seconds`. The output goes to `log`. `environment` is set on top of this process's own.
    Raises ServerUnreachable, with the end of the log, when the server dies or is not ready in time.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        *,
        environment: Mapping[str, str],
        start_seconds: float = _START_SECONDS,
        health: str = "/health",
        grace_seconds: float = 10.0,
    ) -> None:
        self.port, self.log = port, log
        self._command = tuple(command)
        self._environment = {**os.environ, **environment}
        self._start_seconds, self._health, self._grace_seconds = start_seconds, health, grace_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL, without /v1."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is there and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until ready; for callers that outlive one `with` block."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process group: SIGTERM, then SIGKILL for what does not go. Harmless when it is gone."""
        if self._process is not None and self.running:
            os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace_seconds)
        self.kill()

    def kill(self) -> None:
        """End the process group at once, as a crash would. Harmless when it is gone."""
        process, self._process = self._process, None
        if process is not None:
            # Also when the first process is gone: its children may not be.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        with httpx.Client(base_url=self.url, timeout=2.0) as http:
            while time.monotonic() < deadline:
                if not self.running:
                    raise ServerUnreachable(f"the server ended at once. {self._tail()}", self._remedy())
                with contextlib.suppress(httpx.TransportError):
                    if http.get(self._health).status_code == 200:
                        return
                time.sleep(_POLL_SECONDS)
        raise ServerUnreachable(
            f"the server was not ready after {self._start_seconds:.0f} s. {self._tail()}",
            self._remedy(),
        )

    def _tail(self) -> str:
        return f"Its log ends with:\n{self.log.read_text(errors='replace')[-_LOG_TAIL:].strip()}\n"

    def _remedy(self) -> str:
        return f"The whole log is {self.log}."


class EmbeddedServer(ServerProcess):
    """`python -m sleepy_coder.serve.embedded` as a process.

    `port` 0 takes a free one. `arguments` are passed on (`("--max-loras", "2")`). It ends with the process that
    made it, however that ends.
    """

    def __init__(
        self,
        model: Path,
        log: Path,
        *,
        port: int = 0,
        threads: int = 1,
        arguments: Sequence[str] = (),
    ) -> None:
        port = port or free_port()
        command = [sys.executable, "-m", "sleepy_coder.serve.embedded", "--model", str(model), "--port", str(port)]
        super().__init__(
            [*command, *arguments, "--threads", str(threads), "--parent", str(os.getpid())],
            port,
            log,
            environment={"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        )
