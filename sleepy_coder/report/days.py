"""What the days were like, between the nights: does the model still make the mistakes that it made before?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from sleepy_coder.judge.metrics import Mistakes
from sleepy_coder.store import Store
from sleepy_coder.types import NightReport, Outcome, Record

LATEST: Final = 14
READ: Final = 300  # episodes of a day at most: a report must not take longer the larger the store is


class DaySummary(Record):
    """The day before night `before`, of which the first `episodes` are looked at. Shares are fractions of these.

    `at_once` passed with the first attempt; `attempts_to_green` is the median of those that passed, None when none
    did; in `repeats` a mistake of an earlier session came back, as far as these days reach back.
    """

    before: int
    episodes: int
    passed: float
    at_once: float
    attempts_to_green: float | None
    repeats: float


def days(store: Store, nights: Sequence[NightReport]) -> tuple[DaySummary, ...]:
    """The days before the LATEST of `nights`; those without an episode are left out."""
    known = Mistakes()
    found: list[DaySummary] = []
    start = 0
    for number, night in enumerate(nights):
        noted = store.day_of(night.cycle)
        end = noted.until if noted else start
        if number >= len(nights) - LATEST and (day := _day(store, night.cycle, start, end, known)):
            found.append(day)
        start = max(start, end)
    return tuple(found)


def _day(store: Store, before: int, start: int, end: int, known: Mistakes) -> DaySummary | None:
    if end <= start:
        return None
    episodes = repeats = 0
    greens: list[int] = []
    for episode in store.episodes(after=start, limit=min(READ, end - start)):
        episodes += 1
        repeats += known.comes_back(episode)
        if episode.outcome is Outcome.PASS and episode.attempts:
            greens.append(len(episode.attempts))
    return DaySummary(
        before=before,
        episodes=episodes,
        passed=len(greens) / episodes,
        at_once=greens.count(1) / episodes,
        attempts_to_green=float(statistics.median(greens)) if greens else None,
        repeats=repeats / episodes,
    )
