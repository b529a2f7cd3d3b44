"""`sleepy-coder adapters ...` and `sleepy-coder episodes ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown

from sleepy_coder import log, wiring
from sleepy_coder.collect.formats import ExportFormat
from sleepy_coder.collect.intake import export_file, import_file
from sleepy_coder.config import load_config
from sleepy_coder.console import as_json, explained, out, table
from sleepy_coder.types import Outcome

adapters_app = typer.Typer(help="The adapters that the nights produced.", no_args_is_help=True)
episodes_app = typer.Typer(help="What was collected by day.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@adapters_app.command("list")
def list_adapters(json: Json = False) -> None:
    """All adapters with their state."""
    with explained():
        found = wiring.open_registry(load_config()).adapters()
    if json:
        as_json(list(found))
        return
    rows = [(a.name, a.state, str(a.cycle), a.parent or "base", a.sha256[:12]) for a in found]
    table("Adapters", ("name", "state", "night", "parent", "sha256"), rows)


@adapters_app.command("show")
def show_adapter(name: Annotated[str, typer.Argument()], json: Json = False) -> None:
    """The model card of an adapter; with --json its manifest."""
    with explained():
        registry = wiring.open_registry(load_config())
        manifest = registry.manifest(name)
        if json:
            as_json(manifest)
            return
        card = (registry.get(name).path / "README.md").read_text()
    out.print(Markdown(card.split("---", 2)[-1]))


@adapters_app.command("rollback")
def rollback(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, json: Json = False) -> None:
    """Go back to the adapter that served before, or to the base. Takes effect at once.

    The adapter that served is quarantined and is never served again.
    """
    with explained():
        config = load_config()
        registry = wiring.open_registry(config)
        active = registry.active()
        if active is None:
            if json:
                as_json({"serving": config.server.base_name, "quarantined": None})
            else:
                out.print(f"{config.server.base_name} serves; there is nothing to roll back")
            return
        target = registry.previous() or config.server.base_name
        if not yes:
            typer.confirm(f"Replace {active.name} by {target}?", abort=True)
        now = registry.rollback()
    serving = now.name if now else config.server.base_name
    if json:
        as_json({"serving": serving, "quarantined": active.name})
    else:
        out.print(f"{serving} serves; {active.name} is quarantined")


@episodes_app.command("list")
def list_episodes(
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """Episodes, oldest first."""
    with explained(), wiring.open_store(load_config()) as store:
        found = list(store.episodes(outcome=outcome, limit=limit))
        total = store.count_episodes(outcome=outcome)
    if json:
        as_json(found)
        return
    rows = [
        (
            e.id[:8],
            f"{e.created:%m-%d %H:%M}",
            e.source,
            e.task.family if e.task else "",
            str(len(e.attempts)),
            e.outcome,
        )
        for e in found
    ]
    table(f"{len(found)} of {total} episodes", ("id", "when", "source", "family", "attempts", "outcome"), rows)


@episodes_app.command("import")
def import_episodes(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], json: Json = False) -> None:
    """Import episodes from JSON or JSONL, with secrets redacted. The format is found out entry by entry.

    Known are our own exports, sleepy-episode/1, mini-swe-agent's traj.json, OpenAI chat and Hugging Face messages,
    and ShareGPT. Known episodes are skipped; bad entries are quarantined with their reason.

    Example: [bold]sleepy-coder episodes import run.traj.json[/]
    """
    with explained():
        config = load_config()
        with wiring.open_store(config) as store:
            counts = import_file(file, store, wiring.open_redactor(config).redact)
    if counts.quarantined:
        log.get("store").warning("store.quarantined", source=str(file), lines=counts.quarantined)
    if json:
        as_json(counts)
    else:
        out.print(f"{counts.imported} imported, {counts.known} known already, {counts.quarantined} quarantined")


@episodes_app.command("export")
def export_episodes(
    file: Annotated[Path, typer.Argument(dir_okay=False)],
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="Whole episodes, or one conversation a line for fine-tuning elsewhere."),
    ] = ExportFormat.EPISODES,
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    json: Json = False,
) -> None:
    """Export episodes as JSONL: as they are stored, for OpenAI's fine-tuning, or as Hugging Face messages.

    Example: [bold]sleepy-coder episodes export rows.jsonl --format hf --outcome pass[/]
    """
    with explained(), wiring.open_store(load_config()) as store:
        count = export_file(file, store.episodes(outcome=outcome), form)
    if json:
        as_json({"episodes": count, "file": str(file)})
    else:
        out.print(f"{count} episodes in {file}")
