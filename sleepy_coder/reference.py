"""docs/reference/, written from the code: `python -m sleepy_coder.reference [--check]`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from rich.text import Text
from typer.models import OptionInfo, ParameterInfo

from sleepy_coder.cli import app
from sleepy_coder.config import CONFIG_FILE, HOME_VARIABLE, Config
from sleepy_coder.console import err, say
from sleepy_coder.errors import SleepyError
from sleepy_coder.events import COMMON, GROUPS, Event, kind_name
from sleepy_coder.files import write_atomic

FOLDER: Final = Path(__file__).parent.parent / "docs" / "reference"

_HEAD: Final = "<!-- Written by `make docs`; change the code instead. -->\n"
_EXAMPLE: Final = re.compile(r"\n*Example: (.+)\Z", re.DOTALL)
_BOUNDS: Final = (("minimum", ">= "), ("exclusiveMinimum", "> "), ("maximum", "<= "), ("exclusiveMaximum", "< "))


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `path` as it is typed, `text` its help without the example, `run` what it calls."""

    path: str
    text: str
    example: str
    run: Callable[..., Any]


def pages() -> dict[str, str]:
    """File name to text of every reference page."""
    return {"cli.md": cli_page(), "config.md": config_page(), "events.md": events_page()}


def commands() -> tuple[Command, ...]:
    """All commands. Raises SleepyError for one without help or without an example."""
    return tuple(_commands(app, "sleepy-coder"))


def _commands(group: typer.Typer, prefix: str) -> Iterator[Command]:
    for info in group.registered_commands:
        assert info.callback
        yield _command(f"{prefix} {info.name or info.callback.__name__}", info.callback)
    for sub in group.registered_groups:
        assert sub.typer_instance
        yield from _commands(sub.typer_instance, f"{prefix} {sub.name}")


def _command(path: str, run: Callable[..., Any]) -> Command:
    text = Text.from_markup(inspect.getdoc(run) or "").plain
    found = _EXAMPLE.search(text)
    if not text or not found:
        raise SleepyError(f"`{path}` has no help or no example", "give it a docstring and an `Example:`")
    return Command(path, _EXAMPLE.sub("", text), found[1], run)


def options(run: Callable[..., Any]) -> Iterator[tuple[str, str, str, str]]:
    """(name, value, default, sentence) of each parameter of a command."""
    for name, parameter in inspect.signature(run, eval_str=True).parameters.items():
        assert get_origin(parameter.annotation) is Annotated
        kind, info = get_args(parameter.annotation)[:2]
        required = parameter.default is inspect.Parameter.empty
        default = "" if required or parameter.default in (None, False) else f"`{parameter.default}`"
        yield _spelled(name, info), _value(kind, info), "required" if required else default, info.help or ""


def _spelled(name: str, info: ParameterInfo) -> str:
    if not isinstance(info, OptionInfo):
        return f"`{info.metavar or name.upper()}`"
    # `Option("--verbose", "-v")` inside Annotated: typer takes the first spelling for the default.
    first = (info.default,) if isinstance(info.default, str) else ()
    given = (*first, *(info.param_decls or ()))
    return ", ".join(f"`{spelling}`" for spelling in given or (f"--{name.replace('_', '-')}",))


def _value(kind: Any, info: ParameterInfo) -> str:
    union = () if get_origin(kind) is Literal else get_args(kind)
    plain = next((part for part in union if part is not type(None)), kind)
    if get_origin(plain) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(plain))
    if plain is bool:
        return "flag"
    several = get_origin(plain) is list
    plain = get_args(plain)[0] if several else plain
    bounds = [f"{sign} {end:g}" for sign, end in ((">=", info.min), ("<=", info.max)) if end is not None]
    if members := list(getattr(plain, "__members__", {}).values()):
        return ", ".join(f"`{member.value}`" for member in members)
    names = {"str": "text", "int": "integer", "float": "number", "Path": "path"}
    return ", ".join([names[plain.__name__], *bounds, *(["may be repeated"] if several else [])])


def cli_page() -> str:
    """Every command with its options and an example."""
    assert app.registered_callback and app.registered_callback.callback
    root = app.registered_callback.callback
    parts = [
        _HEAD + "# Commands",
        "Options of `sleepy-coder` itself stand before the command. Every command takes `--help`. "
        "With `--json`, stdout holds JSON and nothing else; progress and errors go to stderr.",
        "Exit status: 0 done, 1 an error (the message says what to do), 2 wrong usage, 130 stopped by Ctrl-C.",
        "## sleepy-coder",
        inspect.getdoc(root) or "",
        _options(root),
    ]
    for command in commands():
        parts += [f"## {command.path}", command.text, _options(command.run), f"```sh\n{command.example}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _options(run: Callable[..., Any]) -> str:
    rows = list(options(run))
    return _table(("option", "value", "default", "effect"), rows) if rows else ""


def config_page() -> str:
    """Every setting with its type, bounds, default and sentence."""
    parts = [
        _HEAD + "# Settings",
        f"Settings are read from `{CONFIG_FILE}` in the home folder (TOML) and from environment variables, which win. "
        "The variable of `server.url` is `SLEEPY_CODER_SERVER__URL`: two underscores stand for the dot. "
        "An unknown key, an unknown variable or a value out of bounds is an error that names it.",
        f"The home folder is the one of `--home`, else of `{HOME_VARIABLE}`, else the current folder. "
        "A `home` in the file has no effect. A relative `model.path` counts from the home folder.",
        '```toml\nseed = 7\n\n[server]\nurl = "http://127.0.0.1:8000"\nbase_name = "my-model"\n\n'
        '[model]\npath = "models/my-model"\n```',
        "## General",
        _settings(Config, ""),
    ]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            section = field.annotation
            parts += [f"## {name}", inspect.getdoc(section) or "", _settings(section, f"{name}.")]
    return "\n\n".join(parts) + "\n"


def _settings(section: type[BaseModel], prefix: str) -> str:
    rows: list[tuple[str, str, str, str]] = []
    for name, schema in section.model_json_schema()["properties"].items():
        if "$ref" in schema:
            continue
        default = "unset" if schema["default"] is None else f"`{schema['default']}`".replace("``", "empty")
        rows.append((f"`{prefix}{name}`", _bounded(schema), default, schema["description"]))
    return _table(("setting", "type", "default", "effect"), rows)


def _bounded(schema: Mapping[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind["type"] != "null"]
    if "enum" in kinds[0]:
        return " or ".join(f"`{value}`" for value in kinds[0]["enum"])
    name = {"string": "text"}.get(kinds[0]["type"], kinds[0]["type"])
    bounds = [f"{sign}{kinds[0][key]:g}" for key, sign in _BOUNDS if key in kinds[0]]
    return ", ".join([kinds[0].get("format", name), *bounds])


def events_page() -> str:
    """Every event of the log with its fields and their types."""
    common = [(f"`{name}`", kind_name(kind), sentence) for name, (kind, sentence) in COMMON.items()]
    parts = [
        _HEAD + "# Events of the log",
        "One JSON object a line, at most 4 KiB. Names, fields and types are stable; a line may lack a field. "
        "[Read the logs](../how-to/read-the-logs.md) has recipes.",
        "## On every line",
        "The last four only where there is something to say.",
        _table(("field", "type", "meaning"), common),
    ]
    for title, events in GROUPS.items():
        rows = [(f"`{name}`", event.sentence, _fields(event)) for name, event in events.items()]
        parts += [f"## {title}", _table(("event", "meaning", "fields"), rows)]
    return "\n\n".join(parts) + "\n"


def _fields(event: Event) -> str:
    return ", ".join(f"`{name}` {kind_name(kind)}" for name, kind in event.fields.items())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main(
    folder: Annotated[Path, typer.Option("--out", help="Folder of the pages.")] = FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a page is stale.")] = False,
) -> None:
    """Write the reference pages."""
    stale = [name for name, text in pages().items() if not _holds(folder / name, text)]
    if check and stale:
        say(f"stale: {', '.join(stale)}; run `make docs`", err)
        raise typer.Exit(1)
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        write_atomic(folder / name, pages()[name])


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    typer.run(main)
