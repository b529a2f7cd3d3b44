"""Metrics over reports and episodes, against hand-worked values."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.judge import metrics
from sleepy_coder.types import Attempt, Episode, EvalReport, Outcome, Sample, Verdict

P, F, I = Outcome.PASS, Outcome.FAIL, Outcome.INFRA  # noqa: E741


def report(tasks: dict[str, list[Outcome]], signatures: dict[str, str] | None = None) -> EvalReport:
    return EvalReport(
        model="m",
        arm="other",
        weights_sha256="w",
        set_id="s",
        stack="k",
        seconds=1.0,
        samples=tuple(
            Sample(
                task_id=task,
                family=task[0],
                index=i,
                seed=i,
                outcome=outcome,
                served_by="m",
                error_signature=(signatures or {}).get(task, "") if outcome is F else "",
            )
            for task, outcomes in tasks.items()
            for i, outcome in enumerate(outcomes)
        ),
    )


def episode(number: int, session: str, signatures: list[str]) -> Episode:
    """Fails once with each signature, then passes; the empty list never passes."""
    verdicts = [Verdict(outcome=F, stage="compile", error_signature=s) for s in signatures]
    verdicts += [Verdict(outcome=P, stage="done")] if signatures else []
    return Episode(
        id=f"e{number}",
        session=session,
        source="agent",
        task=None,
        attempts=tuple(Attempt(messages=(), completion="", verdict=v, served_by="m") for v in verdicts),
        outcome=P if signatures else F,
        outcome_source="verifier",
        served_by="m",
        created=datetime(2026, 11, 23, tzinfo=UTC) + timedelta(hours=number),
    )


@given(st.integers(1, 8), st.data())
def test_pass_at_k_is_the_share_of_draws_of_k_samples_with_a_pass(n: int, data: st.DataObject) -> None:
    passed, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([True] * passed + [False] * (n - passed), k))
    assert math.isclose(metrics.pass_at_k(n, passed, k), sum(any(d) for d in draws) / len(draws))


def test_pass_at_k_of_too_few_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="not defined"):
        metrics.pass_at_k(3, 1, 4)
    with pytest.raises(ValueError, match="2 measured samples"):
        metrics.mean_pass_at_k(report({"a1": [P]}), 2)


def test_pass_at_1_and_pass_at_k_may_be_asked_of_the_same_tasks() -> None:
    some = report({"a1": [P, F], "a2": [F, F]})
    assert metrics.mean_pass_at_k(some, 2) - metrics.mean_pass_at_k(some, 1, least=2) == pytest.approx(0.25)


def test_a_task_with_too_few_samples_is_in_neither() -> None:
    some = report({"a1": [F, F, F, F], "a2": [P, P, P, I]})
    assert metrics.mean_pass_at_k(some, 4) - metrics.mean_pass_at_k(some, 1, least=4) == 0


def test_changes_name_tasks_both_ways_and_leave_out_what_was_not_measured() -> None:
    before = report({"a1": [F, P], "a2": [P, P], "a3": [P, P], "a4": [F, F]})
    after = report({"a1": [P, P], "a2": [P, F], "a3": [P, P], "a4": [I, I]})
    assert metrics.changes(before, after) == metrics.Changes(gained=("a1",), lost=("a2",))


def test_the_mean_task_score_is_the_reports_pass_rate() -> None:
    mixed = report({"a1": [P, F, I], "b1": [P, P, P], "b2": [I, I, I]})
    assert metrics.task_scores(mixed) == {"a1": 0.5, "b1": 1.0}
    assert mixed.pass_rate == pytest.approx(0.75)


def test_the_pass_rate_interval_of_23_in_30_is_wilsons() -> None:
    low, high = metrics.pass_rate_interval(report({f"a{i}": [P if i < 23 else F] for i in range(30)}))
    assert (low, high) == pytest.approx((0.591, 0.882), abs=0.001)
    assert metrics.pass_rate_interval(report({"a1": [I]})) == (0.0, 1.0)


def test_acc_bwt_and_forgetting_follow_their_papers() -> None:
    nights = [report({"a1": [P], "b1": [F]}), report({"a1": [F], "b1": [P]})]
    matrix = metrics.accuracy_matrix(nights, [["a1"], ["b1"]])
    assert matrix == ((1.0, 0.0), (0.0, 1.0))
    assert metrics.acc(matrix) == 0.5
    assert metrics.bwt(matrix) == -1.0
    assert metrics.forgetting(matrix) == 1.0
    assert metrics.forgetting(((0.5,), (0.9,), (0.6,))) == pytest.approx(0.3)
    assert metrics.bwt(((0.5,),)) == metrics.forgetting(((0.5,),)) == 0.0
    with pytest.raises(ValueError, match="group of tasks per night"):
        metrics.bwt(((0.5, 0.5),))
    with pytest.raises(ValueError, match="no task of group 0"):
        metrics.accuracy_matrix(nights, [["unknown"]])


def test_what_the_newest_night_has_taught_makes_up_for_nothing_that_is_forgotten() -> None:
    assert metrics.forgetting(((1.0, 0.0, 0.0), (0.5, 1.0, 0.0), (0.0, 0.5, 1.0))) == pytest.approx(0.75)


def test_a_difference_is_over_the_tasks_that_both_have_measured() -> None:
    whole, part = report({"a1": [P], "a2": [F], "a3": [F]}), report({"a1": [P], "a2": [P], "a4": [F]})
    assert metrics.difference(whole, part) == pytest.approx(0.5)
    assert metrics.difference(whole, report({"a4": [P]})) is None


def test_a_task_once_passed_and_failing_now_is_forgotten() -> None:
    history = [report({"a1": [P], "a2": [F], "a3": [P]}), report({"a1": [P], "a2": [P], "a3": [F]})]
    last = report({"a1": [P], "a2": [F], "a3": [F]})
    assert metrics.forgotten([*history, last]) == ("a2", "a3")
    assert metrics.forgotten([]) == ()


def test_the_repeat_error_rate_counts_equal_signatures_only() -> None:
    before = report({"a1": [F], "a2": [F], "a3": [P], "a4": [F]}, {"a1": "E0382", "a2": "E0499", "a4": "E0308"})
    after = report({"a1": [F], "a2": [F], "a3": [F], "a4": [I]}, {"a1": "E0382", "a2": "E0502", "a3": "E0382"})
    assert metrics.repeat_error_rate(before, after) == pytest.approx(1 / 3)


def test_a_mistake_comes_back_only_across_sessions() -> None:
    episodes = [
        episode(1, "monday", ["E0382"]),
        episode(2, "monday", ["E0382"]),
        episode(3, "tuesday", ["E0382", "E0499"]),
        episode(4, "wednesday", []),
    ]
    known = metrics.Mistakes()
    assert [known.comes_back(episode) for episode in episodes] == [False, False, True, False]


def test_the_family_table_has_a_rate_per_report_and_none_where_nothing_was_measured() -> None:
    first, second = report({"a1": [P], "a2": [F], "b1": [I]}), report({"a1": [P], "a2": [P], "b1": [P]})
    assert metrics.family_table([first, second]) == (
        metrics.FamilyRow(family="a", tasks=2, rates=(0.5, 1.0)),
        metrics.FamilyRow(family="b", tasks=1, rates=(None, 1.0)),
    )
