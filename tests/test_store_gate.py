"""What the gate spends and says cannot be taken back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_gate import broken_links, renews

PROGRAMS = [f"p{i}" for i in range(10)]
ONE, THREE = [0.05], [0.03, 0.01, 0.01]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def test_an_opening_is_charged_once_a_night_also_after_a_restart(store: Store, path: Path) -> None:
    first = store.open_gate(1, "a", PROGRAMS, THREE)
    assert (first.epoch, first.number, first.charged) == (1, 1, True)
    with Store(path) as again:
        assert again.open_gate(1, "a", PROGRAMS, THREE) == first
        assert again.open_gate(2, "b", PROGRAMS, THREE).number == 2
        assert again.openings_used() == (1, 2)


def test_a_night_cannot_look_at_a_second_candidate(store: Store) -> None:
    store.open_gate(1, "a", PROGRAMS, THREE)
    with pytest.raises(StoreError, match="another candidate"):
        store.open_gate(1, "b", PROGRAMS, THREE)


def test_after_the_last_opening_nothing_is_charged_and_the_night_is_told_so(store: Store) -> None:
    opened = [store.open_gate(cycle, "a", PROGRAMS, [0.001] * 50) for cycle in range(1, 53)]
    assert [o.charged for o in opened] == [True] * 50 + [False] * 2
    assert opened[-1].number == 51
    assert store.openings_used() == (1, 50)


def test_a_policy_that_is_changed_within_an_epoch_spends_no_more_than_the_epoch_began_with(store: Store) -> None:
    for cycle in range(1, 6):
        store.open_gate(cycle, "a", PROGRAMS, [0.005] * 10)
    dearer = [0.01] * 10
    assert [store.open_gate(cycle, "a", PROGRAMS, dearer).charged for cycle in range(6, 10)] == [
        True,
        True,
        False,
        False,
    ]
    assert not store.open_gate(10, "a", PROGRAMS, [0.001] * 5).charged


def test_a_set_with_half_of_its_programs_replaced_begins_a_new_epoch_and_less_does_not(store: Store) -> None:
    store.open_gate(1, "a", PROGRAMS, ONE)
    fewer = [*PROGRAMS[4:], "n1", "n2", "n3", "n4"]
    assert not store.open_gate(2, "b", fewer, ONE).charged
    renewed = [*PROGRAMS[5:], "n1", "n2", "n3", "n4", "n5"]
    assert store.open_gate(2, "b", renewed, ONE).epoch == 2
    assert not renews([PROGRAMS], PROGRAMS[5:])
    assert renews([PROGRAMS], ["n1", "n2"])
    assert not renews([PROGRAMS, ["n1", "n2"]], PROGRAMS)


def test_a_set_that_has_judged_before_begins_no_epoch(store: Store) -> None:
    assert store.begins_epoch(PROGRAMS)
    store.open_gate(1, "a", PROGRAMS, ONE)
    store.open_gate(2, "b", ["n1", "n2"], ONE)
    assert not store.begins_epoch(PROGRAMS)
    assert not store.open_gate(3, "c", PROGRAMS, ONE).charged
    assert store.begins_epoch(["m1", "m2"])


def test_verdicts_are_a_chain_in_which_each_hash_covers_the_one_before(store: Store) -> None:
    one, two = store.append_verdict(1, "{}"), store.append_verdict(2, '{"a": 1}')
    assert two.previous == one.sha256
    assert store.append_verdict(2, '{"a": 1}') == two
    assert store.verdicts() == (one, two)
    assert broken_links(store.verdicts()) == ()


def test_a_night_keeps_the_verdict_that_it_has(store: Store) -> None:
    store.append_verdict(1, "{}")
    with pytest.raises(StoreError, match="has a verdict already"):
        store.append_verdict(1, "[]")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gate_verdicts SET payload = 'better'",
        "DELETE FROM gate_verdicts",
        "INSERT OR REPLACE INTO gate_verdicts VALUES (1, 1, 'better', '', '')",
        "INSERT OR REPLACE INTO gate_verdicts VALUES (9, 1, 'better', '', '')",
        "DELETE FROM gate_openings",
        "UPDATE gate_openings SET spends = 0",
        "INSERT OR REPLACE INTO gate_openings VALUES (1, 1, 1, 'a', 0)",
        "UPDATE gate_epochs SET alpha = 1",
        "DELETE FROM gate_epochs",
    ],
)
def test_sqlite_itself_refuses_to_change_or_delete_them(store: Store, path: Path, statement: str) -> None:
    store.open_gate(1, "a", PROGRAMS, THREE)
    store.append_verdict(1, "{}")
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)


def test_a_verdict_that_is_changed_behind_sqlites_back_breaks_the_chain(store: Store, path: Path) -> None:
    for cycle in (1, 2, 3):
        store.append_verdict(cycle, f'{{"night": {cycle}}}')
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER gate_verdicts_no_update")
        other.execute("UPDATE gate_verdicts SET payload = '{}' WHERE cycle = 2")
        other.commit()
    assert broken_links(store.verdicts()) == (2,)
    assert broken_links(store.verdicts()[1:]) == (2,)
