"""The gate: never promotes what is not better, sees what is, and says why."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge import paired
from sleepy_coder.judge.gate import GatePolicy, judge
from sleepy_coder.types import Decision, EvalReport, GateVerdict, Outcome, Sample

P, F, I = Outcome.PASS, Outcome.FAIL, Outcome.INFRA  # noqa: E741
Arm = Sequence[Sequence[Outcome]]
SMALL = GatePolicy(min_tasks=5, min_family_tasks=5, max_infra_share=0.5)
RANK = {Decision.REJECT: 0, Decision.INCONCLUSIVE: 1, Decision.PROMOTE: 2}


def report(outcomes: Arm, weights: str, set_id: str = "set", families: int = 3) -> EvalReport:
    return EvalReport(
        model=weights,
        arm="other",
        weights_sha256=weights,
        set_id=set_id,
        stack="stack",
        samples=tuple(
            Sample.model_construct(
                task_id=f"t{task:03}",
                family=f"f{task % families}",
                index=i,
                seed=i,
                outcome=outcome,
                served_by=weights,
            )
            for task, outcomes_of_task in enumerate(outcomes)
            for i, outcome in enumerate(outcomes_of_task)
        ),
        seconds=1.0,
    )


def verdict(baseline: Arm, current: Arm, candidate: Arm, policy: GatePolicy = SMALL) -> GateVerdict:
    return judge(report(baseline, "base"), report(current, "cur"), report(candidate, "cand"), policy)


def greedy(passes: int, n: int) -> list[list[Outcome]]:
    return [[P if i < passes else F] for i in range(n)]


@st.composite
def three_arms(draw: st.DrawFn) -> list[list[list[Outcome]]]:
    """Baseline, current and candidate; each may be strong, weak or mixed, so that all decisions occur."""
    samples, n = draw(st.sampled_from([1, 1, 4])), draw(st.integers(5, 40))
    habits = st.sampled_from([[P], [F], [P, P, P, P, P, P, F], [F, F, F, F, F, P], [P, F], [P, P, F, F, I]])
    return [
        draw(
            st.lists(
                st.lists(st.sampled_from(draw(habits)), min_size=samples, max_size=samples),
                min_size=n,
                max_size=n,
            )
        )
        for _ in range(3)
    ]


@given(three_arms())
@settings(max_examples=60, deadline=None)
def test_an_arm_that_answers_like_the_current_one_is_never_promoted(arms: list[list[list[Outcome]]]) -> None:
    baseline, current, _ = arms
    assert verdict(baseline, current, current).decision is not Decision.PROMOTE


def test_the_served_weights_are_not_promoted_over_themselves_by_luck() -> None:
    lucky = judge(report(greedy(0, 60), "base"), report(greedy(0, 60), "cur"), report(greedy(60, 60), "cur"))
    assert lucky.decision is Decision.INCONCLUSIVE
    assert lucky.reasons[0] == "IDENTICAL"


@given(three_arms())
@settings(max_examples=80, deadline=None)
def test_swapping_candidate_and_current_never_promotes_both_ways(arms: list[list[list[Outcome]]]) -> None:
    baseline, current, candidate = arms
    one, other = verdict(baseline, current, candidate), verdict(baseline, candidate, current)
    assert {one.decision, other.decision} != {Decision.PROMOTE}


@given(three_arms(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_missing_measurement_in_any_arm_never_turns_a_verdict_into_promote(
    arms: list[list[list[Outcome]]], data: st.DataObject
) -> None:
    before = verdict(*arms)
    arm = data.draw(st.integers(0, 2))
    task = data.draw(st.integers(0, len(arms[0]) - 1))
    arms[arm][task] = [I, *arms[arm][task][1:]]
    if before.decision is not Decision.PROMOTE:
        assert verdict(*arms).decision is not Decision.PROMOTE


@given(three_arms(), st.data())
@settings(max_examples=80, deadline=None)
def test_one_more_pass_of_the_candidate_never_makes_the_decision_worse(
    arms: list[list[list[Outcome]]], data: st.DataObject
) -> None:
    baseline, current, candidate = arms
    before = verdict(baseline, current, candidate)
    task = data.draw(st.integers(0, len(candidate) - 1))
    candidate[task] = [P if outcome is F else outcome for outcome in candidate[task]]
    assert RANK[verdict(baseline, current, candidate).decision] >= RANK[before.decision]


@given(three_arms(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_verdict_does_not_depend_on_the_order_of_the_samples(
    arms: list[list[list[Outcome]]], rng: random.Random
) -> None:
    reports = [report(arm, name) for arm, name in zip(arms, ("base", "cur", "cand"), strict=True)]
    shuffled = [r.model_copy(update={"samples": tuple(rng.sample(r.samples, len(r.samples)))}) for r in reports]
    assert judge(*reports, SMALL) == judge(*shuffled, SMALL)


@given(three_arms())
@settings(max_examples=80, deadline=None)
def test_what_does_not_pass_more_than_the_baseline_is_never_promoted(arms: list[list[list[Outcome]]]) -> None:
    result = verdict(*arms)
    if any(comparison.delta <= 0 for comparison in result.comparisons):
        assert result.decision is not Decision.PROMOTE


def test_better_than_current_but_below_the_baseline_is_not_promoted() -> None:
    result = verdict(greedy(240, 300), greedy(180, 300), greedy(230, 300), GatePolicy())
    assert result.decision is Decision.REJECT
    assert "GAIN_VS_CURRENT" in result.reasons
    assert "HARM_VS_BASELINE" in result.reasons


def test_a_gain_over_the_baseline_that_is_no_progress_keeps_the_incumbent() -> None:
    result = verdict(greedy(150, 300), greedy(250, 300), greedy(251, 300), GatePolicy())
    assert (result.decision, result.reasons) == (
        Decision.INCONCLUSIVE,
        ("NO_GAIN_VS_CURRENT", "GAIN_VS_BASELINE"),
    )


def test_a_clear_gain_over_both_is_promoted_and_names_its_tasks() -> None:
    result = verdict(greedy(200, 300), greedy(200, 300), greedy(230, 300), GatePolicy())
    assert result.decision is Decision.PROMOTE
    assert result.comparisons[1].gained == tuple(f"t{i}" for i in range(200, 230))
    assert result.comparisons[1].lost == ()


def test_losses_without_a_single_gain_are_rejected_before_they_are_significant() -> None:
    result = verdict(greedy(200, 300), greedy(200, 300), greedy(198, 300), GatePolicy())
    assert result.decision is Decision.REJECT
    assert result.reasons[0] == "DOMINATED"


def test_a_destroyed_family_blocks_a_candidate_that_gains_over_all() -> None:
    n, hurt = 300, {i for i in range(300) if i % 10 == 0}
    current = [[P if i in hurt or i % 2 else F] for i in range(n)]
    candidate = [[F if i in hurt and i % 4 == 0 else P] for i in range(n)]
    arms = [report(arm, name, families=10) for arm, name in ((current, "a"), (current, "b"), (candidate, "c"))]
    result = judge(*arms, GatePolicy())
    assert result.decision is Decision.REJECT
    assert result.reasons[0] == "FAMILY_HARM(f0)"
    assert [change.family for change in result.families if change.blocked] == ["f0"]


def test_families_with_few_tasks_are_not_guarded() -> None:
    arms = [report(greedy(200, 300), name, families=60) for name in "abc"]
    assert judge(*arms, GatePolicy()).families == ()


def test_many_missing_measurements_decide_nothing() -> None:
    current = greedy(100, 200)
    candidate = [[I]] * 11 + [[P]] * 189
    result = verdict(current, current, candidate, GatePolicy())
    assert result.decision is Decision.INCONCLUSIVE
    assert result.reasons[0] == "INFRA_MISSING"
    assert len(result.infra_tasks) == 11


def test_a_missing_measurement_counts_as_a_loss_of_the_candidate() -> None:
    current = greedy(0, 100)
    result = verdict(current, current, [[I]] + [[P]] * 20 + [[F]] * 79, GatePolicy())
    assert result.comparisons[1].lost == ("t000",)
    assert math.isclose(result.comparisons[1].delta, 0.19)


def test_a_reference_without_a_measurement_is_taken_as_a_pass() -> None:
    current = [[I]] * 2 + greedy(0, 98)
    result = verdict(greedy(0, 100), current, [[P], [F]] + [[P]] * 20 + [[F]] * 78, GatePolicy())
    assert result.comparisons[1].lost == ("t001",)
    assert "t000" not in result.comparisons[1].gained
    assert result.infra_tasks == ("t000", "t001")


def test_another_task_set_is_drift_and_decides_nothing() -> None:
    arms = (
        report(greedy(10, 60), "a"),
        report(greedy(10, 60), "b"),
        report(greedy(60, 60), "c", set_id="other"),
    )
    result = judge(*arms)
    assert (result.decision, result.reasons) == (Decision.INCONCLUSIVE, ("ENV_DRIFT",))


def test_a_small_set_never_promotes() -> None:
    result = verdict(greedy(5, 30), greedy(5, 30), greedy(30, 30), GatePolicy())
    assert result.decision is Decision.INCONCLUSIVE
    assert "TOO_FEW_TASKS" in result.reasons


def test_arms_that_are_not_paired_are_refused() -> None:
    short, full = report(greedy(5, 59), "a"), report(greedy(5, 60), "b")
    with pytest.raises(ValueError, match="not paired"):
        judge(full, full, short)
    with pytest.raises(ValueError, match="twice"):
        doubled = full.model_copy(update={"samples": full.samples + full.samples[:1]})
        judge(doubled, doubled, doubled)
    with pytest.raises(ValueError, match="no samples"):
        judge(report([], "a"), report([], "b"), report([], "c"))


def test_the_e_value_is_one_on_average_when_gains_and_losses_are_equally_likely() -> None:
    sizes = (1.0, 1.0, 0.75, 0.75, 0.5, 0.25, 0.25)
    signs = list(itertools.product((-1, 1), repeat=len(sizes)))
    values = [math.exp(paired.log_e([s * x for s, x in zip(row, sizes, strict=True)], 0.0)) for row in signs]
    assert math.fsum(values) / len(values) == pytest.approx(1.0)


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


def test_ten_points_on_three_hundred_tasks_are_found_in_95_of_100_nights() -> None:
    rng = np.random.default_rng(11)
    promoted = 0
    for _ in range(60):
        current = rng.random(300) < 0.6
        change = rng.random(300)
        candidate = np.where(current, change > 0.02 / 0.6, change < 0.12 / 0.4)
        arms = [[[P if x else F] for x in arm] for arm in (current, candidate)]
        promoted += verdict(arms[0], arms[0], arms[1], GatePolicy()).decision is Decision.PROMOTE
    assert promoted >= 57


def test_the_founding_rule_promotes_harmful_candidates_far_too_often() -> None:
    """ "Not below the baseline, not below the previous one" on 30 greedy tasks; truly worse by 2 points."""
    rng = np.random.default_rng(3)
    trials, wrong = 4000, 0
    for _ in range(trials):
        difficulty = rng.normal(1.9, 1.8, 30)
        p = 1 / (1 + np.exp(-difficulty))
        baseline, previous = rng.random((2, 30)) < p
        candidate = rng.random(30) < p - 0.02
        wrong += candidate.sum() >= baseline.sum() and candidate.sum() >= previous.sum()
    assert wrong / trials > 4 * 0.05


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
