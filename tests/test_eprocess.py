"""The e-process keeps its promise in simulation, and would not with any of its parts changed (the mutants)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge import eprocess, paired
from sleepy_coder.judge.eprocess import Array, decisions, log_paths, look_ends, paths_of
from sleepy_coder.judge.power import FrozenSet, chance_of, detectable, power_report, power_row, shift_to, simulate
from sleepy_coder.judge.spending import anchor_threshold, prices

Null = Callable[[np.random.Generator, int, int], Array]
POLICY = GatePolicy()
SET = FrozenSet(np.ones(300, dtype=np.int64), samples=4, baseline_samples=32)
RATE = 0.767


def no_change(rng: np.random.Generator, trials: int, n: int) -> Array:
    """Both arms pass each task with the same chance; four samples."""
    p = rng.beta(1.5, 0.5, (trials, n))
    return (rng.binomial(4, p) - rng.binomial(4, p)) / 4


def coins(rng: np.random.Generator, trials: int, n: int) -> Array:
    """One sample, all tasks differ: the widest differences there are."""
    return rng.choice([-1.0, 1.0], (trials, n))


def rare_forgetting(destroyed: float) -> Null:
    """A few tasks destroyed, the rest better by as much as makes the mean 0."""

    def draw(rng: np.random.Generator, trials: int, n: int) -> Array:
        return np.where(rng.random((trials, n)) < destroyed, -1.0, destroyed / (1 - destroyed))

    return draw


def unequal(rng: np.random.Generator, trials: int, n: int) -> Array:
    """Half of the tasks gain what the other half loses, the gains first: the worst order."""
    chance = np.where(np.arange(n) < n // 2, 0.6, 0.4)
    return np.where(rng.random((trials, n)) < chance, 1.0, -1.0)


ALIKE = [no_change, coins, rare_forgetting(0.02), rare_forgetting(0.05)]


def error(null: Null, n: int, alpha: float, *, anywhere: bool, trials: int = 4000) -> float:
    """How often E reaches 1/alpha: anywhere on the way, or at the end."""
    paths = log_paths(null(np.random.default_rng(n), trials, n), 0.0)
    return float(((paths.max(axis=-1) if anywhere else paths[:, -1]) >= -math.log(alpha)).mean())


def bound(alpha: float, trials: int = 4000) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / trials)


@pytest.mark.parametrize("null", ALIKE)
@pytest.mark.parametrize("n", [30, 100, 300])
def test_under_a_null_the_largest_e_value_on_the_way_reaches_1_over_alpha_with_chance_alpha(null: Null, n: int) -> None:
    for alpha in (0.05, 0.01):
        assert error(null, n, alpha, anywhere=True) <= bound(alpha)


@pytest.mark.parametrize("n", [30, 100, 300])
def test_at_the_end_of_the_set_the_promise_holds_for_tasks_that_differ_in_their_means_in_any_order(n: int) -> None:
    assert error(unequal, n, 0.05, anywhere=False) <= bound(0.05)


def test_on_the_way_it_would_not_hold_for_such_tasks_which_is_why_promotions_read_the_whole_set() -> None:
    assert error(unequal, 300, 0.05, anywhere=True) > 0.3


@pytest.mark.parametrize("null", [*ALIKE, unequal])
def test_e_values_are_one_on_average_at_most(null: Null) -> None:
    for n in (1, 5, 30):
        e = np.exp(log_paths(null(np.random.default_rng(3), 40_000, n), 0.0)[:, -1])
        assert e.mean() <= 1 + 4 * e.std() / math.sqrt(len(e))


def test_the_mean_is_exactly_one_when_gains_and_losses_are_equally_likely() -> None:
    sizes = np.array([1.0, 1.0, 0.75, 0.75, 0.5, 0.25, 0.25])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(sizes))))
    assert np.exp(log_paths(signs * sizes, 0.0)[:, -1]).mean() == pytest.approx(1.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(-0.9, 0.9))
@settings(max_examples=60, deadline=None)
def test_the_path_ends_at_the_e_value_of_all_differences_whatever_their_order(d: list[float], m: float) -> None:
    end = log_paths(np.array(d), m)[-1]
    assert end == pytest.approx(paired.log_e(d, m), abs=1e-9)
    assert end == pytest.approx(log_paths(np.array(d[::-1]), m)[-1], abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.data())
@settings(max_examples=60, deadline=None)
def test_a_larger_difference_never_lowers_any_later_e_value(d: list[float], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(d) - 1))
    better = d.copy()
    better[i] = data.draw(st.floats(d[i], 1))
    assert (log_paths(np.array(better), 0.0) >= log_paths(np.array(d), 0.0) - 1e-12).all()


@given(st.integers(1, 200), st.integers(1, 50), st.booleans())
@settings(max_examples=60, deadline=None)
def test_looks_are_at_full_blocks_and_at_the_end_of_the_set_once(measured: int, block: int, whole: bool) -> None:
    ends = look_ends(measured, whole, block).tolist()
    assert ends == sorted({*range(block, measured + 1, block), *([measured] if whole else [])})


def test_what_was_not_measured_proves_no_futility() -> None:
    lost = np.full(40, -1.0)
    known = np.arange(40) < 20
    first, second = paths_of(lost, lost, True, GatePolicy(block=20), known).futility
    assert second == pytest.approx(first)


def test_a_gain_of_eight_points_is_promoted_in_95_of_100_nights() -> None:
    assert power_row(SET, POLICY, RATE, 0.08, 400, 1).promoted >= 0.95


def test_a_loss_of_five_points_is_known_before_120_of_300_clusters_are_measured() -> None:
    row = power_row(SET, POLICY, RATE, -0.05, 400, 1)
    assert row.rejected >= 0.99
    assert row.clusters < 120


def test_the_detectable_gain_is_promoted_in_four_nights_of_five_and_a_smaller_one_is_not() -> None:
    small = FrozenSet(np.ones(120, dtype=np.int64), samples=4, baseline_samples=4)
    gain = detectable(small, POLICY, RATE, 300, 2)
    assert gain is not None
    assert power_row(small, POLICY, RATE, gain, 300, 2).promoted >= 0.8
    assert power_row(small, POLICY, RATE, gain - 0.02, 300, 2).promoted < 0.8


@pytest.mark.parametrize("change", [0.0, -0.02])
def test_what_is_no_better_than_baseline_and_served_is_never_promoted_in_800_nights(change: float) -> None:
    said, _ = simulate(SET, POLICY, RATE, change, 800, 5)
    assert not (said == 1).any()


Rule = Callable[[Array, Array, GatePolicy, int], np.ndarray]
"""(candidate - baseline, candidate - served, policy, opening) to who is promoted."""


def real(anchor: Array, progress: Array, policy: GatePolicy, opening: int) -> np.ndarray:
    if opening > policy.openings:
        return np.zeros(len(anchor), dtype=bool)
    return decisions(anchor, progress, policy, opening)[0] == 1


def anchored_on_served(anchor: Array, progress: Array, policy: GatePolicy, opening: int) -> np.ndarray:
    return real(progress, progress, policy, opening)


def without_anchor(anchor: Array, progress: Array, policy: GatePolicy, opening: int) -> np.ndarray:
    return real(np.ones_like(anchor), progress, policy, opening)


def below_the_baseline(rule: Rule) -> float:
    """How often a candidate that is 15 points better than a ruined served model is promoted, 5 below baseline."""
    rng = np.random.default_rng(8)
    z = SET.difficulties(rng, 300)
    p = {rate: chance_of(z + shift_to(rate)) for rate in (0.767, 0.717, 0.567)}
    baseline, served = SET.scores(rng, p[0.767], 32), SET.scores(rng, p[0.567], 4)
    candidate = SET.scores(rng, p[0.717], 4)
    return float(rule(candidate - baseline, candidate - served, POLICY, 1).mean())


def test_better_than_served_but_below_the_baseline_is_never_promoted() -> None:
    assert below_the_baseline(real) == 0.0


@pytest.mark.parametrize("mutant", [anchored_on_served, without_anchor])
def test_mutants_that_do_not_compare_with_the_frozen_baseline_promote_below_it(mutant: Rule) -> None:
    assert below_the_baseline(mutant) > 0.9


def test_the_mutant_with_weights_that_sum_to_more_than_one_breaks_the_alpha_bound() -> None:
    """With all weights doubled, E is 2 on average: the mean test must see it."""
    heavy = tuple((stake, 2 * weight) for stake, weight in paired.BETS)
    e = np.exp(log_paths(no_change(np.random.default_rng(3), 40_000, 5), 0.0, heavy)[:, -1])
    assert e.mean() > 1 + 4 * e.std() / math.sqrt(len(e))


def lifetime_false_rate(rule: Rule, policy: GatePolicy, openings: int, epochs: int = 300) -> float:
    """Epochs in which one of `openings` candidates, all no better than the baseline, is promoted.

    The hardest null there is for the bets: all differences are -1 or 1. The set and its baseline stay for the epoch.
    """
    rng = np.random.default_rng(13)
    n = 60
    easy = rng.random((epochs, n))  # the baseline's luck, shared by all openings of an epoch
    promoted = np.zeros(epochs, dtype=bool)
    for opening in range(1, openings + 1):
        candidate = rng.random((epochs, n)) < 0.5
        anchor = candidate.astype(np.float64) - (easy < 0.5)
        promoted |= rule(anchor, anchor, policy, opening)
    return float(promoted.mean())


def test_fifty_openings_on_one_reused_set_promote_falsely_in_at_most_alpha_of_the_epochs() -> None:
    assert lifetime_false_rate(real, POLICY, 50) <= bound(POLICY.alpha, 300)


def test_the_anchor_alone_keeps_two_hundred_openings_within_alpha_and_all_of_alpha_each_time_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a progress threshold or futility, which do most of the work above."""
    bare = GatePolicy(alpha=0.05, openings=200, progress_threshold=1, futility_threshold=1e300)
    assert lifetime_false_rate(real, bare, 200) <= bound(bare.alpha, 300)
    monkeypatch.setattr(eprocess, "anchor_threshold", lambda policy, _: -math.log(policy.alpha))
    assert lifetime_false_rate(real, bare, 200) > bound(bare.alpha, 300)


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0.001, 0.2))
@settings(max_examples=60, deadline=None)
def test_the_openings_of_an_epoch_spend_alpha_in_all_and_no_later_one_more_than_an_earlier(
    openings: int, early: float, alpha: float
) -> None:
    spent = prices(GatePolicy(openings=openings, early_share=early, alpha=alpha))
    assert len(spent) == openings
    assert math.fsum(spent) == pytest.approx(alpha)
    assert all(one >= other > -1e-12 for one, other in itertools.pairwise(spent))


def test_the_first_opening_asks_less_than_an_even_share_would_and_the_last_twice_as_much_at_most() -> None:
    first, last = (math.exp(anchor_threshold(POLICY, opening)) for opening in (1, POLICY.openings))
    even = math.exp(anchor_threshold(GatePolicy(early_share=0), 1))
    assert even == pytest.approx(1000)
    assert first < even / 10
    assert even < last <= 2 * even


def test_the_mutant_without_a_budget_breaks_the_promise_of_the_epoch() -> None:
    """At a budget of one opening, a gate that goes on opening errs far more often than alpha."""
    small = GatePolicy(openings=1, progress_threshold=1, alpha=0.2, futility_threshold=1e300)

    def unlimited(anchor: Array, progress: Array, policy: GatePolicy, opening: int) -> np.ndarray:
        return real(anchor, progress, policy, 1)

    assert lifetime_false_rate(real, small, 200, 100) <= bound(0.2, 100)
    assert lifetime_false_rate(unlimited, small, 200, 100) > bound(0.2, 100)


def test_the_founding_rule_fails_the_alpha_test() -> None:
    """ "Not below baseline, not below the previous one" on 30 greedy tasks; the candidate is truly 2 points worse."""
    rng = np.random.default_rng(3)
    z = rng.normal(0, 1.8, (4000, 30))
    p, worse = chance_of(z + shift_to(RATE)), chance_of(z + shift_to(RATE - 0.02))
    baseline, previous, candidate = (rng.random(p.shape) < q for q in (p, p, worse))
    passed = candidate.sum(axis=1)
    wrong = (passed >= baseline.sum(axis=1)) & (passed >= previous.sum(axis=1))
    assert wrong.mean() > 4 * POLICY.alpha


def test_template_mates_that_are_counted_as_independent_break_the_promise_and_clusters_keep_it() -> None:
    """60 clusters of 5 tasks, whose differences are equal within a cluster."""
    rng = np.random.default_rng(4)
    mates = rng.choice([-1.0, 0.0, 1.0], (4000, 60))
    alone, repeated = (
        (log_paths(d, 0.0).max(axis=-1) >= math.log(20)).mean() for d in (mates, np.repeat(mates, 5, axis=1))
    )
    assert alone <= bound(0.05)
    assert repeated > 2 * 0.05


def test_nights_that_add_up_are_judged_in_later_openings_which_spend_less() -> None:
    small = FrozenSet(np.ones(150, dtype=np.int64), 4, 4)
    found = power_report(small, GatePolicy(), 0.6, None, 200, 1)
    assert found.nights is not None
    enough, fewer = (power_row(small, GatePolicy(), 0.6, n * found.gain, 200, 1, n) for n in (found.nights, 2))
    assert enough.promoted >= 0.8 > fewer.promoted  # twice half of what the first opening detects


@pytest.mark.parametrize(("policy", "opening"), [(GatePolicy(trunk_nights=0), 1), (GatePolicy(openings=50), 50)])
def test_nights_do_not_add_up_beyond_the_trunk_and_the_last_opening(policy: GatePolicy, opening: int) -> None:
    small = FrozenSet(np.ones(150, dtype=np.int64), 4, 4)
    assert power_report(small, policy, 0.6, None, 100, 1, opening).nights is None
