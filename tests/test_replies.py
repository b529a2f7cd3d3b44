"""The form of first replies forgives a slower adapter and prompts that break any, and tells one that is broken."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sleepy_coder.config import CanarySettings
from sleepy_coder.judge.replies import Heard, ReplyWatch
from sleepy_coder.judge.rollback import log_paths
from sleepy_coder.store_canary import Assigned, Counted, FirstReply, Patience

SETTINGS = CanarySettings()  # pyright: ignore[reportCallIssue]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
WAITING = Patience(NOW - timedelta(minutes=10), NOW)
SOUND, BROKEN = Heard("", 100, 1.0), Heard("empty", 0, 1.0)


class Beginnings:
    """Sessions of one canary that begin; `counted` are those whose first reply was compared with the old adapter's."""

    def __init__(self, share: float = 0.5, usual: int = 20) -> None:
        self.share, self.watch = share, ReplyWatch(SETTINGS)
        self.counted: list[Counted] = []
        self.forms: list[Counted] = []
        self._lots: dict[str, Assigned] = {}
        for number in range(usual):
            self.reply(self.draw(f"usual{number}", new=False), SOUND)

    def draw(self, session: str, *, new: bool) -> str:
        self._lots[session] = Assigned(session=session, new=new, share=self.share)
        self.watch.drew(self._lots[session], NOW)
        return session

    def reply(self, session: str, one: Heard, patience: Patience = WAITING) -> None:
        self.watch.hear(session, one)
        for said in self.watch.said(patience):
            self._keep(said)
        self.watch.kept()

    def _keep(self, said: FirstReply) -> None:
        lot = self._lots[said.session].model_dump()
        self.forms.append(Counted(**lot, failed=said.broken))
        if said.failed is not None:
            self.counted.append(Counted(**lot, failed=said.failed))

    def largest_e(self) -> float:
        new, failed = (np.array([getattr(one, name) for one in self.counted]) for name in ("new", "failed"))
        return math.exp(log_paths(new, failed, self.share).max())


def burst(seed: int, parallel: int, slower: float, patience: Patience) -> float:
    """The largest E in a canary in which so many sessions begin at once, and the new adapter is only slower."""
    rng, canary = random.Random(seed), Beginnings(usual=0)
    for number in range(30):
        canary.reply(canary.draw(f"usual{number}", new=rng.random() < canary.share), SOUND, patience)
    lots = [rng.random() < canary.share for _ in range(parallel)]
    takes = [rng.uniform(0.9, 1.1) * (slower if new else 1) for new in lots]
    for number, new in enumerate(lots):
        canary.draw(str(number), new=new)
    for number in sorted(range(parallel), key=takes.__getitem__):
        canary.reply(str(number), Heard("", 100, takes[number]), patience)
    assert len(canary.forms) == parallel + 30
    return canary.largest_e()


@pytest.mark.parametrize("parallel", [48, 64, 100])
def test_an_adapter_that_is_only_slower_is_not_blamed_for_a_burst_of_sessions(parallel: int) -> None:
    """Its sound replies come last, and in the order of coming they would be missing for a while."""
    at_once = Patience(NOW, NOW)
    assert sum(burst(seed, parallel, 2.0, WAITING) >= SETTINGS.explosion_threshold for seed in range(100)) == 0
    assert sum(burst(seed, parallel, 2.0, at_once) >= SETTINGS.explosion_threshold for seed in range(100)) > 5


def test_a_slower_adapter_counts_in_a_burst_as_one_that_is_as_quick() -> None:
    assert [burst(seed, 64, 2.0, WAITING) for seed in range(20)] == [
        burst(seed, 64, 1.0, WAITING) for seed in range(20)
    ]


def test_a_session_without_a_reply_holds_up_later_ones_for_its_patience_only() -> None:
    canary = Beginnings()
    canary.draw("lost", new=True)
    canary.reply(canary.draw("next", new=False), SOUND)
    assert len(canary.forms) == 20
    canary.reply("next", SOUND, Patience(NOW, NOW))
    assert [one.session for one in canary.forms[20:]] == ["next"]
    canary.reply("lost", SOUND)
    assert [one.session for one in canary.forms[21:]] == ["lost"], "what comes late counts late"


def tries(seed: int, count: int, share: float) -> bool:
    """Whether a prompt that breaks any adapter, tried in session after session, is an alarm in one canary."""
    rng, canary = random.Random(seed), Beginnings(share, usual=0)
    canary.watch.resume(Counted(session=str(n), new=False, share=share, failed=False) for n in range(200))
    for number in range(count):
        canary.reply(canary.draw(str(number), new=rng.random() < share), BROKEN)
    return bool(canary.watch.alarm)


@pytest.mark.parametrize(("count", "share"), [(50, 0.5), (300, 0.5), (300, 0.9)])
def test_a_prompt_that_breaks_any_adapter_is_no_reason_however_often_it_is_tried(count: int, share: float) -> None:
    # Of 300 three would come by chance once in 300 times at the 0.1% that are promised.
    assert sum(tries(seed, count, share) for seed in range(300)) <= 2


@pytest.mark.parametrize(("share", "sessions"), [(0.5, 40), (0.9, 110)])
def test_an_adapter_that_is_broken_is_found_soon(share: float, sessions: int) -> None:
    for seed in range(20):
        rng, canary = random.Random(seed), Beginnings(share)
        for number in range(sessions):
            new = rng.random() < share
            canary.reply(canary.draw(str(number), new=new), BROKEN if new else SOUND)
        assert canary.watch.alarm.startswith("the first replies of ")


def broken_in_a_row(canary: Beginnings, most: int = 50) -> int:
    """How many more broken replies of the new adapter it takes to an alarm."""
    for number in range(most):
        if canary.watch.alarm:
            return number
        canary.reply(canary.draw(f"broken{number}", new=True), BROKEN)
    raise AssertionError("no alarm")


def spent(canary: Beginnings, lots: Sequence[bool] = (True, False, False, True, True, False)) -> Beginnings:
    for number, new in enumerate(lots):
        canary.reply(canary.draw(f"tried{number}", new=new), BROKEN)
    return canary


def test_each_run_that_has_begun_makes_the_next_one_need_more() -> None:
    assert broken_in_a_row(Beginnings()) == 11
    assert broken_in_a_row(spent(Beginnings())) == 15  # the fourth: one was of no length
    assert broken_in_a_row(spent(spent(Beginnings()), (False,) * 20)) == 20


def test_after_a_restart_the_runs_that_have_begun_are_still_paid_for() -> None:
    before, after = spent(Beginnings()), Beginnings(usual=0)
    after.watch.resume(before.forms)
    assert broken_in_a_row(after) == 15


def test_a_run_goes_on_after_a_restart() -> None:
    before, after = Beginnings(), Beginnings(usual=0)
    for number in range(7):
        before.reply(before.draw(str(number), new=True), BROKEN)
    after.watch.resume(before.forms)
    assert broken_in_a_row(after) == 4
