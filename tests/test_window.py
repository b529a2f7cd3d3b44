"""The window of the nights keeps to the user's clock, also where that clock jumps."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.window import Window, zone_named

BERLIN = ZoneInfo("Europe/Berlin")  # forward at 02:00 on 2026-03-29, back at 03:00 on 2026-10-25
NIGHT = Window.parse("01:00-06:00", BERLIN)
ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"])
TIMES = st.times().map(lambda t: t.replace(second=0, microsecond=0))
MOMENTS = st.integers(0, 1_000_000).map(lambda m: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m))


def hours(window: Window, night: date) -> float:
    found = window.opening(night)
    return (found.ends - found.begins) / timedelta(hours=1)


def local(moment: datetime) -> str:
    return f"{moment.astimezone(BERLIN):%Y-%m-%d %H:%M}"


def test_a_window_is_open_between_its_times_on_the_local_clock() -> None:
    opening = NIGHT.opening(date(2026, 7, 1))
    assert (local(opening.begins), local(opening.ends)) == ("2026-07-01 01:00", "2026-07-01 06:00")
    assert NIGHT.now_open(opening.begins) == opening
    assert NIGHT.now_open(opening.ends) is None


def test_a_window_may_go_over_midnight_and_is_named_by_the_evening() -> None:
    late = Window.parse("22:30-05:00", BERLIN)
    found = late.now_open(datetime(2026, 7, 2, 3, 0, tzinfo=BERLIN))
    assert found and found.night == date(2026, 7, 1)


def test_the_night_of_the_spring_change_is_an_hour_shorter() -> None:
    assert hours(NIGHT, date(2026, 3, 29)) == 4


def test_the_night_of_the_autumn_change_is_an_hour_longer() -> None:
    assert hours(NIGHT, date(2026, 10, 25)) == 6


def test_an_hour_that_the_clock_shows_twice_is_in_one_opening() -> None:
    twice = Window.parse("01:00-02:30", BERLIN)
    assert hours(twice, date(2026, 10, 25)) == 2.5
    assert twice.next(twice.opening(date(2026, 10, 25)).begins).night == date(2026, 10, 26)


def test_a_window_that_the_clock_leaps_over_in_part_begins_or_ends_at_the_leap() -> None:
    opening = Window.parse("02:30-03:10", BERLIN).opening(date(2026, 3, 29))
    assert (local(opening.begins), local(opening.ends)) == ("2026-03-29 03:00", "2026-03-29 03:10")


def test_a_window_that_the_clock_leaps_over_altogether_opens_the_next_day() -> None:
    lost = Window.parse("02:00-02:30", BERLIN)
    assert lost.next(datetime(2026, 3, 28, 12, tzinfo=UTC)).night == date(2026, 3, 30)


@given(start=TIMES, end=TIMES, zone=ZONES, now=MOMENTS)
def test_openings_follow_each_other_and_do_not_overlap(start: time, end: time, zone: str, now: datetime) -> None:
    window = Window(start, end, ZoneInfo(zone))
    following = window.next(now)
    after = window.next(following.begins)
    before = window.last(now)
    assert before.ends <= now < following.begins < following.ends
    assert following.ends <= after.begins
    current = window.now_open(now)
    assert current is None or before.ends <= current.begins <= now < current.ends <= following.begins


@given(start=TIMES, end=TIMES, zone=ZONES, now=MOMENTS)
def test_a_window_is_open_exactly_when_its_clock_says_so_but_for_the_hours_of_a_change(
    start: time, end: time, zone: str, now: datetime
) -> None:
    where = ZoneInfo(zone)
    window = Window(start, end, where)
    shown = now.astimezone(where).time()
    says = start <= shown < end if start < end else shown >= start or shown < end
    day = timedelta(hours=25)
    steady = {(now + shift).astimezone(where).utcoffset() for shift in (-day, timedelta(0), day)}
    if len(steady) == 1:
        assert (window.now_open(now) is not None) == says


@pytest.mark.parametrize("text", ["", "1-2", "25:00-06:00", "01:00", "01:60-02:00", "nine to five"])
def test_what_is_no_window_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="01:00-06:00"):
        Window.parse(text, UTC)


def test_an_unknown_time_zone_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zone_named("Mars/Olympus")


def test_without_a_name_the_machines_own_zone_counts() -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    assert now.astimezone(zone_named("")).utcoffset() == now.astimezone().utcoffset()


@pytest.mark.parametrize("name", ["Asia/Tokyo", ":Asia/Tokyo", "/somewhere/zoneinfo/Asia/Tokyo"])
def test_a_zone_that_the_environment_names_counts_before_the_machines(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TZ", name)
    assert datetime(2026, 7, 1, tzinfo=UTC).astimezone(zone_named("")).hour == 9


def test_a_zone_of_the_environment_that_is_not_there_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counts = (0, 0, 0, 0, 1, 4)  # one kind of time (RFC 8536): nine hours before UTC, all year
    zone = struct.pack(">4s16x6l l2B4s", b"TZif", *counts, 9 * 3600, 0, 0, b"JST")
    (tmp_path / "localtime").write_bytes(zone)
    monkeypatch.setattr("sleepy_coder.window._LOCALTIME", tmp_path / "localtime")
    monkeypatch.setenv("TZ", "Mars/Olympus")
    assert datetime(2026, 7, 1, tzinfo=UTC).astimezone(zone_named("")).hour == 9
