"""The exact tests and intervals of paired differences, which reports show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge import paired


def error_rate(null: Callable[[np.random.Generator], np.ndarray], single: bool, trials: int = 1000) -> float:
    """How often the test calls a null a gain at 5%. Promotion needs this and more."""
    rng = np.random.default_rng(7)
    return sum(paired.p_gain(null(rng).tolist(), single) <= 0.05 for _ in range(trials)) / trials


def noise(n: int, samples: int) -> Callable[[np.random.Generator], np.ndarray]:
    """Both arms pass each task with the same chance, which varies by task."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        p = rng.beta(1.5, 0.5, n)
        return (rng.binomial(samples, p) - rng.binomial(samples, p)) / samples

    return draw


def rare_forgetting(n: int, samples: int, destroyed: float) -> Callable[[np.random.Generator], np.ndarray]:
    """A few tasks destroyed, one sample more on others: the true mean difference is 0."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        u = rng.random(n)
        return np.where(u < destroyed, -1.0, np.where(u < destroyed * (1 + samples), 1.0 / samples, 0.0))

    return draw


@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize("samples", [1, 4])
def test_a_candidate_that_is_no_better_passes_in_at_most_alpha_of_the_nights(n: int, samples: int) -> None:
    nulls = [noise(n, samples), *(rare_forgetting(n, samples, q) for q in (0.01, 0.03, 0.05))]
    for null in nulls:
        assert error_rate(null, samples == 1) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_a_sign_test_over_several_samples_would_break_under_rare_forgetting() -> None:
    assert error_rate(rare_forgetting(300, 4, 0.03), single=True, trials=200) > 0.5


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_the_sign_test_agrees_with_scipy(gains: int, losses: int) -> None:
    expected = scipy.stats.binomtest(gains, gains + losses, 0.5, "greater").pvalue if gains + losses else 1.0
    assert math.isclose(paired.sign_test(gains, losses), expected, rel_tol=1e-9)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 40), st.booleans())
@settings(max_examples=80, deadline=None)
def test_intervals_hold_the_estimate_and_mirror_when_the_arms_are_swapped(
    gains: int, losses: int, ties: int, single: bool
) -> None:
    d = [1.0] * gains + [-1.0] * losses + [0.0] * ties
    low, high = paired.interval(d, single, 0.95)
    assert -1 <= low < paired.mean(d) < high <= 1
    assert paired.interval([-x for x in d], single, 0.95) == pytest.approx((-high, -low))


def test_tangos_interval_gives_the_published_example() -> None:
    """Tango 1998, section 4: of 44 pairs one differs one way and none the other; 90% interval."""
    assert paired.interval([-1.0] + [0.0] * 43, True, 0.90) == pytest.approx((-0.096, 0.037), abs=0.0005)


@pytest.mark.parametrize("single", [True, False])
def test_intervals_cover_the_truth_at_their_level(single: bool) -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(400):
        d = rng.choice([1.0, -1.0, 0.0], 100, p=[0.15, 0.05, 0.8]).tolist()
        low, high = paired.interval(d, single, 0.95)
        covered += low <= 0.10 <= high
    assert covered / 400 >= 0.93


@pytest.mark.parametrize(("losses", "n"), [(1, 60), (5, 300), (15, 300)])
def test_the_minimum_detectable_effect_is_found_in_80_of_100_nights(losses: int, n: int) -> None:
    gain = paired.minimum_detectable_effect([-1.0] * losses + [0.0] * (n - losses), True, 0.05)
    loss = (losses + 1) / (n + 2)
    rng, trials = np.random.default_rng(2), 2000
    counts = rng.multinomial(n, [loss + gain, loss, 1 - 2 * loss - gain], trials)
    found = sum(paired.sign_test(int(b), int(c)) <= 0.05 for b, c, _ in counts) / trials
    assert found == pytest.approx(0.8, abs=0.035)


def test_with_several_samples_the_minimum_detectable_effect_is_found_about_as_often() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(1, 1, 300)
    still = ((rng.binomial(4, p) - rng.binomial(4, p)) / 4).tolist()
    better = p + (1 - p) * paired.minimum_detectable_effect(still, False, 0.05) / (1 - p).mean()
    nights = [((rng.binomial(4, better) - rng.binomial(4, p)) / 4).tolist() for _ in range(300)]
    assert 0.7 <= sum(paired.p_gain(d, False) <= 0.05 for d in nights) / 300 <= 0.95


def test_more_tasks_detect_smaller_gains_with_one_and_with_several_samples() -> None:
    for single, step in ((True, 1.0), (False, 0.25)):
        effects = [
            paired.minimum_detectable_effect([step, -step] * m + [0.0] * 18 * m, single, 0.05) for m in (5, 20, 80)
        ]
        assert effects[0] > effects[1] > effects[2] > 0
