"""`sleepy-coder run -- AGENT ARGS...`."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer

from sleepy_coder import wiring
from sleepy_coder.collect.agent_run import command_line, environment
from sleepy_coder.collect.check_command import check_of, lacks_tool, typed
from sleepy_coder.collect.project import as_found, checked
from sleepy_coder.collect.project_files import missing_words
from sleepy_coder.config import CONFIG_FILE, Config
from sleepy_coder.config_load import load_config
from sleepy_coder.console import as_json, err, explained, say
from sleepy_coder.errors import ConfigError, ServerUnreachable, SleepyError
from sleepy_coder.ports import Verifier
from sleepy_coder.serve.gateway_client import VerifierWord, gateway_answers, tell_verdict
from sleepy_coder.types import Task
from sleepy_coder.verify.installed import Installed, find_installed


def run_command(
    agent: Annotated[list[str], typer.Argument(metavar="AGENT ARGS...", help="The agent's own command line.")],
    verify: Annotated[
        str,
        typer.Option(
            help="The command that checks the result; default: run.verify, else by the folder (cargo test, pytest, "
            "npm test, go test, make test, ...)."
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, after the agent has ended.")] = False,
) -> None:
    """Run a coding agent in this folder through the gateway, and verify what it leaves behind.

    The agent finds the gateway through its usual variables (OPENAI_BASE_URL, ANTHROPIC_BASE_URL, ...), and its whole
    session becomes one episode with a verifier's outcome. Ends with the agent's own status. Options of `run` stand
    before the agent's name; all that follows is the agent's.

    Example: [bold]sleepy-coder run -- aider --model openai/sleepy-coder[/]
    """
    folder = Path.cwd()
    with explained():
        config = load_config(here=False)
        url = _gateway(config)
        session = f"run-{uuid.uuid4().hex[:12]}"
        task = _task(folder, verify.strip() or config.run.verify.strip())
        awaited = VerifierWord(session=session, nonce=secrets.token_hex(16), state="awaited")
        judge = _judge(folder, task) if task else None
        if judge:
            tell_verdict(config.gateway, awaited)
        variables = environment(url, session, config.gateway.alias, config.gateway.api_key, os.environ)
        command = command_line(agent, url, session, config.gateway.alias)
        status = _in_foreground(command, variables, sys.stderr if json else None)
        said = _verified(config, awaited, task, folder, judge) if task and judge else "not verified"
    if json:
        as_json({"session": session, "status": status, "outcome": said, "check": list(task.command) if task else None})
    else:
        by = f" by `{shlex.join(task.command)}`" if task else ""
        say(f"session {session}: {said}{by}", err)
    raise typer.Exit(status)


def _judge(folder: Path, task: Task) -> tuple[Verifier, Installed] | None:
    """Who will verify, with what is installed for the project; None, with a word why, when nobody can.

    Asked before the agent has done anything, which may take the environment away: whether a session counts must not
    hang on what an adapter did in it.
    """
    installed = find_installed(folder, os.environ, task.command)
    try:
        return wiring.open_project_verifier(installed), installed
    except SleepyError as error:
        say(f"the result cannot be verified: {error}", err)
        return None


def _verified(
    config: Config, awaited: VerifierWord, task: Task, folder: Path, judge: tuple[Verifier, Installed]
) -> str:
    """Verify what the agent left and have the gateway keep the verdict; what came of it, in words.

    A session of which the verifier has nothing to say has passed nothing. Raises ServerError, InfraError or
    SandboxUnavailable.
    """
    not_passed = awaited.model_copy(update={"state": "not_passed"})
    verifier, installed = judge
    try:
        check = checked(verifier, awaited.session, task, folder, installed)
    except (SleepyError, OSError, KeyboardInterrupt):
        with suppress(SleepyError):
            tell_verdict(config.gateway, not_passed)  # or the session waits for this word for a day
        raise
    if check is None:
        try:
            tell_verdict(config.gateway, not_passed)
        except SleepyError as error:
            say(f"the gateway was not told: {error}", err)
        return "not verified, for no program file that the check speaks of was changed"
    if not check.verdict.passed:
        say(check.verdict.feedback or check.verdict.detail, err)
    tell_verdict(config.gateway, awaited.model_copy(update={"state": "spoken", "check": check}))
    return check.verdict.outcome.value


def _gateway(config: Config) -> str:
    """The gateway's URL. Raises ServerUnreachable when it does not answer."""
    url = config.gateway.local_url
    if gateway_answers(config.gateway):
        return url
    remedy = "Start it: sleepy-coder gateway"
    if not config.reads_file and (config.home / CONFIG_FILE).is_file():
        remedy += f". If this folder is its home: `sleepy-coder --home . run`; else its {CONFIG_FILE} is not read"
    raise ServerUnreachable(f"no gateway answers at {url}", remedy)


def _task(folder: Path, verify: str) -> Task | None:
    """The project as it is now; None, with a word why, when it cannot be verified.

    Raises ConfigError for a `verify` that cannot be run: whoever typed it is there to mend it.
    """
    command, why = _command(folder, verify)
    if command is None:
        say(f"the result will not be verified: {why}; pass --verify", err)
        return None
    try:
        task = as_found(folder, command)
        if missing := missing_words(folder, task.files):
            say(missing, err)
        return task
    except SleepyError as error:
        say(f"the result cannot be verified: {error}", err)
        return None


def _command(folder: Path, verify: str) -> tuple[tuple[str, ...] | None, str]:
    """The check, or None and why there is none."""
    if verify:
        command = typed(verify)
        if lacks_tool(command, folder, os.environ):
            raise ConfigError(f"the check `{verify}` cannot be run: there is no {command[0]}", "Is it on PATH?")
        return command, ""
    found = check_of(folder)
    if found.command and lacks_tool(found.command, folder, os.environ):
        return None, f"`{shlex.join(found.command)}` would check it, and there is no {found.command[0]}"
    return found.command, found.why


def _in_foreground(agent: list[str], variables: dict[str, str], stdout: TextIO | None) -> int:
    """The agent's status; what it says goes to `stdout`.

    Ctrl-C is the agent's: this process waits for it, and verifies what it leaves.
    """
    try:
        started = subprocess.Popen(agent, env=variables, stdout=stdout)
    except OSError as error:
        reason = f"{agent[0]} cannot be started ({error.strerror})"
        raise ConfigError(reason, "Is it installed, and on PATH?") from error
    while True:
        with suppress(KeyboardInterrupt):
            status = started.wait()
            return 128 - status if status < 0 else status
