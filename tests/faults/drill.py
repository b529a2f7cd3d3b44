"""Faults drawn from a seed, each at a night in a real child process, and what has to hold after each of them.

`python drill.py SEED FAULTS WORKER SCRATCH [DISK]` runs one worker and prints its figures as one JSON line. A scenario
is one night with up to three faults in a row; a night that broke off is begun again until it closes. One thread only:
the nights and their model server are forks of this process, so that a start costs no imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fakes import BASE, DAY, FROZEN, REHEARSAL, FakeClock, live_a_day, make_episode, parts
from fakes import FakeTrainer as NoTrainer
from model_server import serve
from night_child import CRASHED, Stage, Strike, damage_file, night
from sleepyd.keeper import Keeper

from sleepy_coder.errors import AdapterError, SleepyError, StoreError
from sleepy_coder.registry import Registry
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import free_port
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.store_database import backups_of, in_doubt
from sleepy_coder.store_rescue import rescue_if_damaged
from sleepy_coder.types import Decision, Outcome

SKILLS = (*(number for number in DAY if number % 4), *REHEARSAL[:20])
DREAMED = tuple(number for number in DAY if number % 8 == 0)
NIGHTS = (FROZEN[:30], FROZEN[:45])  # what the two nights before the drill's own learned; the base solves FROZEN[:14]
THIRD = {"promoted": FROZEN[:62], "rejected": FROZEN[:28], "inconclusive": FROZEN[:46]}
PHASES = (
    *("day", "shadow", "serve", "anchors", "dream", "surprise", "mix", "recipe", "trunk", "train", "choose", "stage"),
    *("open", "controls", "evaluate-baseline", "evaluate", "gate", "deploy", "end"),
)
WITH_CANDIDATE = PHASES[PHASES.index("evaluate-baseline") : -1]
STARTS_AT_MOST = 12
DAY_THREE = datetime(2026, 11, 26, 3, tzinfo=UTC)


@dataclass
class Figures:
    """What a worker found. `trouble` has a sentence for each thing that must not be."""

    by_kind: Counter[str] = field(default_factory=Counter[str])
    episodes_lost: int = 0
    wrong_adapter: int = 0
    stuck: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    trouble: list[str] = field(default_factory=list[str])

    @property
    def faults(self) -> int:
        return sum(self.by_kind.values())


class Server:
    """The model server's process; it is always the same port."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.pid = 0

    def start(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                serve(self.port, (*FROZEN[:14], *SKILLS), DREAMED)
            except BaseException:  # noqa: BLE001 - nothing of this goes on in the parent's place
                traceback.print_exc()
            finally:
                os._exit(1)  # never on with the parent's work
        while True:
            try:
                httpx.get(f"{self.url}/version")
                return
            except httpx.TransportError:
                assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), "the model server does not start"
                time.sleep(0.01)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def ensure(self) -> None:
        """Start it again when it is dead, let it go on when it is stopped."""
        if os.waitpid(self.pid, os.WNOHANG)[0]:
            self.start()
        else:
            os.kill(self.pid, signal.SIGCONT)


def held(stage: Stage, strike: Strike | None, kill_after: float | None = None) -> int:
    """One night process; its exit status, negative for a signal. `kill_after` is in seconds."""
    pid = os.fork()
    if pid == 0:
        status = CRASHED
        try:
            status = night(stage, strike)
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def template(home: Path, server: Server) -> tuple[int, float]:
    """Two days with promoted nights, and a third day; operations and seconds of an undisturbed third night."""
    for number, learns in enumerate(NIGHTS):
        _a_day(home, server, DAY[number * 40 : number * 40 + 40], f"day {number}")
        starts = DAY_THREE - timedelta(days=2 - number)
        assert held(stage_of(home, server, learns, starts), None) == 0, log_of(server).read_text()
    _a_day(home, server, DAY[80:100], "day 2")
    with Store(home / "state" / "sleepy.db") as store:
        assert [report.outcome for report in store.nights()] == ["promoted", "promoted"]
    probe = home.with_name("probe")
    shutil.copytree(home, probe)
    server.stop()
    server.start()
    began = time.monotonic()
    assert held(stage_of(probe, server, THIRD["promoted"]), None) == 0
    seconds = time.monotonic() - began
    with Store(probe / "state" / "sleepy.db") as store:
        assert store.nights()[-1].outcome == "promoted", store.nights()[-1].reason
    return int((probe / "operations").read_text()), seconds


def _a_day(home: Path, server: Server, numbers: range, session: str) -> None:
    with VllmClient(server.url) as client:
        house = parts(home, client, NoTrainer())  # pyright: ignore[reportArgumentType]
        live_a_day(house, numbers, session)
        house.store.close()


def log_of(server: Server) -> Path:
    return server.scratch / f"nights-{server.port}.log"


def stage_of(home: Path, server: Server, learns: range, starts: datetime = DAY_THREE) -> Stage:
    return Stage(home, server.url, server.pid, (*learns, *SKILLS), starts, timeout=60.0, said=log_of(server))


class Scenario:
    """One night with its faults."""

    def __init__(self, home: Path, server: Server, drawn: random.Random, figures: Figures, ballast: Path) -> None:
        self.home, self.server, self.drawn, self.figures = home, server, drawn, figures
        self.outcome = drawn.choice(tuple(THIRD))
        self.learns, self.ballast = THIRD[self.outcome], ballast
        self.restored = 0
        with Store(home / "state" / "sleepy.db") as store:
            self.known = {episode.id: episode for episode in store.episodes()}
            self.promoted = [report.candidate or "" for report in store.nights() if report.outcome == "promoted"]
        (home / "serving").write_text(self.promoted[-1])

    def run(self, strikes: list[Strike], operations: int, seconds: float) -> None:
        """Strike, begin again, and so on until the night closes; then look whether all is as it must be."""
        for strike in [*strikes, *(None,) * STARTS_AT_MOST]:
            self._arrive()
            closed = self._start(strike, operations, seconds)
            self._mend()
            self._pointer_is_plausible(strike)
            if closed and strike is None:
                break
        else:
            self.figures.stuck += 1
            self._trouble("the night does not close")
        self._morning()

    def _start(self, strike: Strike | None, operations: int, seconds: float) -> bool:
        """Whether a night closed."""
        sign = self.home / "struck"
        sign.unlink(missing_ok=True)
        stage = replace(stage_of(self.home, self.server, self.learns), ballast=self.ballast)
        kill_after = None
        if strike is not None:
            strike = self._between(strike)
        if strike is not None and strike.kind == "killed_any_time":
            kill_after = strike.amount * seconds
        if strike is not None and strike.kind == "server_stopped":
            stage = replace(stage, timeout=1.0)
        status = held(stage, None if kill_after is not None else strike, kill_after)
        if strike is not None and (sign.exists() or (kill_after is not None and status < 0)):
            name = f"{strike.kind}_at_phase" if strike.kind == "kill" and strike.phase else strike.kind
            self.figures.by_kind[name] += 1
        if status == CRASHED:
            self._trouble(log_of(self.server).read_text()[-3000:])
        return status == 0

    def _between(self, strike: Strike) -> Strike | None:
        """Do what is done to a home while no process is at work in it; None when that was the fault."""
        if strike.kind == "page_damaged":
            damage_page(self.home / "state" / "sleepy.db", self.drawn)
        elif strike.kind == "pointer_lost_twin":
            damage_file(self.home / "adapters" / "active.twin.json", strike.amount)
        else:
            return strike
        self.figures.by_kind[strike.kind] += 1
        return None

    def _mend(self) -> None:
        """What an operator, systemd or time does: room on the disk, a running server, a store restored as it says."""
        self.ballast.unlink(missing_ok=True)
        self.server.ensure()
        path = self.home / "state" / "sleepy.db"
        try:
            with Store(path) as store:
                store.check()
        except StoreError as error:
            backups = backups_of(path)
            if not backups or str(backups[-1]) not in str(error):
                self._trouble(f"a damaged store names no backup: {error}")
            assert in_doubt(path).exists() and rescue_if_damaged(path)  # as the daemon does at its start
            self.restored += 1
        self._remember()

    def _arrive(self) -> None:
        """An agent ends a task between two processes; what was acknowledged must never be lost."""
        if self.drawn.random() < 0.3:
            name = f"-{len(self.known)}"
            episode = make_episode(self.drawn.choice(DAY), Outcome.PASS, name=name)
            with Store(self.home / "state" / "sleepy.db") as store:
                store.save_episode(episode)
            self.known[episode.id] = episode

    def _remember(self) -> None:
        with Store(self.home / "state" / "sleepy.db") as store:
            for report in store.nights():
                if report.outcome == "promoted" and report.candidate not in self.promoted:
                    self.promoted.append(report.candidate or "")
                if report.cycle > len(NIGHTS) and report.finished is not None:
                    self.last = report

    def _pointer_is_plausible(self, strike: Strike | None) -> None:
        """Whatever was killed: the last promoted one serves, or one that the gate promoted a moment ago."""
        try:
            registry = Registry(self.home / "adapters", FakeClock())
            active = registry.active()
            if active is None or active.name in self.promoted:
                return
            manifest = registry.manifest(active.name)
        except AdapterError as error:
            self._wrong(f"{strike}: {error}")
            return
        if manifest.verdict is None or manifest.verdict.decision is not Decision.PROMOTE:
            self._wrong(f"{active.name} serves without a verdict after {strike}")
        self.promoted.append(active.name)  # also when the store's report of it was lost with a damaged page

    def _morning(self) -> None:
        """The keeper looks after the server, as it does by day; then everything has to be in order."""
        registry = Registry(self.home / "adapters", FakeClock())
        prover = Prover(self.home / "state" / "fingerprints", BASE, 0.01)
        damaged = (self.home / "damaged").read_text().split() if (self.home / "damaged").exists() else []
        with VllmClient(self.server.url) as client:
            keeper = Keeper(registry, client, prover, Nobody(), self.home / "state" / "night.lock", 4)  # pyright: ignore[reportArgumentType]
            if damaged and registry.previous() is not None or damaged:
                self.server.stop()  # what is damaged on disk shows when it is loaded anew
                self.server.start()
            keeper.look()
            keeper.look()
            self._right_adapter(registry, client, prover, damaged)
        self._adapters_are_whole(registry, damaged)
        self._store_is_whole()

    def _right_adapter(self, registry: Registry, client: VllmClient, prover: Prover, damaged: list[str]) -> None:
        sound = [name for name in self.promoted if name not in damaged]
        try:
            active = registry.active()
            if active is None or active.name != (sound[-1] if sound else None):
                # After a rollback there is one step back only; then the base serves.
                if not (active is None and damaged):
                    self._wrong(f"{active.name if active else BASE} serves, not {sound[-1:]}")
                return
            registry.verify(active.name)
            held_from = {model.name: model.root for model in client.models()}.get(active.name)
            if held_from != str(active.path):
                self._wrong(f"the server holds {active.name} from {held_from}")
            prover.prove(client, active.name, registry.manifest(active.name).base_sha256)
        except SleepyError as error:
            self._wrong(str(error))

    def _adapters_are_whole(self, registry: Registry, damaged: list[str]) -> None:
        for folder in (self.home / "adapters").iterdir():
            if folder.is_dir() and folder.name not in damaged:
                try:
                    registry.verify(folder.name)
                except AdapterError as error:
                    self._trouble(f"half an adapter: {error}")
            elif folder.name.endswith(".tmp"):
                self._trouble(f"left over: {folder}")
        for half in (self.home / "state" / "backups").glob(".*"):
            self._trouble(f"left over: {half}")

    def _store_is_whole(self) -> None:
        with Store(self.home / "state" / "sleepy.db") as store:
            store.check()
            there = {episode.id: episode for episode in store.episodes()}
            if store.unfinished_night() is not None:
                self._trouble("a night is open")
            last = store.nights()[-1]
        lost = [id for id, episode in self.known.items() if there.get(id) != episode]
        self.figures.episodes_lost += len(lost)
        self.figures.outcomes[last.outcome] += 1
        if lost:
            self._trouble(f"lost {lost}")
        self._books_agree()

    def _books_agree(self) -> None:
        """Only nights that may use episodes up have, and whatever was put aside has a reason."""
        with closing(sqlite3.connect(self.home / "state" / "sleepy.db")) as raw:
            outcomes = dict(raw.execute("SELECT cycle, outcome FROM nights").fetchall())
            used = [row[0] for row in raw.execute("SELECT DISTINCT used_in FROM episodes WHERE used_in IS NOT NULL")]
            nameless = raw.execute("SELECT count(*) FROM quarantine WHERE reason = ''").fetchone()[0]
        wrong = {cycle: outcomes.get(cycle) for cycle in used if outcomes.get(cycle) not in ("promoted", "rejected")}
        if wrong or nameless:
            self._trouble(f"used up by {wrong}, {nameless} put aside without a reason")

    def _wrong(self, what: str) -> None:
        self.figures.wrong_adapter += 1
        self._trouble(f"wrong adapter: {what}")

    def _trouble(self, what: str) -> None:
        self.figures.trouble.append(f"{self.home.name} ({self.outcome}): {what}")


class Nobody:
    """No gateway has callers here."""

    def of(self, model: str) -> int:
        return 0

    def total(self) -> int:
        return 0


def damage_page(path: Path, drawn: random.Random) -> None:
    """Overwrite a page of the store with noise."""
    with path.open("r+b") as file:
        file.seek(4096 * drawn.randrange(path.stat().st_size // 4096))
        file.write(drawn.randbytes(4096))


def draw(drawn: random.Random, operations: int, with_disk: bool) -> Strike:
    """One fault, at a place where it can be struck."""
    amount = drawn.random()
    kinds = ["kill"] * 6 + ["killed_any_time"] * 4 + ["reboot"] * 2 + ["server_killed"] * 2 + ["server_stopped"]
    kinds += ["candidate_damaged", "serving_damaged", "pointer_damaged", "pointer_damaged", "pointer_lost_twin"]
    kinds += ["page_damaged", "page_damaged", "clock_jumps", "clock_jumps", "training_killed", "training_killed"]
    kind = drawn.choice(kinds + ["disk_full"] * 5 * with_disk)
    if kind == "candidate_damaged":
        return Strike(kind, drawn.choice(WITH_CANDIDATE), amount=amount)
    if drawn.random() < 0.5:
        return Strike(kind, drawn.choice(PHASES), amount=amount)
    return Strike(kind, operation=drawn.randint(1, operations), amount=amount)


def plans(drawn: random.Random, operations: int, with_disk: bool, worker: int) -> list[list[Strike]]:
    """First a kill at each boundary, then whatever is drawn; one worker takes every other of them."""
    boundaries = [[Strike("kill", phase)] for phase in PHASES][worker::2]
    return [*boundaries, *([draw(drawn, operations, with_disk) for _ in range(3)] for _ in range(10_000))]


def work(seed: int, faults: int, worker: int, scratch: Path, disk: Path | None) -> Figures:
    """Run scenarios until `faults` faults were struck."""
    drawn, figures, server = random.Random(f"{seed}/{worker}"), Figures(), Server(scratch)
    server.start()
    try:
        home = scratch / f"template{worker}" / "home"
        operations, seconds = template(home, server)
        homes = disk or scratch
        for number, strikes in enumerate(plans(drawn, operations, disk is not None, worker)):
            if figures.faults >= faults:
                break
            server.stop()
            server.start()
            mine = homes / f"w{worker}-{number}"
            shutil.copytree(home, mine)
            Scenario(mine, server, drawn, figures, homes / f"ballast{worker}").run(strikes, operations, seconds)
            if not figures.trouble:
                shutil.rmtree(mine)
    finally:
        server.stop()
    return figures


def main() -> None:
    seed, faults, worker, scratch, *disk = sys.argv[1:]
    found = work(int(seed), int(faults), int(worker), Path(scratch), Path(disk[0]) if disk else None)
    line = {"faults": found.faults, "episodes_lost": found.episodes_lost, "wrong_adapter": found.wrong_adapter}
    line |= {"stuck": found.stuck, "by_kind": found.by_kind, "outcomes": found.outcomes, "trouble": found.trouble}
    sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
