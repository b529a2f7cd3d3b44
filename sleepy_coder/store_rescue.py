"""A damaged store is replaced by its newest sound backup and every episode that was saved since."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from shutil import copyfile
from typing import TypeVar

from pydantic import ValidationError

from sleepy_coder.errors import InfraError, StoreDamaged
from sleepy_coder.files import atomic_path
from sleepy_coder.store import Store
from sleepy_coder.store_database import backups_of, in_doubt
from sleepy_coder.store_gate import Charge
from sleepy_coder.store_spare import SpareEpisodes
from sleepy_coder.types import Episode, Record

T = TypeVar("T", bound=Record)


class Rescued(Record):
    """What stands in for a damaged store: the backup (None: there was no sound one), the episodes that were saved
    after it, and where the damaged file is now."""

    backup: Path | None
    episodes: int
    damaged: Path


def rescue_if_damaged(path: Path) -> Rescued | None:
    """Look at every page of the store at `path`, which no process may have open, and replace it if one is damaged.

    None when it is sound. Raises what `rescue` raises.
    """
    try:
        with Store(path) as store:
            store.check()
            if in_doubt(path).exists():  # a rescue may have been interrupted after the backup was put in place
                _add_spare(store, path)
    except StoreDamaged:
        return rescue(path)
    in_doubt(path).unlink(missing_ok=True)
    return None


def rescue(path: Path) -> Rescued:
    """Replace the store at `path`, which no process may have open. Safe to do again after a kill.

    What passed the gateway since the backup and was no episode yet is lost, and so are reports and verdicts of nights
    since then; what the gate spent on them stays spent.
    Raises InfraError when the disk refuses, and StoreError.
    """
    backup = next((found for found in reversed(backups_of(path)) if _is_sound(found)), None)
    try:
        aside = _replace(path, backup)
    except OSError as error:
        raise InfraError(f"{path} cannot be replaced ({error})", "Check free space and permissions") from error
    with Store(path) as store:
        new = _add_spare(store, path)
    in_doubt(path).unlink(missing_ok=True)
    return Rescued(backup=backup, episodes=new, damaged=aside)


def _is_sound(backup: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as copy:
            return copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    except sqlite3.Error:
        return False


def _replace(path: Path, backup: Path | None) -> Path:
    """The damaged file keeps a name of its own. Its write-ahead log goes first: it is not the backup's."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    os.link(path, aside)
    with atomic_path(path) as new:
        if backup is not None:
            copyfile(backup, new)
    return aside


def _add_spare(store: Store, path: Path) -> int:
    """Put what was saved or charged since the backup into `store`; how many episodes were new."""
    lines = list(SpareEpisodes(path).read())
    store.restore_charges(_readable(Charge, lines))
    return store.save_episodes(_readable(Episode, lines))


def _readable(kind: type[T], lines: Iterable[str]) -> list[T]:
    """The lines of this kind; not those of another, nor one that was cut short."""
    found: list[T] = []
    for line in lines:
        with suppress(ValidationError):
            found.append(kind.model_validate_json(line))
    return found
