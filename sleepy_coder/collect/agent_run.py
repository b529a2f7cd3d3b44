"""An agent of anybody's, run on a folder: pointed at the gateway, and verified when it has ended.

The surest label there is for traffic: the check runs in the sandbox, on copies of the files, and an agent that
edited the tests or took code out has cheated (verify/cheat.py), whatever the tests say then.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from sleepy_coder.config import SESSION_VARIABLE
from sleepy_coder.errors import InfraError, SecretFound
from sleepy_coder.ports import Redactor, Verifier
from sleepy_coder.tasks import task_id
from sleepy_coder.tasks.loaders import project_files
from sleepy_coder.types import SessionCheck, Task

ORIGIN = "run"
_WORDS = ("error_signature", "feedback", "detail")
_PROVIDER = "sleepy-coder"
# Also for its subagents and titles, which would ask for models that are not served.
_CLAUDE_MODELS = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
)
# The first of these that is there tells how a folder is checked.
_CHECKS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Cargo.toml", ("cargo", "test", "--offline"), "rust"),
    ("pyproject.toml", ("pytest", "-q"), "python"),
    ("pytest.ini", ("pytest", "-q"), "python"),
    ("setup.py", ("pytest", "-q"), "python"),
)


def check_of(folder: Path) -> tuple[str, ...] | None:
    """The command that checks the project in `folder`; None when nothing there says so."""
    _, command, _ = _kind_of(folder)
    return command or None


def _kind_of(folder: Path) -> tuple[str, tuple[str, ...], str]:
    """The first of _CHECKS that fits, or one without a command."""
    return next((check for check in _CHECKS if (folder / check[0]).is_file()), ("", (), "any"))


def as_found(folder: Path, command: tuple[str, ...]) -> Task:
    """The project before the agent touches it. Raises TaskFormatError when it is too large for the sandbox."""
    files = project_files(folder)
    _, _, language = _kind_of(folder)
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


def checked(verifier: Verifier, session: str, task: Task, folder: Path) -> SessionCheck | None:
    """What the task's check says of the folder as it is now, with the secrets of either.

    None where the agent changed nothing: a check that passes says nothing of it then. Raises InfraError when the agent
    left nothing.
    """
    files = project_files(folder)
    if not files:
        raise InfraError(f"{folder} holds no files any more", "nothing was verified")
    if files == task.files:
        return None
    return SessionCheck(session=session, task=task, verdict=verifier.verify(task, files))


def harmless(redactor: Redactor, check: SessionCheck) -> SessionCheck:
    """The check as it may be kept: without secrets in its files, its command and what it said."""
    task, verdict = check.task, check.verdict
    words = {name: _harmless(redactor, getattr(verdict, name)) or "" for name in _WORDS}
    kept = {name: text for name in task.files if (text := _harmless(redactor, task.files[name])) is not None}
    command = _harmless_command(redactor, task.command)
    shown = {"files": kept, "command": command, "id": task_id(kept, task.prompt, command, None, "")}
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


def environment(gateway: str, session: str, alias: str, key: str | None, present: Mapping[str, str]) -> dict[str, str]:
    """`present` with what points an agent at the gateway, under the names that agents read.

    `gateway` is its URL without a path. A key that the user has set stays, unless the gateway asks for its own.
    """
    root = f"{gateway}/s/{session}"
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LLM_API_KEY")
    keys = {name: key or present.get(name) or "sleepy-coder" for name in names}
    points = {
        "OPENAI_BASE_URL": f"{root}/v1",
        "OPENAI_API_BASE": f"{root}/v1",
        "LLM_BASE_URL": f"{root}/v1",
        "ANTHROPIC_BASE_URL": root,
        "OPENAI_MODEL": alias,
        **dict.fromkeys(_CLAUDE_MODELS, alias),
        "AIDER_MODEL": f"openai/{alias}",
        # mini-swe-agent stops at a model without a known price, and asks for its settings at its first start.
        "MSWEA_MODEL_NAME": f"openai/{alias}",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_CONFIGURED": "true",
        "OPENCODE_CONFIG_CONTENT": _opencode(f"{root}/v1", alias, keys["OPENAI_API_KEY"]),
        SESSION_VARIABLE: session,
    }
    return {**present, **points, **keys}


def command_line(agent: Sequence[str], gateway: str, session: str, alias: str) -> list[str]:
    """The agent's command line; Codex, which reads no variable for this, is pointed at the gateway by options."""
    if Path(agent[0]).name != "codex":
        return list(agent)
    settings = {
        "model": alias,
        "model_provider": _PROVIDER,
        f"model_providers.{_PROVIDER}.name": _PROVIDER,
        f"model_providers.{_PROVIDER}.base_url": f"{gateway}/s/{session}/v1",
        f"model_providers.{_PROVIDER}.wire_api": "responses",
        f"model_providers.{_PROVIDER}.env_key": "OPENAI_API_KEY",
    }
    # A JSON text is TOML as well.
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={json.dumps(value)}")]
    return [agent[0], *options, *agent[1:]]


def _opencode(url: str, alias: str, key: str) -> str:
    """Settings that opencode lays over those of its files."""
    provider: dict[str, object] = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": url, "apiKey": key},
        "models": {alias: {}},
    }
    return json.dumps({"provider": {_PROVIDER: provider}, "model": f"{_PROVIDER}/{alias}"})
