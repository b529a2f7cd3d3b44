"""The live test: it forgives whatever happens to both adapters alike, and finds one that does harm."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge.rollback import Array, log_e, log_paths
from sleepy_coder.store_canary import Counted

ALARM = math.log(20)


def paths(new_fails: Array | float, old_fails: Array | float, share: float = 0.5, trials: int = 2000) -> Array:
    """Simulated canaries of 2000 sessions each; the chances to fail may change on the way."""
    rng = np.random.default_rng(7)
    new = rng.random((trials, 2000)) < share
    failed = rng.random(new.shape) < np.where(new, new_fails, old_fails)
    return log_paths(new, failed, share)


def median_alarm(found: Array) -> float:
    alarms = found >= ALARM
    return float(np.median(np.where(alarms.any(axis=-1), alarms.argmax(axis=-1) + 1, np.inf)))


DRIFTS = {
    "steady": np.full(2000, 0.233),
    "harder": np.linspace(0.1, 0.6, 2000),
    "easier": np.linspace(0.6, 0.05, 2000),
    "a bad day": np.where((np.arange(2000) // 200) % 3 == 1, 0.9, 0.2),
    "all fail": np.ones(2000),
}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("drift", DRIFTS)
def test_false_rollbacks_stay_below_five_percent_when_both_adapters_drift_together(drift: str, share: float) -> None:
    found = paths(DRIFTS[drift], DRIFTS[drift], share, trials=1000)
    noise = 3 * math.sqrt(0.05 * 0.95 / len(found))  # of the simulation; the bet is fair, so the bound is nearly met
    assert (found.max(axis=-1) >= ALARM).mean() <= 0.05 + noise


def test_a_better_adapter_is_rolled_back_less_often_still() -> None:
    assert (paths(0.15, 0.233).max(axis=-1) >= ALARM).mean() <= 0.01


@pytest.mark.parametrize(("points", "sessions"), [(0.2, 140), (0.5, 28)])
def test_harm_is_found_after_as_many_sessions_as_promised(points: float, sessions: int) -> None:
    found = paths(0.233 + points, 0.233)
    assert (found.max(axis=-1) >= ALARM).mean() > 0.99
    assert median_alarm(found) <= sessions


@given(st.floats(0.05, 0.95), st.booleans())
def test_a_draw_of_the_lot_is_worth_nothing_on_average_however_it_ended(share: float, failed: bool) -> None:
    """Each of the four bets is fair by itself: their mean is a martingale."""
    worth = sum(
        chance * math.exp(log_paths(np.array([new]), np.array([failed]), share)[0])
        for new, chance in ((True, share), (False, 1 - share))
    )
    assert worth == pytest.approx(1.0)


sessions = st.builds(
    Counted, session=st.just("s"), new=st.booleans(), share=st.sampled_from([0.5, 0.9]), failed=st.booleans()
)


@settings(max_examples=50)
@given(st.lists(sessions, min_size=1, max_size=40))
def test_the_order_and_a_change_of_the_share_on_the_way_make_no_difference(counted: list[Counted]) -> None:
    shuffled = sorted(counted, key=lambda one: (one.failed, one.new, one.share))
    assert log_e(shuffled) == pytest.approx(log_e(counted))


@settings(max_examples=50)
@given(st.lists(sessions, min_size=1, max_size=40), st.integers(0, 39))
def test_a_failure_of_the_new_adapter_in_place_of_a_success_never_speaks_for_it(
    counted: list[Counted], at: int
) -> None:
    at %= len(counted)
    good, bad = (
        [one if i != at else one.model_copy(update={"new": True, "failed": failed}) for i, one in enumerate(counted)]
        for failed in (False, True)
    )
    assert log_e(bad) > log_e(good)


def test_without_a_session_nothing_is_known() -> None:
    assert log_e(()) == 0.0
