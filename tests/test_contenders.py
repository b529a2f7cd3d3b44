"""What is held out, when training stops, what may be served, and which of it is worth the gate's time: pure rules."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from fakes import make_rows
from hypothesis import given
from hypothesis import strategies as st
from test_registry import lora, write_trained

from sleepy_coder.adapter_manifest import CONFIG, WEIGHTS
from sleepy_coder.config import RecipeSettings
from sleepy_coder.judge.choice import ENOUGH, best_first, finalists, ruling
from sleepy_coder.learn.contenders import SCALES, contenders, scaled
from sleepy_coder.learn.held_out import MOST_HELD_OUT, PROBED, held_out, probe
from sleepy_coder.learn.outputs import AVERAGE, OUTPUT, Probe, Training, checkpoint_folder, reason_to_stop
from sleepy_coder.learn.rebase import rebase_due
from sleepy_coder.learn.recipes import RECIPES, recipe_for
from sleepy_coder.types import OWN, Contender, NightReport, Recipe

SHARES = st.floats(0, 0.5)


# Rows that measure


@given(st.integers(1, 300), SHARES)
def test_what_is_held_out_is_a_share_of_the_tasks_that_leaves_something_to_learn(count: int, share: float) -> None:
    examples = make_rows("passed", count)
    out = held_out(examples, share)
    assert len(out) <= MOST_HELD_OUT
    assert len(out) < count
    assert not held_out(examples, 0)


@given(st.integers(1, 100), SHARES)
def test_a_task_that_is_held_out_is_so_in_every_row_and_whatever_else_there_is(count: int, share: float) -> None:
    examples = make_rows("passed", count)
    twice = [*examples, *reversed(examples)]
    chosen = {examples[i].task_id for i in held_out(examples, share)}
    assert {twice[i].task_id for i in held_out(twice, share)} == chosen
    assert len(held_out(twice, share)) == 2 * len(chosen)
    fewer = examples[: count // 2]
    left = {fewer[i].task_id for i in held_out(fewer, share)}
    assert left in (chosen & {row.task_id for row in fewer}, set()) or len(chosen) == MOST_HELD_OUT


def test_anchors_are_probed_and_never_held_out() -> None:
    anchors = [row.model_copy(update={"anchor": True}) for row in make_rows("replay", 20)]
    examples = [*make_rows("passed", 40), *anchors]
    assert not any(examples[i].anchor for i in held_out(examples, 0.5))
    assert len(probe(examples)) == PROBED
    assert all(examples[i].anchor for i in probe(examples))
    assert {examples[i].task_id for i in probe(examples)} == {anchors[i].task_id for i in probe(anchors)}


def test_the_users_own_rows_are_never_held_out() -> None:
    own = [row.model_copy(update={"family": OWN}) for row in make_rows("replay", 100)]
    examples = [*make_rows("passed", 40), *own]
    out = held_out(examples, 0.5)
    assert out and not any(examples[i].family == OWN for i in out)


# Stopping


def at(step: int, nll: float | None, kl: float | None = 0.0) -> Probe:
    return Probe(folder=checkpoint_folder(step), step=step, nll=nll, kl=kl)


@given(st.floats(0, 10), st.floats(0, 10))
def test_training_stops_above_the_limit_of_its_distance_to_the_base(kl: float, limit: float) -> None:
    assert bool(reason_to_stop([at(5, None, kl)], limit)) == (0 < limit < kl)


def test_nothing_that_was_not_measured_stops_training() -> None:
    assert not reason_to_stop([], 0.1)
    assert not reason_to_stop([at(1, None, None), at(2, None, None), at(3, None, None)], 0.1)


def test_a_rising_held_out_loss_stops_nothing_because_it_does_not_tell_what_passes() -> None:
    assert not reason_to_stop([at(1, 0.1), at(2, 0.2), at(3, 0.4)], 0.1)


# Contenders


def test_the_output_the_last_checkpoint_and_the_one_that_loses_least_on_held_out_rows_contend_at_each_scale() -> None:
    probes = (at(9, 0.5), at(18, 0.2), at(27, 0.3), at(36, 0.4), at(45, 0.6))
    average = Probe(folder=AVERAGE, step=45, nll=0.4, kl=0.1)
    found = contenders(Training(steps=45, probes=(*probes, average)), 0)
    assert [(one.weights, one.scale) for one in found] == [
        (folder, scale) for folder in (OUTPUT, checkpoint_folder(45), checkpoint_folder(18)) for scale in SCALES
    ]
    assert found[0].kl == 0.1


def test_a_checkpoint_too_far_from_the_base_does_not_contend() -> None:
    found = contenders(Training(steps=30, probes=(at(10, 0.5), at(20, 0.1, kl=2.0), at(30, 0.4))), 1.0)
    assert checkpoint_folder(20) not in {one.weights for one in found}


@pytest.mark.parametrize(("kl", "scales"), [(0.9, SCALES), (1.5, SCALES[1:]), (30.0, SCALES[-1:])])
def test_an_average_too_far_from_the_base_contends_where_its_scale_brings_it_near(
    kl: float, scales: tuple[float, ...]
) -> None:
    training = Training(steps=10, probes=(Probe(folder=AVERAGE, step=10, nll=None, kl=kl),))
    assert tuple(one.scale for one in contenders(training, 1.0)) == scales


def test_without_an_average_the_last_checkpoint_does_not_contend_with_itself() -> None:
    found = contenders(Training(steps=20, probes=(at(10, 0.5), at(20, 0.1))), 0)
    assert {one.weights for one in found} == {OUTPUT, checkpoint_folder(10)}


def test_without_an_average_and_with_a_last_checkpoint_that_is_too_far_the_one_before_contends() -> None:
    found = contenders(Training(steps=20, probes=(at(10, 0.5), at(20, 0.1, kl=2.0))), 1.0)
    assert {one.weights for one in found} == {OUTPUT, checkpoint_folder(10)}


def test_a_contender_is_copied_where_another_file_system_takes_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link", str(target))

    monkeypatch.setattr(Path, "hardlink_to", other_disk)
    trained = tmp_path / "trained"
    write_trained(trained, lora(1))
    out = scaled(trained, 0.5, tmp_path / "out")
    assert (out / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    assert json.loads((out / CONFIG).read_text())["lora_alpha"] == 4


# The ruling


def result(passed: int, of: int = 96, scale: float = 1.0, kl: float | None = None) -> Contender:
    """Passes the first `passed` of the tasks."""
    names = tuple(f"t{i}" for i in range(of))
    return Contender(weights=OUTPUT, scale=scale, kl=kl, passed=names[:passed], failed=names[passed:])


@given(st.lists(st.tuples(st.integers(0, 32), st.sampled_from(SCALES)), min_size=1, max_size=12))
def test_a_third_goes_on_and_nothing_better_is_left_behind(drawn: list[tuple[int, float]]) -> None:
    found = [result(passed, 32, scale) for passed, scale in drawn]
    last = finalists(found)
    assert len(last) == -(-len(found) // 3)
    assert max(one.rate for one in found) == last[0].rate
    assert best_first(found)[0].rate == last[0].rate


def test_of_equals_the_smaller_scale_and_then_the_smaller_distance_comes_first() -> None:
    found = [result(9, kl=0.1), result(9, scale=0.5, kl=0.3), result(9, scale=0.5, kl=0.2), result(8, scale=0.25)]
    assert best_first(found) == (found[2], found[1], found[0], found[3])


@given(st.integers(0, 96), st.integers(0, 96), st.integers(0, 96))
def test_nothing_goes_to_the_gate_that_does_not_gain_or_whose_full_update_does_clear_harm(
    best: int, whole: int, served: int
) -> None:
    said, reason = ruling(result(best), result(whole), result(served))
    harm = whole <= served - 7  # 2**-7 is the first below 1%
    assert said == ("harm" if harm else "no gain" if best <= served else "go")
    assert (reason == "") == (said == "go")


@given(st.integers(0, ENOUGH - 1))
def test_too_few_dev_tasks_rule_nothing_out(count: int) -> None:
    assert ruling(result(0, count), result(0, count), result(count, count))[0] == "go"


def test_what_the_machine_failed_counts_for_neither() -> None:
    lost = result(0).model_copy(update={"failed": ()})
    assert ruling(lost, lost, result(90)) == ("go", "")


# Starting afresh

Ended = Literal["promoted", "rejected", "inconclusive", "skipped"]
SETTINGS = RecipeSettings()


def recipe(rebase: bool) -> Recipe:
    return recipe_for(SETTINGS, 100, 0, 128, 1024, 0, rebase)


def night(outcome: Ended, rebase: bool = False) -> NightReport:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    return NightReport(
        cycle=1,
        started=moment,
        finished=moment,
        outcome=outcome,
        reason="",
        phases=(),
        shares={},
        counts={},
        notes=(),
        recipe=None if outcome == "skipped" else recipe(rebase),
        steps=1,
        candidate=None,
        serving="s",
        reports=(),
        verdict=None,
    )


def test_a_night_starts_afresh_after_seven_accepted_ones_or_two_rejections_in_a_row() -> None:
    assert not rebase_due(6, [], SETTINGS)
    assert rebase_due(7, [], SETTINGS)
    assert rebase_due(0, [night("promoted"), night("rejected"), night("skipped"), night("rejected")], SETTINGS)
    assert not rebase_due(0, [night("rejected"), night("inconclusive"), night("rejected")], SETTINGS)


def test_a_fresh_start_that_failed_is_not_tried_again_at_once() -> None:
    assert not rebase_due(9, [night("rejected"), night("rejected"), night("rejected", rebase=True)], SETTINGS)
    assert not rebase_due(9, [night("rejected", rebase=True), night("rejected")], SETTINGS)
    assert rebase_due(9, [night("rejected", rebase=True), night("rejected"), night("rejected")], SETTINGS)
    assert rebase_due(9, [night("rejected", rebase=True), *[night("inconclusive")] * 7], SETTINGS)


def test_a_fresh_start_learns_at_the_first_rate_and_may_take_more_steps() -> None:
    later = recipe_for(SETTINGS, 1400, 7, 128, 1024, 0)
    fresh = recipe_for(SETTINGS, 1400, 7, 128, 1024, 0, rebase=True)
    assert (fresh.rebase, fresh.learning_rate, fresh.steps) == (True, SETTINGS.learning_rate, 263)
    assert later.learning_rate < fresh.learning_rate
    assert later.steps == SETTINGS.max_steps


def test_checkpoints_are_kept_at_each_fifth_of_the_steps_by_the_recipe_that_chooses() -> None:
    assert recipe_for(SETTINGS, 10_000, 0, 128, 1024, 0).checkpoints == (20, 40, 60, 80, 100)
    for name, spec in RECIPES.items():
        one = recipe_for(RecipeSettings(name=name), 100, 0, 128, 1024, 0)
        assert bool(one.checkpoints) == spec.choose
        assert one.rebase == (not spec.warm)
