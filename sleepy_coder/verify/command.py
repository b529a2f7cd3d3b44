"""Verdicts by any command, and the dispatcher that every task goes through."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from sleepy_coder.errors import InfraError
from sleepy_coder.ports import Completed, Limits, Sandbox
from sleepy_coder.types import Outcome, Task, Verdict
from sleepy_coder.verify.cache import VerdictCache, cache_key
from sleepy_coder.verify.cheat import find_cheat
from sleepy_coder.verify.check_lines import SHELLS
from sleepy_coder.verify.diagnostics import compact, failed_test, read_errors, signature
from sleepy_coder.verify.installed import Installed
from sleepy_coder.verify.output import NO_TESTS, exhausted, found_no_test, lacking, nothing_tested, plain, tail
from sleepy_coder.verify.rust import COMMANDS, RustVerifier, Toolchain
from sleepy_coder.verify.sandbox import BubblewrapSandbox
from sleepy_coder.verify.tools import Tools, find_tools, identity, path_of

RUST_LIMITS = Limits()
# Runtimes such as Node's ask for far more addresses than they fill, sanitizers for nearly all there are; and they start
# threads by the number of processors.
COMMAND_LIMITS = Limits(
    wall_seconds=120.0,
    cpu_seconds=120,
    memory_bytes=64 << 30,
    processes=1024,
    open_files=4096,
    resident_bytes=8 << 30,
)

_CARGO_BUILDS = frozenset({"build", "check", "clippy", "run", "test"})
_DETAIL = 4000


class _Checker(Protocol):
    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict: ...


class _RustChecker(_Checker, Protocol):
    @property
    def fingerprint(self) -> str: ...


class _CommandChecker(_Checker, Protocol):
    def fingerprint_for(self, command: tuple[str, ...]) -> str: ...


@dataclass(frozen=True, slots=True)
class CommandVerifier:
    """`ports.Verifier` for an argv run in the files' folder: status 0 passes.

    Python and its packages are those that are `installed` before those of this process; cargo works offline with an
    empty home. `tools` are looked for before those of the system.
    """

    sandbox: Sandbox
    toolchain: Toolchain | None
    limits: Limits
    installed: Installed | None = None
    tools: Tools = Tools()

    def fingerprint_for(self, command: tuple[str, ...]) -> str:
        """All, besides task and files, that a verdict by `command` depends on."""
        version = self.toolchain.version if self.toolchain else ""
        limits = f"{self.limits!r} {self.limits.open_files} {self.limits.resident_bytes}"
        return "\n".join((version, limits, _python_environment(), identity(command, self._environment()["PATH"])))

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        """Run and judge. A failure of the machine, a missing tool, package or test included, has outcome INFRA."""
        found = self._run(task.command, files)
        if found.outcome is Outcome.FAIL and (missing := lacking(found, task.files)):
            before = self._run(task.command, task.files)
            # It was the same before anybody touched a file, and is nothing that the task's own fix puts there.
            if lacking(before, task.files) == missing and not self._mended_by_reference(task):
                return Verdict.infra(missing, found.seconds)
        return found

    def _mended_by_reference(self, task: Task) -> bool:
        return task.reference is not None and self._run(task.command, {**task.files, **task.reference}).passed

    def _run(self, argv: tuple[str, ...], files: Mapping[str, str]) -> Verdict:
        if argv[:1] == ("cargo",) and not _CARGO_BUILDS.isdisjoint(argv[1:2]):
            argv = (*argv[:2], "--message-format=json", *argv[2:])
        try:
            done = self.sandbox.run(argv, files, self.limits, self._environment())
        except InfraError as error:
            return Verdict.infra(str(error))
        done = replace(done, stdout=plain(done.stdout), stderr=plain(done.stderr))
        said = f"{done.stdout}\n{done.stderr}".strip()
        if done.returncode in (126, 127) and not done.killed and not self._has(argv[0], files):
            reason = f"`{' '.join(argv)}` cannot be run here: {said}"
            return Verdict.infra(reason[:_DETAIL], done.seconds)
        if not done.killed and found_no_test(argv, done.returncode, said):
            return _failed_without_tests(NO_TESTS, done.seconds)
        if done.returncode == 0 and not done.killed:
            if not nothing_tested(argv, done.stdout, files):
                return Verdict(outcome=Outcome.PASS, stage="done", seconds=done.seconds)
            return _failed_without_tests("no test ran, though there are some", done.seconds)
        feedback = self._feedback(done, files)
        return Verdict(
            outcome=Outcome.FAIL,
            stage="test",
            error_signature=signature("", feedback.partition("\n")[0]),
            feedback=feedback,
            detail=said[-_DETAIL:],
            seconds=done.seconds,
        )

    def _has(self, tool: str, files: Mapping[str, str]) -> bool:
        """Whether the sandbox could start `tool`: then the status is the program's own, a model's doing.

        A shell says nothing for sure, since it passes on that a tool was missing.
        """
        path = PurePosixPath(tool)
        if path.name in SHELLS:
            return False
        venv = self.installed.venv if self.installed else None
        if str(path) in files or (venv is not None and "/" in tool and venv.holds(tool)):
            return True
        folders = self._environment()["PATH"]
        if "/" in tool and str(path.parent) not in folders.split(":"):
            return False
        return shutil.which(path.name, path=folders) is not None

    def _environment(self) -> dict[str, str]:
        venv = self.installed.venv if self.installed else None
        binaries = [Path(sys.prefix) / "bin"]
        if venv:
            binaries.insert(0, venv.folder / "bin")
        if self.toolchain:
            binaries.append(self.toolchain.rustc.parent)
        return {
            "PATH": path_of(*binaries, *self.tools.folders),
            "PYTHONDONTWRITEBYTECODE": "1",
            # What was compiled beside the packages of a venv is nobody's word: who may write there may have put it.
            **({"PYTHONPYCACHEPREFIX": "/tmp/pycache"} if venv else {}),
            "CARGO_HOME": "/tmp/cargo",
            "CARGO_TARGET_DIR": "/tmp/target",
            "CARGO_NET_OFFLINE": "true",
            "CARGO_INCREMENTAL": "0",
            "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_PROFILE_TEST_DEBUG": "0",
            "RUST_TEST_THREADS": "2",
            **(self.installed.variables if self.installed else {}),
        }

    def _feedback(self, done: Completed, files: Mapping[str, str]) -> str:
        if done.killed:
            limits = {
                "time": f"timed out after {self.limits.wall_seconds:g} s",
                "cpu": f"timed out after {self.limits.cpu_seconds} s",
                "output": "too much output",
                "memory": f"took more than {(self.limits.resident_bytes or 0) >> 20} MiB of memory",
            }
            return limits.get(done.killed, "wrote too large a file")
        lines = done.stdout.split("\n")  # not splitlines(): cargo's JSON may hold U+2028 as it is
        if any(read_errors(lines)):
            return compact(lines, files=files)
        if failed := failed_test(done.stdout):
            return f"test {failed[0]} failed: {failed[1]}"
        return tail(done.stdout, done.stderr)


def _failed_without_tests(reason: str, seconds: float) -> Verdict:
    return Verdict(outcome=Outcome.FAIL, stage="test", feedback=reason, detail=reason, seconds=seconds)


@functools.cache
def _python_environment() -> str:
    packages = sorted(f"{found.name}={found.version}" for found in importlib.metadata.distributions())
    return "\n".join((sys.version, sys.prefix, *packages))


class TaskVerifier:
    """`ports.Verifier` for every task: no cheating, then the task's own check, remembered.

    Safe to call from many threads; at most `workers` sandboxes run at once.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        rust: _RustChecker | None,
        command: _CommandChecker,
        cache: VerdictCache | None = None,
        workers: int | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._rust = rust
        self._command = command
        self._cache = cache
        self._free = threading.BoundedSemaphore(workers or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._running: dict[str, Future[Verdict]] = {}

    @property
    def level(self) -> str:
        """The sandbox's level, for the records."""
        return self._sandbox.level

    def fingerprint_of(self, tasks: Sequence[Task]) -> str:
        """All that the verdicts on `tasks` depend on besides these: those of another machine do not compare."""
        commands = sorted({task.command for task in tasks if task.command not in COMMANDS})
        rust = self._rust.fingerprint if self._rust else "no rustc"
        return "\n".join((self.level, rust, *dict.fromkeys(map(self._command.fingerprint_for, commands))))

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        """See `ports.Verifier`. Raises StoreError when the cache cannot be used."""
        if reason := find_cheat(task, files):
            feedback = f"not allowed: {reason}"
            mistake = signature("cheat", reason)
            return Verdict(outcome=Outcome.FAIL, stage="cheat", error_signature=mistake, feedback=feedback)
        checker = self._rust if task.command in COMMANDS else self._command
        if checker is None:
            return Verdict.infra("rustc is missing. Install Rust with rustup")
        if self._cache is None:
            return self._check(checker, task, files)
        by_rust = self._rust if task.command in COMMANDS else None
        fingerprint = by_rust.fingerprint if by_rust else self._command.fingerprint_for(task.command)
        return self._remembered(self._cache, cache_key(task, files, fingerprint, self.level), checker, task, files)

    def _remembered(
        self, cache: VerdictCache, key: str, checker: _Checker, task: Task, files: Mapping[str, str]
    ) -> Verdict:
        """The cached verdict, else that of a check. Samples of one task are often equal: the first is checked, and
        those that come meanwhile wait for it."""
        if (known := cache.get(key)) and _lasts(task, files, known):
            return known
        with self._lock:
            running = self._running.get(key)
            if running is None and (known := cache.get(key)) and _lasts(task, files, known):  # who had it just finished
                return known
            mine = self._running.setdefault(key, Future())
        if running is not None:
            return running.result()
        try:
            found = self._check(checker, task, files)
            cache.put(key, found)
            mine.set_result(found)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._running[key]
        return found

    def forgetful(self) -> TaskVerifier:
        """The same, without memory: what it says is about now. It shares the room for sandboxes."""
        other = TaskVerifier(self._sandbox, self._rust, self._command)
        other._free = self._free
        return other

    def close(self) -> None:
        """Close the cache. Nothing may be verified afterwards."""
        if self._cache:
            self._cache.close()

    def _check(self, checker: _Checker, task: Task, files: Mapping[str, str]) -> Verdict:
        with self._free:
            found = checker.verify(task, files)
            if _timed_out(found) and not self._in_time(checker, task, files):
                said = "it timed out, and so does its control: the machine is too slow just now"
                return Verdict.infra(said, found.seconds)
            if exhausted(found, task.files):
                control = checker.verify(task, {**task.files, **(task.reference or {})})
                if control.outcome is Outcome.INFRA or exhausted(control, task.files):
                    said = "the machine ran out of memory or disk, or killed a tool, and so it does for the control"
                    return Verdict.infra(f"{said}: {found.feedback}"[:_DETAIL], found.seconds)
            return found

    def _in_time(self, checker: _Checker, task: Task, files: Mapping[str, str]) -> bool:
        """The control of a timeout: whether the task's own fix passes right now, or the input where none is known.

        An input that times out by itself has no control.
        """
        if task.reference is not None:
            return checker.verify(task, {**task.files, **task.reference}).passed
        return files == task.files or not _timed_out(checker.verify(task, task.files))


def _lasts(task: Task, files: Mapping[str, str], known: Verdict) -> bool:
    """Whether a remembered verdict still counts.

    One by which the task cannot tell its own fix from its broken input may be about the machine of that day, such as a
    tool that was broken. It is asked again each time, or one bad night would leave the task out for good.
    """
    if files == task.files:
        return not known.passed
    return known.passed or task.reference is None or files != {**task.files, **task.reference}


def _timed_out(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.FAIL and verdict.feedback.startswith("timed out")


def verifier(
    cache: Path | None = None,
    *,
    installed: Installed | None = None,
) -> TaskVerifier:
    """The verifier of this machine: the real sandbox, the tools on PATH, this Python; `installed` is a project's.

    `cache` is the file to remember verdicts in. Without a Rust toolchain, Rust tasks end as INFRA.
    Raises SandboxUnavailable when model-written code cannot be contained here.
    """
    try:
        toolchain = Toolchain.find()
    except InfraError:
        toolchain = None
    shown = [toolchain.sysroot] if toolchain else []
    shown += [Path(sys.prefix), Path(sys.base_prefix)]
    tools = installed.tools if installed else find_tools(os.environ.get("PATH", ""), Path.home())
    shown += installed.shown if installed else tools.shown
    sandbox = BubblewrapSandbox(shown, installed.project if installed else None)
    return TaskVerifier(
        sandbox,
        RustVerifier(sandbox, toolchain, RUST_LIMITS) if toolchain else None,
        CommandVerifier(sandbox, toolchain, COMMAND_LIMITS, installed, tools),
        VerdictCache(cache) if cache else None,
    )
