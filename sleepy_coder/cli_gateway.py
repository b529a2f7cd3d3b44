"""`sleepy-coder gateway`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sleepy_coder.config import load_config
from sleepy_coder.console import explained


def gateway_command(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: gateway.port.")] = None,
    verbose: Annotated[bool, typer.Option("--log", help="Log every event to stderr.")] = False,
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
