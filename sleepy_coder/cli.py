"""The command line: `sleepy-coder --help`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sleepy_coder import __version__, log, wiring
from sleepy_coder.cli_data import adapters_app, episodes_app
from sleepy_coder.cli_gateway import feedback_command, gateway_command
from sleepy_coder.cli_koans import eval_command, koans_app
from sleepy_coder.cli_run import run_command
from sleepy_coder.config import load_config
from sleepy_coder.console import ProgressWatcher, as_json, err, explained, out, progress_bar, table
from sleepy_coder.errors import ServerError, SleepyError
from sleepy_coder.types import NightReport

app = typer.Typer(
    help="A sleep cycle for your coding model: it practises at night, and is only ever swapped for a better one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(koans_app, name="koans")
app.add_typer(adapters_app, name="adapters")
app.add_typer(episodes_app, name="episodes")
app.command("eval")(eval_command)
app.command("gateway")(gateway_command)
app.command("feedback")(feedback_command)
app.command("run")(run_command)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"sleepy-coder {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder with adapters/, episodes/ and state/; default: $SLEEPY_CODER_HOME or here."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every event to stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Settings are read from sleepy-coder.toml in the home folder and from SLEEPY_CODER_* variables."""
    log.set_up(verbose=verbose)
    with explained():
        load_config(home)


@app.command()
def night(json: Json = False) -> None:
    """Run one night now: mix, train, judge, and swap the adapter only if the gate says so.

    A night that was killed goes on where it was. Exit status: 0 when the night ended (whatever the
    verdict), 1 on an error.

    Example: [bold]sleepy-coder night --json | jq .verdict.decision[/]
    """
    from sleepy_coder.night import run_night
    from sleepy_coder.report.morning import morning

    with explained():
        with progress_bar() as progress, wiring.open_parts(load_config(), ProgressWatcher(progress)) as parts:
            report = run_night(parts)
        if json:
            as_json(report)
        else:
            out.print(morning(report, wiring.titles(), wiring.asked_shares(load_config())))


@app.command()
def nights(json: Json = False) -> None:
    """List the nights: what was trained, what the gate measured, what became of it."""
    with explained(), wiring.open_store(load_config()) as store:
        reports = store.nights()
    if json:
        as_json([night_summary(report) for report in reports])
        return
    rows = [
        (
            str(r.cycle),
            f"{r.started:%Y-%m-%d %H:%M}",
            r.outcome,
            *(f"{e.pass_rate:.1%}" for e in r.reports),
            *("",) * (3 - len(r.reports)),
            r.serving,
        )
        for r in reports
    ]
    table("Nights", ("night", "started", "outcome", "baseline", "current", "candidate", "serving after"), rows)


def night_summary(report: NightReport) -> dict[str, object]:
    """A night for scripts: everything but the single samples, which `eval --json` gives."""
    return {
        **report.model_dump(mode="json", exclude={"reports"}),
        "seconds": round((report.finished - report.started).total_seconds(), 3),
        "learning_rate": report.recipe.learning_rate if report.recipe else None,
        "reports": [
            {
                **arm.model_dump(mode="json", exclude={"samples"}),
                "tasks": len({s.task_id for s in arm.samples}),
                "served_by": sorted({s.served_by for s in arm.samples}),
            }
            for arm in report.reports
        ],
    }


@app.command()
def morning(json: Json = False) -> None:
    """The report of the last night: what it learned, what it broke, and why it was deployed or not."""
    from sleepy_coder.report.morning import morning as render

    with explained(), wiring.open_store(load_config()) as store:
        reports = store.nights()
        if not reports:
            raise SleepyError("there was no night yet", "run one with `sleepy-coder night`")
    if json:
        as_json(night_summary(reports[-1]))
    else:
        out.print(render(reports[-1], wiring.titles(), wiring.asked_shares(load_config())))


@app.command()
def report(
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; default: reports/ in the home.")
    ] = None,
    json: Json = False,
) -> None:
    """Write results.md, results.png and dashboard.html from the store.

    Example: [bold]sleepy-coder report --out docs[/]
    """
    from sleepy_coder.report import write_all

    with explained():
        config = load_config()
        with wiring.open_store(config) as store:
            files = write_all(wiring.report_data(config, store), to or config.home / "reports")
    if json:
        as_json([str(path) for path in files])
    else:
        for path in files:
            out.print(str(path), highlight=False, soft_wrap=True)


@app.command()
def status(json: Json = False) -> None:
    """What serves and why, whether the model server answers, and what the next night has to work with."""
    with explained():
        config = load_config()
        registry = wiring.open_registry(config)
        active = registry.active()
        with wiring.open_store(config) as store:
            reports = store.nights()
            state = {
                "serving": active.name if active else config.server.base_name,
                "adapter": active,
                "previous": registry.previous(),
                "server": _server_state(config.server.url),
                "nights": len(reports),
                "last_night": night_summary(reports[-1]) if reports else None,
                "unfinished_night": store.unfinished_night(),
                "episodes": store.count_episodes(),
                "episodes_waiting": store.count_episodes(unused=True),
                "quarantined": store.count_quarantined(),
                "home": str(config.home),
            }
    if json:
        as_json(state)
        return
    last = f"{reports[-1].outcome} (night {reports[-1].cycle}): {reports[-1].reason}" if reports else "none yet"
    rows = [
        ("serving", str(state["serving"])),
        ("rollback to", str(state["previous"] or config.server.base_name)),
        ("model server", f"{config.server.url} {state['server']['state']}"),  # type: ignore[index]
        ("last night", last),
        (
            "unfinished",
            f"night {state['unfinished_night']}: `sleepy-coder night` goes on with it"
            if state["unfinished_night"]
            else "no",
        ),
        ("episodes", f"{state['episodes']} in all, {state['episodes_waiting']} for the next night"),
        ("quarantined", str(state["quarantined"])),
        ("home", str(config.home)),
    ]
    table("sleepy-coder", ("", ""), rows)


def _server_state(url: str) -> dict[str, object]:
    with wiring.open_client(load_config()) as client:
        try:
            return {"url": url, "state": "answers", "models": [model.name for model in client.models()]}
        except ServerError as error:
            return {"url": url, "state": f"does not answer ({error.message})", "models": []}


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="Port; default: the one of server.url.")] = None,
) -> None:
    """Serve the base model with the embedded server, in the foreground, until Ctrl-C.

    For machines without vLLM. It speaks vLLM's protocol; point the agent and the nights at either.
    """
    from urllib.parse import urlsplit

    with explained():
        config = load_config()
        where = urlsplit(config.server.url)
        host, on = where.hostname or "127.0.0.1", port or where.port or 8000
        argv = [
            *(sys.executable, "-m", "sleepy_coder.serve.embedded", "--host", host),
            *("--model", str(wiring.model_path(config)), "--served-model-name", config.server.base_name),
            *("--port", str(on)),
            *("--threads", str(config.server.threads or os.cpu_count() or 1)),
        ]
        err.print(f"serving {config.server.base_name} at http://{host}:{on}; Ctrl-C ends it")
        os.execv(argv[0], argv)  # the server is this process from here on, and gets its signals itself


@app.command()
def demo() -> None:
    """A day and three nights on the embedded server: one promoted, one poisoned, one killed and resumed.

    Works in the home folder, which must be empty or left by an earlier demo. Takes some minutes.
    """
    from sleepy_coder.demo import run_demo

    with explained():
        run_demo(load_config())
