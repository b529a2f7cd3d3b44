"""`sleepy-coder pause`, `resume` and `logs`: for a daemon that runs in the background."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from shutil import which
from typing import Annotated

import typer

from sleepy_coder import wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, err, explained, say
from sleepy_coder.errors import ConfigError, SleepyError
from sleepy_coder.pause import Pause
from sleepy_coder.pause import pause as call_off
from sleepy_coder.pause import resume as call_on
from sleepy_coder.report.logs import readable
from sleepy_coder.report.words import counted
from sleepy_coder.serve.gateway_client import refuse_elsewhere

_UNIT = "sleepy-coder"


def pause_command(
    tonight: Annotated[bool, typer.Option("--tonight", help="Only the next night, or the one that runs.")] = False,
    hours: Annotated[float | None, typer.Option(min=0, max=8760, help="For this many hours.")] = None,
    reason: Annotated[str, typer.Option(help="Why; `status` shows it.")] = "",
    json: Json = False,
) -> None:
    """Have the daemon run no nights for a while.

    A night that it runs is asked to pause within a minute and goes on after the pause. A night in a
    terminal is not affected. Collecting goes on. Without an option it lasts until [bold]sleepy-coder resume[/].

    Example: [bold]sleepy-coder pause --tonight --reason "a demo tomorrow"[/]
    """
    with explained():
        config, now = load_config(), wiring.SystemClock().now()
        if tonight and hours is not None:
            raise ConfigError("--tonight and --hours say different things", "give one of them")
        if hours is not None and not hours > 0:  # nor is nan, which is within all bounds
            raise ConfigError("a pause must be longer than 0 hours", "give more, or end one with `sleepy-coder resume`")
        refuse_elsewhere(config, "pause")
        until = now + timedelta(hours=hours) if hours is not None else None
        if tonight:
            window = config.night.hours()
            until = window.coming(now).ends if window else now + timedelta(days=1)
        held = Pause(since=now, until=until, reason=reason)
        call_off(config.state, held)
    if json:
        as_json(held)
    else:
        until_when = f"until {until.astimezone():%A %H:%M %Z}" if until else "until `sleepy-coder resume`"
        say(f"no nights {until_when}")


def resume_command(json: Json = False) -> None:
    """Run nights again after a pause.

    Example: [bold]sleepy-coder resume[/]
    """
    with explained():
        config = load_config()
        refuse_elsewhere(config, "resume")
        was = call_on(config.state)
    if json:
        as_json({"was_paused": was})
    else:
        say("nights run again" if was else "nights were not paused")


def logs_command(
    nights: Annotated[bool, typer.Option("--nights", help="Only what the nights did.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log as it grows, until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(help='As journalctl takes it: "today", "-2h", "2026-11-20".')] = "-1d",
    user: Annotated[bool, typer.Option("--user", help="The log of this user's own service.")] = False,
    file: Annotated[Path | None, typer.Option(help="Read a file of JSON lines instead; - is stdin.")] = None,
    json: Json = False,
) -> None:
    """The daemon's log for people: one line per event, from the journal.

    Example: [bold]sleepy-coder logs --nights --since "2 days ago"[/]
    """
    with explained():
        no_events = 0

        def skipped(_: str) -> None:
            nonlocal no_events
            no_events += 1

        for line in readable(_lines(file, follow, since, user), nights=nights, raw=json, skipped=skipped):
            say(line)
        if no_events:
            say(f"{counted(no_events, 'line')} without an event left out", err)


def _lines(file: Path | None, follow: bool, since: str, user: bool) -> Iterable[str]:
    if file is not None:
        try:
            # A log is read to find out what went wrong: a byte that is no text is shown as one, and ends nothing.
            with sys.stdin.buffer if str(file) == "-" else file.open("rb") as lines:
                yield from (line.decode(errors="replace") for line in lines)
        except OSError as error:
            raise SleepyError(f"{file} cannot be read ({error.strerror})", "name a file of JSON lines") from error
        return
    if not which("journalctl"):
        remedy = "read the daemon's output with --file; `sleepyd` in a terminal prints its log there"
        raise SleepyError("there is no journalctl here", remedy)
    argv = ["journalctl", "--unit" if not user else "--user-unit", _UNIT, "--output", "cat", "--no-pager"]
    argv += ["--since", since, *(["--follow"] if follow else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace") as journal:
        assert journal.stdout and journal.stderr
        came = False
        for line in journal.stdout:
            came = True
            yield line
        status, said = journal.wait(), journal.stderr.read().strip()
        if status != 0:
            raise SleepyError(f"journalctl said: {said}", "try `journalctl -u sleepy-coder`")
        if not came:
            why = said or f"the journal has nothing from {_UNIT} since {since}"
            remedy = "try another --since, --user, or --file; `sleepyd` in a terminal prints its log there"
            say(f"{why}; {remedy}", err)
