"""`sleepy-coder episodes ...`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from sleepy_coder import log, wiring
from sleepy_coder.collect.formats import ExportFormat
from sleepy_coder.collect.intake import export_file, import_file
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, Yes, as_json, confirm, err, explained, local_zone, say, table
from sleepy_coder.errors import SleepyError, StoreError
from sleepy_coder.journal import alone
from sleepy_coder.report.episodes import message_rows, provenance_rows, short_reason, verdict_words
from sleepy_coder.store_rescue import rescue_if_damaged
from sleepy_coder.types import Outcome

episodes_app = typer.Typer(
    help="What was collected by day.\n\nExample: [bold]sleepy-coder episodes list --outcome pass[/]",
    no_args_is_help=True,
)


@episodes_app.command("list")
def list_episodes(
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """The newest episodes, newest first, who says how each ended, and why it did not pass. With --json the same ones
    whole, in the order in which they were saved. Only what a verifier judged trains.

    Example: [bold]sleepy-coder episodes list --outcome fail --limit 10[/]
    """
    with explained(), wiring.read_store(load_config()) as store:
        found = store.latest_episodes(limit, outcome)
        checks = store.checks({episode.session for episode in found})
        total = store.count_episodes(outcome=outcome)
    if json:
        as_json(list(found))
        return
    zone = local_zone()
    rows = [
        (
            e.id[:8],
            f"{e.created.astimezone(zone):%m-%d %H:%M}",
            e.source,
            e.task.family if e.task else "",
            str(len(e.attempts)),
            e.outcome,
            e.outcome_source,
            short_reason(e, checks.get(e.session)),
        )
        for e in reversed(found)
    ]
    columns = ("id", f"when ({zone.tzname(None)})", "source", "family", "attempts", "outcome", "judged by", "says")
    table(f"{len(found)} of {total} episodes", columns, rows)


@episodes_app.command("show")
def show_episode(
    episode_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or the start of it.")], json: Json = False
) -> None:
    """One episode: where it is from, how large its messages are, how it ended, and what the check said.

    With --json all of it, and the session's check. `episodes list` shows the ids.

    Example: [bold]sleepy-coder episodes show 3f1c09aa[/]
    """
    with explained(), wiring.read_store(load_config()) as store:
        episode = store.episode_called(episode_id)
        if episode is None:
            raise SleepyError(f"no one episode is called {episode_id}", "`sleepy-coder episodes list` shows the ids")
        check = store.checks([episode.session]).get(episode.session)
    if json:
        as_json({"episode": episode, "check": check})
        return
    table("", ("", ""), provenance_rows(episode, check, f"{episode.created.astimezone(local_zone()):%Y-%m-%d %H:%M}"))
    for number, attempt in enumerate(episode.attempts, 1):
        verdict = attempt.verdict
        title = f"attempt {number}: {verdict.outcome} at {verdict.stage} {verdict.error_signature}".rstrip()
        table(f"\n{title}", ("role", "characters", "calls"), message_rows(attempt))
    if said := verdict_words(episode, check):
        say(f"\nthe check said:\n{said}")


@episodes_app.command("import")
def import_episodes(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], json: Json = False) -> None:
    """Import episodes from JSON or JSONL, with secrets redacted. The format is detected entry by entry.

    Known are our own exports, sleepy-episode/1, Harbor's ATIF, mini-swe-agent's traj.json, OpenAI chat and Hugging Face
    messages, and ShareGPT. Known episodes are skipped; bad entries are quarantined with their reason.

    Example: [bold]sleepy-coder episodes import run.traj.json[/]
    """
    with explained():
        config = load_config()
        with wiring.open_store(config) as store:
            counts = import_file(file, store, wiring.open_redactor(config).redact)
    if counts.quarantined:
        log.get("store").info("store.quarantined", source=str(file), lines=counts.quarantined)
    if json:
        as_json(counts)
    else:
        say(f"{counts.imported} imported, {counts.known} known already, {counts.quarantined} quarantined")
        for reason in counts.reasons:
            say(reason, err)
        if counts.quarantined:
            say("`sleepy-coder episodes quarantine` shows all that was put aside", err)
    if counts.quarantined and not counts.imported + counts.known:
        raise typer.Exit(1)


@episodes_app.command("quarantine")
def quarantine(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    clear: Annotated[bool, typer.Option("--clear", help="Forget all of it, for good.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """What was refused and put aside, the newest first: where it is from and why. With --json also what it says.

    No night learns from it. Whole files of the inbox are put aside in episodes/quarantine/ instead.

    Example: [bold]sleepy-coder episodes quarantine --json | jq -r '.[].text'[/]
    """
    with explained(), wiring.read_store(load_config()) as store:
        total, found = store.count_quarantined(), store.quarantined(limit)
        if clear and total and not yes:
            confirm(f"Forget the {total} that were put aside, for good?")
        forgotten = store.clear_quarantine() if clear else 0
    if json:
        as_json({"cleared": forgotten} if clear else list(found))
    elif clear:
        say(f"{forgotten} forgotten")
    else:
        zone = local_zone()
        rows = [(f"{one.created.astimezone(zone):%m-%d %H:%M}", one.source, one.reason) for one in found]
        table(f"{len(found)} of {total} put aside", (f"when ({zone.tzname(None)})", "source", "reason"), rows)


@episodes_app.command("export")
def export_episodes(
    file: Annotated[Path, typer.Argument(dir_okay=False)],
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="Whole episodes, or one conversation a line for fine-tuning elsewhere."),
    ] = ExportFormat.EPISODES,
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Json = False,
) -> None:
    """Export episodes as JSONL: as they are stored, for OpenAI's fine-tuning, as Hugging Face messages, or as ATIF.

    Example: [bold]sleepy-coder episodes export rows.jsonl --format hf --outcome pass[/]
    """
    with explained(), wiring.read_store(load_config()) as store:
        if file.exists() and not force:
            raise SleepyError(f"{file} is there already", "name another file, or replace it with --force")
        if not file.parent.is_dir():
            raise SleepyError(f"there is no folder {file.parent}", "make it, or name another file")
        count = export_file(file, store.episodes(outcome=outcome), form)
    if json:
        as_json({"episodes": count, "file": str(file)})
    else:
        say(f"{count} episodes in {file}")


@episodes_app.command("prune")
def prune(
    days: Annotated[
        int | None, typer.Option(min=0, max=36500, help="Leave the last days; by default store.keep_exchanges_days.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
    json: Json = False,
) -> None:
    """Drop requests and replies that have become episodes some time ago. Episodes are never dropped.

    Example: [bold]sleepy-coder episodes prune --days 7 --dry-run[/]
    """
    with explained():
        config = load_config()
        keep = config.store.keep_exchanges_days if days is None else days
        with wiring.read_store(config) as store:
            dropped = store.prune_exchanges(datetime.now(UTC) - timedelta(days=keep), only_count=dry_run)
    if json:
        as_json(dropped)
    else:
        done = "would be dropped" if dry_run else "dropped"
        size = f"{dropped.bytes / 2**20:.1f} MiB"
        say(f"{dropped.exchanges} exchanges and {dropped.messages} messages {done} ({size})")


@episodes_app.command("rescue")
def rescue_store(json: Json = False) -> None:
    """Replace a damaged store by its newest backup and each episode saved since. Stop the daemon first.

    For a service: [bold]sudo systemctl stop sleepy-coder.socket sleepy-coder[/]. A store that is not damaged is
    left as it is. The damaged file stays beside the new one.

    Example: [bold]sudo -u sleepy-coder sleepy-coder --home /var/lib/sleepy-coder episodes rescue[/]
    """
    with explained():
        config = load_config()
        path = config.store_file
        if not path.exists():
            raise StoreError(f"{path} is not there", "there is nothing to rescue")
        with alone(wiring.daemon_lock(config), "daemon"), alone(wiring.night_lock(config)):
            done = rescue_if_damaged(path)
    if json:
        as_json(done or {})
    elif done is None:
        say(f"{path} is sound; nothing was changed")
    else:
        source = done.backup or "an empty store"
        say(f"Restored {source} and {done.episodes} later episodes; the damaged file is kept at {done.damaged}")
