"""A night as a process of the daemon's: its exit status says whether it is over."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from fakes import FakeServer, FakeTrainer, parts, solver
from sleepyd import night_main

from sleepy_coder.errors import NightPaused, StoreError
from sleepy_coder.parts import Parts
from sleepy_coder.store import Store


@pytest.fixture(autouse=True)
def signals() -> Generator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def opened(home: Path) -> AbstractContextManager[Parts]:
    @contextmanager
    def made() -> Generator[Parts]:
        with (found := parts(home, FakeServer(solver(())), FakeTrainer())).store:
            yield found

    return made()


@pytest.mark.parametrize("befalls", [KeyboardInterrupt(), StoreError("a locked store"), OSError("no disk")])
def test_what_befalls_the_drill_leaves_the_night_before_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, befalls: BaseException
) -> None:
    def fails(_: Parts) -> None:
        raise befalls

    monkeypatch.setattr(night_main, "drill_if_due", fails)
    assert night_main.hold(lambda: opened(tmp_path)) == 0


@pytest.mark.parametrize("befalls", [KeyboardInterrupt(), StoreError("a locked store"), PermissionError("not yours")])
def test_what_befalls_the_clearing_away_leaves_the_night_before_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, befalls: BaseException
) -> None:
    def fails(*_: object) -> None:
        raise befalls

    monkeypatch.setattr(Store, "prune_exchanges", fails)
    assert night_main.hold(lambda: opened(tmp_path)) == 0


@pytest.mark.parametrize("befalls", [KeyboardInterrupt(), NightPaused("the window closed")])
def test_a_night_that_is_stopped_counts_as_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, befalls: BaseException
) -> None:
    def stops(_: Parts) -> None:
        raise befalls

    monkeypatch.setattr(night_main, "run_night", stops)
    assert night_main.hold(lambda: opened(tmp_path)) == os.EX_TEMPFAIL
