"""An agent of anybody's, run on a folder: pointed at the gateway, and verified when it has ended.

The surest label there is for traffic: the check runs in the sandbox, on copies of the files, and an agent that
edited the tests or took code out has cheated (verify/cheat.py), whatever the tests say then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sleepy_coder.errors import InfraError
from sleepy_coder.ports import Verifier
from sleepy_coder.tasks import task_id
from sleepy_coder.tasks.loaders import project_files
from sleepy_coder.types import SessionCheck, Task

ORIGIN = "run"
# The first of these that is there tells how a folder is checked.
_CHECKS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Cargo.toml", ("cargo", "test", "--offline"), "rust"),
    ("pyproject.toml", ("pytest", "-q"), "python"),
    ("pytest.ini", ("pytest", "-q"), "python"),
    ("setup.py", ("pytest", "-q"), "python"),
)


def check_of(folder: Path) -> tuple[str, ...] | None:
    """The command that checks the project in `folder`; None when nothing there says so."""
    return next((command for name, command, _ in _CHECKS if (folder / name).is_file()), None)


def as_found(folder: Path, command: tuple[str, ...]) -> Task:
    """The project before the agent touches it. Raises TaskFormatError when it is too large for the sandbox."""
    files = project_files(folder)
    language = next((language for name, _, language in _CHECKS if (folder / name).is_file()), "any")
    return Task(
        id=task_id(files, "", command, None, ""),
        family=f"run_{folder.resolve().name}",
        category=ORIGIN,
        language=language,
        files=files,
        prompt="",
        command=command,
        origin=ORIGIN,
        cluster="",
    )


def checked(verifier: Verifier, session: str, task: Task, folder: Path) -> SessionCheck:
    """What the task's check says of the folder as it is now. Raises InfraError when the agent left nothing."""
    files = project_files(folder)
    if not files:
        raise InfraError(f"{folder} holds no files any more", "nothing was verified")
    return SessionCheck(session=session, task=task, verdict=verifier.verify(task, files))


def environment(gateway: str, session: str, alias: str, key: str | None, present: Mapping[str, str]) -> dict[str, str]:
    """`present` with what points an agent at the gateway, under the names that agents read.

    `gateway` is its URL without a path. A key that the user has set stays, unless the gateway asks for its own.
    """
    root = f"{gateway}/s/{session}"
    points = {
        "OPENAI_BASE_URL": f"{root}/v1",
        "OPENAI_API_BASE": f"{root}/v1",
        "LLM_BASE_URL": f"{root}/v1",
        "ANTHROPIC_BASE_URL": root,
        "OPENAI_MODEL": alias,
        "ANTHROPIC_MODEL": alias,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": alias,
        "SLEEPY_CODER_SESSION": session,
    }
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LLM_API_KEY")
    keys = {name: key or present.get(name) or "sleepy-coder" for name in names}
    return {**present, **points, **keys}
