"""The folder that an agent of anybody's works in: its files, its check, and what that says when the agent has ended.

The surest label there is for traffic: the check runs in the sandbox, on copies of the files, and an agent that
edited the tests or took code out has cheated (verify/cheat.py), whatever the tests say then.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from sleepy_coder.collect.check_command import check_of, speaks_of
from sleepy_coder.collect.project_files import missing_words, read_project
from sleepy_coder.errors import InfraError, SecretFound
from sleepy_coder.ports import Redactor, Verifier
from sleepy_coder.tasks import task_id
from sleepy_coder.types import Outcome, SessionCheck, Task, Verdict
from sleepy_coder.verify.cheat import is_unclear
from sleepy_coder.verify.installed import Installed

ORIGIN = "run"
_WORDS = ("error_signature", "feedback", "detail")
_PROSE = frozenset({".adoc", ".json", ".jsonl", ".lock", ".log", ".md", ".rst", ".txt"})
"""Files that explain, and those in which agents note what they did: who writes only these has built nothing."""
_BUILD_FILE = re.compile(
    r"(?:package|composer|deno|CMakePresets|[jt]sconfig(?:\.[\w.-]+)?)\.json"
    r"|CMakeLists\.txt|meson_options\.txt|BUILD|BUCK|WORKSPACE"
)
"""By these names the like of prose is a part of the program."""
_EACH_TIME = re.compile(
    r"\b0x[0-9a-f]+"
    r"|\b\d{4}-\d\d-\d\d(?:[T _]\d\d[:_-]\d\d[:_-]\d\d(?:[._]\d+)?Z?)?|\b\d\d?:\d\d(?::\d\d(?:\.\d+)?)?(?!\S)"
    r"|\b\d+\.\d+ ?(?:[mµ]?s\b|sec\b|seconds\b)?|\b\d+ ?(?:[mµ]?s|sec|seconds)\b"
)
"""Addresses, times of the day, and what took how long or is a number of that kind."""


def _language(folder: Path) -> str:
    tool = (check_of(folder).command or ("",))[0]
    return {"cargo": "rust", "pytest": "python", "python": "python"}.get(tool, "any")


def as_found(folder: Path, command: tuple[str, ...]) -> Task:
    """The project before the agent touches it. Raises TaskFormatError when it is too large for the sandbox."""
    files = read_project(folder)
    return Task(
        id=task_id(files, "", command, None, ""),
        family=f"run_{folder.resolve().name}",
        category=ORIGIN,
        language=_language(folder),
        files=files,
        prompt="",
        command=command,
        origin=ORIGIN,
        cluster="",
    )


def checked(
    verifier: Verifier, session: str, task: Task, folder: Path, installed: Installed | None = None
) -> SessionCheck | None:
    """What the task's check says of the folder as it is now, with the secrets of either.

    Of the project it holds what the agent changed, as that was before; a file that it made was empty. Whole projects
    would fill the store, which keeps episodes for ever, and nobody needs the rest of them.

    None where the agent changed no program, or none in the language of a default check: that it passes says nothing
    then. Raises InfraError when the agent left nothing.
    """
    files = read_project(folder, task.files)
    if not files:
        raise InfraError(f"{folder} holds no files any more", "nothing was verified")
    changed = _changed(task.files, files)
    if not speaks_of(task.command, filter(_is_program, changed)):
        return None
    found = _verdict(verifier, task, files, folder)
    if found.passed and installed is not None and (other := installed.changed):
        why = f"{other} was changed in the session: what passes with it shows nothing"
        found = Verdict.infra(why, found.seconds)
    touched = task.model_copy(update={"files": {name: task.files.get(name, "") for name in sorted(changed)}})
    return SessionCheck(session=session, task=touched, verdict=found)


def _verdict(verifier: Verifier, task: Task, files: Mapping[str, str], folder: Path) -> Verdict:
    """What the check says of `files`: nothing where it failed in the same way before the agent began.

    Whether a test that stays red was the agent's to mend is not known: a service may be missing here, or the test was
    red for long.
    """
    found = verifier.verify(task, files)
    if found.stage == "cheat" and is_unclear(task, files):
        return Verdict.infra(f"{found.feedback}, which may be honest: nobody can tell", found.seconds)
    if found.outcome is not Outcome.FAIL or found.stage == "cheat":
        return found
    before = verifier.verify(task, task.files)
    if before.outcome is Outcome.INFRA:
        return before
    if before.passed or _gist(before) != _gist(found):
        return found
    unseen = "; ".join(filter(None, (found.feedback, missing_words(folder, files))))
    return Verdict.infra(f"it failed before the session too, and in the same way: {unseen}", found.seconds)


def _gist(failed: Verdict) -> str:
    """What failed, without what is different in each run: times and addresses."""
    return _EACH_TIME.sub("_", failed.feedback)


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """The names of the files that were made, changed or removed."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _is_program(name: str) -> bool:
    """Whether the file may be a part of the program: not hidden, no prose, no README without a suffix."""
    path = PurePosixPath(name)
    if _BUILD_FILE.fullmatch(path.name):
        return True
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and path.suffix.lower() not in _PROSE and not path.name.isupper()


def harmless(redactor: Redactor, check: SessionCheck) -> SessionCheck:
    """The check as it may be kept: without secrets in its files, its command and what it said."""
    task, verdict = check.task, check.verdict
    words = {name: _harmless(redactor, getattr(verdict, name)) or "" for name in _WORDS}
    kept = {name: text for name in task.files if (text := _harmless(redactor, task.files[name])) is not None}
    command = _harmless_command(redactor, task.command)
    # The whole project's own id makes it another task than what changed the same stub elsewhere.
    shown = {"files": kept, "command": command, "id": task_id(kept, task.id, command, None, "")}
    shown_task, shown_verdict = task.model_copy(update=shown), verdict.model_copy(update=words)
    return check.model_copy(update={"task": shown_task, "verdict": shown_verdict})


def _harmless_command(redactor: Redactor, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without its secrets; its first word alone where a secret takes more than one word to be seen."""
    words = tuple(_harmless(redactor, word) or "" for word in command)
    text = shlex.join(words)
    return words if _harmless(redactor, text) == text else words[:1]


def _harmless(redactor: Redactor, text: str) -> str | None:
    """The text without its secrets; None when it cannot be freed of them (a private key)."""
    try:
        return redactor.redact(text)
    except SecretFound:
        return None
