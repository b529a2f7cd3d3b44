"""What `sleepy-coder service` does to a machine: files, systemctl, journalctl; for real, or said only."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sleepy_coder.errors import InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.service import MARK, Piece, Scope
from sleepy_coder.types import Record

_COMMAND_SECONDS: Final = 600  # with the usual settings, a stop waits 190 s for a night to pause
_LOG_LINES: Final = 20


class Hands(Protocol):
    """What may be done to the machine."""

    def write(self, piece: Piece) -> None: ...
    def remove(self, path: Path) -> None: ...
    def folder(self, path: Path) -> None: ...
    def run(self, *argv: str, seconds: float = _COMMAND_SECONDS) -> str:
        """What the command prints. Raises InfraError with its words when it fails, or takes longer than `seconds`."""
        ...


class RealHands:
    """Does it."""

    def write(self, piece: Piece) -> None:
        self.folder(piece.path.parent)
        write_atomic(piece.path, piece.text)
        piece.path.chmod(0o644)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def run(self, *argv: str, seconds: float = _COMMAND_SECONDS) -> str:
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
        except FileNotFoundError as error:
            raise InfraError(f"{argv[0]} is missing", "This needs a machine with systemd") from error
        except subprocess.TimeoutExpired as error:
            raise InfraError(f"`{' '.join(argv)}` has not ended after {seconds:g} s") from error
        if done.returncode:
            raise InfraError(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout


class SaidOnly:
    """Says what it would do, and does nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def write(self, piece: Piece) -> None:
        self._say(f"would write {piece.path}:\n\n{piece.text}")

    def remove(self, path: Path) -> None:
        self._say(f"would remove {path}")

    def folder(self, path: Path) -> None:
        self._say(f"would make the folder {path}")

    def run(self, *argv: str, seconds: float = _COMMAND_SECONDS) -> str:
        self._say(f"would run {' '.join(argv)}")
        return ""


class UnitState(Record):
    """One unit as systemd sees it. `main_pid` is 0 when it does not run."""

    unit: str
    load: str
    active: str
    sub: str
    enabled: str
    said: str
    main_pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Manager:
    """The service manager of a scope."""

    scope: Scope
    hands: Hands

    @property
    def _scope(self) -> tuple[str, ...]:
        return ("--user",) if self.scope is Scope.USER else ()

    def systemctl(self, *argv: str) -> str:
        return self.hands.run("systemctl", *self._scope, *argv)

    def verify(self, pieces: Iterable[Piece]) -> None:
        """Have systemd read the units before they are placed. Raises InfraError with what it does not like."""
        with tempfile.TemporaryDirectory(prefix="sleepy-coder-units-") as folder:
            files: list[str] = []
            for piece in pieces:
                if piece.is_unit:
                    file = Path(folder) / piece.path.name
                    file.write_text(piece.text)
                    files.append(str(file))
            self.hands.run("systemd-analyze", *self._scope, "verify", "--man=no", *files)

    def state(self, unit: str) -> UnitState:
        """What systemd knows of a unit; one that it does not know is `not-found`."""
        names = ("LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "MainPID", "NRestarts")
        said = RealHands().run("systemctl", *self._scope, "show", "--property", ",".join(names), unit)
        found = {name: value for name, _, value in (line.partition("=") for line in said.splitlines())}
        load, active, sub, enabled, words, pid, restarts = (found.get(name, "") for name in names)
        return UnitState(
            unit=unit, load=load, active=active, sub=sub, enabled=enabled, said=words,
            main_pid=int(pid or 0), restarts=int(restarts or 0),
        )  # fmt: skip

    def restart(self, unit: str, seconds: float) -> None:
        """Start the unit anew and wait until it is ready. Raises InfraError with its last words when it is not."""
        try:
            self.hands.run("systemctl", *self._scope, "restart", unit, seconds=seconds)
        except InfraError as error:
            remedy = f"Fix what it names, then run the same command again; all of its log: `{self.journal(unit)}`"
            raise InfraError(
                f"{unit} did not become ready; it says:\n{self.log(unit) or error.message}", remedy
            ) from error

    def journal(self, unit: str) -> str:
        """The command that shows a unit's log."""
        return f"journalctl {'--user ' if self._scope else ''}-u {unit} -o cat"

    def log(self, unit: str) -> str:
        try:
            return RealHands().run(*self.journal(unit).split(), "-n", str(_LOG_LINES), "--no-pager").strip()
        except InfraError as error:
            return error.message


def foreign(paths: Sequence[Path]) -> Path | None:
    """A file at one of these places that somebody else wrote, if there is one."""
    return next((path for path in paths if path.is_file() and MARK not in path.read_text(errors="replace")), None)


def ours(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Those of the files that an installation wrote."""
    return tuple(path for path in paths if path.is_file() and MARK in path.read_text(errors="replace"))
