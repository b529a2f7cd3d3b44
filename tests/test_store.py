"""Promises of sleepy_coder.store, on a real SQLite file. Run as a script it is the child that gets killed."""

from __future__ import annotations

import itertools
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import pytest
from sqlite_utils.migrations import Migrations

from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.types import (
    Attempt,
    Episode,
    EvalReport,
    Example,
    Message,
    NightReport,
    Outcome,
    Sample,
    Task,
    Verdict,
)

TASK = Task(
    id="t1",
    family="moved_value",
    category="ownership",
    language="rust",
    files={"main.rs": "fn main() {}\n"},
    prompt="Fix it.",
    command=("rust-run",),
    origin="test",
    cluster="c",
)


def episode(id: str, outcome: Outcome = Outcome.PASS, family: str | None = "moved_value") -> Episode:
    return Episode(
        id=id,
        session="s",
        source="agent",
        task=TASK.model_copy(update={"family": family}) if family else None,
        attempts=(
            Attempt(
                messages=(Message(role="user", content="Fix this."),),
                completion="1|fn main() {}",
                verdict=Verdict(outcome=outcome, stage="done", seconds=0.25),
                served_by="base",
            ),
        ),
        outcome=outcome,
        outcome_source="verifier",
        served_by="base",
        created=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )


def report(model: str = "base", arm: str = "baseline", set_id: str = "set") -> EvalReport:
    sample = Sample(task_id="t1", family="f", index=0, seed=0, outcome=Outcome.PASS, served_by=model)
    return EvalReport(model=model, arm=arm, weights_sha256="w", set_id=set_id, stack="", samples=(sample,), seconds=1.5)


def night(cycle: int, outcome: str = "promoted") -> NightReport:
    at = datetime(2026, 11, 23, 3, tzinfo=UTC)
    return NightReport(
        cycle=cycle,
        started=at,
        finished=at,
        outcome=outcome,
        reason="",
        phases=(),
        shares={"hard": 1.0},
        counts={"hard": 1},
        notes=(),
        recipe=None,
        steps=0,
        candidate=None,
        serving="base",
        reports=(report(),),
        verdict=None,
    )


def example(completion: str, kind: str = "hard", family: str = "f") -> Example:
    return Example(
        messages=(Message(role="user", content="m"),),
        completion=completion,
        kind=kind,
        task_id="t1",
        family=family,
        provenance="e1",
    )


def ids(episodes: Iterator[Episode]) -> list[str]:
    return [found.id for found in episodes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


# Episodes


def test_a_saved_episode_is_read_back_equal_after_reopening(path: Path) -> None:
    with Store(path) as store:
        store.save_episode(episode("e1"))
    with Store(path) as store:
        assert store.episode("e1") == episode("e1")
        assert store.episode("e2") is None


def test_saving_a_known_id_again_changes_nothing_and_says_so(store: Store) -> None:
    assert store.save_episode(episode("e1"))
    assert not store.save_episode(episode("e1", Outcome.FAIL))
    assert ids(store.episodes(outcome=Outcome.PASS)) == ["e1"]


def test_episodes_are_streamed_in_the_order_they_came_beyond_one_page(store: Store) -> None:
    names = [f"e{number}" for number in range(600)]
    assert store.save_episodes(episode(name) for name in names) == 600
    assert ids(store.episodes()) == names
    assert ids(store.episodes(limit=300)) == names[:300]
    assert ids(store.episodes(limit=0)) == []


def test_episodes_are_found_by_outcome_use_and_position(store: Store) -> None:
    store.save_episodes([episode("a"), episode("b", Outcome.FAIL), episode("c")])
    position = store.position()
    store.save_episode(episode("d"))
    store.mark_used(["a", "unknown"], cycle=1)
    assert ids(store.episodes(outcome=Outcome.FAIL)) == ["b"]
    assert ids(store.episodes(unused=True)) == ["b", "c", "d"]
    assert ids(store.episodes(after=position)) == ["d"]
    assert (store.count_episodes(), store.count_episodes(unused=True, outcome=Outcome.PASS)) == (4, 2)


def test_episodes_saved_while_others_are_read_do_not_disturb_the_reader(store: Store) -> None:
    store.save_episodes([episode("a"), episode("b")])
    reading = store.episodes(limit=2)
    first = next(reading)
    store.save_episode(episode("c"))
    assert [first.id, *ids(reading)] == ["a", "b"]


def test_a_batch_with_one_unstorable_episode_saves_none_of_it(store: Store) -> None:
    bad = episode("b").model_copy(update={"session": "\ud800"})
    with pytest.raises(StoreError, match="cannot be stored"):
        store.save_episodes([episode("a"), bad])
    assert store.count_episodes() == 0


def test_a_number_that_json_cannot_hold_is_refused_rather_than_read_back_as_null(store: Store) -> None:
    verdict = Verdict.model_construct(outcome=Outcome.PASS, stage="done", seconds=float("nan"))
    attempt = episode("a").attempts[0].model_copy(update={"verdict": verdict})
    with pytest.raises(StoreError, match="cannot be stored"):
        store.save_episode(episode("a").model_copy(update={"attempts": (attempt,)}))


# Evaluations


def test_evaluations_are_found_by_what_they_measured_latest_first(store: Store) -> None:
    store.save_eval(report("base"), cycle=1)
    store.save_eval(report("sc-0001-aaaaaaaa", "candidate"), cycle=1)
    store.save_eval(report("base", set_id="other"), cycle=None)
    assert [found.set_id for found in store.evals(model="base")] == ["other", "set"]
    assert store.evals(arm="candidate") == (report("sc-0001-aaaaaaaa", "candidate"),)
    assert store.evals(set_id="set", limit=1)[0].model == "sc-0001-aaaaaaaa"


# Nights


def test_an_interrupted_night_is_found_again_with_its_finished_phases(path: Path) -> None:
    with Store(path) as store:
        assert (store.unfinished_night(), store.next_cycle()) == (None, 1)
        store.begin_night(1)
        store.finish_phase(1, "mix", '{"rows": 3}', 0.5)
        store.finish_phase(1, "anchor", "null", 2.0)
    with Store(path) as store:
        assert store.unfinished_night() == 1
        store.begin_night(1)
        assert store.phase(1, "mix") == '{"rows": 3}'
        assert store.phase(1, "train") is None
        assert [(phase.name, phase.seconds) for phase in store.phases(1)] == [("mix", 0.5), ("anchor", 2.0)]


def test_the_last_nights_of_some_outcomes_are_found_among_others(store: Store) -> None:
    for cycle, outcome in enumerate(("rejected", "promoted", "skipped", "failed", "rejected", "skipped"), 1):
        store.finish_night(night(cycle, outcome))
    assert [report.cycle for report in store.nights(last=2, outcomes=("promoted", "rejected"))] == [2, 5]


def test_finished_nights_are_reported_in_order(store: Store) -> None:
    for cycle, outcome in ((1, "promoted"), (2, "rejected"), (3, "promoted")):
        store.begin_night(cycle)
        store.finish_night(night(cycle, outcome))
    assert store.nights() == (night(1), night(2, "rejected"), night(3))
    assert (store.next_cycle(), store.unfinished_night()) == (4, None)


def test_a_finished_night_is_found_by_its_number_and_counted(store: Store) -> None:
    for cycle in (1, 2):
        store.begin_night(cycle)
        assert store.night(cycle) is None
        assert store.count_nights() == cycle - 1
        store.finish_night(night(cycle))
    assert (store.night(2), store.count_nights()) == (night(2), 2)


def test_a_skipped_night_is_recorded_without_having_begun(store: Store) -> None:
    store.finish_night(night(1, "skipped"))
    assert store.next_cycle() == 2


def test_a_night_cannot_begin_beside_an_unfinished_one_or_twice(store: Store) -> None:
    store.begin_night(1)
    with pytest.raises(StoreError, match="night 1 is not finished"):
        store.begin_night(2)
    store.finish_night(night(1))
    with pytest.raises(StoreError, match="night 1 is finished"):
        store.begin_night(1)
    with pytest.raises(StoreError, match="finished already"):
        store.finish_night(night(1, "rejected"))
    assert store.nights() == (night(1),)


def test_a_phase_is_recorded_once_and_only_in_a_night_that_began(store: Store) -> None:
    store.begin_night(1)
    store.finish_phase(1, "mix", "1", 1.0)
    for cycle in (1, 2):
        with pytest.raises(StoreError, match="contradicts"):
            store.finish_phase(cycle, "mix", "2", 1.0)
    assert store.phase(1, "mix") == "1"


# Replay buffer and parked tasks


def test_the_replay_buffer_holds_rows_of_finished_nights_once(store: Store) -> None:
    for cycle, outcome, rows in ((1, "rejected", "ab"), (2, "promoted", "bc")):
        store.begin_night(cycle)
        store.save_examples(cycle, [example(row) for row in rows])
        assert store.save_examples(cycle, [example(row, kind="replay") for row in rows]) == 0
        store.finish_night(night(cycle, outcome))
    store.begin_night(3)
    store.save_examples(3, [example("d")])
    assert [row.completion for row in store.examples()] == ["a", "b", "c"]
    assert [row.completion for row in store.examples(cycles=[2, 3])] == ["b", "c"]
    assert store.examples(kind="replay") == ()
    assert store.examples(kind="hard") == store.examples()


def test_a_parked_task_rests_longer_after_each_failed_night_and_no_longer_once_solved(store: Store) -> None:
    store.save_episode(episode("e", Outcome.FAIL))

    def rests(cycle: int) -> bool:
        return not store.failed_tasks(store.position(), cycle, most=1)

    nights: list[int] = []
    cycle = 1
    for _ in range(7):
        store.park("t1", cycle)
        store.park("t1", cycle)
        until = next(later for later in itertools.count(cycle) if not rests(later))
        nights.append(until - cycle - 1)
        cycle = until
    assert nights == [1, 3, 7, 15, 31, 31, 31]
    store.park("t1", cycle)
    assert rests(cycle)
    store.unpark("t1")
    assert not rests(cycle)


# The quarantine


def test_any_text_can_be_quarantined_and_only_its_start_is_kept(store: Store, path: Path) -> None:
    store.quarantine("gateway", "half a character", "\ud800" + "x" * 1_000_000)
    with closing(sqlite3.connect(path)) as raw:
        payload, created = raw.execute("SELECT payload, created FROM quarantine").fetchone()
    assert payload.startswith("\\ud800x") and len(payload) < 100_000
    assert datetime.fromisoformat(created).tzinfo is not None


# Opening, migrating, damage


def test_a_new_store_is_private_and_syncs_its_log_at_every_commit(path: Path) -> None:
    with closing(StoreDatabase(path)) as db:
        assert path.stat().st_mode & 0o077 == 0
        assert db.rows("PRAGMA journal_mode") == [("wal",)]
        assert db.rows("PRAGMA synchronous") == [(2,)]
        assert db.rows("PRAGMA foreign_keys") == [(1,)]


def notes_schema(versions: int) -> Migrations:
    migrations = Migrations("notes")
    for sql in ("CREATE TABLE notes (text)", "ALTER TABLE notes ADD COLUMN at", "CREATE TABLE notes (again)")[
        :versions
    ]:
        migrations(name=sql)(lambda db, sql=sql: db.conn.execute(sql) and None)
    return migrations


def test_an_older_store_is_migrated_after_a_backup_of_what_it_was(path: Path) -> None:
    with closing(StoreDatabase(path, notes_schema(1))) as old, old.write() as db:
        db.execute("INSERT INTO notes VALUES ('kept')")
    assert list(path.parent.glob("*.backup-*")) == []
    with closing(StoreDatabase(path, notes_schema(2))) as new:
        assert new.rows("SELECT text, at FROM notes") == [("kept", None)]
    (backup,) = path.parent.glob("*.backup-*")
    with closing(StoreDatabase(backup, notes_schema(1))) as before:
        assert before.rows("SELECT * FROM notes") == [("kept",)]


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    with closing(StoreDatabase(path, notes_schema(1))):
        pass
    with pytest.raises(StoreError, match="already exists"):
        StoreDatabase(path, notes_schema(3))
    with closing(StoreDatabase(path, notes_schema(1))) as db:
        assert db.rows("SELECT name FROM pragma_table_info('notes')") == [("text",)]


def test_a_store_of_a_newer_version_is_refused_untouched_and_asks_for_an_upgrade(path: Path) -> None:
    with Store(path):
        pass
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('sleepy_coder', '9999_from_the_future', '2030-01-01')"
        )
    before = path.read_bytes()
    with pytest.raises(StoreError, match="9999_from_the_future.*Upgrade sleepy-coder"):
        Store(path)
    assert path.read_bytes() == before


def test_a_backup_is_a_whole_store_taken_while_the_first_is_in_use(store: Store) -> None:
    store.save_episode(episode("a"))
    copy = store.keep_backup("today", 1)
    store.save_episode(episode("b"))
    with Store(copy) as restored:
        restored.check()
        assert ids(restored.episodes()) == ["a"]


def test_a_file_that_is_no_database_is_a_store_error_that_names_the_newest_backup(path: Path) -> None:
    with Store(path) as store:
        copy = store.keep_backup("today", 1)
    path.write_bytes(b"This was a database once. " * 400)
    with pytest.raises(StoreError, match=copy.name):
        Store(path)


def test_damage_in_the_middle_of_the_file_is_found_by_the_check(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(episode(f"e{number}") for number in range(300))
    with path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\xff" * 4096 * 4)
    with Store(path) as store, pytest.raises(StoreError, match="is damaged.*no backup found"):
        store.check()


def test_a_store_in_a_place_that_is_no_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Check the folder"):
        Store(tmp_path / "file" / "store.db")


def test_a_full_disk_is_a_store_error_and_what_was_saved_before_is_intact(path: Path) -> None:
    with Store(path) as store:
        store.save_episode(episode("before"))
        with store._db.write() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
        store._db.rows(f"PRAGMA max_page_count={pages + 4}")
        with pytest.raises(StoreError, match="full.*Free disk space"):
            store.save_episodes(episode(f"e{number}") for number in range(400))
        assert ids(store.episodes()) == ["before"]
    with Store(path) as store:
        store.check()
        assert store.save_episode(episode("after"))


# Threads and processes


def test_several_threads_save_and_read_through_one_store(store: Store) -> None:
    def work(thread: int) -> int:
        return sum(store.save_episode(episode(f"{thread}-{n}")) + 0 * store.count_episodes() for n in range(15))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 60
    assert store.count_episodes() == 60


def save_some(path: Path, worker: int) -> int:
    with Store(path) as store:
        return sum(store.save_episode(episode(f"{worker}-{number}")) for number in range(15))


def test_several_processes_create_and_fill_the_same_store_at_once(path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert sum(pool.map(save_some, [path] * 3, range(3))) == 45
    with Store(path) as store:
        assert store.count_episodes() == 45


def test_every_acknowledged_episode_survives_kill_minus_nine(path: Path) -> None:
    chance = random.Random(7)
    acknowledged: list[str] = []
    for life in range(4):
        command = [sys.executable, __file__, str(path), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            acknowledged += [child.stdout.readline().strip() for _ in range(chance.randrange(1, 40))]
            child.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
        assert child.returncode == -signal.SIGKILL
        with Store(path) as store:
            store.check()
            assert [id for id in acknowledged if store.episode(id) is None] == []


if __name__ == "__main__":
    with Store(Path(sys.argv[1])) as endless:
        number = 0
        while endless.save_episode(episode(f"{sys.argv[2]}-{number}")):
            sys.stdout.write(f"{sys.argv[2]}-{number}\n")
            sys.stdout.flush()
            number += 1
