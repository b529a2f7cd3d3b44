"""`sleepy-coder gateway` and `sleepy-coder feedback`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, explained, say
from sleepy_coder.errors import SleepyError
from sleepy_coder.serve.gateway_client import tell_feedback


def gateway_command(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: gateway.port.")] = None,
    verbose: Annotated[bool, typer.Option("--log", "--verbose", "-v", help="Log every event to stderr.")] = False,
) -> None:
    """Put the gateway in front of the model server, in the foreground, until Ctrl-C.

    Point coding agents at it and have them ask for the model `sleepy-coder`: they get the adapter that serves
    now, and a redacted copy of what they do is kept for the nights.

    Example: [bold]sleepy-coder gateway --port 8400[/]
    """
    with explained():
        config = load_config()
        argv = [sys.executable, "-m", "sleepyd.gateway_main", "--home", str(config.home)]
        argv += ["--port", str(port)] if port else []
        argv += ["--verbose"] if verbose else []
        # The daemon stands above the command line: it is not imported, this process becomes it.
        os.execv(argv[0], argv)


class Said(StrEnum):
    """What somebody says of a session."""

    GOOD = "good"
    BAD = "bad"


def feedback_command(
    session: Annotated[str, typer.Argument(help="The session: a path tag, or what the agent calls it.")],
    said: Annotated[Said, typer.Argument(help="Whether its result was right.")],
    note: Annotated[str, typer.Option(help="What you have to say about it.")] = "",
    json: Json = False,
) -> None:
    """Tell whether a session went well, before it has come to rest. It is a hint: only verifiers' verdicts train.

    Example: [bold]sleepy-coder feedback my-session bad --note "it deleted a test"[/]
    """
    with explained():
        if not session.strip():
            raise SleepyError("no session was named", "`sleepy-coder episodes list` shows them")
        tell_feedback(load_config(here=False).gateway, session, said is Said.GOOD, note)
    if json:
        as_json({"session": session, "said": said})
    else:
        say(f"noted: {session} was {said}")
