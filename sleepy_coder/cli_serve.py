"""`sleepy-coder serve`."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Annotated

import typer

from sleepy_coder import wiring
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.console import err, explained, say
from sleepy_coder.errors import ConfigError
from sleepy_coder.serve.vllm_command import VllmCommand, listens_at, vllm_command


def serve_command(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default: the one of server.url.")] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the command line and start nothing.")] = False,
) -> None:
    """Serve the base model in the foreground, until Ctrl-C: with the embedded server, or with vLLM.

    `server.engine` chooses. vLLM is started with all the flags that the nights need; `server.vllm` may name the
    program of another environment, and `server.extra_args` are added. Both speak the same protocol.

    Example: [bold]sleepy-coder serve --print[/]
    """
    with explained():
        config = load_config()
        if config.server.engine == "vllm":
            command = vllm_command(config, wiring.model_path(config), port)
        else:
            command = VllmCommand(_embedded(config, port), {})
        if only_print:
            typer.echo(str(command))
            return
        _refuse_taken(config, port)
        say(f"serving {config.server.base_name} with {config.server.engine}; Ctrl-C ends it", err)
        try:
            # The server is this process from here on, and gets its signals itself.
            os.execvpe(command.argv[0], command.argv, {**os.environ, **command.environment})
        except OSError as error:
            reason = f"{command.argv[0]} cannot be started ({error.strerror})"
            raise ConfigError(reason, "Set server.vllm to the vllm program of the environment it lives in") from error


def _refuse_taken(config: Config, port: int | None) -> None:
    """Raises ConfigError when another process listens there; the server itself would say so when it has loaded."""
    host, number = listens_at(config.server.url, port)
    try:
        socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "end what listens there, or choose another --port and set server.url to it"
            raise ConfigError(f"port {number} of {host} is taken", remedy) from error


def _embedded(config: Config, port: int | None) -> tuple[str, ...]:
    host, number = listens_at(config.server.url, port)
    return (
        *(sys.executable, "-m", "sleepy_coder.serve.embedded"),
        *("--host", host, "--port", str(number)),
        *("--model", str(wiring.model_path(config)), *wiring.embedded_arguments(config)),
        *("--threads", str(config.server.threads or os.cpu_count() or 1)),
    )
