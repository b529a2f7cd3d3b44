"""`sleepy-coder config ...`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from sleepy_coder.config import CONFIG_FILE, Config, Section, find_home, load_config
from sleepy_coder.console import as_json, err, explained, out, table
from sleepy_coder.errors import ConfigError, ServerError
from sleepy_coder.files import write_atomic
from sleepy_coder.serve.client import VllmClient

config_app = typer.Typer(
    help="The settings of this home.\n\nExample: [bold]sleepy-coder config init[/]", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

_SECRET: Final = "api_key"
_USUAL_PORTS: Final = (8000, 8399, 8080, 8001)


@config_app.command("check")
def check(json: Json = False) -> None:
    """Are the settings right? Exit status 1 with each wrong field when they are not.

    Example: [bold]sleepy-coder config check && systemctl reload sleepy-coder[/]
    """
    with explained():
        config = load_config()
    changed = [name for name, default, value in _settings(config) if value != default and name != "home"]
    file = config.home / CONFIG_FILE
    if json:
        as_json({"file": str(file), "changed": changed})
    elif not file.exists():
        out.print(f"no {file}; {len(changed)} settings differ from the defaults, by the environment")
    else:
        out.print(f"{file}: right; {len(changed)} settings differ from the defaults")


@config_app.command("show")
def show(
    every: Annotated[bool, typer.Option("--all", help="Also what is as it comes.")] = False, json: Json = False
) -> None:
    """The settings that hold, and where each is from. Keys are not shown.

    Example: [bold]sleepy-coder config show --all[/]
    """
    with explained():
        config = load_config()
    settings = [(name, value, _source(name, default, value)) for name, default, value in _settings(config)]
    if json:
        as_json({name: {"value": _shown(name, value), "from": source} for name, value, source in settings})
        return
    rows = [(name, str(_shown(name, value)), source) for name, value, source in settings if every or source]
    table(str(config.home / CONFIG_FILE), ("setting", "value", "from"), rows)
    if not rows:
        out.print("all settings are as they come; --all shows them")


@config_app.command("init")
def init(
    server: Annotated[str | None, typer.Option(help="URL of the model server; default: look for one.")] = None,
    window: Annotated[str | None, typer.Option(help="Hours of the nights, like 01:00-06:00.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take what is found without asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Json = False,
) -> None:
    """Write the first sleepy-coder.toml: finds the vLLM that runs here, and asks the few things that matter.

    Example: [bold]sleepy-coder config init --server http://127.0.0.1:8000 --yes[/]
    """
    with explained():
        path = find_home() / CONFIG_FILE
        if path.exists() and not force:
            raise ConfigError(f"{path} is there already", "edit it, or replace it with --force")
        url, names = _find_server(server)
        base = names[0] if names else "sleepy-base"
        if not yes:
            url = typer.prompt("Model server", default=url, err=True)
            base = typer.prompt("Name of the base model there", default=base, err=True)
        usual = "01:00-06:00"
        hours = window or (usual if yes else typer.prompt("Hours of the nights", default=usual, err=True))
        text = f'[server]\nurl = "{url}"\nbase_name = "{base}"\n\n[night]\nwindow = "{hours}"\n'
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else None
        write_atomic(path, text)
        try:
            load_config()
        except ConfigError:
            write_atomic(path, before) if before is not None else path.unlink()
            raise
    if json:
        as_json({"file": str(path), "server": url, "base": base, "window": hours})
    else:
        out.print(f"wrote {path}. Next: [bold]sleepy-coder doctor[/]", highlight=False)


def _find_server(given: str | None) -> tuple[str, list[str]]:
    """A model server that answers and the base models it serves; the default's URL when none does."""
    urls = [given] if given else [f"http://127.0.0.1:{port}" for port in _USUAL_PORTS]
    for url in urls:
        with VllmClient(url, timeout=3) as client:
            try:
                names = [model.name for model in client.models() if model.parent is None]
            except (ServerError, ValueError, KeyError):
                continue
        err.print(f"found {', '.join(names)} at {url}")
        return url, names
    err.print(f"nobody answers at {', '.join(urls)}", highlight=False, soft_wrap=True)
    return given or urls[0], []


def _settings(config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, default and value of each setting."""
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, Section):
            yield name, field.default, value
            continue
        for inner, what in type(value).model_fields.items():
            yield f"{name}.{inner}", what.default, getattr(value, inner)


def _source(name: str, default: Any, value: Any) -> str:
    """Where a setting is from; empty when it is as it comes."""
    if f"SLEEPY_CODER_{name.replace('.', '__').upper()}" in os.environ:
        return "environment"
    return CONFIG_FILE if value != default and name != "home" else ""


def _shown(name: str, value: Any) -> Any:
    return "***" if name.endswith(_SECRET) and value else value
