"""What a study says of its cells, against hand-worked values, and the report that is written from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_data import BASE, TASKS, THEMES, cells, exported, passed, study

from sleepy_coder.adapter_manifest import model_sha256
from sleepy_coder.judge.study import course, estimate, find, goals, paired, remaining, rows
from sleepy_coder.judge.study_data import DAY_TASKS, SAMPLES, Cell, Trajectory
from sleepy_coder.nano import MODEL_DIR, careless_families
from sleepy_coder.report import words
from sleepy_coder.report.study import as_report, write_study
from sleepy_coder.report.study_page import study_markdown
from sleepy_coder.types import Outcome

HERO = Trajectory(recipe="rft-anchor", seed=0, gated=True)


def test_a_mean_over_seeds_has_students_interval() -> None:
    found = estimate([0.1, 0.2, 0.3])
    # t(0.975, 2) = 4.3027, standard deviation 0.1
    assert found.low is not None and found.high is not None
    assert (found.mean, found.n) == (pytest.approx(0.2), 3)
    assert found.high - found.mean == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_single_seed_has_no_interval() -> None:
    assert estimate([0.5]).low is None


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_mean_lies_in_its_interval(values: list[float]) -> None:
    found = estimate(values)
    assert found.low is not None and found.high is not None
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


def test_a_course_counts_from_the_baseline_and_backward_transfer_over_the_themes() -> None:
    # After cycle 1 all of theme 0 is passed; after cycle 2 one of it is lost again, and theme 1 is there.
    data = study(cells("rft-anchor", 0, True, ["one", "two"]), {"one": passed(5), "two": passed(9, 1)}, many=())
    found = course(data, HERO)
    assert found.rates == (0.4, 0.5, 0.9)
    assert found.gain == pytest.approx(0.5)
    assert (set(found.gained), set(found.lost)) == (passed(6, 4), passed(1))
    assert (found.acc, found.bwt) == (pytest.approx(0.9), pytest.approx(-0.2))
    assert found.forgetting == pytest.approx(0.2)
    assert (found.promoted, found.worse, found.train_seconds) == (2, (), 80.0)


def test_one_cycle_says_nothing_of_forgetting() -> None:
    found = course(study(cells("rft-anchor", 0, True, ["one"]), {"one": passed(5)}), HERO)
    assert (found.bwt, found.forgetting) == (None, None)


def test_passes_at_k_are_those_of_the_first_and_the_last_weights() -> None:
    served = cells("rft-anchor", 0, True, ["one", "two"])
    found = course(study(served, {"one": passed(5), "two": passed(6)}, many=(BASE, "two")), HERO)
    assert (found.k, found.pass_1, found.pass_k) == (2, (pytest.approx(0.7), pytest.approx(0.8)), (1.0, 1.0))
    assert course(study(served, {"one": passed(5), "two": passed(6)}), HERO).pass_k is None


def test_a_promotion_of_what_passes_less_is_told() -> None:
    data = study(cells("seed-plain", 0, True, ["one", "two"]), {"one": passed(6), "two": passed(5)})
    assert course(data, Trajectory(recipe="seed-plain", seed=0, gated=True)).worse == (2,)
    (goal,) = [goal for goal in goals(rows(data)) if "nothing is promoted" in goal.text]
    assert (goal.met, goal.numbers) == (False, "1 of 2 promotions")


def test_recipes_are_compared_seed_by_seed() -> None:
    found = [
        *cells("rft-anchor", 0, True, ["a6", "a8"]),
        *cells("rft-anchor", 1, True, ["a6", "a7"]),
        *cells("seed-plain", 0, True, ["a5", "a6"]),
        *cells("seed-plain", 1, True, ["a5", "a6"]),
    ]
    evals = {f"a{count}": passed(count) for count in range(5, 9)}
    both = rows(study(found, evals, seeds=(0, 1)))
    hero, plain = find(both, "rft-anchor", True), find(both, "seed-plain", True)
    assert hero and plain
    difference = paired(hero, plain)
    assert difference and (difference.mean, difference.n) == (pytest.approx(0.15), 2)


def test_a_trajectory_that_is_not_as_far_as_the_others_is_left_out_of_the_means() -> None:
    found = [*cells("sam", 0, False, ["a6", "a8"]), *cells("sam", 1, False, ["a6"])]
    (row,) = rows(study(found, {"a6": passed(6), "a8": passed(8)}, seeds=(0, 1)))
    assert (len(row.courses), row.final.mean) == (1, pytest.approx(0.8))


def full() -> list[Cell]:
    return [
        *cells("rft-anchor", 0, True, ["a5", "a6"]),
        *cells("rft-anchor", 0, False, ["a5", "a6"]),
        *cells("seed-plain", 0, True, ["a5", "a5"], ["promoted", "rejected"]),
        *cells("naive", 0, False, ["a3", "a2"]),
        *cells("hints-only", 0, False, ["a5", "a5"]),
        *cells("no-update", 0, False, [BASE, BASE]),
    ]


EVALS = {f"a{count}": passed(count) for count in range(2, 9)}


def test_the_goals_are_met_or_missed_by_what_was_measured() -> None:
    found = goals(rows(study(full(), EVALS)))
    assert [(goal.met, goal.numbers) for goal in found] == [
        (True, "+20.0"),
        (True, "+0.0"),
        (True, "+0.0"),
        (True, "+10.0"),
        (True, "+10.0"),
        (True, "+20.0"),
        (True, "\N{MINUS SIGN}20.0"),
        (True, "0 of 3 promotions"),
    ]


def word_of(*gains: int) -> str:
    """What is said of the first goal when each seed passes so many tasks more; there are ten."""
    served = [cells("rft-anchor", seed, True, [f"a{4 + gain}"] * 2) for seed, gain in enumerate(gains)]
    found = rows(study([cell for course in served for cell in course], EVALS, range(len(gains))))
    return goals(found)[0].word


def test_a_goal_is_proved_by_an_interval_and_neither_by_a_mean_nor_by_a_single_seed() -> None:
    assert word_of(1) == "met by the mean, not proved"
    assert word_of(4, 1) == "met by the mean, not proved"
    assert word_of(2, 2) == "met"
    assert word_of(0, 1) == "missed"


def test_a_goal_that_is_just_reached_is_not_missed_by_rounding() -> None:
    data = study(cells("rft-anchor", 0, True, ["a5", "a5"]), {**EVALS, BASE: passed(4), "a5": passed(5)})
    assert goals(rows(data))[0].met is True


def test_a_worse_promotion_of_a_trajectory_that_is_not_whole_counts() -> None:
    found = [*cells("rft-anchor", 0, True, ["a6", "a6"]), *cells("rft-anchor", 1, True, ["a2"])]
    (goal,) = [goal for goal in goals(rows(study(found, EVALS, (0, 1)))) if "nothing is promoted" in goal.text]
    assert (goal.met, goal.numbers) == (False, "1 of 3 promotions")


def test_the_distance_from_the_base_is_that_of_what_serves_and_not_of_what_was_turned_down() -> None:
    first, second = cells("rft-anchor", 0, True, ["a6", "a6"], ["promoted", "rejected"])
    far = second.model_copy(update={"kl": 0.5})
    assert course(study([first, far], EVALS), HERO).kl == 0.01
    assert course(study([far], EVALS), HERO).kl is None


def test_a_goal_without_its_recipes_is_not_said_to_be_met() -> None:
    assert {goal.met for goal in goals(rows(study(cells("sam", 0, False, ["a5"]), EVALS)))} == {None}


def test_what_is_left_is_told_by_cells_of_its_kind() -> None:
    done = [*cells("rft-anchor", 0, True, ["a5"]), *cells("no-update", 0, False, ["a5"])]
    assert remaining(done, [("rft-anchor", False), ("rft-anchor", True), ("no-update", False)]) == 121.0
    assert remaining(done, [("sam", True)]) == pytest.approx(30.5)
    assert remaining([], [("sam", True)]) is None


def test_the_report_is_written_from_the_data_alone_and_says_what_was_missed(tmp_path: Path) -> None:
    cells_ = [cell for cell in full() if cell.recipe != "naive"] + cells("naive", 0, False, ["a5", "a6"])
    files = write_study(exported(study(cells_, EVALS, many=(BASE, "a6"))), TASKS, tmp_path)
    assert {file.name for file in files} == {
        "results.md",
        "results.png",
        "study.json",
        "study-data.json.gz",
        "dashboard.html",
    }
    page = (tmp_path / "results.md").read_text()
    assert "| `naive` without a gate loses | **missed** | +20.0 |" in page
    assert "## The founding failure" in page and "SSR, ACL 2024" in page
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "study.json").read_text())["facts"]["frozen"] == len(TASKS)
    assert "sc-0001" in (tmp_path / "dashboard.html").read_text()


@pytest.mark.parametrize(
    ("halves", "option"),
    [((True,), " --only gated"), ((False,), " --only ungated"), ((True, False), "")],
)
def test_the_page_names_the_command_of_the_half_that_was_run(halves: tuple[bool, ...], option: str) -> None:
    half = [cell for gated in halves for cell in cells("rft-anchor", 0, gated, ["a5", "a6"])]
    data = study([*half, *cells("no-update", 0, False, [BASE, BASE])], EVALS)
    assert (
        f"--recipes rft-anchor,no-update --seeds 1 --cycles 2 --day-tasks 20 --samples 2{option} --out"
        in study_markdown(data, rows(data))
    )


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({"day_tasks": DAY_TASKS, "samples": SAMPLES}, "--seeds 1 --cycles 2 --only gated"),
        ({"day_tasks": 60, "samples": SAMPLES}, "--seeds 1 --cycles 2 --day-tasks 60 --only gated"),
        ({"day_tasks": DAY_TASKS, "samples": 8}, "--seeds 1 --cycles 2 --samples 8 --only gated"),
        ({"day_tasks": 60, "samples": 2, "quick": True}, "--quick --only gated"),
    ],
)
def test_the_page_names_the_command_of_the_size_that_was_run(facts: dict[str, object], options: str) -> None:
    data = study(cells("rft-anchor", 0, True, ["a5", "a6"]), EVALS)
    data = data.model_copy(update={"facts": data.facts.model_copy(update=facts)})
    assert f"`sleepy-coder study --recipes rft-anchor {options} --out docs`" in study_markdown(data, rows(data))


def test_the_dashboards_nights_have_all_three_arms_on_the_whole_set() -> None:
    data = study(full(), EVALS)
    shown = data.shown()
    assert shown == HERO
    report = as_report(data, shown, TASKS)
    assert [[arm.arm for arm in night.reports] for night in report.nights] == [["baseline", "current", "candidate"]] * 2
    assert {len(arm.samples) for night in report.nights for arm in night.reports} == {len(TASKS)}


def test_a_study_that_shows_more_tasks_than_its_gate_saw_says_so() -> None:
    data = study(full(), EVALS)
    shown = data.shown()
    assert shown
    nights = as_report(data, shown, TASKS).nights
    verdict = nights[0].verdict
    assert verdict and verdict.evidence
    few = tuple(found.model_copy(update={"tasks": 6}) for found in verdict.comparisons)
    ended = verdict.model_copy(
        update={"comparisons": few, "evidence": verdict.evidence.model_copy(update={"whole": False})}
    )
    told = words.sentences(nights[0].model_copy(update={"verdict": ended}), False)
    assert any("later measurement of all 10 tasks; the gate saw 6 of them." in sentence for sentence in told)
    assert not any("the gate saw" in sentence for sentence in words.sentences(nights[0], False))


def test_a_study_that_has_trained_nothing_yet_can_be_reported(tmp_path: Path) -> None:
    files = write_study(exported(study(cells("no-update", 0, False, [BASE]), {})), TASKS, tmp_path)
    assert "dashboard.html" not in {file.name for file in files}
    assert "No night was measured yet" in (tmp_path / "results.md").read_text()


def test_themes_cover_what_they_are_about() -> None:
    assert sorted(task for theme in THEMES for task in theme) == sorted(TASKS)


def test_passes_are_compared_at_as_many_samples_as_both_have() -> None:
    served = cells("rft-anchor", 0, True, ["one"])
    data = study(served, {"one": passed(5)}, many=(BASE,))
    once = data.evals["one"]
    found = course(data.model_copy(update={"many": {**data.many, "one": once}}), HERO)
    assert (found.k, found.pass_k) == (1, (pytest.approx(0.7), pytest.approx(0.5)))


def page(found: Sequence[Cell], **update: object) -> str:
    data = study(found, EVALS).model_copy(update=update)
    return study_markdown(data, rows(data))


def test_a_night_whose_candidate_the_gate_never_saw_is_not_counted_among_its_verdicts() -> None:
    first, second = cells("rft-anchor", 0, True, ["a6", "a6"], ["promoted", "inconclusive"])
    line = "| `rft-anchor` | 1 | {} | 0 | 0 | {} | {} | 0 |".format
    assert line(1, 0, 1) in page([first, second])
    assert line(0, 1, 0) in page([first, second.model_copy(update={"candidate": None})])


def test_what_the_gate_costs_is_told_seed_by_seed() -> None:
    both = [*cells("rft-anchor", 0, True, ["a5", "a5"]), *cells("rft-anchor", 0, False, ["a5", "a7"])]
    assert "| `rft-anchor` | 1 | +20.0 |" in page(both)
    assert "Without the gate \N{MINUS SIGN} with it" not in page(both[:2])


def test_the_page_says_where_the_gain_of_the_packaged_model_lies() -> None:
    habit = sorted(careless_families())[0]
    family = {f"k{number:02}": habit if number < 5 else "use_after_move" for number in range(10)}
    data = study(cells("rft-anchor", 0, True, ["a6", "a6"]), EVALS)
    evals = {
        key: report.model_copy(
            update={"samples": tuple(s.model_copy(update={"family": family[s.task_id]}) for s in report.samples)}
        )
        for key, report in data.evals.items()
    }
    base = model_sha256(MODEL_DIR)
    data = data.model_copy(
        update={"facts": data.facts.model_copy(update={"base": base}), "evals": {**evals, base: evals[BASE]}}
    )
    said = study_markdown(data, rows(data))
    assert "Taught a habit (5 tasks, the baseline passes 4) | Others (5 tasks, the baseline passes 0)" in said
    assert "| `rft-anchor` | yes | 1 | +1.0 | +1.0 |" in said
    assert "## Where the gain lies" not in page(cells("rft-anchor", 0, True, ["a6", "a6"]))


def test_the_page_says_what_its_numbers_do_not_share() -> None:
    found = cells("rft-anchor", 0, True, ["a6", "a6"])
    evals = study(found, EVALS).evals
    other = {"worse": evals["worse"].model_copy(update={"stack": "another rustc"})}
    assert "2 versions of the model's or the verifier's software" in page(found, evals={**evals, **other})
    first, *rest = evals["worse"].samples
    lost = evals["worse"].model_copy(update={"samples": (first.model_copy(update={"outcome": Outcome.INFRA}), *rest)})
    assert "1 answer could not be judged" in page(found, evals={**evals, "worse": lost})
    assert "Careful" not in page(found)


def test_the_page_says_by_which_states_of_the_code_the_nights_were_run() -> None:
    first, second = cells("rft-anchor", 0, True, ["a6", "a6"])
    assert "by 1 night by one that was not recorded" not in page([first, second])
    assert "by 2 nights by one that was not recorded" in page([first, second])
    coded = [first.model_copy(update={"code": "a"}), second]
    assert "by 1 state of the code, 1 night by one that was not recorded" in page(coded)
