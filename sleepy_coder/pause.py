"""Nights that are called off for a while: one file in the state folder, which the daemon reads before each night."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder.errors import StoreError
from sleepy_coder.files import private_folder, write_atomic
from sleepy_coder.types import Record

_FILE: Final = "pause.json"


class Pause(Record):
    """No night begins before `until`; None: until somebody resumes."""

    since: datetime
    until: datetime | None = None
    reason: str = ""


def pause(state: Path, pause: Pause) -> None:
    """Call the nights off. Raises InfraError when the disk refuses."""
    private_folder(state)
    write_atomic(state / _FILE, pause.model_dump_json(indent=2) + "\n")


def resume(state: Path) -> bool:
    """Have nights again; whether they were called off."""
    try:
        (state / _FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def paused(state: Path, now: datetime) -> Pause | None:
    """The pause that holds at `now`. Raises StoreError when its file cannot be read: a doubtful pause is one."""
    try:
        found = Pause.model_validate_json((state / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise StoreError(f"{state / _FILE} cannot be read ({why})", "run `sleepy-coder resume`") from error
    return found if found.until is None or now < found.until else None
