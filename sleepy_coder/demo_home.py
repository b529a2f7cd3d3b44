"""The home that a demo clears: its own, and only while nobody has added anything to it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder import wiring
from sleepy_coder.config import Config
from sleepy_coder.errors import SleepyError
from sleepy_coder.files import private_folder
from sleepy_coder.types import Record

MARKER: Final = "demo"
_SHOWN: Final = 5
_SHIPPED: Final = ("README.md", ".gitkeep")
_STATE: Final = (
    MARKER, "poison.jsonl", "sleepy.db*", "verdicts.db*", "server.log", "backups", "nights", "night.lock",
    "anchors-*.json", "fingerprints", "nap.json", "wanted", ".*.tmp",
)  # fmt: skip
_ADAPTERS: Final = (*_SHIPPED, "sc-*", ".contenders-*", "active.json", "active.twin.json", ".lock", ".*.tmp")


class Left(Record):
    """What a demo leaves in its home. While it runs, the marker holds the most that it can come to."""

    episodes: int
    nights: int
    adapters: int
    quarantined: int


@contextmanager
def cleared_home(config: Config, most: Left) -> Generator[None]:
    """The home without what an earlier demo left, for a demo that makes at most `most`.

    Raises SleepyError when anything is there that no demo made.
    """
    if found := _others(config):
        raise SleepyError(
            f"{config.home} holds what no demo made: {', '.join(found[:_SHOWN])}{', ...' * (len(found) > _SHOWN)}",
            "run the demo in a folder of its own: sleepy-coder --home DIR demo",
        )
    shutil.rmtree(config.state, ignore_errors=True)
    for entry in _names(config.adapters):
        path = config.adapters / entry
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    private_folder(config.state)
    marker = config.state / MARKER
    marker.write_text(most.model_dump_json())
    try:
        yield
    finally:  # from here on one episode more is somebody's, also when the demo was stopped half way
        marker.write_text(_left(config).model_dump_json())


def _others(config: Config) -> list[str]:
    """What a demo must not clear away, in words; nothing when all that is there is an earlier demo's."""
    marker = config.state / MARKER
    made = (_STATE, _ADAPTERS, ()) if marker.is_file() else ((), (), ())
    kinds = zip((config.state, config.adapters, config.episodes), made, strict=True)
    found = [f"{folder.name}/{name}" for folder, known in kinds for name in _names(folder, known)]
    if found or not marker.is_file():
        return found
    try:
        before = Left.model_validate_json(marker.read_bytes())
    except ValidationError:
        return [f"{config.state.name}/{MARKER}, which cannot be read"]
    with wiring.open_store(config) as store:
        found = ["recorded exchanges"] if store.latest_exchange() else []
    pairs = [(name, getattr(before, name), value) for name, value in _left(config)]
    return found + [f"{value} {name} (the demo: {most})" for name, most, value in pairs if value > most]


def _names(folder: Path, known: Collection[str] = ()) -> list[str]:
    """What is in a folder but for what ships with it and what is `known`, sorted."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in (*_SHIPPED, *known))]


def _left(config: Config) -> Left:
    with wiring.open_store(config) as store:
        return Left(
            episodes=store.count_episodes(),
            nights=store.count_nights(),
            adapters=len(wiring.open_registry(config).adapters()),
            quarantined=store.count_quarantined(),
        )
