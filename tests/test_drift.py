"""Has the baseline drifted? Chance alone seldom says so; a shift and a reshuffle are seen."""

from __future__ import annotations

import numpy as np

from sleepy_coder.judge.drift import drifted
from sleepy_coder.types import EvalReport, Outcome, Sample

TASKS = 40


def report(chances: np.ndarray, samples: int, seed: int) -> EvalReport:
    passed = np.random.default_rng(seed).random((len(chances), samples)) < chances[:, None]
    return EvalReport(
        model="m",
        arm="other",
        weights_sha256="w",
        set_id="s",
        stack="k",
        seconds=1.0,
        samples=tuple(
            Sample(
                task_id=f"t{task:03d}",
                family="f",
                index=i,
                seed=i,
                outcome=Outcome.PASS if passed[task, i] else Outcome.FAIL,
                served_by="m",
            )
            for task in range(len(chances))
            for i in range(samples)
        ),
    )


def chances(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(1.5, 0.6, TASKS)


def test_a_base_that_has_not_changed_is_seldom_measured_again_for_nothing() -> None:
    alarms = sum(drifted(report(chances(n), 8, n), report(chances(n), 4, 1000 + n), greedy=False) for n in range(200))
    assert alarms <= 8


def test_a_shift_of_all_tasks_is_seen() -> None:
    seen = sum(
        drifted(report(chances(n), 8, n), report(chances(n) * 0.6, 4, 1000 + n), greedy=False) for n in range(30)
    )
    assert seen >= 28


def test_tasks_that_trade_places_are_seen_though_as_many_pass() -> None:
    seen = sum(
        drifted(report(chances(n), 8, n), report(chances(n)[::-1].copy(), 4, 1000 + n), greedy=False) for n in range(30)
    )
    assert seen >= 28


def test_greedy_answers_have_to_be_the_same_and_a_failure_of_the_machine_is_a_difference() -> None:
    before = report(chances(1), 1, 1)
    assert not drifted(before, before, greedy=True)
    first = before.samples[0]
    other = Outcome.FAIL if first.outcome is Outcome.PASS else Outcome.PASS
    for outcome, greedy in ((other, True), (Outcome.INFRA, True), (Outcome.INFRA, False)):
        changed = (first.model_copy(update={"outcome": outcome}), *before.samples[1:])
        assert drifted(before, before.model_copy(update={"samples": changed}), greedy=greedy)
