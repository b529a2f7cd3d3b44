"""The daemon's schedule: nights begin when they are due and nobody is at work, and stop when the window closes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path

import apscheduler.schedulers.base
import pytest
import sleepyd.schedule as schedule_module
from fakes import FakeClock
from report_data import skipped
from sleepyd.nights import NightProcess
from sleepyd.schedule import Schedule

from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.due import read_diary
from sleepy_coder.errors import InfraError
from sleepy_coder.pause import Pause, pause
from sleepy_coder.store import Store

NIGHT = date(2026, 7, 2)
OPENS = datetime(2026, 7, 2, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ENDS_WELL = (sys.executable, "-c", "")
FAILS = (sys.executable, "-c", "raise SystemExit(1)")
# Says that it is there by a file, and pauses when it is asked to, as a night does.
PAUSES = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path(sys.argv[1]).touch()
while True: time.sleep(0.05)
"""


class House:
    """A schedule with a clock of its own, over a small program in the place of the night."""

    def __init__(self, home: Path, command: tuple[str, ...]) -> None:
        self.home, self.clock, self.busy = home, FakeClock(), ""
        self.clock.time = OPENS
        self.nights = NightProcess(home, command)
        self.began = home / "began"
        self.config = load_config(home)
        self.schedule = Schedule(lambda: self.config, self.clock, self.hindrance, self.nights)

    def hindrance(self, config: Config) -> str:
        return self.busy

    def look(self, at: datetime) -> str:
        self.clock.time = at
        self.schedule.look()
        return self.schedule.outlook().why

    def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            time.sleep(0.01)

    def over(self) -> None:
        self.until(lambda: self.nights.pid is None)

    @property
    def done(self) -> date | None:
        return read_diary(self.config.state, self.clock.now()).done


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLEEPY_CODER_NIGHT__TIMEZONE", "UTC")
    monkeypatch.setenv("SLEEPY_CODER_NIGHT__MIN_FREE_GIB", "0")
    (tmp_path / "state").mkdir()
    return tmp_path


class AnHourBack(datetime):
    """The clock after it was set back."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> AnHourBack:
        return super().now(tz) - timedelta(hours=1)


def full_disk(*_: object) -> None:
    raise InfraError("schedule.json cannot be written ([Errno 28] No space left on device)")


def after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have `seconds` pass on the clock that nobody sets."""
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + seconds)


def night_ended(house: House, at: datetime) -> None:
    with Store(house.config.store_file) as store:
        store.finish_night(skipped(store.next_cycle(), "sleepy-base").model_copy(update={"finished": at}))


def pausing(home: Path) -> House:
    return House(home, (sys.executable, "-c", PAUSES, str(home / "began")))


def test_a_night_is_held_once_in_its_window(home: Path) -> None:
    house = House(home, ENDS_WELL)
    assert "runs" in house.look(OPENS)
    house.over()
    assert house.look(OPENS + MINUTE) == f"the night of {NIGHT} is over"
    assert house.done == NIGHT


def test_a_night_whose_end_the_daemon_missed_because_it_was_restarted_is_not_held_again(home: Path) -> None:
    before, after = House(home, ENDS_WELL), House(home, ENDS_WELL)
    before.look(OPENS)
    before.over()
    night_ended(before, OPENS + MINUTE / 2)
    assert after.look(OPENS + MINUTE) == f"the night of {NIGHT} is over"
    assert after.nights.pid is None and after.done == NIGHT
    assert "runs" in after.look(OPENS + timedelta(days=1))
    after.over()


def test_a_night_that_was_over_before_its_process_failed_is_not_tried_again(home: Path) -> None:
    house = House(home, FAILS)
    house.look(OPENS)
    house.over()
    night_ended(house, OPENS + MINUTE / 2)
    assert "tried again" in house.look(OPENS + MINUTE)
    assert house.look(OPENS + 6 * MINUTE) == f"the night of {NIGHT} is over"


def test_a_night_of_the_evening_before_keeps_none_away(home: Path) -> None:
    house = House(home, ENDS_WELL)
    night_ended(house, OPENS - MINUTE)
    assert "runs" in house.look(OPENS)
    house.over()


def test_no_night_begins_while_somebody_is_at_work_and_the_outlook_says_so(home: Path) -> None:
    house = House(home, ENDS_WELL)
    house.busy = "a session 3 minutes ago"
    assert house.look(OPENS) == "a session 3 minutes ago"
    assert house.nights.pid is None
    house.busy = ""
    assert "runs" in house.look(OPENS + MINUTE)
    house.over()


def test_a_night_that_runs_past_its_window_pauses_and_goes_on_the_next_night(home: Path) -> None:
    house = pausing(home)
    house.look(OPENS)
    house.until(house.began.exists)
    assert "goes on in the next window" in house.look(OPENS + timedelta(hours=5))
    assert house.look(OPENS + timedelta(hours=5, minutes=1)).startswith("outside")
    assert house.done is None
    assert "runs" in house.look(OPENS + timedelta(days=1))
    house.nights.stop(60)


def test_a_night_that_is_paused_by_hand_stops_at_once(home: Path) -> None:
    house = pausing(home)
    house.look(OPENS)
    house.until(house.began.exists)
    pause(house.config.state, Pause(since=OPENS))
    assert "paused" in house.look(OPENS + MINUTE)
    assert house.nights.pid is None


def test_a_night_that_fails_is_tried_again_later_in_the_same_window(home: Path) -> None:
    house = House(home, FAILS)
    house.look(OPENS)
    house.over()
    assert "tried again" in house.look(OPENS + MINUTE)
    assert "runs" in house.look(OPENS + 6 * MINUTE)
    house.over()


def test_no_night_begins_on_a_full_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPY_CODER_NIGHT__MIN_FREE_GIB", "10000")
    assert "GiB are free" in House(home, ENDS_WELL).look(OPENS)


def test_stopping_the_schedule_pauses_the_night_that_runs(home: Path) -> None:
    house = pausing(home)
    house.schedule.start()
    house.until(house.began.exists)
    house.schedule.stop()
    assert house.nights.ended() == 75


def test_a_night_that_does_not_pause_in_time_is_ended(home: Path) -> None:
    stubborn = PAUSES.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN")
    house = House(home, (sys.executable, "-c", stubborn, str(home / "began")))
    house.nights.start()
    house.until(house.began.exists)
    house.nights.stop(0.05)
    assert house.nights.ended() == -signal.SIGKILL


def test_a_night_wanted_by_hand_in_the_middle_of_a_look_is_not_a_second_one(home: Path) -> None:
    house = pausing(home)
    began, go_on, started = threading.Event(), threading.Event(), list[object]()

    def waits(config: Config) -> str:
        began.set()
        go_on.wait()
        return ""

    begin = house.nights.start
    house.nights.start = lambda until=None: (started.append(until), begin(until))[1]  # type: ignore[method-assign]
    schedule = Schedule(lambda: house.config, house.clock, waits, house.nights)
    schedule.start()
    began.wait()
    assert schedule.begin_now() == "a night begins"
    time.sleep(0.2)  # a second look would have begun by now
    go_on.set()
    house.until(house.began.exists)
    schedule.stop()
    assert len(started) == 1


def test_a_minute_in_which_the_schedule_fails_is_not_its_last(home: Path) -> None:
    house = House(home, ENDS_WELL)
    (house.config.state / "pause.json").write_text("{")
    house.schedule.start()
    house.until(lambda: house.schedule.alive)
    house.schedule.stop()
    (house.config.state / "pause.json").unlink()
    assert "runs" in house.look(OPENS)
    house.over()


def test_a_schedule_that_looks_and_fails_lives_and_its_outlook_says_why(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(home, ENDS_WELL)
    house.busy = "somebody"
    house.look(OPENS)
    (house.config.state / "pause.json").write_text("{")
    after(monkeypatch, 3600)
    house.schedule._guarded_look()
    assert house.schedule.alive
    assert "pause.json cannot be read" in house.schedule.outlook().why


def test_a_schedule_whose_looks_do_not_end_is_dead_also_when_it_is_the_first_that_does_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(home, ENDS_WELL)
    go_on = threading.Event()
    house.hindrance = lambda config: str(go_on.wait())  # type: ignore[method-assign]
    schedule = Schedule(lambda: house.config, house.clock, house.hindrance, house.nights)
    schedule.start()
    assert schedule.alive
    with monkeypatch.context() as later:
        after(later, 3600)
        assert not schedule.alive
    go_on.set()
    schedule.stop()


def test_a_disk_that_takes_no_diary_begins_no_night_and_the_outlook_names_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(home, ENDS_WELL)
    monkeypatch.setattr(schedule_module, "write_diary", full_disk)
    house.look(OPENS)
    after(monkeypatch, 3600)
    assert "No space left on device" in house.look(OPENS + MINUTE)
    assert house.schedule.alive and house.nights.pid is None


@pytest.mark.parametrize("trouble", ["a full disk", "a pause that cannot be read"])
def test_a_night_that_ends_in_a_minute_of_trouble_is_held_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    house = House(home, ENDS_WELL)
    house.look(OPENS)
    house.over()
    with monkeypatch.context() as now:
        if trouble == "a full disk":
            now.setattr(schedule_module, "write_diary", full_disk)
        else:
            (house.config.state / "pause.json").write_text("{")
        house.clock.time = OPENS + MINUTE
        house.schedule._guarded_look()
    (house.config.state / "pause.json").unlink(missing_ok=True)
    assert house.look(OPENS + 2 * MINUTE) == f"the night of {NIGHT} is over"
    assert house.done == NIGHT


def test_a_clock_that_is_set_back_stops_no_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(home, ENDS_WELL)
    looks = list[datetime]()
    house.schedule.look = lambda: looks.append(datetime.now(UTC))  # type: ignore[method-assign]
    monkeypatch.setattr(schedule_module, "_EVERY_SECONDS", 0.2)
    house.schedule.start()
    house.until(lambda: len(looks) > 1)
    monkeypatch.setattr(apscheduler.schedulers.base, "datetime", AnHourBack)
    monkeypatch.setattr(schedule_module, "datetime", AnHourBack)
    time.sleep(0.5)  # what was due before the step
    before = len(looks)
    house.schedule.keep_time()
    house.until(lambda: len(looks) > before + 2)
    house.schedule.stop()


def test_a_clock_that_is_set_back_takes_nothing_from_the_minutes_of_a_window(home: Path) -> None:
    house = House(home, ENDS_WELL)
    house.busy = "somebody"
    for minutes in (0, 4, 1, 2):
        house.look(OPENS + minutes * MINUTE)
    assert read_diary(house.config.state, OPENS).minutes == 5


def test_no_minute_of_a_window_counts_twice_when_a_look_fails(home: Path) -> None:
    house = House(home, ENDS_WELL)
    house.busy = "somebody"
    unreadable = house.config.state / "pause.json"
    for minute in range(4):
        house.clock.time = OPENS + minute * MINUTE
        if minute == 2:
            unreadable.write_text("{")
        house.schedule._guarded_look()
        unreadable.unlink(missing_ok=True)
    assert round(read_diary(house.config.state, OPENS).minutes) == 3


def test_a_clock_that_jumps_makes_no_schedule_look_dead(home: Path) -> None:
    house = House(home, ENDS_WELL)
    house.look(OPENS)
    house.clock.time += timedelta(days=3)
    assert house.schedule.alive
    house.over()
