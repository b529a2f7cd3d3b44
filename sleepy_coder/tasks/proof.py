"""The proof that a draft is what it claims: the real compiler refuses one form and runs the other.

Only for programs that this package wrote itself: nothing here is sandboxed.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sleepy_coder.errors import InfraError, SleepyError
from sleepy_coder.tasks.koans.family import Draft
from sleepy_coder.verify.rust import Toolchain

_FLAGS = ("--edition=2021", "-Awarnings", "-Cprefer-dynamic", "-Cdebuginfo=0")
_WALL_SECONDS = 30.0


class ProofError(SleepyError):
    """A draft does not fail, or does not work, the way its family says."""


@dataclass(frozen=True, slots=True)
class Rustc:
    """A real compiler (not rustup's shim, which costs more than compiling a koan) and its libraries."""

    path: Path
    libraries: Path

    @classmethod
    def find(cls) -> Rustc:
        """The compiler of the active toolchain. Raises InfraError when there is none."""
        found = Toolchain.find()
        return cls(found.rustc, found.libraries)

    def error_codes(self, program: str) -> frozenset[str]:
        """The codes of all errors in `program`; `""` stands for an error that has none."""
        with tempfile.TemporaryDirectory() as folder:
            done = self._compile(program, folder, "--emit=metadata", "--error-format=json")
        diagnostics = [json.loads(line) for line in done.stderr.split("\n") if line.startswith("{")]
        # The closing "aborting due to ..." is an error too, but points at no place.
        errors = [item for item in diagnostics if item["level"] == "error" and item["spans"]]
        return frozenset((item["code"] or {"code": ""})["code"] for item in errors)

    def output(self, program: str, tests: str = "") -> str:
        """What `program` prints; with `tests`, what its test run prints.

        Raises ProofError when it does not compile, does not end well, or prints different things in two runs.
        """
        with tempfile.TemporaryDirectory() as folder:
            source = f"{program}\n{tests}" if tests else program
            built = self._compile(source, folder, *(["--test"] if tests else []))
            if built.returncode:
                raise ProofError(f"it does not compile:\n{built.stderr}")
            environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}
            runs = [_run([f"{folder}/out"], environment=environment) for _ in range(1 if tests else 2)]
        for done in runs:
            if done.returncode:
                raise ProofError(f"it ends with status {done.returncode}:\n{done.stdout}{done.stderr}")
        if runs[0].stdout != runs[-1].stdout:
            raise ProofError("it prints something else each time")
        return runs[0].stdout

    def _compile(self, program: str, folder: str, *flags: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self.path), *_FLAGS, *flags, "--crate-name=koan", "-o", f"{folder}/out", "-"]
        return _run(argv, program)


def prove(rustc: Rustc, draft: Draft, error_code: str) -> str | None:
    """What the fixed form prints, or None for a draft that is judged by its tests.

    Raises ProofError unless the buggy form fails with exactly `error_code` and the fixed form works.
    """
    codes = rustc.error_codes(draft.buggy)
    if codes != frozenset({error_code}):
        raise ProofError(f"the buggy form fails with {sorted(codes)} instead of {error_code}")
    try:
        printed = rustc.output(draft.fixed, draft.tests)
    except ProofError as error:
        raise ProofError(f"the fixed form fails: {error.message}") from error
    if draft.tests:
        return None
    if not printed:
        raise ProofError("the fixed form prints nothing, so nothing can be checked")
    return printed


def _run(
    argv: list[str], stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"{Path(argv[0]).name} took more than {_WALL_SECONDS:.0f} s") from error
    except OSError as error:
        raise InfraError(f"{argv[0]} cannot be started: {error}", "Reinstall the Rust toolchain") from error
