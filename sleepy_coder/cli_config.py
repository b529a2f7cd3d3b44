"""`sleepy-coder config ...`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic_settings import EnvSettingsSource
from rich.markup import escape

from sleepy_coder import wiring
from sleepy_coder.config import CONFIG_FILE, NANO, Config, CredentialSource, Section, ServerSettings, find_home
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, err, explained, out, say, table
from sleepy_coder.errors import ConfigError, ServerError
from sleepy_coder.files import write_atomic
from sleepy_coder.ports import ServedModel
from sleepy_coder.serve.client import VllmClient

config_app = typer.Typer(
    help="The settings of this home.\n\nExample: [bold]sleepy-coder config init[/]", no_args_is_help=True
)

_SECRET: Final = "api_key"
_USUAL_PORTS: Final = (8000, 8399, 8080, 8001)
_USUAL_LENGTH: Final = 4096
_LONGEST: Final = 8192
"""Longer conversations take more memory to train on than a first night should ask for."""
_LONGEST_REPLY: Final = 1024


@config_app.command("check")
def check(json: Json = False) -> None:
    """Check the settings. Exit status 1, with each wrong field, when they are not valid.

    Example: [bold]sudo sleepy-coder --home /var/lib/sleepy-coder config check && sudo systemctl reload sleepy-coder[/]
    """
    with explained():
        config = load_config()
        if config.model.path:
            wiring.model_path(config)
    changed = [name for name, default, value in _settings(config) if value != default and name != "home"]
    file = config.home / CONFIG_FILE
    if json:
        as_json({"file": str(file), "changed": changed})
    else:
        differ = f"{len(changed)} settings differ from the defaults" if changed else "all settings have their defaults"
        say(f"{file}: valid; {differ}" if file.exists() else f"no {file}; {differ}")


@config_app.command("show")
def show(
    every: Annotated[bool, typer.Option("--all", help="Show the defaults as well.")] = False, json: Json = False
) -> None:
    """The settings in force, and where each comes from. Keys are not shown.

    Example: [bold]sleepy-coder config show --all[/]
    """
    with explained():
        config = load_config()
    given = {"environment": EnvSettingsSource(Config)(), "credential": CredentialSource(Config)()}
    settings = [(name, value, _source(name, default, value, given)) for name, default, value in _settings(config)]
    if json:
        as_json({name: {"value": _shown(name, value), "from": source} for name, value, source in settings})
        return
    rows = [(name, str(_shown(name, value)), source) for name, value, source in settings if every or source]
    if rows:
        table(str(config.home / CONFIG_FILE), ("setting", "value", "from"), rows)
    else:
        say("all settings have their defaults; --all shows them")


@config_app.command("init")
def init(
    server: Annotated[str | None, typer.Option(help="URL of the model server; default: look for one.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of the base model, which nights train on; default: as the server says.")
    ] = None,
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
        if model is not None and not (model.expanduser() / "config.json").is_file():
            raise ConfigError(f"{model} holds no model (no config.json)", "name the folder of the base model: --model")
        url, served = _find_server(_with_scheme(server) if server else None)
        if not yes and (typed := typer.prompt("Model server", default=url, err=True)) != url:
            url, served = _find_server(_with_scheme(typed))
        base = served.name if served else NANO
        if not yes:
            base = typer.prompt("Name of the base model there", default=base, err=True)
        folder = model or (None if base == NANO else _model_folder(base, served, ask=not yes))
        usual = "01:00-06:00"
        hours = window or (usual if yes else typer.prompt("Hours of the nights", default=usual, err=True))
        _write(path, _first_settings(url, base, folder, served.max_length if served else None, hours))
    if json:
        as_json({"file": str(path), "server": url, "base": base, "model": folder, "window": hours})
    else:
        out.print(f"wrote {escape(str(path))}. Next: [bold]sleepy-coder doctor[/]", highlight=False, soft_wrap=True)


def _with_scheme(address: str) -> str:
    """`localhost:8000` is what people write."""
    return address if "://" in address else f"http://{address}"


def _find_server(given: str | None) -> tuple[str, ServedModel | None]:
    """A model server that answers and the base model it serves; the default's URL when none does."""
    urls = [given] if given else [f"http://127.0.0.1:{port}" for port in _USUAL_PORTS]
    for url in urls:
        with VllmClient(url, timeout=3) as client:
            try:
                served = [model for model in client.models() if model.parent is None]
            except (ServerError, ValueError, KeyError):
                continue
        say(f"found {', '.join(model.name for model in served)} at {url}", err)
        return url, served[0] if served else None
    say(f"nobody answers at {', '.join(urls)}", err)
    return given or ServerSettings.model_fields["url"].default, None


def _model_folder(base: str, served: ServedModel | None, *, ask: bool) -> Path | None:
    """The folder of `base`, as the server says where this machine has it too; None where nobody knows."""
    root = served.root if served else ""
    found = root if Path(root).is_absolute() and Path(root, "config.json").is_file() else ""
    if ask:
        found = typer.prompt(f"Folder of {base} on this machine", default=found, err=True).strip()
    if not found:
        say(f"nights need the folder of {base}: set model.path to it", err)
    return Path(found) if found else None


def _first_settings(url: str, base: str, folder: Path | None, room: int | None, hours: str) -> str:
    """The file. The defaults are the nano model's; another one has room for longer conversations and replies."""
    text = f'[server]\nurl = "{url}"\nbase_name = "{base}"\n'
    if base != NANO or folder:
        path = f'path = "{folder.expanduser().resolve()}"' if folder else '# path = "..."'
        length = min(room or _USUAL_LENGTH, _LONGEST)
        reply = min(length // 4, _LONGEST_REPLY)
        text += f'engine = "vllm"\n\n[model]\n{path}\nmax_length = {length}\n'
        text += f"\n[agent]\nmax_tokens = {reply}\n\n[eval]\nmax_tokens = {reply}\n"
    return f'{text}\n[night]\nwindow = "{hours}"\n'


def _write(path: Path, text: str) -> None:
    """Raises ConfigError for settings that are wrong; the file is as before then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else None
    write_atomic(path, text)
    try:
        load_config()
    except ConfigError:
        write_atomic(path, before) if before is not None else path.unlink()
        raise


def _settings(config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, default and value of each setting."""
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, Section):
            yield name, field.default, value
            continue
        for inner, what in type(value).model_fields.items():
            yield f"{name}.{inner}", what.default, getattr(value, inner)


def _source(name: str, default: Any, value: Any, given: Mapping[str, Mapping[str, Any]]) -> str:
    """Where a setting is from; empty when it is as it comes. The home is where one looks, and from nowhere."""
    if name == "home":
        return ""
    section, _, field = name.rpartition(".")
    for source, set_there in given.items():
        if field in (set_there.get(section, {}) if section else set_there):
            return source
    return CONFIG_FILE if value != default else ""


def _shown(name: str, value: Any) -> Any:
    return "***" if name.endswith(_SECRET) and value else value
