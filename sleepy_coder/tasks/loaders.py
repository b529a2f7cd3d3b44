"""Tasks from a user's own files: JSON lines, or a folder of cargo projects."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from sleepy_coder.errors import TaskFormatError, problems
from sleepy_coder.tasks import task_id
from sleepy_coder.tasks.koans.family import cluster_of
from sleepy_coder.types import Task

MAX_FILE_BYTES = 64 << 10
MAX_PROJECT_BYTES = 256 << 10

_PROMPT_FILES = (
    "README.md",
    "instructions.md",
    "INSTRUCTIONS.md",
    "docs/instructions.md",
    ".docs/instructions.md",
    "HELP.md",
)
_OPERATORS = frozenset({"&&", "||", ";", "|"})
_CARGO_TEST = ("cargo", "test", "--offline")


class _Short(BaseModel):
    """A task as a person writes it. Whatever is left out follows from the rest."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str
    code: str | None = None
    files: dict[str, str] | None = None
    command: list[str] | None = None
    tests: str = ""
    expected_stdout: str | None = None
    family: str = "user"
    category: str = "user"
    language: str = "rust"
    error_code: str = ""
    reference: dict[str, str] | None = None

    def task(self, origin: str) -> Task:
        """The full record. Raises ValueError when it does not say what to fix or how to check it."""
        if (self.code is None) == (self.files is None):
            raise ValueError("give either `code` (one program) or `files` (path to text)")
        files = self.files if self.files is not None else {"main.rs": self.code or ""}
        if not files or not any(text.strip() for text in files.values()):
            raise ValueError("there is no program in it")
        if self.command is not None and not self.command:
            raise ValueError("`command` is empty")
        if self.command is None and self.language != "rust":
            raise ValueError(f"a {self.language} task needs a `command`")
        command = tuple(self.command) if self.command else self._rust_command()
        return Task(
            id=task_id(files, self.prompt, command, self.expected_stdout, self.tests),
            family=self.family,
            category=self.category,
            language=self.language,
            files=files,
            prompt=self.prompt,
            command=command,
            origin=origin,
            cluster=_cluster(files),
            error_code=self.error_code,
            expected_stdout=self.expected_stdout,
            hidden_tests=self.tests,
            reference=self.reference,
        )

    def _rust_command(self) -> tuple[str, ...]:
        if self.tests:
            return ("rust-test",)
        if self.expected_stdout is None:
            raise ValueError("it cannot be checked: give `tests`, `expected_stdout` or `command`")
        return ("rust-run",)


def load_tasks(path: Path) -> tuple[Task, ...]:
    """The tasks of a folder of cargo projects, or of a JSON-lines file. Raises TaskFormatError, also for none."""
    return tuple(task for _, task in placed_tasks(path))


def placed_tasks(path: Path) -> tuple[tuple[str, Task], ...]:
    """The tasks of `load_tasks`, each with where it stands: the folder, or the line of the file."""
    if path.is_dir():
        return tuple((task.origin.removeprefix("cargo:"), task) for task in load_cargo_folder(path))
    placed = tuple((f"{path.name}, line {number}", task) for number, task in _numbered_tasks(path))
    if not placed:
        raise TaskFormatError(f"{path} holds no task", "write one a line, as docs/how-to/own-tasks.md shows")
    return placed


def load_jsonl(path: Path) -> tuple[Task, ...]:
    """The tasks of a JSON-lines file, in order.

    A line is a full Task record or a short one: `prompt`, `code` or `files`, and `tests`,
    `expected_stdout` or `command`. Blank lines and lines that start with `#` are skipped.
    Raises TaskFormatError when the file cannot be read, and naming file, line and reason at the first line that is
    no task.
    """
    return tuple(task for _, task in _numbered_tasks(path))


def _numbered_tasks(path: Path) -> Iterator[tuple[int, Task]]:
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise TaskFormatError(f"{path} cannot be read: {error.strerror}", "Check the path") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            yield number, _task_of(line, origin=path.name)
        except ValueError as error:
            raise TaskFormatError(
                f"{path}, line {number}: {_reason(error)}",
                'The shortest task is {"prompt": ..., "code": ..., "expected_stdout": ...}',
            ) from error


def load_cargo_folder(path: Path) -> tuple[Task, ...]:
    """One Task per cargo project below `path`, checked with `cargo test --offline`, sorted by folder.

    A project is a folder with a Cargo.toml that has a `[package]`; its files are its text files of at
    most MAX_FILE_BYTES each. `target/`, hidden folders and whatever is no regular file are left out. The prompt is
    the README or the instructions, else the package's description.
    Raises TaskFormatError when there is no project, or one is damaged or above MAX_PROJECT_BYTES.
    """
    tasks = tuple(_cargo_task(manifest, path) for manifest in sorted(_walk(path)) if manifest.name == "Cargo.toml")
    found = tuple(task for task in tasks if task is not None)
    if not found:
        raise TaskFormatError(f"{path} holds no cargo project", "Name a folder with Cargo.toml files below it")
    return found


def _task_of(line: str, origin: str) -> Task:
    data: Any = json.loads(line)
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    fields = cast(dict[str, Any], data)
    if "id" not in fields:
        task = _Short.model_validate(fields).task(origin)
        _refuse_operators(task.command)
        return task
    task = Task.model_validate(fields)
    _refuse_operators(task.command)
    expected = task_id(task.files, task.prompt, task.command, task.expected_stdout, task.hidden_tests)
    if task.id != expected:
        raise ValueError(f"its id is {task.id}, but its content has the id {expected}; leave `id` out")
    return task


def _refuse_operators(command: tuple[str, ...]) -> None:
    """Raises ValueError for what only a shell understands: the first program would get the rest as its arguments."""
    for word in command:
        # `find -exec` ends with a semicolon, and `expr` compares with the bar.
        if word in _OPERATORS and command[0] not in ("expr", "find"):
            raise ValueError(f'no shell reads `command`, so {word} joins nothing: use ["sh", "-c", "A {word} B"]')


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(problems(error, "task"))
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    return str(error)


def _cluster(files: dict[str, str]) -> str:
    if len(files) == 1 and next(iter(files)).endswith(".rs"):
        return cluster_of(next(iter(files.values())))
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]


def _walk(path: Path) -> Iterator[Path]:
    """All plain files below `path`, without `target/`, hidden folders (but .docs), links, pipes and sockets."""
    for folder, folders, names in os.walk(path, followlinks=False):
        folders[:] = [n for n in folders if n != "target" and (not n.startswith(".") or n == ".docs")]
        yield from (file for name in names if stat.S_ISREG((file := Path(folder, name)).lstat().st_mode))


def _cargo_task(manifest: Path, root: Path) -> Task | None:
    """The task of one manifest; None for a workspace without a package of its own."""
    project = manifest.parent
    try:
        package = tomllib.loads(manifest.read_text("utf-8")).get("package")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskFormatError(f"{manifest} is not a manifest: {error}", "Correct it or leave it out") from error
    if not isinstance(package, dict):
        return None
    files = project_files(project)
    prompt = next((files[name] for name in _PROMPT_FILES if name in files), None)
    if prompt is None:
        prompt = str(cast(dict[str, Any], package).get("description", ""))
    if not prompt.strip():
        raise TaskFormatError(
            f"{project} does not say what is wanted", "Add a README.md or a description in Cargo.toml"
        )
    sources = {name: text for name, text in files.items() if not name.endswith(".md")}
    family = project.relative_to(root).parts[0] if project != root else project.name
    return Task(
        id=task_id(sources, prompt, _CARGO_TEST, None, ""),
        family=f"cargo_{family}",
        category="cargo",
        language="rust",
        files=sources,
        prompt=prompt.strip(),
        command=_CARGO_TEST,
        origin=f"cargo:{project.relative_to(root).as_posix()}",
        cluster=_cluster(sources),
    )


def text_of(file: Path, limit: int) -> str | None:
    """The text of a plain file; None for a link, a pipe, what is no text, and what has more than `limit` bytes."""
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text


def project_files(project: Path) -> dict[str, str]:
    """Path to text of a project's files: sources first, since edits go to the first file."""
    nested = {manifest.parent for manifest in _walk(project) if manifest.name == "Cargo.toml"} - {project}
    found: dict[str, str] = {}
    for file in _walk(project):
        if any(file.is_relative_to(other) for other in nested):
            continue
        if (text := text_of(file, MAX_FILE_BYTES)) is not None:
            found[file.relative_to(project).as_posix()] = text
    size = sum(len(text.encode()) for text in found.values())
    if size > MAX_PROJECT_BYTES:
        raise TaskFormatError(
            f"{project} has {size} bytes of text, more than {MAX_PROJECT_BYTES}", "Leave its data files out"
        )
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("src/"), item[0])))
