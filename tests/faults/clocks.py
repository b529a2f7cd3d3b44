"""A clock that jumps by weeks, as a dead battery or a wrong time server has it, under the daemon's own schedule."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fakes import FakeClock
from sleepyd.nights import NightProcess
from sleepyd.schedule import Schedule

from sleepy_coder.config import Config, NightSettings

_STEP = timedelta(minutes=30)
_PATIENCE = 3 * 48
"""Looks, half an hour apart: three days, in which a night has to be held. A clock that is set back by a day meets two
dates that had their night already."""


def jump(seed: int, jumps: int, home: Path) -> int:
    """How often no night began within three days of a jump."""
    drawn, clock = random.Random(f"{seed}/clocks"), FakeClock()
    clock.time = datetime(2026, 7, 2, 12, tzinfo=UTC)
    (home / "state").mkdir(parents=True)
    night = NightSettings(window="01:00-06:00", timezone="Europe/Berlin", min_free_gib=0)  # pyright: ignore[reportCallIssue]
    config = Config(home=home, night=night)  # pyright: ignore[reportCallIssue]
    nights = NightProcess(home, ("true",))
    stuck = 0
    for _ in range(jumps):
        clock.time += drawn.choice((timedelta(hours=1), timedelta(days=1))) * drawn.uniform(-40, 40)
        schedule = Schedule(lambda: config, clock, lambda _: "", nights)  # the daemon may start anew with the clock
        began = False
        for _ in range(_PATIENCE):
            clock.time += _STEP
            schedule.look()
            if nights.pid is not None or "runs" in schedule.outlook().why:
                while nights.pid is not None:
                    pass
                began = True
                schedule.look()
                break
        stuck += not began
    return stuck
