"""When the nights come: APScheduler asks every minute whether one is due and nobody is at work, and begins it."""

# APScheduler ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from sleepy_coder import log, wiring
from sleepy_coder.config import Config
from sleepy_coder.due import Diary, Due, due, ended_in, failed, held, present, read_diary, write_diary
from sleepy_coder.errors import SleepyError
from sleepy_coder.files import refuse_full_disk
from sleepy_coder.pause import Pause, paused
from sleepy_coder.ports import Clock
from sleepy_coder.serve.gateway_client import Outlook
from sleepy_coder.window import Opening, Window

from .nights import NightProcess

_log = log.get("schedule")

_EVERY_SECONDS: Final = 60
_LONGEST_GAP: Final = timedelta(minutes=5)
"""A longer time between two looks is one in which the machine was suspended, not one in which it was there."""
_DEAD_SECONDS: Final = 900.0
"""A schedule that has not looked for so long does not live any more."""


class Schedule:
    """Begins at most one night a date, and stops it when the window closes.

    `config_of` gives the settings that hold now; `idle` says in a word what keeps the machine busy, "" when nothing
    does. Everything but `outlook` runs on the scheduler's thread.
    """

    def __init__(
        self,
        config_of: Callable[[], Config],
        clock: Clock,
        idle: Callable[[Config], str],
        nights: NightProcess,
    ) -> None:
        self._config_of, self._clock = config_of, clock
        self._idle, self._nights = idle, nights
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1)},  # two looks at once would begin two nights
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._job: Any = None  # of the looks
        self._at: Due | None = None
        self._outlook = Outlook(why="it has not looked yet", running=False, next=None, looked=None)
        self._looked: float | None = None  # on the clock that nobody sets
        self._unsaved: Diary | None = None  # what the disk did not take
        self._wanted = threading.Event()

    def start(self) -> None:
        """Look now and from now on every minute."""
        self._looked = time.monotonic()
        self._job = self._scheduler.add_job(
            self._guarded_look, "interval", seconds=_EVERY_SECONDS, next_run_time=datetime.now(UTC)
        )
        self._scheduler.start()

    def keep_time(self) -> None:
        """Look now where the clock was set back: APScheduler waits for a time of day, and would wait as long again.

        To be called every few seconds by whoever waits on a clock that nobody sets.
        """
        now = datetime.now(UTC)
        ahead: timedelta = self._job.next_run_time - now
        if ahead > timedelta(seconds=2 * _EVERY_SECONDS):
            _log.warning("schedule.clock_set_back", seconds=round(ahead.total_seconds()) - _EVERY_SECONDS)
            self._job.modify(next_run_time=now)

    def stop(self) -> None:
        """Begin no more nights; one that runs pauses where it can go on."""
        self._scheduler.shutdown(wait=True)
        self._nights.stop(self._config_of().night.grace_seconds)

    @property
    def alive(self) -> bool:
        """Whether the last look, or the start, is not long ago. A look that failed is one: it says what is wrong."""
        patience = _DEAD_SECONDS + self._config_of().night.grace_seconds  # a look may have to stop a night
        return self._looked is None or time.monotonic() - self._looked < patience

    def outlook(self) -> Outlook:
        return self._outlook

    def begin_now(self) -> str:
        """Have a night begin within a second, whatever the calendar says and whoever is at work."""
        if self._nights.pid is not None:
            return "a night runs already"
        if paused(self._config_of().state, self._clock.now()):
            return "nights are paused: `sleepy-coder resume` first"
        self._wanted.set()
        self._scheduler.add_job(self._guarded_look)
        return "a night begins"

    def _guarded_look(self) -> None:
        """A schedule that dies of one bad minute would hold no night ever again."""
        try:
            self.look()
        except Exception as error:  # noqa: BLE001 - the next minute looks again
            reason = " ".join(f"{type(error).__name__}: {error}".split())  # a status is one line
            _log.error("schedule.failed", reason=reason)
            running, now = self._nights.pid is not None, self._clock.now()
            self._say(Outlook(why=f"cannot look: {reason}", running=running, next=self._outlook.next, looked=now))

    def look(self) -> None:
        """One look: see what became of the night, stop it in time, or begin one when it is due."""
        config, now = self._config_of(), self._clock.now()
        state, settings = config.state, config.night
        window = settings.hours()
        diary = self._note_presence(self._unsaved or read_diary(state, now), window, now)
        diary = self._note_end(diary, now)
        unsaved = self._keep(state, diary)
        off = paused(state, now)
        found = due(now, window, settings, diary, off, str(config.home))
        if self._nights.pid is not None:
            why = self._run_on(off, now)
        elif self._wanted.is_set():
            why = self._begin(Due(opening=None, why="a night by hand"))
        elif unsaved:  # a night that cannot be noted as held would be held again
            why = unsaved
        elif found.opening is None:
            why = found.why
        else:
            why = self._hindrance(config, diary, found.opening, now) or self._begin(found)
        self._say(Outlook(why=why, running=self._nights.pid is not None, next=_next(window, now), looked=now))

    def _begin(self, found: Due) -> str:
        """A night by hand is no date's night, so it has no opening."""
        self._at = found
        self._wanted.clear()
        _log.warning("schedule.night_due", why=found.why, caught_up=found.caught_up)
        self._nights.start(found.until)
        return f"{found.why} runs"

    def _note_presence(self, diary: Diary, window: Window | None, now: datetime) -> Diary:
        looked = self._outlook.looked
        if window is None or looked is None or not timedelta(0) <= now - looked <= _LONGEST_GAP:
            return diary
        return present(diary, window.now_open(now), (now - looked) / timedelta(minutes=1))

    def _note_end(self, diary: Diary, now: datetime) -> Diary:
        status = self._nights.ended()
        if status is None or self._at is None:
            return diary
        _log.info("schedule.night_ended", status=status, why=self._at.why)
        if self._at.opening is None:
            return diary
        if status == 0:
            return held(diary, self._at.opening.night)
        return diary if status == os.EX_TEMPFAIL else failed(diary, now)  # it stopped where it can go on

    def _keep(self, state: Path, diary: Diary) -> str:
        """Save the diary; why the disk does not take it, "" when it does. Until then it is kept in memory."""
        self._unsaved = diary
        try:
            write_diary(state, diary)
        except SleepyError as error:
            return error.message
        self._unsaved = None
        return ""

    def _run_on(self, off: Pause | None, now: datetime) -> str:
        """A night stops at the end of its window, and when somebody called the nights off."""
        until = self._at.until if self._at else None
        if off is not None or (until is not None and now >= until):
            self._nights.stop(self._config_of().night.grace_seconds)
            return "the night paused and goes on in the next window"
        return "a night runs"

    def _hindrance(self, config: Config, diary: Diary, opening: Opening, now: datetime) -> str:
        """What keeps the night of `opening`, which is due, from beginning now."""
        try:
            refuse_full_disk(config.home, config.night.min_free_gib)
            return self._note_over(config, diary, opening, now) or self._idle(config)
        except SleepyError as error:
            return error.message

    def _note_over(self, config: Config, diary: Diary, opening: Opening, now: datetime) -> str:
        """Note a night of `opening` whose end this daemon did not see: it was begun by hand, or by one before it."""
        with wiring.open_store(config) as store:
            last = store.nights(last=1)
        if not last or not ended_in(opening, last[0].finished, now):
            return ""
        self._keep(config.state, held(diary, opening.night))
        return f"the night of {opening.night} is over"

    def _say(self, outlook: Outlook) -> None:
        before, self._outlook, self._looked = self._outlook.why, outlook, time.monotonic()
        if outlook.why != before:
            _log.info("schedule.waits", why=outlook.why, running=outlook.running)


def _next(window: Window | None, now: datetime) -> datetime | None:
    return window.next(now).begins if window else None
