"""The journal of a night: each step is done once, whatever happens in between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sleepy_coder.errors import InfraError, ServerUnreachable
from sleepy_coder.journal import Journal, alone, no_night
from sleepy_coder.store import Store
from sleepy_coder.types import Phase

KILLED_IN_THE_SECOND_STEP = """
import os, signal, sys
from pathlib import Path
from sleepy_coder.journal import Journal
from sleepy_coder.store import Store
night = Journal(Store(Path(sys.argv[1])))
night.once("dream", dict[str, int], lambda: {"rows": 7})
night.once("train", str, lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sleepy.db")


def never() -> str:
    raise AssertionError("done twice")


def test_a_step_is_done_once_and_its_result_is_remembered(store: Store) -> None:
    assert Journal(store).once("mix", tuple[str, ...], lambda: ("a", "b")) == ("a", "b")
    assert Journal(store).once("mix", tuple[str, ...], never) == ("a", "b")


def test_nothing_is_a_result_too(store: Store) -> None:
    assert Journal(store).once("serve", Phase | None, lambda: None) is None
    assert Journal(store).once("serve", Phase | None, never) is None


def test_a_step_that_raised_is_done_again(store: Store) -> None:
    def fails() -> str:
        raise ServerUnreachable("nobody answered")

    with pytest.raises(ServerUnreachable):
        Journal(store).once("train", str, fails)
    assert Journal(store).once("train", str, lambda: "done") == "done"


def test_the_phases_tell_what_was_found_done(store: Store) -> None:
    first = Journal(store)
    first.once("a", int, lambda: 1)
    second = Journal(store)
    second.once("a", int, lambda: 1)
    second.once("b", int, lambda: 2)
    assert [(phase.name, phase.resumed) for phase in first.phases] == [("a", False)]
    assert [(phase.name, phase.resumed) for phase in second.phases] == [("a", True), ("b", False)]
    assert second.phases[0].seconds == first.phases[0].seconds


def test_only_steps_that_are_really_done_are_announced(store: Store) -> None:
    announced: list[str] = []
    for _ in range(2):
        Journal(store, announced.append).once("a", int, lambda: 1)
    assert announced == ["a"]


@pytest.mark.parametrize("hold", [alone, no_night])
def test_a_lock_that_the_disk_refuses_is_an_infra_error_with_a_remedy(
    tmp_path: Path, hold: Callable[[Path], AbstractContextManager[object]]
) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(InfraError, match="writable"), hold(tmp_path / "state" / "night.lock"):
        pass


def test_an_unfinished_night_is_gone_on_with_under_its_number(store: Store) -> None:
    first, second = Journal(store), Journal(store)
    assert (first.cycle, first.resumed) == (1, False)
    assert (second.cycle, second.resumed) == (1, True)


def test_a_night_survives_the_death_of_its_process(tmp_path: Path) -> None:
    path = tmp_path / "sleepy.db"
    died = subprocess.run([sys.executable, "-c", KILLED_IN_THE_SECOND_STEP, str(path)], check=False)
    assert died.returncode == -9
    night = Journal(Store(path))
    assert night.resumed
    assert night.once("dream", dict[str, int], never) == {"rows": 7}
    assert night.once("train", str, lambda: "again") == "again"
