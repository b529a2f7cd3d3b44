"""Each episode, and what the gate spends, once more beside the store, until a backup has it.

No damaged page of the store takes it along.

`backups/<store>.since-<number>-<label>` holds as JSON lines what was saved since the backup of that label was begun.
The number counts them: a label is a date, and one of a clock that was ahead would come last for years. A line that a
full disk or a kill cut short belongs to no episode whose saving returned.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

from sleepy_coder.files import discard, fsync_folder

_KEPT: Final = 2
_NUMBERED: Final = re.compile(r"(\d{6,})-(.*)")


class SpareEpisodes:
    """The spare copies that belong to the store at `store`. Every method may raise OSError."""

    def __init__(self, store: Path) -> None:
        self._folder = store.parent / "backups"
        self._prefix = f"{store.name}.since-"

    def keep(self, payloads: Iterable[str]) -> None:
        """Add these, durably. The caller holds the store's write lock: nobody else adds meanwhile."""
        files = self._files()
        if not files:
            files = [self.turn("")]
        with files[-1].open("ab") as file:
            # A line of its own, whatever a kill left at the end of the last one.
            file.write(b"\n" + "".join(f"{payload}\n" for payload in payloads).encode())
            file.flush()
            os.fsync(file.fileno())

    def turn(self, label: str) -> Path:
        """Add to a new file from now on, because a backup is begun; to the same one when it is begun again."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files()
        number, last = self._place(files[-1]) if files else (0, None)
        if last == label:
            return files[-1]
        new = self._folder / f"{self._prefix}{number + 1:06}-{label}"
        new.touch(mode=0o600)
        fsync_folder(self._folder)
        return new

    def forget(self) -> None:
        """Remove what was added before the last backup but one was begun."""
        for old in self._files()[:-_KEPT]:
            discard(old)

    def read(self) -> Generator[str]:
        """All that is kept, oldest first; some of it may be in the backup too."""
        for path in self._files():
            with path.open(encoding="utf-8", errors="replace") as file:
                yield from (line for line in file if line.strip())

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._prefix}*"), key=self._place)

    def _place(self, path: Path) -> tuple[int, str]:
        """Number and label; those from before there were numbers have 0, and the order of their labels."""
        name = path.name.removeprefix(self._prefix)
        numbered = _NUMBERED.fullmatch(name)
        return (int(numbered[1]), numbered[2]) if numbered else (0, name)
