"""A week of the daemon in fast-forward: does it grow? One JSON line.

Everything is real but the schedule's clock: the embedded server, the daemon's gateway, recorder, inbox, collector and
keeper in this process, days of the built-in agent and of chats through the gateway, its pages looked at, nights as the
schedule's child processes with real training and the real gate. Days and nights are small: what could make the daemon
grow is how many requests, nights and pages there were, not how long each took. Memory is this process's, which is the
daemon's: whatever else works is a child.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sleepyd.gateway_main import working
from sleepyd.nights import NightProcess
from sleepyd.schedule import Schedule

from sleepy_coder import log, wiring
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config

GOAL_GROWTH = 0.05
SMALL = {
    "NIGHT__WINDOW": "01:00-06:00",
    "NIGHT__TIMEZONE": "UTC",
    "NIGHT__INHIBIT_SLEEP": "false",
    "MIX__MAX_EXAMPLES": "24",
    "MIX__MIN_EXAMPLES": "8",
    "MIX__ANCHORS": "16",
    "MIX__DREAM_TASKS": "4",
    "MIX__DREAM_SAMPLES": "4",
    "RECIPE__MAX_STEPS": "2",
    "RECIPE__BATCH_SIZE": "4",
    "SERVER__THREADS": "1",
    "EVAL__MAX_TOKENS": "64",
    "GATEWAY__REST_MINUTES": "0.05",
}


@dataclass(frozen=True)
class Size:
    """What the daemon's process holds: resident memory, the part of it that is no file's, descriptors, threads.

    Under pressure the kernel drops what it can read from files again, so `mib` may fall without the daemon's doing.
    """

    mib: float
    own_mib: float
    files: int
    threads: int


class SetClock:
    """Shows what it was set to."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def size_now() -> Size:
    resident, of_files = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - links to sockets, not paths
    return Size(round(resident * page, 2), round((resident - of_files) * page, 2), files, threading.active_count())


async def child(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL)
    if await process.wait() != 0:
        sys.exit(f"{arguments} ended with {process.returncode}")


def talk(url: str, count: int) -> None:
    """The child that agents and a browser are: `count` chats in conversations of four, then each page once."""
    with httpx.Client(base_url=url, timeout=600) as http:
        for number in range(count):
            said = f"conversation {time.time_ns() if number % 4 == 0 else number}: what does `let x = {number};` do?"
            body = {"model": "sleepy-coder", "max_tokens": 4, "messages": [{"role": "user", "content": said}]}
            http.post("/v1/chat/completions", json=body).raise_for_status()
        for page in ("/dashboard", "/metrics", "/admin/state"):
            http.get(page).raise_for_status()


def hold_night(schedule: Schedule, nights: NightProcess, clock: SetClock, opens: datetime) -> None:
    """Let the schedule look once a fake minute until it has begun a night and seen its end."""
    clock.time = opens
    began = False
    while True:
        schedule.look()
        if began and nights.pid is None:
            schedule.look()
            return
        began = began or nights.pid is not None
        if clock.time > opens + timedelta(hours=1) and not began:
            sys.exit(f"no night began: {schedule.outlook().why}")
        if began:
            time.sleep(0.2)
        else:
            clock.sleep(60)


async def week(config: Config, options: argparse.Namespace) -> list[Size]:
    """The size after each night."""
    # Ahead of the real clock, which tells the nights when their window closes.
    first = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0) + timedelta(days=2)
    clock = SetClock(first - timedelta(hours=12))
    nights = NightProcess(config.home)
    schedule = Schedule(lambda: config, clock, lambda _: "", nights)
    sizes: list[Size] = []
    async with working(config, port=0, nights=schedule) as day:
        for number in range(options.days):
            began = time.perf_counter()
            await child("-m", "sleepy_coder", "koans", "run", "--count", str(options.tasks))
            await child(__file__, "--talk", day.url, "--chats", str(options.chats))
            await asyncio.to_thread(hold_night, schedule, nights, clock, first + timedelta(days=number))
            sizes.append(size_now())
            sys.stderr.write(f"day {number + 1}: {sizes[-1]}, {time.perf_counter() - began:.0f} s\n")
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=24, help="tasks of the built-in agent a day")
    parser.add_argument("--chats", type=int, default=200, help="chats through the gateway a day")
    parser.add_argument("--talk", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.talk:
        talk(options.talk, options.chats)
        return
    started = time.perf_counter()
    root = Path(__file__).parent.parent
    os.environ["PYTHONPATH"] = f"{root}{os.pathsep}{root / 'daemon'}"
    os.environ.update({f"SLEEPY_CODER_{name}": value for name, value in SMALL.items()})
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w") as said:
        log.set_up(verbose=True, as_json=True, to=said)
        line_to = os.dup(1)
        os.dup2(said.fileno(), 1)  # where the nights log
        with wiring.embedded_server(load_config(Path(home))) as served:
            os.environ["SLEEPY_CODER_SERVER__URL"] = served.server.url
            sizes = asyncio.run(week(served, options))
        with wiring.open_store(served) as store:
            outcomes = Counter(report.outcome for report in store.nights())
            episodes = store.count_episodes()
    growth = sizes[-1].mib / sizes[0].mib - 1
    line = {
        "benchmark": "week",
        "days": options.days,
        "nights": outcomes.total(),
        "outcomes": outcomes,
        "episodes": episodes,
        "first": asdict(sizes[0]),
        "last": asdict(sizes[-1]),
        "mib_by_day": [size.mib for size in sizes],
        "own_mib_by_day": [size.own_mib for size in sizes],
        "growth": round(growth, 4),
        "goal_growth": GOAL_GROWTH,
        "seconds": round(time.perf_counter() - started, 1),
    }
    os.write(line_to, f"{json.dumps(line)}\n".encode())


if __name__ == "__main__":
    main()
