"""What the training children share: how they speak to their parent, and when they stop before their last step."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from sleepy_coder.learn.launch import TRAINER_VARIABLE
from sleepy_coder.learn.trainer import PAUSED


def say_left_out(reasons: Iterable[str]) -> None:
    """Tell the parent what is not trained on: each reason with the number of turns."""
    for reason, turns in Counter(reasons).items():
        say("left_out", reason=reason, turns=turns)


def say(event: str, **fields: object) -> None:
    """One JSON line to the parent."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


@contextmanager
def only_child(workdir: Path) -> Generator[None]:
    """Hold the work folder's lock, so that a dying child and its successor never both write."""
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Pause:
    """A signal handler: the wish to stop. Before the first step it is granted at once, for there is nothing to save."""

    def __init__(self) -> None:
        self.asked = self.stepping = False

    def __call__(self, *_: object) -> None:
        self.asked = True
        if not self.stepping:
            raise SystemExit(PAUSED)


class Parent:
    """Who started the training: gone, nobody would read the result. Behind a launcher it is not our own parent."""

    def __init__(self) -> None:
        self._pid = os.environ.get(TRAINER_VARIABLE)
        self._own = os.getppid()

    @property
    def gone(self) -> bool:
        return os.getppid() != self._own or (self._pid is not None and not Path("/proc", self._pid).exists())


def end_with_parent() -> None:
    """End this process within a second of its parent, which nobody can ask any more: for who has no steps to look at.

    Also when the parent is gone already, as TRAINER_VARIABLE tells.
    """
    parent = Parent()

    def watch() -> None:
        while not parent.gone:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
