"""One night a date, in its window, whatever happens to the machine or its clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.config import Config, NightSettings
from sleepy_coder.due import Diary, coming, due, ended_in, failed, held, present, read_diary, write_diary
from sleepy_coder.pause import Pause
from sleepy_coder.window import Window

BERLIN = ZoneInfo("Europe/Berlin")
WINDOW = Window.parse("01:00-06:00", BERLIN)
SETTINGS = Config.model_fields["night"].default
INSTALLED = Diary(since=datetime(2026, 1, 1, tzinfo=UTC))
NIGHT = date(2026, 7, 2)
OPEN = WINDOW.opening(NIGHT)
MINUTE = timedelta(minutes=1)


def there(night: date, minutes: float) -> Diary:
    return present(INSTALLED, WINDOW.opening(night), minutes)


def asked(now: datetime, diary: Diary = INSTALLED, paused: Pause | None = None, **settings: object) -> bool:
    chosen = SETTINGS.model_copy(update=settings)
    return due(now, WINDOW, chosen, diary, paused, "seed").opening is not None


def test_a_night_is_due_when_the_window_opens_and_has_to_stop_when_it_closes() -> None:
    found = due(OPEN.begins, WINDOW, SETTINGS, INSTALLED, None, "seed")
    assert found.opening == OPEN
    assert found.until == OPEN.ends


def test_a_night_that_was_held_is_not_due_again_on_its_date() -> None:
    assert not asked(OPEN.begins + MINUTE, held(INSTALLED, NIGHT))


def test_the_next_date_has_a_night_of_its_own() -> None:
    assert asked(WINDOW.opening(NIGHT + timedelta(days=1)).begins, held(INSTALLED, NIGHT))


def test_by_day_no_night_is_due_when_somebody_was_there_in_the_night() -> None:
    assert not asked(OPEN.ends + MINUTE, there(NIGHT, 200))


def test_a_night_is_made_up_for_when_the_machine_was_off_and_stops_before_the_next() -> None:
    found = due(OPEN.ends + MINUTE, WINDOW, SETTINGS, there(NIGHT - timedelta(days=1), 300), None, "seed")
    assert found.opening == OPEN
    assert found.caught_up
    assert found.until == WINDOW.opening(NIGHT + timedelta(days=1)).begins


def test_a_night_that_was_missed_is_not_made_up_for_when_that_is_switched_off() -> None:
    assert not asked(OPEN.ends + MINUTE, catch_up=False)


def test_nights_from_before_the_installation_were_not_missed() -> None:
    assert not asked(OPEN.ends + MINUTE, Diary(since=OPEN.ends))


def test_a_paused_schedule_holds_no_night_and_says_until_when() -> None:
    pause = Pause(since=OPEN.begins, until=OPEN.ends, reason="a demo tomorrow")
    found = due(OPEN.begins, WINDOW, SETTINGS, INSTALLED, pause, "seed")
    assert found.opening is None
    assert "a demo tomorrow" in found.why


def test_a_night_that_failed_is_tried_again_less_and_less_often() -> None:
    once = failed(INSTALLED, OPEN.begins)
    twice = failed(once, OPEN.begins)
    assert not asked(OPEN.begins + 4 * MINUTE, once)
    assert asked(OPEN.begins + 5 * MINUTE, once)
    assert not asked(OPEN.begins + 9 * MINUTE, twice)
    assert asked(OPEN.begins + 10 * MINUTE, twice)


def test_the_failures_of_one_night_do_not_delay_the_next() -> None:
    diary = failed(there(NIGHT, 1), OPEN.ends)
    tomorrow = WINDOW.opening(NIGHT + timedelta(days=1))
    assert asked(tomorrow.begins, present(diary, tomorrow, 1))


def test_without_a_window_there_is_one_night_a_day() -> None:
    now = datetime(2026, 7, 2, 15, tzinfo=UTC)
    assert due(now, None, SETTINGS, INSTALLED, None, "seed").opening
    assert not due(now, None, SETTINGS, held(INSTALLED, now.date()), None, "seed").opening


@given(seed=st.text(max_size=8), minutes=st.floats(0, 240))
def test_spread_out_nights_begin_within_their_minutes_and_in_the_first_half(seed: str, minutes: float) -> None:
    settings: NightSettings = SETTINGS.model_copy(update={"jitter_minutes": minutes})
    bound = OPEN.begins + min(timedelta(minutes=minutes), timedelta(hours=2.5))
    assert due(bound, WINDOW, settings, INSTALLED, None, seed).opening


@given(
    start=st.integers(0, 480_000).map(lambda minutes: INSTALLED.since + minutes * MINUTE),
    awake=st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 3000)), min_size=1, max_size=6),
)
def test_however_the_machine_is_switched_on_and_off_no_date_has_two_nights(
    start: datetime, awake: list[tuple[int, int]]
) -> None:
    now, diary, nights = start, INSTALLED, list[date]()
    for minutes_on, minutes_off in awake:
        for _ in range(0, minutes_on, 20):
            diary = present(diary, WINDOW.now_open(now), 20)
            found = due(now, WINDOW, SETTINGS, diary, None, "seed")
            if found.opening:
                nights.append(found.opening.night)
                diary = held(diary, found.opening.night)
            now += 20 * MINUTE
        now += minutes_off * MINUTE
    assert nights == sorted(set(nights))


def test_a_machine_that_is_always_on_has_one_night_each_date_over_both_changes_of_the_clock() -> None:
    for change in (date(2026, 3, 29), date(2026, 10, 25)):
        now = datetime(change.year, change.month, change.day, 12, tzinfo=UTC) - timedelta(days=3)
        diary, nights = Diary(since=now), list[date]()
        for _ in range(6 * 24 * 60):
            diary = present(diary, WINDOW.now_open(now), 1)
            if found := due(now, WINDOW, SETTINGS, diary, None, "seed").opening:
                nights.append(found.night)
                diary = held(diary, found.night)
            now += MINUTE
        assert nights == [change + timedelta(days=n) for n in range(-2, 4)]


def test_the_diary_is_what_was_written_and_a_broken_one_is_begun_anew(tmp_path: Path) -> None:
    diary = held(there(NIGHT, 30), NIGHT)
    write_diary(tmp_path, diary)
    assert read_diary(tmp_path, OPEN.ends) == diary
    (tmp_path / "schedule.json").write_text("{")
    assert read_diary(tmp_path, OPEN.ends) == Diary(since=OPEN.ends)


def test_a_night_noted_while_the_clock_was_far_ahead_keeps_none_away() -> None:
    assert asked(OPEN.begins + MINUTE, held(INSTALLED, NIGHT + timedelta(days=40)))


def test_a_retry_noted_while_the_clock_was_far_ahead_is_not_waited_for() -> None:
    assert asked(OPEN.begins + MINUTE, failed(INSTALLED, OPEN.begins + timedelta(days=40)))


def test_a_night_that_ended_since_its_window_opened_was_held_and_one_that_is_still_to_end_was_not() -> None:
    now = OPEN.ends + 5 * MINUTE
    assert ended_in(OPEN, OPEN.begins + MINUTE, now)
    assert ended_in(OPEN, OPEN.ends + MINUTE, now)  # it was made up for
    assert not ended_in(OPEN, OPEN.begins - MINUTE, now)
    assert not ended_in(OPEN, now + timedelta(days=40), now)


# The night that comes


def expected(now: datetime, diary: Diary = INSTALLED, paused: Pause | None = None) -> date | None:
    opening = coming(now, WINDOW, diary, paused)
    return opening.night if opening else None


def test_the_coming_night_is_the_open_one_until_it_was_held() -> None:
    assert expected(OPEN.begins + MINUTE) == NIGHT
    assert expected(OPEN.begins + MINUTE, held(INSTALLED, NIGHT)) == NIGHT + timedelta(days=1)
    assert expected(OPEN.ends + MINUTE) == NIGHT + timedelta(days=1)


def test_the_coming_night_is_after_the_pause_and_unknown_in_one_without_an_end() -> None:
    noon = OPEN.begins - timedelta(hours=12)
    assert expected(noon, paused=Pause(since=noon, until=OPEN.ends)) == NIGHT + timedelta(days=1)
    assert expected(noon, paused=Pause(since=noon)) is None


@given(st.datetimes(datetime(2026, 1, 2), datetime(2027, 12, 31)), st.integers(-2, 2))  # noqa: DTZ001
def test_the_coming_night_is_the_one_that_becomes_due(moment: datetime, done: int) -> None:
    now = moment.replace(tzinfo=UTC)
    diary = held(INSTALLED, WINDOW.coming(now).night + timedelta(days=done))
    opening = coming(now, WINDOW, diary, None)
    assert opening is not None
    at = max(now, opening.begins)
    assert due(at, WINDOW, SETTINGS.model_copy(update={"catch_up": False}), diary, None, "seed").opening == opening
