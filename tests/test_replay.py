"""Replay: each family gets its turn, half goes by surprise, and the user's own rows come first."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fakes import FakeServer, make_rows, solver
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.errors import ContextTooLong
from sleepy_coder.learn.recipes import Replay
from sleepy_coder.learn.replay import by_turns, replay_pool
from sleepy_coder.learn.surprise import MOST, measure_surprise
from sleepy_coder.store_rows import example_hash
from sleepy_coder.types import Example, Message

FAMILIES = st.lists(st.integers(0, 4), max_size=60)


def rows_of(families: list[int]) -> list[Example]:
    rows = make_rows("replay", len(families))
    return [row.model_copy(update={"family": f"f{name}"}) for row, name in zip(rows, families, strict=True)]


def told(rows: list[Example]) -> dict[str, float]:
    """The later a row, the more it surprises."""
    return {example_hash(row): float(number) for number, row in enumerate(rows)}


@given(FAMILIES, st.integers(0, 60), st.integers(0, 9))
def test_every_family_has_as_many_places_as_the_others_unless_it_has_no_more_rows(
    families: list[int], count: int, seed: int
) -> None:
    rows = rows_of(families)
    chosen = Counter(row.family for row in by_turns(rows, told(rows), random.Random(seed))[:count])
    there = Counter(row.family for row in rows)
    most = max(chosen.values(), default=0)
    assert all(chosen[name] >= min(most - 1, there[name]) for name in there)


@given(FAMILIES, st.integers(0, 9))
def test_all_rows_come_each_once(families: list[int], seed: int) -> None:
    rows = rows_of(families)
    ordered = by_turns(rows, told(rows), random.Random(seed))
    assert sorted(row.provenance for row in ordered) == sorted(row.provenance for row in rows)


@given(st.integers(2, 60), st.integers(0, 9))
def test_half_of_a_familys_rows_are_its_most_surprising_ones(count: int, seed: int) -> None:
    rows = rows_of([0] * 60)
    chosen = by_turns(rows, told(rows), random.Random(seed))[:count]
    assert set(chosen) >= set(rows[-(count // 2) :])


def test_what_was_not_measured_can_only_be_drawn_at_random() -> None:
    rows = rows_of([0] * 30)
    measured = {example_hash(rows[4]): 0.1}
    orders = [by_turns(rows, measured, random.Random(seed)) for seed in range(5)]
    assert all(order[0] is rows[4] for order in orders)
    assert len({tuple(row.provenance for row in order[1:4]) for order in orders}) > 1


@pytest.mark.parametrize(("how", "kept"), [("anchors", False), ("buffer", True), ("surprise", True)])
def test_a_recipe_that_replays_anchors_alone_leaves_earlier_rows_out(how: Replay, kept: bool) -> None:
    anchors, earlier = rows_of([0, 1])[:1], rows_of([0, 1])[1:]
    pool = replay_pool(how, (), anchors, earlier, {}, 1)
    assert (earlier[0].provenance in {row.provenance for row in pool.rows(range(len(pool)))}) == kept


def test_without_surprise_a_large_family_weighs_as_much_as_a_small_one() -> None:
    pool = replay_pool("buffer", (), rows_of([0] * 9 + [1]), (), {}, 1)
    weights = Counter[str]()
    for row in pool.rows(range(len(pool))):
        weights[row.family] += row.weight
    assert weights["f0"] == pytest.approx(weights["f1"])


def test_of_more_own_rows_than_fit_other_nights_draw_others() -> None:
    own = make_rows("passed", 30)
    first = {replay_pool("anchors", own, (), (), {}, seed).rows([0])[0].provenance for seed in range(5)}
    assert len(first) > 1


@pytest.mark.parametrize("how", ["anchors", "buffer", "surprise"])
def test_the_users_own_rows_are_replayed_whole_before_all_others(how: Replay) -> None:
    own, anchors = make_rows("passed", 9), make_rows("replay", 30)
    pool = replay_pool(how, own, anchors, (), {}, 1)
    chosen = pool.rows(pool.draw(12, random.Random(0)))
    assert {row.provenance for row in chosen[:9]} == {row.provenance for row in own}


def test_surprise_is_what_the_server_says_of_each_row() -> None:
    server, rows = FakeServer(solver([])), rows_of([0, 1, 2])
    found = measure_surprise(rows, "sleepy-base", server, 2, 1).nll
    assert found == {example_hash(r): server.nll("sleepy-base", r.messages, r.completion) for r in rows}


def test_no_more_rows_are_asked_about_than_a_night_has_time_for_and_conversations_with_tools_are_not() -> None:
    many = make_rows("replay", MOST + 5)
    tools = many[0].model_copy(update={"tools": "[]", "provenance": "tools"})
    found = measure_surprise([*many[1:], tools], "sleepy-base", FakeServer(solver([])), 4, 1).nll
    assert len(found) == MOST
    assert example_hash(tools) not in found


def test_each_night_asks_about_other_rows() -> None:
    many = make_rows("replay", MOST + 100)
    one, other = (measure_surprise(many, "sleepy-base", FakeServer(solver([])), 4, seed).nll for seed in (1, 2))
    assert one.keys() != other.keys()


def test_a_conversation_is_not_asked_about_as_if_it_were_one_answer() -> None:
    talk = rows_of([0])[0].model_copy(update={"first_turn": 0})
    assert measure_surprise([talk], "sleepy-base", FakeServer(solver([])), 1, 1).nll == {}


class Short(FakeServer):
    """A server with hardly any context."""

    def nll(self, model: str, messages: tuple[Message, ...], completion: str) -> float:  # pyright: ignore
        raise ContextTooLong("too long", "send less")


def test_a_row_beyond_the_servers_context_is_not_measured() -> None:
    assert measure_surprise(rows_of([0]), "sleepy-base", Short(solver([])), 1, 1).nll == {}
