"""The store chooses what a night works with: the first failures, the different passes, and only unused ones."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import make_episode, make_task

from sleepy_coder.dialogue import first_messages
from sleepy_coder.store import Store
from sleepy_coder.store_practice import _FIXES, Waiting  # pyright: ignore[reportPrivateUsage]
from sleepy_coder.types import Episode, Outcome

PASS, FAIL = Outcome.PASS, Outcome.FAIL
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "day.py"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        yield opened


def positions(store: Store, until: int | None = None) -> list[int]:
    return list(store.answers(store.position() if until is None else until, per_task=2).positions)


def test_the_first_different_answers_of_each_task_are_chosen_in_their_order(store: Store) -> None:
    names = [(3, "a"), (1, "a"), (1, "b"), (1, "c"), (3, "b")]
    store.save_episodes(make_episode(number, PASS, name=name) for number, name in names)
    assert positions(store) == [1, 2, 3, 5]
    assert positions(store, until=2) == [1, 2]


def test_what_a_night_used_up_is_not_chosen_again(store: Store) -> None:
    store.save_episodes(make_episode(number, outcome) for number, outcome in enumerate((PASS, PASS, FAIL, FAIL)))
    store.use_up(1, store.position(), PASS, [make_task(0).id])
    assert positions(store) == [2]
    store.use_up_all(1, store.position(), PASS)
    assert positions(store) == []
    assert store.count_episodes(unused=True) == 2


def test_the_tasks_that_failed_first_are_dreamed_about_but_not_those_that_rest_or_cannot_be_asked(
    store: Store,
) -> None:
    failed = [make_episode(number, FAIL) for number in (4, 1, 2, 3, 5)]
    store.save_episodes([unasked(failed[0]), *failed[1:], make_episode(1, FAIL, name="again")])
    store.park(make_task(2).id, cycle=1)
    found = store.failed_tasks(store.position(), cycle=2, most=2)
    assert found == (make_task(1), make_task(3))


def test_what_waits_is_counted_by_who_says_that_it_passed(store: Store) -> None:
    told = make_episode(7, PASS, source="tool-text", name="told").model_copy(update={"task": None})
    silent = make_episode(8, PASS, name="silent")
    silent = silent.model_copy(update={"attempts": (silent.attempts[0].model_copy(update={"thoughts": {}}),)})
    used = make_episode(9, PASS, name="used")
    store.save_episodes([make_episode(6, PASS), told, silent, used, make_episode(5, FAIL)])
    store.mark_used([used.id], 1)
    assert store.waiting() == Waiting(unused=4, passed=3, verified=2, trainable=1, dreamable=1)
    assert store.waiting().unverified == 1


def unasked(episode: Episode) -> Episode:
    assert episode.task is not None
    return episode.model_copy(update={"task": episode.task.model_copy(update={"prompt": ""})})


def test_a_choice_among_many_gives_the_rows_that_reading_all_of_them_would() -> None:
    command = [sys.executable, str(BENCHMARK), "--episodes", "1200", "--peer-episodes", "800"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert (line["benchmark"], line["episodes"], line["peer_episodes"]) == ("day", 1200, 768)
    assert line["mix_counts"]["passed"] and line["mix_counts"]["hard"]


def test_a_share_of_the_programs_is_fresh_for_a_time_by_when_they_were_first_met(tmp_path: Path) -> None:
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    with Store(tmp_path / "s.db") as store:
        store.save_episodes([episode_at(number, noon + timedelta(hours=number)) for number in range(40)])
        store.save_episode(episode_at(3, noon + timedelta(days=20), "again"))
        everything, day = store.position(), timedelta(days=1)
        some = store.fresh_ids(everything, 0.3, noon - day, noon + 9 * day)
        more = store.fresh_ids(everything, 0.6, noon - day, noon + 9 * day)
        assert 4 <= len(some) <= 20 and set(some) < set(more)
        assert store.fresh_ids(everything, 1.0, noon + timedelta(hours=9), noon + timedelta(hours=10)) == (
            make_task(10).id,
        )
        assert set(store.fresh_ids(5, 1.0, noon - day, noon + day)) == {make_task(n).id for n in range(5)}
        assert make_task(3).id not in store.fresh_ids(everything, 1.0, noon + 10 * day, noon + 30 * day)
        assert store.latest_tasks([make_task(n).id for n in (1, 7, 4)], 2) == tuple(
            sorted((make_task(7), make_task(4)), key=lambda task: task.id)
        )


def test_tasks_that_are_held_back_are_neither_chosen_to_train_nor_to_dream_of(tmp_path: Path) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    held = [make_task(1).id, make_task(3).id]
    with Store(tmp_path / "s.db") as store:
        store.save_episodes(episode_at(n, now, outcome=Outcome.FAIL if n % 4 == 3 else Outcome.PASS) for n in range(8))
        found = store.answers(store.position(), 4, held)
        passed = {e.task.id for e in store.episodes_at(found.positions) if e.task}
        failed = {task.id for task in store.failed_tasks(store.position(), 1, 10, held)}
    assert passed == {make_task(n).id for n in (0, 2, 4, 5, 6)}
    assert failed == {make_task(7).id}


def episode_at(number: int, when: datetime, name: str = "", outcome: Outcome = Outcome.PASS) -> Episode:
    made = make_episode(number, outcome, name=name)
    return made.model_copy(update={"created": when})


MOVED, UNKNOWN = "error[E0382]: use of moved value: `x`", "error[E0425]: cannot find value `x` in this scope"


def mending(number: int, feedback: str, name: str = "", outcome: Outcome = PASS) -> Episode:
    """An episode of the built-in agent, whose first prompt says `feedback`."""
    episode = make_episode(number, outcome, name=name)
    first = episode.attempts[0].model_copy(update={"messages": first_messages(make_task(number), feedback)})
    return episode.model_copy(update={"attempts": (first,)})


def test_fixes_are_found_by_the_mistake_the_latest_first_and_also_those_that_are_used_up(store: Store) -> None:
    store.save_episodes([mending(1, MOVED), mending(2, UNKNOWN), mending(3, MOVED), mending(4, MOVED, outcome=FAIL)])
    store.use_up_all(1, store.position(), PASS)
    found = store.fixes("E0382: use of moved value: _", most=5)
    assert [episode.task for episode in found] == [make_task(3), make_task(1)]
    assert len(store.fixes("E0382: use of moved value: _", most=1)) == 1


def test_fixes_of_another_mistake_with_the_same_code_stand_in(store: Store) -> None:
    store.save_episodes([mending(1, MOVED), mending(2, UNKNOWN)])
    assert [episode.task for episode in store.fixes("E0382: borrow of moved value: _", most=5)] == [make_task(1)]
    assert store.fixes("E0499: something else", most=5) == ()
    assert store.fixes("wrong output", most=5) == ()


def test_an_older_store_learns_which_mistakes_its_episodes_mend(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with Store(path) as store:
        store.save_episodes([mending(1, MOVED), mending(2, UNKNOWN)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP INDEX episodes_by_mistake")
        db.execute("ALTER TABLE episodes DROP COLUMN mistake")
        db.execute("DELETE FROM _sqlite_migrations WHERE name = '0013_mistakes'")
    with Store(path) as store:
        assert [episode.task for episode in store.fixes("E0382: use of moved value: _", most=5)] == [make_task(1)]


def test_finding_a_fix_reads_no_other_rows(store: Store) -> None:
    sql = f"EXPLAIN QUERY PLAN {_FIXES} = 'x' ORDER BY position DESC LIMIT 5"
    (plan,) = store._db.rows(sql)  # pyright: ignore[reportPrivateUsage]
    assert "COVERING INDEX episodes_by_mistake" in plan[-1]


def test_tasks_that_some_attempts_passed_and_some_did_not_are_told_from_the_others(store: Store) -> None:
    store.save_episodes([make_episode(1, PASS), make_episode(2, FAIL, PASS), make_episode(3, FAIL)])
    store.save_episodes([make_episode(1, FAIL, name="later")])
    assert list(store.passed_sometimes(store.position())) == [1, 2]
    assert list(store.passed_sometimes(3)) == [2]


def test_an_answer_that_passed_is_found_for_the_tasks_that_have_one(store: Store) -> None:
    store.save_episodes([make_episode(1, FAIL), make_episode(1, PASS, name="a"), make_episode(2, FAIL)])
    store.save_episodes([make_episode(1, PASS, name="b"), make_episode(3, PASS)])
    found = store.answered(store.position(), [make_task(1).id, make_task(2).id])
    assert [episode.id for episode in found] == ["e1a"]


def test_a_task_that_only_a_file_claims_is_not_asked_as_a_fresh_one(store: Store) -> None:
    claimed = make_episode(1, PASS).model_copy(update={"source": "import", "outcome_source": "claimed:verifier"})
    store.save_episodes([claimed, make_episode(2, PASS)])
    longest = timedelta(days=10_000)
    found = store.fresh_ids(store.position(), 1.0, claimed.created - longest, claimed.created + longest)
    assert found == (make_task(2).id,)
