"""Faults at nights with the real embedded server and real training, on a tiny random model.

`python real.py SEED FAULTS SCRATCH` prints its figures as one JSON line. The model answers noise, so that no night
promotes anything: the adapter of the first night is activated by hand, and has to serve whatever happens.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drill import CRASHED, STARTS_AT_MOST, Nobody
from fakes import BASE, DAY, FROZEN, FakeClock, Quiet, make_episode, parts, tasks_of
from sleepyd.keeper import Keeper
from sleepyd.night_main import hold

from sleepy_coder import log
from sleepy_coder.config import CanarySettings, EvalSettings, MixSettings, NightSettings, RecipeSettings
from sleepy_coder.errors import SleepyError
from sleepy_coder.learn.trainer import ChildTrainer, Step
from sleepy_coder.parts import Parts
from sleepy_coder.registry import Registry
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import EmbeddedServer, free_port
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.types import Outcome

STEPS = 12
KINDS = (
    *("training_killed", "night_killed_in_training", "reboot_in_training", "checkpoint_damaged"),
    *("night_killed", "server_killed", "server_stopped"),
)


@dataclass
class Real:
    """The home, and the server that its nights are held with."""

    home: Path
    server: EmbeddedServer

    def server_pid(self) -> int:
        return int((self.home / "server.pid").read_text())


def strike(real: Real, kind: str) -> None:
    """From within the night's process, as it trains or measures."""
    (real.home / "struck").touch()
    if kind in ("server_killed", "reboot_in_training"):
        os.killpg(real.server_pid(), signal.SIGKILL)
    if kind == "server_stopped":
        os.killpg(real.server_pid(), signal.SIGSTOP)
    if kind == "training_killed":
        for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    if kind in ("night_killed_in_training", "reboot_in_training", "checkpoint_damaged", "night_killed"):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def opened(real: Real, kind: str, at: int) -> Generator[Parts]:
    """Parts of a night that is struck at training step or phase number `at`."""
    left = at

    def on_step(step: Step) -> None:
        if step.step == at and ("training" in kind or "checkpoint" in kind):
            strike(real, kind)

    class Told(Quiet):
        def phase(self, name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0 and kind in ("night_killed", "server_killed", "server_stopped"):
                strike(real, kind)

    timeout = 3.0 if kind == "server_stopped" else 120.0
    with VllmClient(real.server.url, timeout=timeout) as client:
        house = parts(
            real.home,
            client,  # pyright: ignore[reportArgumentType]
            ChildTrainer(real.home / "base", on_step, threads=1),
            watcher=Told(),
            frozen=tasks_of(FROZEN[:16]),
            canary=CanarySettings(drill_days=0),  # pyright: ignore[reportCallIssue]
            night=NightSettings(min_free_gib=0),  # pyright: ignore[reportCallIssue]
            mix=MixSettings(min_examples=8, anchors=0, dream_tasks=0),  # pyright: ignore[reportCallIssue]
            eval=EvalSettings(max_tokens=16, concurrency=16),  # pyright: ignore[reportCallIssue]
            recipe=RecipeSettings(rank=4, alpha=8, batch_size=2, max_steps=STEPS, learning_rate=5e-3, ema=0.5),  # pyright: ignore[reportCallIssue]
        )
        try:
            yield house
        finally:
            house.store.close()


def held(real: Real, kind: str = "", at: int = 0) -> int:
    pid = os.fork()
    if pid == 0:
        status = CRASHED
        try:
            with (real.home / "night.log").open("a") as said:
                log.set_up(verbose=True, as_json=True, to=said)
                status = hold(lambda: opened(real, kind, at))
        except BaseException:  # noqa: BLE001 - the drill tells
            (real.home / "crash").write_text(traceback.format_exc())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start(real: Real) -> None:
    real.server.start()
    assert real.server._process is not None
    (real.home / "server.pid").write_text(str(real.server._process.pid))


def prepare(scratch: Path) -> Real:
    """A home with a tiny model, a day, and a first adapter that serves."""
    home = scratch / "real"
    home.mkdir()
    make = f"from serve_model import tiny_model; from pathlib import Path; tiny_model(Path({str(home / 'base')!r}))"
    subprocess.run([sys.executable, "-c", make], check=True)
    arguments = ("--served-model-name", BASE, "--max-loras", "4")
    real = Real(home, EmbeddedServer(home / "base", home / "server.log", port=free_port(), arguments=arguments))
    start(real)
    (home / "state").mkdir()
    with Store(home / "state" / "sleepy.db") as store:
        store.save_episodes([make_episode(number, Outcome.PASS) for number in DAY[:20]])
    assert held(real) == 0, (home / "night.log").read_text()[-4000:]
    registry = Registry(home / "adapters", FakeClock())
    registry.activate(registry.adapters()[0].name)
    return real


def ready_again(real: Real, kind: str) -> None:
    """What systemd and an operator do: a dead server starts, a stopped one goes on."""
    if kind == "server_stopped":
        with suppress(ProcessLookupError):
            os.killpg(real.server_pid(), signal.SIGCONT)
    if not real.server.running:
        real.server.kill()
        start(real)
    checkpoint = next((real.home / "state" / "nights").glob("*/train/checkpoint.pt"), None)
    if kind == "checkpoint_damaged" and checkpoint is not None:
        checkpoint.write_bytes(checkpoint.read_bytes()[:-100])


def main() -> None:
    seed, faults, scratch = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    drawn, by_kind, trouble = random.Random(f"{seed}/real"), Counter[str](), list[str]()
    figures = {"episodes_lost": 0, "wrong_adapter": 0, "stuck": 0}
    real = prepare(scratch)
    try:
        serving = Registry(real.home / "adapters", FakeClock()).active()
        kinds = [*KINDS, *drawn.choices(KINDS, k=max(faults - len(KINDS), 0))][:faults]
        for kind in kinds:
            for starts in range(STARTS_AT_MOST):
                (real.home / "struck").unlink(missing_ok=True)
                at = drawn.randint(1, 10 if kind.startswith(("server", "night_killed")) else STEPS - 1)
                status = held(real, kind if starts == 0 else "", at)
                by_kind[kind] += (real.home / "struck").exists()
                if status == CRASHED:
                    trouble.append((real.home / "crash").read_text())
                ready_again(real, kind if starts == 0 else "")
                if Registry(real.home / "adapters", FakeClock()).active() != serving:
                    figures["wrong_adapter"] += 1
                    trouble.append(f"another adapter serves after {kind}")
                if status == 0:
                    break
            else:
                figures["stuck"] += 1
            look(real, figures, trouble)
    finally:
        real.server.stop()
    sys.stdout.write(json.dumps({"faults": by_kind.total(), **figures, "by_kind": by_kind, "trouble": trouble}) + "\n")


def look(real: Real, figures: dict[str, int], trouble: list[str]) -> None:
    """The morning after: the keeper has looked, and all is in order."""
    registry = Registry(real.home / "adapters", FakeClock())
    prover = Prover(real.home / "state" / "fingerprints", BASE, 0.01)
    active = registry.active()
    assert active is not None
    with VllmClient(real.server.url) as client:
        Keeper(registry, client, prover, Nobody(), real.home / "state" / "night.lock", 4).look()  # pyright: ignore[reportArgumentType]
        try:
            registry.verify(active.name)
            prover.prove(client, active.name, registry.manifest(active.name).base_sha256)
        except SleepyError as error:
            figures["wrong_adapter"] += 1
            trouble.append(str(error))
    with Store(real.home / "state" / "sleepy.db") as store:
        store.check()
        lost = 20 - store.count_episodes()
        figures["episodes_lost"] += lost
        if store.unfinished_night() is not None:
            trouble.append("a night is open")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
