"""The hours of the nights, on the user's own clock, right over both changes of it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sleepy_coder.types import Record

_FORM: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)")
_DAY: Final = timedelta(days=1)
_LOCALTIME: Final = Path("/etc/localtime")


class Opening(Record):
    """One opening of the window, from `begins` up to but not including `ends`, in UTC; `night` is the local date on
    which it begins, and names it: an hour that the clock shows twice does not make two nights."""

    night: date
    begins: datetime
    ends: datetime


class Window:
    """From `start` to `end` on the clock of `zone`, each day; over midnight when `end` is not later than `start`."""

    def __init__(self, start: time, end: time, zone: tzinfo) -> None:
        self.start, self.end, self.zone = start, end, zone

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Window:
        """The window in `text`, such as "01:00-06:00". Raises ValueError."""
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise ValueError(f"{text!r} is not a window: write it like 01:00-06:00, or leave it empty for any time")
        first, minute, last, until = map(int, found.groups())
        return cls(time(first, minute), time(last, until), zone)

    def opening(self, night: date) -> Opening:
        """The opening of that date. It is empty where the clock leaps over all of it."""
        over = self.end <= self.start
        begins = _instant(night, self.start, self.zone, last=False)
        ends = _instant(night + _DAY if over else night, self.end, self.zone, last=True)
        return Opening(night=night, begins=begins, ends=ends)

    def now_open(self, now: datetime) -> Opening | None:
        """The opening that `now` falls into."""
        today = now.astimezone(self.zone).date()
        for night in (today - _DAY, today):
            found = self.opening(night)
            if found.begins <= now < found.ends:
                return found
        return None

    def next(self, now: datetime) -> Opening:
        """The first opening that begins after `now`."""
        night = now.astimezone(self.zone).date()
        while True:
            found = self.opening(night)
            if now < found.begins < found.ends:
                return found
            night += _DAY

    def coming(self, now: datetime) -> Opening:
        """The opening that `now` falls into, or the first one that begins after it."""
        return self.now_open(now) or self.next(now)

    def last(self, now: datetime) -> Opening:
        """The latest opening that has ended by `now`."""
        night = now.astimezone(self.zone).date()
        while True:
            found = self.opening(night)
            if found.begins < found.ends <= now:
                return found
            night -= _DAY

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"


def zone_named(name: str) -> tzinfo:
    """The time zone of that IANA name; the machine's own for "". Raises ValueError."""
    if not name:
        return _machine_zone()
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}: write it like Europe/Berlin") from error


def _machine_zone() -> tzinfo:
    """$TZ, or else what /etc/localtime is: with the rules of its changes, which `datetime.astimezone` does not give."""
    if named := os.environ.get("TZ", "").removeprefix(":").rpartition("zoneinfo/")[2]:
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):  # no such name: as if none was there
            return ZoneInfo(named)
    if _LOCALTIME.exists():
        with _LOCALTIME.open("rb") as file:
            where = str(_LOCALTIME.resolve())
            return ZoneInfo.from_file(file, key=where.partition("zoneinfo/")[2] or "local")
    return UTC


def _instant(day: date, at: time, zone: tzinfo, *, last: bool) -> datetime:
    """When the clock shows `at` on `day`, in UTC: the first or the last time that it does.

    A time that the clock leaps over is the moment of the leap.
    """
    local = datetime.combine(day, at, zone)
    early, late = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return late if last else early
    before = late.astimezone(zone).utcoffset()
    low, high = late, early
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)
