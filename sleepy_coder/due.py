"""Whether a night is due: a pure decision, asked every minute.

Asking "is the window open, and was there no night for this date yet?" each minute, rather than setting an alarm,
makes one rule of clock changes, suspended machines, restarts and late wake-ups.
"""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder import log
from sleepy_coder.config import NightSettings
from sleepy_coder.files import write_atomic
from sleepy_coder.pause import Pause
from sleepy_coder.types import Record
from sleepy_coder.window import Opening, Window

_log = log.get("schedule")
_FILE: Final = "schedule.json"
_FIRST_RETRY: Final = timedelta(minutes=5)
_LONGEST_RETRY: Final = timedelta(hours=1)
_PRESENT: Final = 0.5
"""Share of a window that the daemon has to have been there for; with less the night counts as missed."""


class Diary(Record):
    """What the schedule remembers. `minutes` is how long the daemon was there during the opening of `night`;
    `done` is the last night that was held; `failures` and `retry` are those of the night at hand."""

    since: datetime
    night: date | None = None
    minutes: float = 0.0
    done: date | None = None
    failures: int = 0
    retry: datetime | None = None


class Due(Record):
    """`opening` is set when a night may begin now. `why` says what it waits for or why it begins."""

    opening: Opening | None
    why: str
    until: datetime | None = None
    caught_up: bool = False


def due(
    now: datetime, window: Window | None, settings: NightSettings, diary: Diary, paused: Pause | None, seed: str
) -> Due:
    """Whether a night may begin at `now`, as far as the calendar says; whether the machine is idle is asked next.

    Without a window a night may begin at any time, once a day in UTC.
    """
    if paused is not None:
        till = f" until {paused.until.astimezone():%Y-%m-%d %H:%M %Z}" if paused.until else ""
        return Due(opening=None, why=f"paused{till}{': ' if paused.reason else ''}{paused.reason}")
    if window is None:
        return _unless_done(_day(now), now, diary, None)
    opening = window.now_open(now)
    if opening is not None:
        begins = opening.begins + _jitter(opening, settings, seed)
        if now < begins:
            return Due(opening=None, why=f"begins at {begins.astimezone(window.zone):%H:%M %Z}, spread out")
        return _unless_done(opening, now, diary, opening.ends)
    missed = window.last(now)
    if settings.catch_up and _missed(missed, diary):
        return _unless_done(missed, now, diary, window.next(now).begins).model_copy(update={"caught_up": True})
    return Due(opening=None, why=f"outside of {window}")


def coming(now: datetime, window: Window | None, diary: Diary, paused: Pause | None) -> Opening | None:
    """The opening in which the next night is due, as far as the calendar says; it may have begun.

    None while nobody can say: without a window, or in a pause without an end.
    """
    if window is None or (paused is not None and paused.until is None):
        return None
    opening = window.coming(max(now, paused.until) if paused and paused.until else now)
    while _held(opening, diary):
        opening = window.next(opening.begins)
    return opening


def ended_in(opening: Opening, finished: datetime, now: datetime) -> bool:
    """Whether a night that ended at `finished` was the one of `opening`, also where it was made up for after it."""
    return opening.begins <= finished <= now  # what is still to come was noted while the clock was wrong


def _held(opening: Opening, diary: Diary) -> bool:
    # What lies further ahead was noted while the clock was wrong, and would keep the nights away until then.
    return diary.done is not None and opening.night <= diary.done <= opening.night + timedelta(days=1)


def _unless_done(opening: Opening, now: datetime, diary: Diary, until: datetime | None) -> Due:
    if _held(opening, diary):
        return Due(opening=None, why=f"the night of {opening.night} is over")
    if diary.retry is not None and now < diary.retry <= now + _LONGEST_RETRY:
        return Due(opening=None, why=f"failed {diary.failures} times; tried again at {diary.retry:%H:%M} UTC")
    return Due(opening=opening, why=f"the night of {opening.night}", until=until)


def _day(now: datetime) -> Opening:
    begins = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Opening(night=begins.date(), begins=begins, ends=begins + timedelta(days=1))


def _jitter(opening: Opening, settings: NightSettings, seed: str) -> timedelta:
    """The same for one installation and date, so that asking again gives the same answer."""
    most = min(timedelta(minutes=settings.jitter_minutes), (opening.ends - opening.begins) / 2)
    return most * random.Random(f"{seed}/{opening.night}").random()


def _missed(opening: Opening, diary: Diary) -> bool:
    """Whether nobody was there to hold that night. Nights from before the installation are not missed."""
    if opening.begins < diary.since:
        return False
    there = diary.minutes if diary.night == opening.night else 0.0
    return there < _PRESENT * ((opening.ends - opening.begins) / timedelta(minutes=1))


def present(diary: Diary, opening: Opening | None, minutes: float) -> Diary:
    """The diary after `minutes` of being there during `opening`."""
    if opening is None:
        return diary
    if diary.night == opening.night:
        return diary.model_copy(update={"minutes": diary.minutes + minutes})
    return diary.model_copy(update={"night": opening.night, "minutes": minutes, "failures": 0, "retry": None})


def held(diary: Diary, night: date) -> Diary:
    """The diary after the night of that date came to its end."""
    return diary.model_copy(update={"done": night, "failures": 0, "retry": None})


def failed(diary: Diary, now: datetime) -> Diary:
    """The diary after a night could not be held to its end: it is tried again, less and less often."""
    wait = min(_FIRST_RETRY * 2 ** min(diary.failures, 10), _LONGEST_RETRY)
    return diary.model_copy(update={"failures": diary.failures + 1, "retry": now + wait})


def read_diary(state: Path, now: datetime) -> Diary:
    """The diary of this home; a new one where there is none. One that cannot be read is begun anew."""
    try:
        return Diary.model_validate_json((state / _FILE).read_bytes())
    except FileNotFoundError:
        return Diary(since=now)
    except (OSError, ValidationError) as error:
        _log.warning("schedule.diary_unreadable", reason=str(error))
        return Diary(since=now)


def write_diary(state: Path, diary: Diary) -> None:
    """Raises InfraError when the disk refuses."""
    write_atomic(state / _FILE, diary.model_dump_json(indent=2) + "\n")
