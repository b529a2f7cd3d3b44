"""The training mix: its shares, where its rows come from, and that failures never get in."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
from fakes import make_episode, make_rows, make_task, passed_examples
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.config import MixSettings
from sleepy_coder.learn.mix import REPEATS, Listed, Pool, compose
from sleepy_coder.types import ExampleKind, Outcome

PASS, FAIL, INFRA = Outcome.PASS, Outcome.FAIL, Outcome.INFRA
SHARES = {"replay": 0.44, "passed": 0.42, "hard": 0.14}
SETTINGS = MixSettings()
KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)
SIZES = st.fixed_dictionaries({kind: st.integers(10 if kind == "hard" else 1, 120) for kind in KINDS})


def pools(**sizes: int) -> dict[ExampleKind, Pool]:
    return {kind: Listed(make_rows(kind, sizes.get(kind, 0))) for kind in KINDS}


def of_any_size(most: int) -> MixSettings:
    """A mix of one row is worth a night."""
    return MixSettings(max_examples=most, min_examples=1)


@given(SIZES, st.integers(8, 420))
def test_the_shares_are_met_to_rounding_whenever_no_pool_is_empty(sizes: dict[str, int], most: int) -> None:
    mix = compose(pools(**sizes), of_any_size(most), 1)
    assert sum(mix.counts.values()) == len(mix.examples)
    assert all(abs(mix.counts[kind] - SHARES[kind] * len(mix.examples)) < 1 for kind in KINDS)


@given(SIZES, st.integers(8, 420))
def test_a_mix_is_as_large_as_its_scarcest_pool_and_the_limit_allow(sizes: dict[str, int], most: int) -> None:
    mix = compose(pools(**sizes), of_any_size(most), 1)
    room = min(sizes[kind] * REPEATS[kind] / SHARES[kind] for kind in ("replay", "passed"))
    assert min(most, room) - 1 <= len(mix.examples) <= most


def test_a_few_hard_rows_do_not_hold_the_others_back_and_the_mix_says_so() -> None:
    mix = compose(pools(replay=160, passed=160, hard=1), SETTINGS, 1)
    assert mix.counts["hard"] == REPEATS["hard"]
    assert len(mix.examples) > 300
    assert any("no more hard rows" in note for note in mix.notes)


@given(SIZES, st.integers(24, 420))
def test_a_mix_that_is_worth_a_night_keeps_its_shares(sizes: dict[str, int], most: int) -> None:
    asked = compose(pools(**sizes), of_any_size(most), 1)
    mix = compose(pools(**sizes), MixSettings(max_examples=most), 1)
    assert mix == asked or len(asked.examples) < SETTINGS.min_examples


@pytest.mark.parametrize(
    ("scarce", "sizes", "rows"),
    [
        ("passed", {"replay": 300, "passed": 3, "hard": 48}, 395 + 3),
        ("replay", {"replay": 8, "passed": 200, "hard": 48}, 266 + 8),
        ("replay", {"replay": 8, "passed": 0, "hard": 48}, 192 + 8),
    ],
)
def test_a_few_rows_of_a_kind_are_not_worse_than_none_and_the_mix_says_so(
    scarce: Literal["replay", "passed"], sizes: dict[str, int], rows: int
) -> None:
    mix = compose(pools(**sizes), SETTINGS, 1)
    assert len(mix.examples) == rows
    assert mix.counts[scarce] == sizes[scarce]
    assert mix.shares[scarce] == pytest.approx(sizes[scarce] / rows, abs=1e-4)
    note = f"too few {scarce} rows for a night in these shares: what is missing of theirs goes to the others"
    assert note in mix.notes


@given(st.fixed_dictionaries({kind: st.integers(1, 60) for kind in KINDS}), st.sampled_from(KINDS))
def test_more_rows_never_turn_a_night_into_a_skipped_one(sizes: dict[str, int], kind: ExampleKind) -> None:
    without = compose(pools(**{**sizes, kind: 0}), SETTINGS, 1)
    if len(without.examples) >= SETTINGS.min_examples:
        assert len(compose(pools(**sizes), SETTINGS, 1).examples) >= SETTINGS.min_examples


def test_a_little_that_is_new_does_not_drown_in_replay() -> None:
    assert len(compose(pools(replay=300, passed=3), SETTINGS, 1).examples) < SETTINGS.min_examples


@given(SIZES)
def test_only_hard_rows_are_repeated_and_at_most_four_times(sizes: dict[str, int]) -> None:
    mix = compose(pools(**sizes), SETTINGS, 1)
    for kind in KINDS:
        rows = [row.provenance for row in mix.examples if row.kind == kind]
        assert all(rows.count(row) <= (4 if kind == "hard" else 1) for row in rows)


@pytest.mark.parametrize(
    ("empty", "shares"),
    [
        ("replay", {"replay": 0.0, "passed": 0.75, "hard": 0.25}),
        ("passed", {"replay": 0.7586, "passed": 0.0, "hard": 0.2414}),
        ("hard", {"replay": 0.5116, "passed": 0.4884, "hard": 0.0}),
    ],
)
def test_an_empty_pool_gives_its_share_to_the_others_and_says_so(
    empty: Literal["replay", "passed", "hard"], shares: dict[str, float]
) -> None:
    mix = compose(pools(**{kind: 400 for kind in KINDS if kind != empty}), SETTINGS, 1)
    assert mix.shares == pytest.approx(shares, abs=1 / len(mix.examples))
    assert f"no {empty} rows tonight: their share of {SHARES[empty]:.0%} goes to the others" in mix.notes


def test_a_kind_that_is_not_wanted_is_not_missed() -> None:
    mix = compose(pools(replay=40, passed=40), MixSettings(replay=0.5, passed=0.5, hard=0.0), 1)
    assert mix.shares == {"replay": 0.5, "passed": 0.5, "hard": 0.0}
    assert not [note for note in mix.notes if "hard" in note]


def test_replay_alone_is_no_mix() -> None:
    mix = compose(pools(replay=50), SETTINGS, 1, ["a note"])
    assert mix.examples == ()
    assert mix.notes == ("a note", "a verifier passed nothing new and no hard task has an answer")


def test_the_same_seed_gives_the_same_mix_and_another_seed_another_one() -> None:
    many = pools(replay=100, passed=100, hard=100)
    limited = MixSettings(max_examples=50)
    assert compose(many, limited, 3) == compose(many, limited, 3)
    assert compose(many, limited, 3).sha256 != compose(many, limited, 4).sha256


def test_the_hash_of_a_mix_changes_with_any_row() -> None:
    rows = make_rows("passed", 5)
    one: dict[ExampleKind, Pool] = {"passed": Listed(rows)}
    changed = rows[4].model_copy(update={"completion": "1|other"})
    other: dict[ExampleKind, Pool] = {"passed": Listed([*rows[:4], changed])}
    assert compose(one, SETTINGS, 1).sha256 != compose(other, SETTINGS, 1).sha256


def test_a_heavy_row_is_chosen_before_a_light_one() -> None:
    rows = make_rows("passed", 40)
    weighted = [row.model_copy(update={"weight": 100.0 if i < 8 else 0.01}) for i, row in enumerate(rows)]
    limited = MixSettings(replay=0, passed=1, hard=0, max_examples=8)
    mix = compose({"passed": Listed(weighted)}, limited, 1)
    assert {row.task_id for row in mix.examples} == {f"passed-{i}" for i in range(8)}


def test_a_late_success_is_paired_with_the_first_prompt() -> None:
    episode = make_episode(1, FAIL, FAIL, PASS)
    (row,) = passed_examples([episode], per_task=4)
    assert row.messages == episode.attempts[0].messages
    assert row.completion == episode.attempts[2].completion
    assert (row.kind, row.task_id, row.provenance) == ("passed", make_task(1).id, "e1")


@pytest.mark.parametrize("source", ["exit-code", "feedback", "user", ""])
def test_only_outcomes_of_a_verifier_train(source: str) -> None:
    assert passed_examples([make_episode(1, PASS, source=source)], per_task=4) == []


OUTCOMES = st.lists(st.sampled_from([FAIL, INFRA]), max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), OUTCOMES, st.sampled_from(list(Outcome))), max_size=30), st.integers(1, 3))
def test_failed_output_never_becomes_a_row(days: list[tuple[int, list[Outcome], Outcome]], per_task: int) -> None:
    episodes = [make_episode(n, *before, last, name=str(i)) for i, (n, before, last) in enumerate(days)]
    rows = passed_examples(episodes, per_task)
    green = {a.completion for e in episodes for a in e.attempts if a.verdict.passed}
    assert {row.completion for row in rows} <= green
    assert all(sum(row.task_id == other.task_id for other in rows) <= per_task for row in rows)
    assert {row.task_id for row in rows} == {make_task(n).id for n, _, last in days if last is PASS}


def test_an_episode_that_claims_a_pass_its_last_attempt_does_not_have_gives_no_row() -> None:
    lie = make_episode(1, FAIL).model_copy(update={"outcome": PASS})
    assert passed_examples([lie], per_task=4) == []


def test_an_episode_without_attempts_gives_no_row() -> None:
    hollow = make_episode(1, PASS).model_copy(update={"attempts": ()})
    assert passed_examples([hollow], per_task=4) == []


def test_equal_answers_to_a_task_count_once() -> None:
    twice = [make_episode(1, PASS), make_episode(1, PASS).model_copy(update={"id": "other"})]
    assert len(passed_examples(twice, per_task=4)) == 1


def test_tasks_passed_sometimes_weigh_most_and_none_weighs_nothing() -> None:
    always = make_episode(1, PASS)
    half = make_episode(2, FAIL, PASS)
    weight = {row.task_id: row.weight for row in passed_examples([always, half], per_task=4)}
    assert weight == {make_task(1).id: 0.2, make_task(2).id: 0.5}


def test_a_failure_of_the_machine_does_not_change_a_tasks_pass_rate() -> None:
    episodes = [make_episode(1, PASS), make_episode(1, INFRA, name="broken")]
    (row,) = passed_examples(episodes, per_task=4)
    assert row.weight == 0.2
