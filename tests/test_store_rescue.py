"""A damaged page costs no episode: nightly copies, a second copy of what came since, and the rescue."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest
from fakes import FakeServer, FakeTrainer, make_episode, parts, solver
from test_store import night
from typer.testing import CliRunner, Result

from sleepy_coder.cli import app
from sleepy_coder.errors import StoreDamaged, StoreError
from sleepy_coder.journal import alone
from sleepy_coder.store import Store
from sleepy_coder.store_database import in_doubt
from sleepy_coder.store_rescue import rescue, rescue_if_damaged
from sleepy_coder.store_spare import SpareEpisodes
from sleepy_coder.tidy import back_up
from sleepy_coder.types import Episode, Outcome


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def some(*numbers: int) -> list[Episode]:
    return [make_episode(number, Outcome.PASS) for number in numbers]


def ids(path: Path) -> list[str]:
    with Store(path) as store:
        store.check()
        return [episode.id for episode in store.episodes()]


def damage(path: Path) -> None:
    path.write_bytes(b"noise" * 8000)


def test_a_rescued_store_is_its_last_backup_and_each_episode_since(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1, 2))
        copy = store.keep_backup("2026-11-24", 3)
        store.save_episodes(some(3))
        store.save_collected(some(4), [])
    damage(path)
    done = rescue(path)
    assert (done.backup, done.episodes) == (copy, 2)
    assert ids(path) == ["e1", "e2", "e3", "e4"]
    assert done.damaged.read_bytes().startswith(b"noise")


def test_a_rescued_store_is_read_by_its_owner_alone(path: Path) -> None:
    with Store(path) as store:
        store.keep_backup("2026-11-24", 3)
    damage(path)
    rescue(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_kill_left_in_the_damaged_stores_log_is_kept_with_it_and_not_played_into_the_backup(path: Path) -> None:
    log, log_of_backup = path.with_name("store.db-wal"), b""
    with Store(path) as store:
        store.save_episodes(some(1))
        store.keep_backup("2026-11-24", 3)
        store.save_episodes(some(2))
        log_of_backup = log.read_bytes()
    damage(path)
    log.write_bytes(log_of_backup)
    aside = rescue(path).damaged
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == log_of_backup
    assert ids(path) == ["e1", "e2"]


def test_a_store_that_had_no_backup_yet_is_rescued_too(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1, 2))
    damage(path)
    done = rescue(path)
    assert (done.backup, done.episodes) == (None, 2)
    assert ids(path) == ["e1", "e2"]


@pytest.mark.parametrize("backed_up", [True, False])
def test_what_the_gate_spent_stays_spent_and_the_night_may_be_done_once_more(path: Path, backed_up: bool) -> None:
    with Store(path) as store:
        if backed_up:
            store.keep_backup("2026-11-24", 3)
        store.open_gate(1, "a", ["p"], [0.03, 0.02])
    damage(path)
    rescue(path)
    with Store(path) as store:
        assert store.openings_used() == (1, 1)
        assert store.openings_left([0.03, 0.02]) == 1
        assert store.open_gate(1, "b", ["p"], [0.03, 0.02]).number == 2
        assert not store.open_gate(2, "c", ["p"], [0.03, 0.02]).charged


def test_a_night_that_was_charged_twice_stays_so_when_the_store_is_damaged_again(path: Path) -> None:
    with Store(path) as store:
        store.open_gate(1, "a", ["p"], [0.01] * 3)
    for candidate, charged in (("b", 1), ("c", 2)):
        damage(path)
        rescue(path)
        with Store(path) as store:
            assert store.openings_used() == (1, charged)
            assert store.open_gate(1, candidate, ["p"], [0.01] * 3).number == charged + 1


def test_a_damaged_backup_is_passed_over(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1))
        older = store.keep_backup("2026-11-24", 3)
        store.save_episodes(some(2))
        newer = store.keep_backup("2026-11-25", 3)
    os.utime(older, (1, 1))
    damage(path)
    damage(newer)
    assert rescue(path).backup == older
    assert ids(path) == ["e1", "e2"]


def test_a_line_that_was_cut_short_costs_no_other_episode(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1))
        (spare,) = path.parent.glob("backups/*.since-*")
        spare.write_bytes(spare.read_bytes() + b'{"id": "half')
        store.save_episodes(some(2))
    damage(path)
    rescue(path)
    assert ids(path) == ["e1", "e2"]


def test_a_damaged_store_gets_no_backup_and_keeps_those_it_has(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(make_episode(n % 100, Outcome.PASS, name=f"-{n}") for n in range(300))
        copy = store.keep_backup("2026-11-24", 1)
    with path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\xff" * 4096 * 4)
    with Store(path) as store, pytest.raises(StoreError, match="episodes rescue"):
        store.keep_backup("2026-11-25", 1)
    assert [file.name for file in path.parent.glob("backups/*.backup-*")] == [copy.name]


def test_the_last_three_nights_have_backups_that_only_the_owner_reads(tmp_path: Path) -> None:
    house = parts(tmp_path, FakeServer(solver(())), FakeTrainer())
    house.store.save_episodes(some(1))
    for day in range(20, 25):
        house.clock.time = house.clock.time.replace(day=day)  # pyright: ignore[reportAttributeAccessIssue]
        back_up(house)
        back_up(house)
    house.store.close()
    kept = sorted((tmp_path / "state" / "backups").iterdir())
    assert [file.name.partition("sleepy.db.")[2] for file in kept] == [
        *(f"backup-2026-11-{day}" for day in (22, 23, 24)),
        *(f"since-{number:06}-2026-11-{day}" for number, day in ((5, 23), (6, 24))),
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}


YEARS = 11 * 365 * 86400


@pytest.mark.parametrize("ahead", [YEARS, 3600, -YEARS])
def test_one_night_under_a_wrong_clock_does_not_bind_the_rescues_of_later_ones(path: Path, ahead: int) -> None:
    for number, label in enumerate(("2026-12-01", "2037-01-01", "2026-12-02", "2026-12-03", "2026-12-04"), 1):
        with Store(path) as store:
            store.save_episodes(some(number))
            copy = store.keep_backup(label, 3)
            if number == 2:
                os.utime(copy, (time.time() + ahead,) * 2)
            store.begin_night(number)
            store.finish_night(night(number))
    spare = sum(file.stat().st_size for file in path.parent.glob("backups/*since*"))
    assert spare < 3 * len(some(1)[0].model_dump_json())
    damage(path)
    assert rescue(path).backup == copy
    with Store(path) as store:
        assert [found.cycle for found in store.nights()] == [1, 2, 3, 4]
    assert ids(path) == [f"e{number}" for number in range(1, 6)]


def test_what_was_made_last_is_what_a_rescue_takes_also_while_its_clock_was_ahead(path: Path) -> None:
    with Store(path) as store:
        for label in ("2026-12-01", "2037-01-01"):
            store.save_episodes(some(1))
            copy = store.keep_backup(label, 3)
        os.utime(copy, (time.time() + YEARS,) * 2)
    damage(path)
    assert rescue(path).backup == copy


def test_spare_copies_from_before_they_were_numbered_are_read_first_and_forgotten_first(path: Path) -> None:
    folder = path.parent / "backups"
    folder.mkdir()
    for label, number in (("", 1), ("2026-11-30", 2), ("2037-01-01", 3)):
        (folder / f"{path.name}.since-{label}").write_text(some(number)[0].model_dump_json() + "\n")
    with Store(path) as store:
        store.save_episodes(some(4))
        store.keep_backup("2026-12-01", 3)
        store.save_episodes(some(5))
    kept = SpareEpisodes(path)
    assert [Episode.model_validate_json(line).id for line in kept.read()] == ["e3", "e4", "e5"]


def test_half_a_copy_that_a_kill_left_is_cleared_away(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1))
        store.keep_backup("2026-11-24", 3)
        half = path.parent / "backups" / f".{path.name}.backup-2026-11-25.0123456789abcdef.tmp"
        half.write_bytes(b"half")
        store.keep_backup("2026-11-24", 3)
    assert not half.exists()


# By itself, and by the command


def test_a_store_that_somebody_found_damaged_is_in_doubt_until_it_is_rescued(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1))
    assert rescue_if_damaged(path) is None and not in_doubt(path).exists()
    damage(path)
    with pytest.raises(StoreDamaged):
        Store(path)
    assert in_doubt(path).exists()
    assert rescue_if_damaged(path)
    assert ids(path) == ["e1"] and not in_doubt(path).exists()


def test_a_rescue_that_was_interrupted_is_finished_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise StoreError("the disk is full", "")

    with Store(path) as store:
        store.save_episodes(some(1, 2))
        store.keep_backup("2026-11-24", 3)
        store.save_episodes(some(3, 4))
    damage(path)
    with monkeypatch.context() as broken, pytest.raises(StoreError, match="full"):
        broken.setattr(Store, "save_episodes", full)
        rescue_if_damaged(path)
    assert rescue_if_damaged(path) is None
    assert ids(path) == ["e1", "e2", "e3", "e4"]


def test_a_store_that_is_only_in_use_by_a_newer_version_is_not_replaced(path: Path) -> None:
    with Store(path) as store:
        store.save_episodes(some(1))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('sleepy_coder', '9999_later')")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer"):
        rescue_if_damaged(path)
    assert path.read_bytes() == before


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a home with a store."""
    (tmp_path / "state").mkdir()
    with Store(tmp_path / "state" / "sleepy.db") as store:
        store.save_episodes(some(1, 2))
        store.keep_backup("2026-11-24", 3)
        store.save_episodes(some(3))
    return tmp_path / "state"


def asked(home: Path) -> Result:
    return CliRunner().invoke(app, ["--home", str(home), "episodes", "rescue", "--json"])


def test_the_command_replaces_a_damaged_store_and_says_by_what(state: Path) -> None:
    damage(state / "sleepy.db")
    done = asked(state.parent)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["episodes"] == 1
    assert said["backup"].endswith("backup-2026-11-24")
    assert Path(said["damaged"]).read_bytes().startswith(b"noise")
    assert ids(state / "sleepy.db") == ["e1", "e2", "e3"]


def test_the_command_leaves_a_sound_store_as_it_is(state: Path) -> None:
    before = (state / "sleepy.db").read_bytes()
    done = asked(state.parent)
    assert (done.exit_code, json.loads(done.stdout)) == (0, {})
    assert (state / "sleepy.db").read_bytes() == before


@pytest.mark.parametrize("lock", ["sleepyd.lock", "night.lock"])
def test_the_command_changes_nothing_while_a_daemon_or_a_night_runs(state: Path, lock: str) -> None:
    damage(state / "sleepy.db")
    with alone(state / lock):
        done = asked(state.parent)
    assert done.exit_code == 1
    assert (state / "sleepy.db").read_bytes().startswith(b"noise")


def test_the_command_says_that_there_is_no_store_to_rescue(tmp_path: Path) -> None:
    done = asked(tmp_path)
    assert done.exit_code == 1
    assert "nothing to rescue" in done.stderr
