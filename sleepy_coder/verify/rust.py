"""Rust verdicts: one call of the real rustc and one run of what it made, in one start of the sandbox."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sleepy_coder.errors import InfraError
from sleepy_coder.ports import Completed, Limits, Sandbox
from sleepy_coder.types import Outcome, Task, Verdict
from sleepy_coder.verify.diagnostics import (
    compact,
    failed_test,
    one_line,
    panic_message,
    read_errors,
    signature,
)

COMMANDS = frozenset({("rust-check",), ("rust-run",), ("rust-test",)})

# Warnings are not asked for, rather than capped: lints that deny by default are errors in real life too.
# Linking the standard library dynamically takes two thirds of the time of linking it statically.
FLAGS = ("--edition=2021", "--error-format=json", "-Awarnings", "-Cdebuginfo=0", "-Cprefer-dynamic")

_STARTED = "@started"
"""Divides rustc's stderr from the program's. rustc itself writes only JSON lines when it succeeds."""

_COMPILE = '"$@"'
_COMPILE_AND_RUN = f'cpu=$1; shift; "$@" || exit; echo {_STARTED} >&2; ulimit -S -t $cpu; exec /tmp/program'

# Errors by which rustc reports its machine, not its input.
_MACHINE = re.compile(
    r"linker `.*` not found|could not exec the linker|No space left|can't find crate for `(std|core|test)`"
    r"|couldn't create a temp|\(os error \d+\)"
)
_DETAIL = 4000

_Stage = Literal["compile", "run", "test"]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The real rustc. `version` is all of `rustc -Vv`; `libraries` holds the dynamic standard library."""

    sysroot: Path
    libraries: Path
    version: str

    @property
    def rustc(self) -> Path:
        return self.sysroot / "bin" / "rustc"

    @classmethod
    def find(cls) -> Toolchain:
        """The toolchain that `rustc` on PATH stands for. Raises InfraError when there is none."""
        try:
            sysroot, libraries = (Path(_output("rustc", "--print", what)) for what in ("sysroot", "target-libdir"))
            return cls(sysroot, libraries, _output(str(sysroot / "bin" / "rustc"), "-Vv"))
        except (OSError, subprocess.CalledProcessError) as error:
            raise InfraError(f"rustc does not work here ({error})", "Install Rust with rustup") from error


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@dataclass(frozen=True, slots=True)
class RustVerifier:
    """`ports.Verifier` for `rust-check`, `rust-run` and `rust-test` (see `types.Task`).

    `limits` hold for compiling and running together; the program itself gets `run_seconds` of CPU.
    The crate's root is `main.rs`, else `lib.rs`, else the first file.
    """

    sandbox: Sandbox
    toolchain: Toolchain
    limits: Limits = Limits()
    run_seconds: int = 5

    @property
    def fingerprint(self) -> str:
        """All, besides task and files, that a verdict depends on."""
        return "\n".join((self.toolchain.version, *FLAGS, repr(self.limits), str(self.run_seconds)))

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        """Compile, run and judge. A failure of the machine is a verdict too, with outcome INFRA."""
        root = root_file(files)
        try:
            hidden = HiddenTests.of(task, files) if task.command == ("rust-test",) else None
            placed = {**files, root: f"{files[root].rstrip()}\n\n{hidden.text}"} if hidden else files
            done = self.sandbox.run(
                self._command(task, root, files[root]),
                placed,
                self.limits,
                {"LD_LIBRARY_PATH": str(self.toolchain.libraries), "RUST_BACKTRACE": "0"},
            )
        except InfraError as error:
            return Verdict.infra(str(error)[:_DETAIL])
        diagnostics, started, stderr = done.stderr.partition(f"{_STARTED}\n")
        if not started and not (task.command == ("rust-check",) and done.returncode == 0):
            return self._not_compiled(done, diagnostics, files)
        if task.command == ("rust-check",):
            return Verdict(outcome=Outcome.PASS, stage="done", seconds=done.seconds)
        return self._judge_run(task, done, stderr, hidden)

    def _command(self, task: Task, root: str, source: str) -> tuple[str, ...]:
        rustc = (str(self.toolchain.rustc), root, *FLAGS)
        if task.command == ("rust-check",):
            kind = "bin" if re.search(r"\bfn\s+main\b", source) else "lib"
            check = (*rustc, f"--crate-type={kind}", "--emit=metadata", "--out-dir=/tmp")
            return ("/bin/sh", "-c", _COMPILE, "sh", *check)
        build = (*rustc, "-o", "/tmp/program", *(("--test",) if task.command == ("rust-test",) else ()))
        return ("/bin/sh", "-c", _COMPILE_AND_RUN, "sh", str(self.run_seconds), *build)

    def _not_compiled(self, done: Completed, diagnostics: str, files: Mapping[str, str]) -> Verdict:
        lines = diagnostics.split("\n")  # splitlines() ends a line at U+2028 too, which rustc's JSON holds as it is
        errors = list(read_errors(lines))
        if done.killed == "time":
            return Verdict.infra(f"rustc did not end within {self.limits.wall_seconds:g} s", done.seconds)
        if done.killed == "cpu":
            return _failed("compile", f"timed out after {self.limits.cpu_seconds} s", "timed out", done)
        # rustc ends with 1 for errors in its input, with 101 when it crashes, above when missing or killed.
        if not errors or (done.returncode != 1 and not done.killed) or _machines(errors[0].message):
            reason = f"rustc ended with status {done.returncode}: {diagnostics[-_DETAIL:]}"
            return Verdict.infra(reason[:_DETAIL], done.seconds)
        return _failed(
            "compile",
            compact(lines, files=files),
            signature(errors[0].error_code, errors[0].message),
            done,
            "".join(error.rendered or "" for error in errors),
        )

    def _judge_run(self, task: Task, done: Completed, stderr: str, hidden: HiddenTests | None) -> Verdict:
        stage: _Stage = "test" if hidden else "run"
        detail = f"{done.stdout}\n{stderr}"
        if done.killed:
            seconds = self.run_seconds if done.killed == "cpu" else self.limits.wall_seconds
            said = {"output": "too much output", "file": "wrote too large a file"}
            short = said.get(done.killed, f"timed out after {seconds:g} s")
            return _failed(stage, short, signature("", short), done, detail)
        if hidden and (failed := failed_test(done.stdout)):
            name, message = failed
            return _failed(stage, f"test {name} failed: {message}", signature("test", message), done, detail)
        if done.returncode != 0:
            kind, short = _crash(done.returncode, stderr)
            return _failed(stage, short, signature(kind, short.removeprefix(f"{kind}: ")), done, detail)
        if hidden and (missing := hidden.missing(done.stdout)):
            return _failed(stage, f"test {missing} did not run", "test did not run", done, detail)
        if not hidden and task.expected_stdout is not None and done.stdout != task.expected_stdout:
            short = wrong_output(task.expected_stdout, done.stdout)
            return _failed(stage, short, "wrong output", done, detail)
        return Verdict(outcome=Outcome.PASS, stage="done", seconds=done.seconds)


def root_file(files: Mapping[str, str]) -> str:
    """The crate's root: `main.rs`, else `lib.rs`, else the first file."""
    for name in ("main.rs", "lib.rs"):
        for path in files:
            if PurePosixPath(path).name == name:
                return path
    return next(iter(files))


_MODULE = re.compile(r"\bmod\s+(\w+)\s*\{")
_TEST = re.compile(r"#\[test\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?fn\s+(\w+)")
_MACRO = re.compile(r"(?<![:\w])(assert|assert_eq|assert_ne|panic|matches|format|vec)!")


@dataclass(frozen=True, slots=True)
class HiddenTests:
    """A task's tests as they are appended, made so that the file before them cannot stand in for them.

    Their module gets a name that depends on the tests themselves, which no submitted file knows; and
    their macros are named by path, which no `macro_rules!` of the file can shadow.
    """

    text: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, files: Mapping[str, str]) -> HiddenTests:
        """Raises InfraError when the task brings no tests: such a task would pass by itself."""
        names = tuple(_TEST.findall(task.hidden_tests))
        if not names:
            raise InfraError(f"task {task.id} has no hidden tests", "Give it some, or use rust-check")
        digest = hashlib.sha256("\0".join((task.hidden_tests, *files.values())).encode()).hexdigest()[:12]
        if len(_MODULE.findall(task.hidden_tests)) > 1:
            text = f"#[cfg(test)]\nmod hidden_{digest} {{\nuse super::*;\n{task.hidden_tests}\n}}\n"
        else:
            text = _MODULE.sub(f"mod hidden_{digest} {{", task.hidden_tests)
        module = f"hidden_{digest}::" if text != task.hidden_tests else ""
        return cls(_MACRO.sub(r"::std::\1!", text), tuple(f"{module}{name}" for name in names))

    def missing(self, stdout: str) -> str | None:
        """The first test that the harness does not report as passed."""
        for name, count in Counter(self.names).items():
            module, _, test = name.rpartition("::")
            inner = rf"{module}::(?:\w+::)*{test}" if module else test
            reported = re.findall(rf"^test {inner}(?: - should panic)? \.\.\. (?:ok|ignored)$", stdout, re.MULTILINE)
            if len(reported) < count:
                return test
        return None


def wrong_output(expected: str, got: str) -> str:
    """The first difference between two outputs, short."""
    pairs = zip([*expected.split("\n"), "\n"], [*got.split("\n"), "\n"], strict=False)
    want, have = next(((a, b) for a, b in pairs if a != b), ("\n", "\n"))
    shown = [f'"{one_line(side, 60)}"' if side != "\n" else "no more lines" for side in (want, have)]
    return f"wrong output: expected {shown[0]} but got {shown[1]}"


def _machines(message: str) -> bool:
    """A file that `include_str!` names and that is not there is the answer's fault."""
    return _MACHINE.search(message) is not None and not message.startswith("couldn't read")


def _crash(returncode: int, stderr: str) -> tuple[str, str]:
    """Kind and feedback for a program that ended with an error."""
    if message := panic_message(stderr):
        return "panicked", f"panicked: {message}"
    if "has overflowed its stack" in stderr:
        return "crashed", "crashed: stack overflow"
    if returncode > 128:
        return "crashed", f"crashed: signal {returncode - 128} {one_line(stderr, 100)}".rstrip()
    last = stderr.strip().rpartition("\n")[2]
    return "exit", f"exit code {returncode}: {one_line(last, 120)}".rstrip(": ")


def _failed(stage: _Stage, feedback: str, mistake: str, done: Completed, detail: str = "") -> Verdict:
    return Verdict(
        outcome=Outcome.FAIL,
        stage=stage,
        error_signature=mistake,
        feedback=feedback,
        detail=detail[:_DETAIL],
        seconds=done.seconds,
    )
