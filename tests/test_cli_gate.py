"""`gate` and `replay-verdict` in a home without a model server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from gate_cases import case, passing
from test_cli import Done, home  # noqa: F401  (the fixture applies to every test here)

from sleepy_coder.config_load import load_config
from sleepy_coder.journal import alone
from sleepy_coder.judge.record import write
from sleepy_coder.wiring import night_lock, open_store


@pytest.fixture
def judged(home: Path) -> Path:  # noqa: F811
    """A home with two verdicts; its database."""
    with open_store(load_config()) as store:
        for cycle, passes in ((1, 240), (2, 100)):
            store.append_verdict(cycle, write(case(passing(200, 300), passing(200, 300), passing(passes, 300))))
    return home / "state" / "sleepy.db"


def test_verdicts_are_replayed_byte_for_byte(judged: Path) -> None:
    rows = Done("replay-verdict", "--json").json
    assert [(r["night"], r["decision"], r["reproduced"], r["chained"]) for r in rows] == [
        (1, "promote", True, True),
        (2, "reject", True, True),
    ]
    assert "reproduced byte for byte" in Done("replay-verdict", "2").out


def test_a_verdict_that_was_changed_ends_the_replay_with_status_one(judged: Path) -> None:
    with closing(sqlite3.connect(judged)) as db:
        db.execute("DROP TRIGGER gate_verdicts_no_update")
        db.execute("""UPDATE gate_verdicts SET payload = replace(payload, '"reject"', '"promote"') WHERE cycle = 2""")
        db.commit()
    done = Done("replay-verdict")
    assert done.status == 1
    assert "night 1: promote, reproduced" in done.out
    assert "night 2: promote, comes out differently" in done.out.replace("\n", " ")


def test_without_a_verdict_there_is_nothing_to_replay() -> None:
    done = Done("replay-verdict", "7")
    assert done.status == 1
    assert "no verdict to replay" in done.err


def test_power_says_what_the_set_shows_and_what_the_epoch_has_left() -> None:
    found = Done("gate", "power", "--samples", "4", "--nights", "50", "--json").json
    assert (found["tasks"], found["samples"], found["openings_used"]) == (372, 4, 0)
    promoted = [row["promoted"] for row in found["rows"]]
    assert promoted == sorted(promoted)
    assert 0.03 < found["detectable"] < 0.12
    assert "points" in Done("gate", "power", "--nights", "50").out


def test_power_says_that_the_rate_it_takes_is_not_yet_measured_here() -> None:
    said = Done("gate", "power", "--nights", "50").out.replace("\n", " ")
    assert "A base that passes 69.4% (the packaged model's rate; yours is not measured yet)" in said


def test_calibration_judges_a_model_against_itself() -> None:
    found = Done("gate", "calibrate", "--nights", "300", "--json").json
    assert found["promoted"] + found["held"] + found["rejected"] == found["nights"] == 300
    assert found["interval"][0] <= found["allowed_per_night"]
    assert "95% interval" in Done("gate", "calibrate", "--nights", "100").out


@pytest.mark.usefixtures("judged")
def test_the_frozen_set_is_not_renewed_while_a_night_runs() -> None:
    with alone(night_lock(load_config())):
        done = Done("gate", "renew", "--yes")
    assert done.status == 1
    assert "another process runs a night here" in done.err


def test_the_frozen_set_is_not_renewed_without_a_yes(home: Path) -> None:  # noqa: F811
    done = Done("gate", "renew", typed="n\n")
    assert done.status == 1 and "Retire the frozen set" in done.err
    assert not list((home / "state").glob("frozen-*"))
