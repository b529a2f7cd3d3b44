"""The night of the drill: the daemon's own night process, on fakes behind ports, that a fault strikes from within.

A fault is struck where it is told to: as a phase begins, or at the n-th operation on a file, a socket or the store.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fakes import FakeClock, FakeTrainer, Quiet, parts
from sleepyd.night_main import hold

from sleepy_coder import log
from sleepy_coder.config import NightSettings
from sleepy_coder.errors import TrainingKilled
from sleepy_coder.parts import Parts
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.types import Adapter, Recipe, TrainingMix

CRASHED = 70
"""Exit status of a night that ended in an error which is none of the package's own."""
_OPERATIONS = frozenset(
    ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "shutil.rmtree", "socket.connect", "sqlite3.connect")
)


@dataclass(frozen=True)
class Strike:
    """A fault: what happens (`kind`) and when: as `phase` begins, or at operation number `operation`.

    `amount` is a random number in [0, 1) for what the kind leaves open.
    """

    kind: str
    phase: str = ""
    operation: int = 0
    amount: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Where a night is held, and what its training comes to."""

    home: Path
    url: str
    server_pid: int
    learns: tuple[int, ...]
    starts: datetime
    timeout: float
    said: Path  # the log, on a disk that is never full
    ballast: Path | None = None


class Struck:
    """Strikes once, and says so by a file before it does."""

    def __init__(self, stage: Stage, strike: Strike | None) -> None:
        self.stage, self.strike = stage, strike
        self.clock = FakeClock()
        self.clock.time = stage.starts
        self.operations = 0

    @property
    def sign(self) -> Path:
        return self.stage.home / "struck"

    def count(self) -> None:
        self.operations += 1
        if (
            self.strike is not None
            and self.strike.operation == self.operations
            and self.strike.kind != "training_killed"
        ):
            self.now()

    def begins(self, phase: str) -> None:
        if self.strike is not None and self.strike.kind != "training_killed" and self.strike.phase == phase:
            self.now()

    def now(self) -> None:
        strike, self.strike = self.strike, None
        assert strike is not None
        descriptor = os.open(self.sign, os.O_CREAT | os.O_WRONLY)  # an empty file needs no room on a full disk
        os.close(descriptor)
        getattr(self, f"_{strike.kind}")(strike.amount)

    def _kill(self, amount: float) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _reboot(self, amount: float) -> None:
        self._server_killed(amount)
        os.kill(os.getpid(), signal.SIGKILL)

    def _server_killed(self, amount: float) -> None:
        os.kill(self.stage.server_pid, signal.SIGKILL)

    def _server_stopped(self, amount: float) -> None:
        os.kill(self.stage.server_pid, signal.SIGSTOP)

    def _disk_full(self, amount: float) -> None:
        """Leave between nothing and 64 KiB."""
        assert self.stage.ballast is not None
        fill(self.stage.ballast, int(amount * 17) * 4096)

    def _clock_jumps(self, amount: float) -> None:
        self.clock.time += timedelta(days=60 * (amount - 0.5))

    def _candidate_damaged(self, amount: float) -> None:
        newest = max((self.stage.home / "adapters").glob("sc-*"), key=lambda folder: folder.name)
        damage(newest, amount)

    def _serving_damaged(self, amount: float) -> None:
        damage(self.stage.home / "adapters" / (self.stage.home / "serving").read_text(), amount)

    def _pointer_damaged(self, amount: float) -> None:
        damage_file(self.stage.home / "adapters" / "active.json", amount)


def fill(ballast: Path, leave: int) -> None:
    """Take all of the file system but `leave` bytes."""
    size = 1 << 30
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    at = 0
    while size >= 4096:
        try:
            os.posix_fallocate(descriptor, at, size)
            at += size
        except OSError:
            size //= 2
    os.ftruncate(descriptor, max(at - leave, 0))
    os.close(descriptor)


def damage(adapter: Path, amount: float) -> None:
    """Flip a bit of the weights, or cut them or their config short."""
    name = "adapter_config.json" if amount > 0.9 else "adapter_model.safetensors"
    damage_file(adapter / name, amount)
    (adapter.parent.parent / "damaged").open("a").write(f"{adapter.name}\n")


def damage_file(path: Path, amount: float) -> None:
    data = bytearray(path.read_bytes())
    at = int(amount * len(data))
    if int(amount * 1000) % 2:
        data = data[:at]
    else:
        data[at] ^= 1 << (at % 8)
    path.write_bytes(data)


class Told(Quiet):
    def __init__(self, struck: Struck) -> None:
        super().__init__()
        self._struck = struck

    def phase(self, name: str) -> None:
        self._struck.begins(name)


class Trains(FakeTrainer):
    """Is killed when the strike says so, as the real child is by a kernel without memory; and with `amount` thrice."""

    def __init__(self, learns: tuple[int, ...], struck: Struck) -> None:
        super().__init__(learns)
        self._struck = struck

    def train(
        self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path, pause: object = None
    ) -> Path:
        if self._struck.strike is not None and self._struck.strike.kind == "training_killed":
            self._struck.strike = None
            self._struck.sign.touch()
            raise TrainingKilled("training was killed from outside")
        return super().train(mix, parent, recipe, workdir)


def night(stage: Stage, strike: Strike | None) -> int:
    """Hold it in this process; its exit status."""
    struck = Struck(stage, strike)
    with stage.said.open("a") as said:
        log.set_up(verbose=True, as_json=True, to=said)
        try:
            status = hold(lambda: _opened(stage, struck))
        except Exception:  # noqa: BLE001 - the drill tells what was no error of the package's own
            said.write(traceback.format_exc())
            return CRASHED
    struck.begins("end")
    (stage.home / "operations").write_text(str(struck.operations))
    return status


@contextmanager
def _opened(stage: Stage, struck: Struck) -> Generator[Parts]:
    counting = True

    def hook(event: str, arguments: object) -> None:
        if counting and event in _OPERATIONS:
            struck.count()

    sys.addaudithook(hook)
    settings = NightSettings(min_free_gib=0, keep_adapters=3)  # pyright: ignore[reportCallIssue]
    with VllmClient(stage.url, timeout=stage.timeout) as client:
        house = parts(
            stage.home,
            client,  # pyright: ignore[reportArgumentType]
            Trains(stage.learns, struck),
            clock=struck.clock,
            watcher=Told(struck),
            night=settings,
        )
        try:
            yield house
        finally:
            house.store.close()
            counting = False
