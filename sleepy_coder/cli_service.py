"""`sleepy-coder service`: the daemon as a service of systemd."""

from __future__ import annotations

import difflib
import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from sleepy_coder.config import HOME_VARIABLE
from sleepy_coder.console import Json, as_json, err, explained, say, table
from sleepy_coder.errors import ConfigError
from sleepy_coder.service import (
    KEYS,
    MODEL_SERVER,
    SERVICE,
    SOCKET,
    SYSTEM_HOME,
    TEMPLATES,
    Folders,
    Piece,
    Scope,
    Site,
    render,
)
from sleepy_coder.service_manager import Manager, RealHands, SaidOnly, foreign, ours
from sleepy_coder.service_site import find_site, home_of, left_behind

service_app = typer.Typer(
    help="The daemon as a service of systemd.\n\nExample: [bold]sleepy-coder service install --dry-run[/]",
    no_args_is_help=True,
)

_BOOTED: Final = Path("/run/systemd/system")
_LINGER: Final = Path("/var/lib/systemd/linger")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the steps without doing them.")]

User = Annotated[bool, typer.Option("--user", help="Your own service manager instead of the system's; needs no root.")]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Home of the daemon, with --user only; default: $SLEEPY_CODER_HOME, else $XDG_STATE_HOME/sleepy-coder.",
    ),
]


@service_app.command("install")
def install_command(
    user: User = False,
    home: Home = None,
    model_server: Annotated[
        bool, typer.Option("--model-server", help="Run `sleepy-coder serve` as a service too (sleepy-vllm).")
    ] = False,
    enable: Annotated[bool, typer.Option("--enable/--no-enable", help="Whether it starts at boot.")] = True,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Whether it starts now.")] = True,
    wait: Annotated[float, typer.Option(min=1, max=3600, help="Seconds that it may take to get ready.")] = 300,
    dry_run: DryRun = False,
) -> None:
    """Install the daemon, start it, and wait until it is ready. May be run again, after an update or a new setting.

    Example: [bold]sudo sleepy-coder service install --dry-run[/]
    """
    with explained():
        manager = _manager(user, dry_run, "install")
        left = left_behind()
        named = os.environ.get(HOME_VARIABLE)  # by `sleepy-coder --home` or by the environment
        if home is None and user and named:
            home = Path(named)
        elif named and home is None and Path(named) != SYSTEM_HOME:
            say(f"the service uses {SYSTEM_HOME}; {named} is not taken over (docs/how-to/install-as-a-service.md)")
        folders = Folders.of(manager.scope)
        served = model_server or bool(ours([folders.units / MODEL_SERVER]))
        site = find_site(manager.scope, home, served)
        units = [*([MODEL_SERVER] if served else []), SERVICE]
        _place(render(site, folders, [name for name in TEMPLATES if name != MODEL_SERVER or served]), site, manager)
        if enable:
            manager.systemctl("enable", SOCKET, *units)
        if start:
            manager.systemctl("start", SOCKET)
            for unit in units:
                if not dry_run:
                    say(f"starting {unit}", err)
                manager.restart(unit, wait)
        _tell(site, manager, left)


@service_app.command("uninstall")
def uninstall_command(user: User = False, dry_run: DryRun = False) -> None:
    """Stop the daemon and remove what `install` wrote. Data, keys and the user `sleepy-coder` stay.

    Example: [bold]sudo sleepy-coder service uninstall[/]
    """
    with explained():
        manager = _manager(user, dry_run, "uninstall")
        folders = Folders.of(manager.scope)
        home = home_of(manager.scope, folders)
        files = ours([path for path in map(folders.path, TEMPLATES) if path])
        units = [path.name for path in files if path.parent == folders.units]
        if units:
            manager.systemctl("disable", "--now", *units)
        for path in files:
            manager.hands.remove(path)
            if not dry_run:
                say(f"removed {path}")
        if units:
            manager.systemctl("daemon-reload")
        if not files:
            say("nothing is installed")
        say(f"what it learned stays in {home}" + ("" if user else f", its keys in {KEYS}, and its user sleepy-coder"))


@service_app.command("status")
def status_command(user: User = False, json: Json = False) -> None:
    """What systemd says of the service. Exit status: 0 when the daemon is ready, else 1.

    Example: [bold]sleepy-coder service status --json | jq -r '.units[].active'[/]
    """
    with explained():
        manager = Manager(Scope.USER if user else Scope.SYSTEM, RealHands())
        _needs_systemd()
        states = [manager.state(unit) for unit in (SERVICE, SOCKET, MODEL_SERVER)]
    known = [state for state in states if state.load != "not-found"]
    if json:
        as_json({"units": [state.model_dump() for state in known], "logs": manager.journal(SERVICE)})
    else:
        rows = [(s.unit, f"{s.active} ({s.sub})", s.enabled, str(s.restarts), s.said) for s in known]
        table("Service", ("unit", "state", "at boot", "restarts", "says"), rows)
        say(f"logs: {manager.journal(SERVICE)}")
    if states[0].active != "active":
        raise typer.Exit(1)


def check_rights(scope: Scope, command: str, uid: int) -> None:
    """Raises ConfigError, with the command to type, when this user cannot change the services of `scope`."""
    if scope is Scope.SYSTEM and uid != 0:
        remedy = f"Run `sudo {Path(sys.prefix) / 'bin' / 'sleepy-coder'} service {command}`, or add --user"
        raise ConfigError("the system's services can be changed by root only", remedy)


def _manager(user: bool, dry_run: bool, command: str) -> Manager:
    """Raises ConfigError when the command cannot work here."""
    scope = Scope.USER if user else Scope.SYSTEM
    if dry_run:
        return Manager(scope, SaidOnly(say))
    check_rights(scope, command, os.geteuid())
    _needs_systemd()
    return Manager(scope, RealHands())


def _needs_systemd() -> None:
    if not _BOOTED.is_dir():
        raise ConfigError("this machine was not booted by systemd", "`sleepyd` does the same in the foreground")


def _place(pieces: tuple[Piece, ...], site: Site, manager: Manager) -> None:
    """Write what is new, after systemd has read it."""
    if strange := foreign([piece.path for piece in pieces]):
        raise ConfigError(f"{strange} was not written by this command", "Move it away; own changes go into a drop-in")
    manager.verify([piece for piece in pieces if piece.is_unit])
    changed = [piece for piece in pieces if not piece.path.is_file() or piece.path.read_text() != piece.text]
    for piece in changed:
        if piece.path.is_file():
            _show_change(piece)
        manager.hands.write(piece)
    folders = Folders.of(site.scope)
    for piece in pieces:
        if piece.path.parent == folders.sysusers:
            manager.hands.run("systemd-sysusers", str(piece.path))
        if piece.path.parent == folders.tmpfiles:
            manager.hands.run("systemd-tmpfiles", "--create", str(piece.path))
    if site.scope is Scope.USER:
        manager.hands.folder(site.home)
    if changed:
        manager.systemctl("daemon-reload")
    if any(piece.path.name == SOCKET for piece in changed):  # the port of a running service cannot be changed
        manager.systemctl("stop", SERVICE, SOCKET)


def _show_change(piece: Piece) -> None:
    before, after = piece.path.read_text().splitlines(), piece.text.splitlines()
    say("\n".join(difflib.unified_diff(before, after, str(piece.path), "new", lineterm="")))


def _tell(site: Site, manager: Manager, left: tuple[str, ...]) -> None:
    """Where things are, and what the person still has to do."""
    say(f"home: {site.home}\nlogs: {manager.journal(SERVICE)}")
    if site.hidden:
        say(f"shown to the service, read-only, although in a home folder: {' '.join(map(str, site.hidden))}")
    if left:
        say(f"not passed on: {', '.join(left)}. The service reads {site.home / 'sleepy-coder.toml'} and keys in {KEYS}")
    if not any((tool / "rustc").is_file() for tool in site.tools):
        say("no rustc was found: put it on PATH and run this again, or Rust tasks are not judged")
    if site.scope is Scope.USER and not (_LINGER / getpass.getuser()).exists():
        say("it ends when you log out; `loginctl enable-linger` keeps it running")
