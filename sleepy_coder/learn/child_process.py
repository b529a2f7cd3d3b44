"""A child process of learning, as its parent sees it: alive while somebody listens, and heard line by line."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, cast


@contextmanager
def running(argv: list[str], environment: dict[str, str], patience: float) -> Generator[subprocess.Popen[str]]:
    """The child as long as this is open. On an error it gets `patience` seconds to save what it has."""
    child = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",  # a library's words, or half a character of a child that was killed
        env=environment,
        process_group=0,
    )
    try:
        yield child
        child.wait()
    except BaseException:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
        raise
    finally:
        kill_group(child)
        child.wait()


def kill_group(child: subprocess.Popen[str]) -> None:
    """End the child and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def lines_of(child: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """The child's lines as they come, then None. A thread reads them, so that waiting for one can be bounded."""
    assert child.stdout is not None
    stdout, lines = child.stdout, queue.Queue[str | None]()

    def read() -> None:
        try:
            with stdout:
                for line in stdout:
                    lines.put(line)
        finally:
            lines.put(None)

    threading.Thread(target=read, name="training-lines", daemon=True).start()
    return lines


def message_in(line: str) -> dict[str, Any] | None:
    """What a child says on this line, under its `event`; None for other programs' words."""
    try:
        data = json.loads(line)
    except json.JSONDecodeError:
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) and "event" in data else None
