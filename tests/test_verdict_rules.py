"""The gate's rules: what is promoted, rejected and held, and that nobody is helped by what is missing."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from fakes import make_task
from gate_cases import case, passing
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.config import GatePolicy
from sleepy_coder.errors import StoreError
from sleepy_coder.judge import units
from sleepy_coder.judge.case import Case, Control, TaskOutcomes, comparable, outcomes
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.judge.controls import quarantined, run_control, without
from sleepy_coder.judge.eprocess import Array
from sleepy_coder.judge.gate import as_verdict
from sleepy_coder.judge.guards import family_guard, leak_gap
from sleepy_coder.judge.paired import evidence_of_no_loss, minimum_detectable_effect
from sleepy_coder.judge.record import VerdictRecord, read, replay, write
from sleepy_coder.judge.sequential import judge
from sleepy_coder.judge.trunk import trunk
from sleepy_coder.types import Decision, EvalReport, Outcome, Sample, Task, Verdict

RANK = {Decision.REJECT: 0, Decision.INCONCLUSIVE: 1, Decision.PROMOTE: 2}
LOW = GatePolicy(
    openings=1, alpha=0.2, progress_threshold=2, min_clusters=5, autonomous_clusters=5, block=5, max_infra_share=0.5
)
"""Thresholds that sets of a few clusters can reach, so that all decisions occur."""

Arms = list[list[str]]


@st.composite
def three_arms(draw: st.DrawFn) -> Arms:
    """Baseline, served and candidate; each may be strong, weak or mixed."""
    samples, n = draw(st.sampled_from([1, 1, 4])), draw(st.integers(5, 30))
    habits = st.sampled_from(["P", "F", "PPPPPPF", "FFFFFP", "PF", "PPFFI"])
    return [
        ["".join(draw(st.lists(st.sampled_from(habit), min_size=samples, max_size=samples))) for _ in range(n)]
        for habit in (draw(habits) for _ in range(3))
    ]


def decide(arms: Arms, policy: GatePolicy = LOW) -> Decision:
    return judge(case(*arms, policy=policy)).decision


def test_a_clear_gain_over_baseline_and_served_is_promoted() -> None:
    finding = judge(case(passing(200, 300), passing(200, 300), passing(230, 300)))
    assert (finding.decision, finding.reasons) == (Decision.PROMOTE, ("GAIN_VS_BASELINE", "GAIN_VS_CURRENT"))
    assert finding.versus_served.delta == pytest.approx(0.1)


@given(three_arms())
@settings(max_examples=60, deadline=None)
def test_arms_that_answer_alike_are_never_promoted(arms: Arms) -> None:
    assert decide([arms[0], arms[1], arms[1]]) is not Decision.PROMOTE
    assert decide([arms[0], arms[1], arms[0]]) is not Decision.PROMOTE


@given(three_arms())
@settings(max_examples=80, deadline=None)
def test_swapping_candidate_and_served_never_promotes_both_ways(arms: Arms) -> None:
    baseline, served, candidate = arms
    assert {decide([baseline, served, candidate]), decide([baseline, candidate, served])} != {Decision.PROMOTE}


@given(three_arms(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_missing_measurement_in_any_arm_never_turns_a_verdict_into_promote(arms: Arms, data: st.DataObject) -> None:
    before = decide(arms)
    arm, task = data.draw(st.integers(0, 2)), data.draw(st.integers(0, len(arms[0]) - 1))
    arms[arm][task] = "I" + arms[arm][task][1:]
    if before is not Decision.PROMOTE:
        assert decide(arms) is not Decision.PROMOTE


def missing_is_a_tie(anchor: Array, names: tuple[str, ...], missing: tuple[str, ...]) -> Array:
    """The mutant: what was not measured counts as no difference."""
    anchor = anchor.copy()
    anchor[[name in missing for name in names]] = 0.0
    return anchor


def test_the_mutant_that_counts_what_is_missing_as_no_difference_is_helped_by_losing_measurements() -> None:
    """A lost task that is not measured must not be better than a lost task."""
    lost, hidden = (units.by_cluster(case(["P"] * 10, ["P"] * 10, ["P"] * 9 + [last]).tasks) for last in ("F", "I"))
    assert hidden.anchor.sum() == lost.anchor.sum()
    assert missing_is_a_tie(hidden.anchor, hidden.names, hidden.missing).sum() > lost.anchor.sum()


@given(three_arms(), st.data())
@settings(max_examples=80, deadline=None)
def test_one_more_pass_of_the_candidate_never_makes_the_decision_worse(arms: Arms, data: st.DataObject) -> None:
    before = decide(arms)
    task = data.draw(st.integers(0, len(arms[2]) - 1))
    arms[2][task] = arms[2][task].replace("F", "P")
    assert RANK[decide(arms)] >= RANK[before]


@given(three_arms(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_promotion_does_not_depend_on_the_order_of_the_clusters(arms: Arms, rng: random.Random) -> None:
    """Without looks on the way, that is: a candidate may be found futile on some of them."""
    policy = LOW.model_copy(update={"block": 1000})
    order = rng.sample(range(len(arms[0])), len(arms[0]))
    assert decide(arms, policy) == decide([[arm[i] for i in order] for arm in arms], policy)


def test_better_than_served_but_below_the_baseline_is_held() -> None:
    finding = judge(case(passing(240, 300), passing(150, 300), passing(230, 300)))
    assert finding.decision is Decision.INCONCLUSIVE
    assert finding.reasons == ("E_ANCHOR_LOW",)


def test_a_gain_that_the_first_opening_of_an_epoch_promotes_is_held_in_the_last() -> None:
    arms = (passing(200, 300), passing(200, 300), passing(211, 300))
    assert judge(case(*arms, opening=1)).decision is Decision.PROMOTE
    late = judge(case(*arms, opening=50))
    assert (late.decision, late.reasons) == (Decision.INCONCLUSIVE, ("E_ANCHOR_LOW",))


def test_a_gain_over_the_baseline_that_is_no_progress_is_not_promoted() -> None:
    finding = judge(case(passing(150, 300), passing(250, 300), passing(256, 300)))
    assert (finding.decision, finding.reasons) == (Decision.INCONCLUSIVE, ("E_PROG_LOW",))


def test_a_loss_is_rejected_at_the_first_look_that_shows_it_and_nothing_more_is_measured() -> None:
    finding = judge(case(["P"] * 20, ["P"] * 20, ["P"] * 10 + ["F"] * 10, total=300))
    assert (finding.decision, finding.final) == (Decision.REJECT, True)
    assert finding.reasons == ("FUTILE_OR_HARMFUL",)


def test_before_the_end_of_the_set_a_gain_is_not_final_and_promotes_nothing() -> None:
    finding = judge(case(["F"] * 100, ["F"] * 100, ["P"] * 100, total=300))
    assert (finding.decision, finding.final, finding.reasons) == (Decision.INCONCLUSIVE, False, ())


@given(three_arms())
@settings(max_examples=60, deadline=None)
def test_what_is_final_before_the_end_is_what_the_whole_set_says_too(arms: Arms) -> None:
    n = len(arms[0])
    whole = judge(case(*arms, policy=LOW))
    for measured in range(LOW.block, n, LOW.block):
        part = judge(case(*(arm[:measured] for arm in arms), policy=LOW, total=n))
        if part.final and "INFRA_MISSING" not in (*part.reasons, *whole.reasons):
            assert part.decision is whole.decision


def test_a_harmed_family_rejects_what_gains_over_all() -> None:
    served = ["P" if i % 10 == 0 or i % 2 else "F" for i in range(300)]
    candidate = ["F" if i % 10 == 0 and i % 20 else "P" for i in range(300)]
    finding = judge(case(served, served, candidate, groups=10))
    assert finding.decision is Decision.REJECT
    assert finding.reasons == ("FAMILY_HARM(g0)",)


def test_families_with_few_clusters_are_not_guarded() -> None:
    assert judge(case(*[passing(200, 300)] * 3, groups=60)).families == ()


@pytest.mark.parametrize(
    ("losses", "blocked"),
    [((4, 4), set[str]()), ((5, 4), {"g0", "g1"}), ((5, 3), {"g0"})],  # p is 2 to the power of minus these
)
def test_a_family_is_blocked_only_after_those_with_clearer_harm_and_then_more_easily(
    losses: tuple[int, int], blocked: set[str]
) -> None:
    rows = [
        TaskOutcomes(task=f"{n}-{i}", cluster=f"{n}-{i}", group=f"g{n}", baseline="F", served="P", candidate=letter)
        for n, lost in enumerate(losses)
        for i, letter in enumerate("F" * lost + "P" * (20 - lost))
    ]
    found = family_guard(units.by_cluster(rows), GatePolicy(family_alpha=0.1, min_family_clusters=20))
    assert {change.family for change in found if change.blocked} == blocked


@pytest.mark.parametrize(("lost", "blocked"), [(5, False), (10, True)])
def test_a_half_lost_cluster_of_two_tasks_counts_for_less_harm_than_a_lost_task(lost: int, blocked: bool) -> None:
    rows = [
        TaskOutcomes(task=f"{i}{half}", cluster=str(i), group="g", baseline="F", served="P", candidate=letter)
        for i in range(20)
        for half, letter in (("a", "F" if i < lost else "P"), ("b", "P"))
    ]
    (change,) = family_guard(units.by_cluster(rows), GatePolicy(family_alpha=0.1, min_family_clusters=20))
    assert (change.lost, change.blocked) == (lost, blocked)


def test_a_gain_on_frozen_tasks_that_fresh_tasks_do_not_show_is_held_as_a_leak() -> None:
    fresh = [("P", "P", "P")] * 150 + [("F", "F", "F")] * 50
    finding = judge(case(passing(150, 300), passing(150, 300), passing(250, 300), fresh=fresh))
    assert (finding.decision, finding.reasons) == (Decision.INCONCLUSIVE, ("LEAK_GAP",))


@pytest.mark.parametrize("clusters", [60, 90, 120])
def test_fresh_tasks_that_come_out_as_with_the_base_let_a_candidate_pass_with_room(clusters: int) -> None:
    tie = [("P", "P", "P")] * (clusters * 3 // 4) + [("F", "F", "F")] * (clusters - clusters * 3 // 4)
    for fresh in (tie, [("P", "P", "F"), ("F", "F", "P"), *tie[1:-1]]):
        finding = judge(case(passing(160, 233), passing(160, 233), passing(180, 233), fresh=fresh))
        assert "FRESH_LOW" not in finding.reasons


def passes_fresh(clusters: int, gains: float, loses: float, nights: int = 4000) -> float:
    """How often the fresh guard lets a candidate pass that gains and loses such shares of fresh tasks."""
    rng, policy = np.random.default_rng(6), GatePolicy()
    draws = rng.choice([1.0, 0.0, -1.0], p=[gains, 1 - gains - loses, loses], size=(nights, clusters))
    found = [evidence_of_no_loss(d, policy.fresh_margin) >= np.log(policy.fresh_threshold) for d in draws.tolist()]
    return float(np.mean(found))


@pytest.mark.parametrize(("gains", "loses"), [(0.0, 0.05), (0.02, 0.07), (0.05, 0.10), (0.15, 0.20)])
@pytest.mark.parametrize("clusters", [60, 66, 80, 120])
def test_a_loss_of_the_margin_on_fresh_tasks_passes_at_most_one_night_in_ten(
    clusters: int, gains: float, loses: float
) -> None:
    assert passes_fresh(clusters, gains, loses) <= 0.105


@pytest.mark.parametrize(("clusters", "power"), [(60, 0.75), (120, 0.95)])
def test_a_gain_of_three_points_on_fresh_tasks_seldom_looks_like_a_loss(clusters: int, power: float) -> None:
    assert passes_fresh(clusters, 0.05, 0.02) >= power


def leaks(steps: tuple[float, float, float], fresh: tuple[float, float, float], nights: int = 200) -> float:
    """How often LEAK_GAP holds, on 233 frozen and 120 fresh clusters of which served fails, candidate gains and loses
    such shares."""
    rng, policy = np.random.default_rng(5), GatePolicy()

    def draw(n: int, fails: float, gains: float, loses: float) -> units.Units:
        failed, luck = rng.random(n) < fails, rng.random(n)
        served = ["F" if f else "P" for f in failed]
        candidate = [
            ("P" if u < gains / fails else "F") if f else ("F" if u < loses / (1 - fails) else "P")
            for f, u in zip(failed, luck, strict=True)
        ]
        return units.by_cluster(case(served, served, candidate).tasks)

    found = [leak_gap(draw(233, *steps), draw(120, *fresh), policy) for _ in range(nights)]
    return sum(z is not None and z > policy.leak_z for z in found) / nights


@pytest.mark.parametrize(
    ("frozen", "fresh"),
    [
        ((0.31, 0.12, 0.02), (0.31, 0.12, 0.02)),
        ((0.31, 0.12, 0.02), (0.08, 0.05, 0.01)),
        ((0.31, 0.25, 0.02), (0.10, 0.08, 0.01)),
        ((0.08, 0.06, 0.01), (0.50, 0.17, 0.02)),
    ],
    ids=["alike", "the day is easier", "the day is easier and much is gained", "the day is harder"],
)
def test_a_gain_that_shows_on_the_day_as_well_is_no_leak_however_easy_or_hard_the_day_is(
    frozen: tuple[float, float, float], fresh: tuple[float, float, float]
) -> None:
    assert leaks(frozen, fresh) <= 0.03


@pytest.mark.parametrize(
    ("fresh", "power"), [((0.31, 0.01, 0.01), 0.99), ((0.31, 0.06, 0.01), 0.9), ((0.08, 0.01, 0.01), 0.75)]
)
def test_twenty_points_of_frozen_tasks_known_by_heart_are_found_as_a_leak(
    fresh: tuple[float, float, float], power: float
) -> None:
    assert leaks((0.31, 0.21, 0.01), fresh) >= power


def test_a_loss_on_fresh_tasks_that_cannot_be_ruled_out_is_held() -> None:
    fresh = [("P", "P", "F")] * 10 + [("P", "P", "P")] * 90
    finding = judge(case(passing(150, 300), passing(150, 300), passing(180, 300), fresh=fresh))
    assert finding.decision is Decision.INCONCLUSIVE
    assert "FRESH_LOW" in finding.reasons


def test_few_fresh_tasks_decide_nothing() -> None:
    fresh = [("P", "P", "F")] * 10
    finding = judge(case(passing(200, 300), passing(200, 300), passing(240, 300), fresh=fresh))
    assert (finding.decision, finding.fresh, finding.leak) == (Decision.PROMOTE, None, None)


@pytest.mark.parametrize("arm", range(3))
def test_a_lost_measurement_on_fresh_tasks_frees_no_leak(arm: int) -> None:
    """It once widened the error more than the gap: 0 of 3 gained was held, and 2 failures with one unknown was not."""
    served, candidate = passing(71, 120), passing(107, 120)
    fresh = [("F", "F", "F")] * 3 + [("P", "P", "P")] * 57
    assert judge(case(served, served, candidate, fresh=fresh)).reasons == ("LEAK_GAP",)
    for at in (0, 2, 59):
        lost = list(fresh[at])
        lost[arm] = "I"
        found = judge(
            case(served, served, candidate, fresh=[*fresh[:at], (lost[0], lost[1], lost[2]), *fresh[at + 1 :]])
        )
        assert found.decision is not Decision.PROMOTE


@pytest.mark.parametrize(("gained", "held"), [(13, True), (14, False)])  # z is 2.37 and 2.12
def test_a_leak_is_what_chance_would_show_in_one_night_of_a_hundred(gained: int, held: bool) -> None:
    fresh = [("F", "F", "P")] * gained + [("F", "F", "F")] * (40 - gained) + [("P", "P", "P")] * 80
    finding = judge(case(passing(150, 233), passing(150, 233), passing(200, 233), fresh=fresh))
    assert (finding.reasons == ("LEAK_GAP",), finding.decision is Decision.PROMOTE) == (held, not held)


@pytest.mark.parametrize(("clusters", "held"), [(108, True), (109, False)])  # p is 0.1002 and 0.097
def test_a_loss_on_fresh_tasks_is_ruled_out_where_it_would_look_so_good_in_one_night_of_ten(
    clusters: int, held: bool
) -> None:
    fresh = [("P", "P", "F")] * 2 + [("P", "P", "P")] * (clusters - 2)
    finding = judge(case(passing(150, 233), passing(150, 233), passing(200, 233), fresh=fresh))
    assert (finding.reasons == ("FRESH_LOW",), finding.decision is Decision.PROMOTE) == (held, not held)


def test_what_was_not_measured_makes_a_frozen_gain_look_more_like_a_leak_and_not_less() -> None:
    def gap(candidate: str) -> float:
        frozen = case(["F"] * 60, ["F"] * 60, [candidate, *"P" * 30, *"F" * 29])
        fresh = case([], [], [], fresh=[("F", "F", "P"), ("F", "F", "F")] * 60).fresh
        found = leak_gap(units.by_cluster(frozen.tasks), units.by_cluster(fresh), GatePolicy())
        assert found is not None
        return found

    assert gap("I") > gap("F")


def test_a_loss_against_what_serves_was_seen_also_where_the_baseline_was_not_measured() -> None:
    found = units.by_cluster(case(["I", "P"], ["P", "I"], ["F", "F"]).tasks)
    assert (found.known.tolist(), found.missing) == ([True, False], ("t0", "t1"))


def test_many_missing_measurements_are_held_whatever_the_rest_says() -> None:
    finding = judge(case(["P"] * 200, ["P"] * 200, ["I"] * 11 + ["F"] * 189))
    assert finding.decision is Decision.INCONCLUSIVE
    assert finding.reasons[0] == "INFRA_MISSING"
    assert len(finding.missing) == 11


def spread(gains: int, of: int = 233) -> tuple[list[str], list[str]]:
    """What serves, and a candidate that gains so many tasks, spread over the set, and loses none."""
    served = passing(160, of)
    fails = [i for i in range(of) if served[i] == "F"]
    chosen = {fails[i * len(fails) // gains] for i in range(gains)}
    return served, ["P" if i in chosen else letter for i, letter in enumerate(served)]


@pytest.mark.parametrize("arm", [1, 2], ids=["served", "candidate"])
def test_an_outage_in_the_first_block_rejects_no_candidate_that_gains(arm: int) -> None:
    served, candidate = spread(40)
    arms = [served, list(served), candidate]
    arms[arm][:11] = ["I"] * 11
    first = judge(case(*(letters[:20] for letters in arms), total=233))
    assert (first.final, first.reasons) == (False, ())
    whole = judge(case(*arms))
    assert (whole.decision, whole.reasons) == (Decision.INCONCLUSIVE, ("INFRA_MISSING",))


def test_an_outage_that_hits_one_family_is_not_its_harm() -> None:
    served, candidate = spread(50)
    candidate[::8] = [letter if i > 1 and i % 3 else "I" for i, letter in enumerate(served[::8])]  # 11 of 30 of g0
    finding = judge(case(served, served, candidate, groups=8))
    assert (finding.decision, finding.reasons) == (Decision.INCONCLUSIVE, ("INFRA_MISSING",))
    assert not any(change.blocked for change in finding.families)


def test_harm_that_was_seen_rejects_beside_what_was_not_measured() -> None:
    served = ["P"] * 233
    finding = judge(case(served, served, ["I"] * 5 + ["F"] * 15 + ["P"] * 213))
    assert (finding.decision, finding.reasons[0]) == (Decision.REJECT, "FUTILE_OR_HARMFUL")


def test_a_few_measurements_lost_here_and_there_leave_a_gain_its_promotion() -> None:
    served, candidate = spread(40)
    candidate[::40] = ["I"] * 6
    assert judge(case(served, served, candidate)).decision is Decision.PROMOTE


def test_arms_that_cannot_be_compared_and_spent_budgets_are_held() -> None:
    arms = (passing(100, 300), passing(100, 300), passing(300, 300))
    assert judge(case(*arms, drifted="another stack")).reasons[0] == "ENV_DRIFT"
    for spent in (judge(case(*arms, opening=51)), judge(case(*arms, opening=9, charged=False))):
        assert (spent.decision, spent.reasons[0]) == (Decision.INCONCLUSIVE, "BUDGET_EXHAUSTED")


def test_a_small_set_holds_unless_it_may_speak_for_itself_alone() -> None:
    arms = (passing(10, 80, 2), passing(10, 80, 2), passing(80, 80, 2))
    held = judge(case(*arms))
    assert (held.decision, held.reasons, held.scope) == (Decision.INCONCLUSIVE, ("SMALL_SET",), "population")
    alone = judge(case(*arms, policy=GatePolicy(small_sets="frozen-set-only")))
    assert (alone.decision, alone.scope, alone.units) == (Decision.PROMOTE, "frozen-set-only", 160)


def test_a_set_that_speaks_for_itself_alone_is_held_below_the_least_number_of_pairs() -> None:
    policy = GatePolicy(small_sets="frozen-set-only")
    few = judge(case(["FF"] * 25, ["FF"] * 25, ["PP"] * 25, policy=policy))
    assert (few.units, few.decision, few.reasons) == (50, Decision.INCONCLUSIVE, ("SMALL_SET",))


# Controls


class Scripted:
    """A verifier that says what a script says: `wrong` tasks fail their reference, `easy` ones pass as they are."""

    def __init__(self, wrong: str = "", easy: str = "") -> None:
        self.wrong, self.easy = wrong, easy

    def verify(self, task: Task, files: dict[str, str]) -> Verdict:
        passes = task.id != self.wrong if files == task.reference else task.id == self.easy
        return Verdict(outcome=Outcome.PASS if passes else Outcome.FAIL, stage="done")


def test_a_task_that_cannot_tell_its_fix_from_its_broken_input_is_left_out_for_all_arms() -> None:
    tasks = [make_task(number) for number in range(1000, 1004)]
    wrong, easy = tasks[0].id, tasks[1].id
    controls = [run_control(Scripted(wrong, easy), task, 3) for task in tasks]
    assert [c.reference for c in controls] == ["F", "PPP", "PPP", "PPP"]
    assert quarantined(controls) == {wrong, easy}
    clusters = [
        Cluster(id="one", family="f", group="g", tasks=(wrong, tasks[2].id)),
        Cluster(id="two", family="f", group="g", tasks=(easy,)),
    ]
    assert [c.tasks for c in without(clusters, quarantined(controls))] == [(tasks[2].id,)]


def test_a_night_in_which_many_controls_fail_is_held() -> None:
    controls = tuple(Control(task=f"t{i}", reference="PFP" if i < 20 else "PPP", broken="F") for i in range(300))
    finding = judge(case(passing(200, 300), passing(200, 300), passing(260, 300), controls=controls))
    assert (finding.decision, finding.reasons[0]) == (Decision.INCONCLUSIVE, "INFRA_MISSING")


# From reports to cases


def report(outcomes_: dict[str, str], stack: str = "s") -> EvalReport:
    names = {"P": Outcome.PASS, "F": Outcome.FAIL, "I": Outcome.INFRA}
    samples = tuple(
        Sample(task_id=task, family="f", index=i, seed=i, outcome=names[letter], served_by="m")
        for task, letters in outcomes_.items()
        for i, letter in enumerate(letters)
    )
    return EvalReport(
        model="m", arm="other", weights_sha256="w", set_id="set", stack=stack, samples=samples, seconds=1.0
    )


def test_reports_become_outcomes_in_the_order_of_the_clusters_and_unmeasured_clusters_wait() -> None:
    order = [Cluster(id=c, family="f", group="g", tasks=(c, c + "2")) for c in ("b", "a", "z")]
    found = outcomes(order, *(report({"a": x, "a2": "P", "b": "F", "b2": "P"}) for x in ("PF", "FF", "PI")))
    assert [(o.task, o.baseline, o.served, o.candidate) for o in found[2:]] == [
        ("a", "PF", "FF", "PI"),
        ("a2", "P", "P", "P"),
    ]
    assert [o.cluster for o in found] == ["b", "b", "a", "a"]


def test_arms_with_other_tasks_or_another_stack_are_refused() -> None:
    order = [Cluster(id="a", family="f", group="g", tasks=("a",))]
    with pytest.raises(ValueError, match="cluster a"):
        outcomes(order, report({"a": "P"}), report({"a": "P"}), report({}))
    assert not comparable([report({"a": "P"}), report({"a": "F"})])
    assert "stacks" in comparable([report({"a": "P"}), report({"a": "F"}, stack="other")])


# What was harm


@pytest.mark.parametrize(
    ("letters", "harmful"),
    [("F" * 1, False), ("I" * 8, False), ("F" * 7, True)],
    ids=["one task lost", "nothing lost, eight not measured", "seven tasks lost"],
)
def test_a_futile_candidate_did_harm_if_more_was_lost_than_chance_or_the_machine_explains(
    letters: str, harmful: bool
) -> None:
    served, candidate = ["P"] * 200, [*letters, *"P" * (200 - len(letters))]
    judged = case(served, served, candidate, groups=10)
    arms = tuple(report({f"t{i}": letter for i, letter in enumerate(arm)}) for arm in (served, served, candidate))
    verdict = as_verdict(judged, judge(judged), arms)
    assert (verdict.decision, verdict.harmful) == (Decision.REJECT, harmful)
    assert all(comparison.delta < 0 for comparison in verdict.comparisons)


def test_the_detectable_effect_is_that_of_the_whole_set_at_the_level_of_the_harder_comparison() -> None:
    start = [*"P" * 150, *"F" * 150]
    judged = case(start, start, [*"P" * 160, *"F" * 140])
    arms = tuple(report({f"t{i}": letter for i, letter in enumerate(arm)}) for arm in (start, start, start))
    finding = judge(judged)
    differences = [1.0 if 150 <= i < 160 else 0.0 for i in range(300)]
    expected = minimum_detectable_effect(differences, False, math.exp(-finding.progress_needs))
    assert finding.progress_needs > finding.anchor_needs
    assert as_verdict(judged, finding, arms).detectable == pytest.approx(expected)
    assert as_verdict(judged.model_copy(update={"clusters": 400}), finding, arms).detectable is None


# The record


@given(three_arms())
@settings(max_examples=40, deadline=None)
def test_a_record_is_reproduced_byte_for_byte(arms: Arms) -> None:
    payload = write(case(*arms, policy=LOW))
    assert replay(payload) == payload


def test_a_record_of_before_there_were_early_openings_is_reproduced_with_an_even_share() -> None:
    arms = (passing(200, 300), passing(200, 300), passing(211, 300))
    payload = write(case(*arms, policy=GatePolicy(early_share=0)))
    assert "early_share" not in payload
    assert json.loads(payload)["finding"]["reasons"] == ["E_ANCHOR_LOW"]
    assert replay(payload) == payload


def test_a_changed_outcome_or_decision_does_not_come_out_again() -> None:
    payload = write(case(passing(200, 300), passing(200, 300), passing(206, 300)))
    assert json.loads(payload)["finding"]["decision"] == "inconclusive"
    assert replay(payload.replace('"inconclusive"', '"promote"')) != payload.replace('"inconclusive"', '"promote"')
    content = json.loads(payload)
    content["case"]["tasks"][0]["candidate"] = "F"
    changed = VerdictRecord.model_validate(content).model_dump_json()
    assert replay(changed) != changed
    lenient = payload.replace('"openings":50', '"openings":40')
    assert lenient != payload
    assert replay(lenient) != lenient


def test_a_record_of_other_code_says_so() -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read('{"case": {}}')


# The trunk


def held(candidate: str, trained_from: str, served: str = "served") -> VerdictRecord:
    arms = ("base", served, candidate)
    return read(write(case(passing(200, 300), passing(200, 300), passing(206, 300), arms=arms, trunk=trained_from)))


def rejected(candidate: str) -> VerdictRecord:
    arms = ("base", "served", candidate)
    return read(write(case(passing(200, 300), passing(200, 300), passing(100, 300), arms=arms)))


def test_training_starts_from_what_serves_until_something_is_undecided() -> None:
    assert trunk([], "served", 10) == "served"
    assert trunk([held("a", "served")], "served", 10) == "a"
    assert trunk([held("a", "served"), held("b", "a")], "served", 10) == "b"


def test_after_a_rejection_a_promotion_or_a_rollback_training_starts_from_what_serves() -> None:
    assert trunk([held("a", "served"), rejected("b")], "served", 10) == "served"
    assert trunk([held("a", "served")], "another", 10) == "another"


def test_after_ten_undecided_nights_more_training_starts_from_what_serves_and_may_wander_off_again() -> None:
    names = ["served", *(f"n{i}" for i in range(12))]
    chain = [held(new, old) for old, new in zip(names, names[1:], strict=False)]
    assert trunk(chain[:10], "served", 10) == "n9"
    assert trunk(chain[:11], "served", 10) == "served"
    assert trunk([*chain[:11], held("again", "served")], "served", 10) == "again"


def test_a_candidate_that_may_have_seen_the_frozen_set_is_not_trained_on() -> None:
    fresh = [("P", "P", "P")] * 150 + [("F", "F", "F")] * 50
    leaky: Case = case(passing(150, 300), passing(150, 300), passing(250, 300), fresh=fresh)
    assert trunk([read(write(leaky))], "served", 10) == "served"
