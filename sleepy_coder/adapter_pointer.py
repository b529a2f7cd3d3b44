"""Which adapter serves: `active.json` and its twin, which stands in when the disk damages it.

Both are replaced whole, so whatever is killed, and whenever, what is read is the old adapter or the new one.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder import log
from sleepy_coder.adapter_manifest import Pointer, is_adapter_name
from sleepy_coder.errors import AdapterError, InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.ports import Clock

_POINTER: Final = "active.json"
_TWIN: Final = "active.twin.json"
_REMEDY: Final = "Restore it, or remove it to serve the bare base"
_log = log.get("registry")


class PointerFile:
    """The pointer in the folder `root`. Whoever moves or mends it holds the registry's lock."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root, self._clock = root, clock

    def read(self) -> Pointer:
        """What serves; the bare base when there is no pointer. Raises AdapterError when it and its twin are broken.

        Two that agree are not broken, whatever they name: it is the adapter then that is gone.
        """
        try:
            return self._read(_POINTER)
        except FileNotFoundError:
            return Pointer(name=None, previous=None, since=self._clock.now())
        except AdapterError:
            with suppress(AdapterError, FileNotFoundError):
                return self._read(_TWIN)
            with suppress(AdapterError, FileNotFoundError):
                if (pointer := self._parsed(_POINTER)) == self._parsed(_TWIN):
                    return pointer
            raise

    def mark(self) -> tuple[int, int, int] | None:
        """Differs whenever the pointer was moved in between; far cheaper than `read`. None before the first move."""
        try:
            found = (self._root / _POINTER).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def move(self, name: str | None, previous: str | None, promotion: str = "") -> None:
        """Have `name` (None: the bare base) serve from now on, durably."""
        pointer = Pointer(name=name, previous=previous, since=self._clock.now(), promotion=promotion)
        self._write(_POINTER, pointer)
        self._write(_TWIN, pointer)

    def mend(self) -> None:
        """Make the pointer and its twin agree: the twin is older after a crash, and better when the pointer is damaged.

        A pointer that was removed means the bare base, and so it has no twin. What cannot be mended, or written on a
        full disk, is left as it is.
        """
        found: dict[str, Pointer | None] = {}
        for file in (_POINTER, _TWIN):
            with suppress(AdapterError):
                try:
                    found[file] = self._read(file)
                except FileNotFoundError:
                    found[file] = None
        pointer, twin = found.get(_POINTER), found.get(_TWIN)
        with suppress(InfraError):
            if _POINTER not in found and twin is not None:
                self._write(_POINTER, twin)
                _log.error("adapter.pointer_restored", serving=twin.name)
            elif pointer is not None and pointer != twin:
                self._write(_TWIN, pointer)
            elif _POINTER in found and pointer is None:
                (self._root / _TWIN).unlink(missing_ok=True)

    def _read(self, file: str) -> Pointer:
        """Raises FileNotFoundError, and AdapterError when it is damaged: names hold a hash, so a flipped bit leads
        nowhere."""
        pointer = self._parsed(file)
        if pointer.name is not None and not (is_adapter_name(pointer.name) and (self._root / pointer.name).is_dir()):
            path = self._root / file
            raise AdapterError(f"{path} names {pointer.name!r}: there is no adapter {pointer.name!r}", _REMEDY)
        return pointer

    def _parsed(self, file: str) -> Pointer:
        """Raises FileNotFoundError, and AdapterError when it does not say anything."""
        path = self._root / file
        try:
            return Pointer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise
        except (OSError, ValidationError) as error:
            raise AdapterError(f"{path} cannot be read ({error})", _REMEDY) from error

    def _write(self, file: str, pointer: Pointer) -> None:
        write_atomic(self._root / file, pointer.model_dump_json(indent=2) + "\n")
