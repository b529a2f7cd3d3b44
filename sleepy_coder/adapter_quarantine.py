"""The adapters that never serve again, by the hash of their bytes: under another name they are the same adapter."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from sleepy_coder.errors import AdapterError
from sleepy_coder.files import write_atomic
from sleepy_coder.types import Record


class Quarantined(Record):
    """One that was rolled back. `name` is what it was called then, `why` what was said of it."""

    sha256: str
    name: str
    since: datetime
    why: str


class _Listed(Record):
    adapters: tuple[Quarantined, ...] = ()


class Quarantine:
    """A file beside the adapters, because it has to outlive their folders, which are pruned."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def adapters(self) -> tuple[Quarantined, ...]:
        """All of them, oldest first. Raises AdapterError when the list is damaged: then nobody knows."""
        try:
            return _Listed.model_validate_json(self._path.read_bytes()).adapters
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            remedy = "Restore it, or remove it to forget what was rolled back"
            raise AdapterError(f"{self._path} cannot be read ({error})", remedy) from error

    def holds(self, sha256: str) -> bool:
        """Whether these bytes were rolled back. Raises AdapterError."""
        return any(one.sha256 == sha256 for one in self.adapters())

    def why(self, sha256: str) -> str:
        """What was said when these bytes were rolled back; "" when they were not. Raises AdapterError."""
        return next((one.why for one in self.adapters() if one.sha256 == sha256), "")

    def add(self, one: Quarantined) -> None:
        """Remember it, durably; once. Raises AdapterError."""
        known = self.adapters()
        if not self.holds(one.sha256):
            write_atomic(self._path, _Listed(adapters=(*known, one)).model_dump_json(indent=2) + "\n")
