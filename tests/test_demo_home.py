"""The demo clears its own home, and never anybody's work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import make_episode
from talks import Talk, assistant, exchanges_of, user

from sleepy_coder.config import Config
from sleepy_coder.demo_home import MARKER, Left, cleared_home
from sleepy_coder.errors import SleepyError
from sleepy_coder.types import Outcome
from sleepy_coder.wiring import open_store

Before = Callable[..., None]
MOST = Left(episodes=2, nights=3, adapters=3, quarantined=2)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path)  # pyright: ignore[reportCallIssue]


def meet(config: Config, *numbers: int) -> None:
    with open_store(config) as store:
        store.save_episodes(make_episode(number, Outcome.PASS) for number in numbers)


def demo(config: Config, *episodes: int) -> None:
    with cleared_home(config, MOST):
        meet(config, *episodes)
        put(config, "adapters/sc-0001-00000000/manifest.json")


def killed_demo(config: Config, *episodes: int) -> None:
    """As `demo`, but for the end of it, which a kill -9 takes away."""
    demo(config, *episodes)
    (config.state / MARKER).write_text(MOST.model_dump_json())


def put(config: Config, name: str) -> Path:
    path = config.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    return path


@pytest.mark.parametrize(
    "name", ["state/study/study.db", "state/frozen-0001-00.jsonl", "adapters/mine/adapter.bin", "episodes/mine.jsonl"]
)
@pytest.mark.parametrize("before", [None, demo, killed_demo])
def test_what_no_demo_makes_is_never_cleared_away(config: Config, name: str, before: Before | None) -> None:
    if before:
        before(config, 1)
    mine = put(config, name)
    with pytest.raises(SleepyError, match="no demo made: "), cleared_home(config, MOST):
        pass
    assert mine.read_text() == "mine"


def test_a_store_without_a_demos_marker_is_somebodys(config: Config) -> None:
    with open_store(config) as store:
        store.quarantine("inbox", "no JSON", "{")
    with pytest.raises(SleepyError, match=r"state/sleepy\.db"), cleared_home(config, MOST):
        pass


def test_what_ships_in_the_folders_is_nobodys_and_stays(config: Config) -> None:
    shipped = [put(config, "adapters/README.md"), put(config, "episodes/README.md"), put(config, "episodes/.gitkeep")]
    demo(config, 1)
    assert all(path.is_file() for path in shipped)


@pytest.mark.parametrize("before", [demo, killed_demo])
def test_what_a_demo_left_is_cleared_away_by_the_next_one(config: Config, before: Before) -> None:
    before(config, 1, 2)
    with cleared_home(config, MOST), open_store(config) as store:
        assert store.count_episodes() == 0
        assert not (config.adapters / "sc-0001-00000000").exists()


def test_an_episode_that_came_after_the_demo_keeps_the_home(config: Config) -> None:
    demo(config, 1)
    meet(config, 2)
    with pytest.raises(SleepyError, match=r"2 episodes \(the demo: 1\)"), cleared_home(config, MOST):
        pass


def test_an_episode_that_came_after_a_demo_that_was_stopped_keeps_the_home(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt), cleared_home(config, MOST):
        meet(config, 1)
        raise KeyboardInterrupt
    meet(config, 2)
    with pytest.raises(SleepyError, match=r"2 episodes \(the demo: 1\)"), cleared_home(config, MOST):
        pass


def test_more_than_a_demo_can_come_to_keeps_the_home_of_a_killed_one(config: Config) -> None:
    killed_demo(config, 1, 2)
    meet(config, 3)
    with pytest.raises(SleepyError, match=r"3 episodes \(the demo: 2\)"), cleared_home(config, MOST):
        pass


def test_recorded_exchanges_keep_the_home(config: Config) -> None:
    demo(config, 1)
    with open_store(config) as store:
        store.save_exchanges(exchanges_of(Talk((user("Mend it."), assistant("Done."))), "x"))
    with pytest.raises(SleepyError, match="recorded exchanges"), cleared_home(config, MOST):
        pass


def test_a_marker_of_an_older_version_keeps_the_home(config: Config) -> None:
    demo(config, 1)
    (config.state / MARKER).write_text("1 episodes, 0 nights, 0 adapters")
    with pytest.raises(SleepyError, match="cannot be read"), cleared_home(config, MOST):
        pass
