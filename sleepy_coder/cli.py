"""The command line: `sleepy-coder --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sleepy_coder import __version__, log, wiring
from sleepy_coder.abandon import abandon
from sleepy_coder.canary import last_state
from sleepy_coder.cli_adapters import adapters_app
from sleepy_coder.cli_canary import canary_command, drill_command
from sleepy_coder.cli_config import config_app
from sleepy_coder.cli_cycles import cycles_command
from sleepy_coder.cli_daemon import logs_command, pause_command, resume_command
from sleepy_coder.cli_data import episodes_app
from sleepy_coder.cli_doctor import doctor_command
from sleepy_coder.cli_gate import gate_app, replay_command
from sleepy_coder.cli_gateway import feedback_command, gateway_command
from sleepy_coder.cli_koans import eval_command, koans_app
from sleepy_coder.cli_recipes import recipes_command, with_recipe
from sleepy_coder.cli_run import run_command
from sleepy_coder.cli_sections import Sections, unwrap
from sleepy_coder.cli_serve import serve_command
from sleepy_coder.cli_service import service_app
from sleepy_coder.cli_status import status_command
from sleepy_coder.cli_study import study_command
from sleepy_coder.config import Config, RecipeName
from sleepy_coder.config_load import load_config, settle_home
from sleepy_coder.console import (
    Json,
    ProgressWatcher,
    as_json,
    err,
    explained,
    local_zone,
    out,
    progress_bar,
    say,
    stop_tidily,
    table,
)
from sleepy_coder.errors import NightPaused, SleepyError
from sleepy_coder.idle import wait_until_idle
from sleepy_coder.journal import unfinished_recipe
from sleepy_coder.preview import preview
from sleepy_coder.report.canary import sentence
from sleepy_coder.report.standing import (
    night_to_come,
    signals_seen,
)
from sleepy_coder.report.summary import night_summary
from sleepy_coder.serve.gateway_client import begin_night, refuse_elsewhere

_ABANDON_SECONDS = 10.0

app = typer.Typer(
    cls=Sections,
    help="A sleep cycle for your coding model: it practises at night, and is only ever swapped for a better one.\n\n"
    "Example: [bold]sleepy-coder --home ~/sleepy doctor[/]",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(koans_app, name="koans")
app.add_typer(adapters_app, name="adapters")
app.add_typer(episodes_app, name="episodes")
app.add_typer(config_app, name="config")
app.add_typer(service_app, name="service")
app.add_typer(gate_app, name="gate")
app.command("eval")(eval_command)
app.command("gateway")(gateway_command)
app.command("feedback")(feedback_command)
app.command("recipes")(recipes_command)
app.command("run", context_settings={"allow_interspersed_args": False})(run_command)  # what follows is the agent's
app.command("pause")(pause_command)
app.command("resume")(resume_command)
app.command("logs")(logs_command)
app.command("replay-verdict")(replay_command)
app.command("doctor")(doctor_command)
app.command("serve")(serve_command)
app.command("cycles")(cycles_command)
app.command("study")(study_command)
app.command("canary")(canary_command)
app.command("drill")(drill_command)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"sleepy-coder {__version__}")
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
    if home is not None:  # wrong settings are for the command to complain of, if it needs them
        settle_home(home)


@app.command()
def night(
    when_idle: Annotated[
        bool, typer.Option("--when-idle", help="Wait until nobody needs the machine; pause when the window closes.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="Have the daemon that runs here begin it, and return.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would train on; asks the model server who it is.")
    ] = False,
    abandoned: Annotated[
        bool, typer.Option("--abandon", help="End the unfinished night as failed instead; the next starts over.")
    ] = False,
    recipe: Annotated[
        RecipeName | None, typer.Option(help="Learn by this recipe tonight; default: recipe.name.")
    ] = None,
    json: Json = False,
) -> None:
    """Run one night now: mix, train, judge, and swap the adapter only if the gate says so.

    A night that was killed or paused goes on where it was. Ctrl-C and SIGTERM stop it at a checkpoint. Exit status:
    0 when the night ended (whatever the verdict) or paused, 1 on an error, 130 when it was stopped.
    A night ends as failed when one of its steps fails five times, unless the machine is the reason.
    With --now the daemon runs it, as its own user and with its own log; `status` and `logs` tell how it goes.
    A resumed night keeps the recipe that it began with.

    Example: [bold]sleepy-coder night --json | jq .verdict.decision[/]
    """
    stop_tidily()
    with explained():
        config = load_config()
        if abandoned:
            if when_idle or now or dry_run or recipe:
                raise SleepyError("--abandon can only be combined with --json", "leave the others out")
            _abandon(config, json)
            return
        if now:
            if recipe:
                raise SleepyError("--now and --recipe do not go together", "set recipe.name, or leave out --now")
            refuse_elsewhere(config, "night --now")
            said = begin_night(config.gateway)
            as_json({"night": said}) if json else say(said)
            return
        config = with_recipe(config, recipe)
        if dry_run:
            with wiring.open_parts(config, wiring.Silent()) as parts:
                seen = preview(parts)
            as_json(seen) if json else table("", ("", ""), night_to_come(seen))
            return
        if recipe:
            _refuse_another_recipe(config, recipe)
        if when_idle:
            wait_until_idle(lambda: wiring.idleness(config), wiring.SystemClock(), lambda said: say(said, err))
        _run_night(config, when_idle, json)


def _refuse_another_recipe(config: Config, recipe: RecipeName) -> None:
    """Raises SleepyError when a night is unfinished that began with another one, and goes on with that."""
    with wiring.read_store(config) as store:
        night, begun = unfinished_recipe(store)
    if begun not in (None, recipe):
        remedy = f"leave out --recipe, or end it: `sleepy-coder night --abandon`, then `--recipe {recipe}`"
        raise SleepyError(f"night {night} is unfinished and goes on with {begun}, with which it began", remedy)


def _run_night(config: Config, when_idle: bool, json: bool) -> None:
    from sleepy_coder.night import run_night
    from sleepy_coder.report.morning import morning

    until = wiring.curfew(config, when_idle)
    try:
        with progress_bar() as progress, wiring.open_parts(config, ProgressWatcher(progress), until=until) as parts:
            report = run_night(parts)
    except NightPaused as pause:
        say(f"paused: {pause}", err)
        if json:
            as_json({"outcome": "paused", "reason": pause.message})
        return
    if json:
        as_json(report)
    else:
        out.print(morning(report, wiring.titles(config), config.mix.shares))


def _abandon(config: Config, json: bool) -> None:
    brief = config.patient(_ABANDON_SECONDS)  # a server that hangs may be why
    with (
        wiring.read_store(config) as store,
        wiring.read_registry(config) as registry,
        wiring.open_server(brief) as server,
    ):
        report = abandon(config, store, registry, server, wiring.SystemClock())
    if json:
        as_json({"cycle": report.cycle, "outcome": report.outcome, "reason": report.reason})
    else:
        say(f"night {report.cycle} ended as {report.outcome}: {report.reason}")


@app.command()
def idle(json: Json = False) -> None:
    """Whether a night may begin now, and what was seen. Exit status: 0 idle, 1 not.

    Example: [bold]sleepy-coder idle && echo nobody is here[/]
    """
    with explained():
        found = wiring.idleness(load_config())
    if json:
        as_json(found)
    else:
        title = "idle" if found.idle else f"not idle: waits for {found.waits_for}"
        table(title, ("", ""), signals_seen(found.signals))
    if not found.idle:
        raise typer.Exit(1)


@app.command()
def nights(json: Json = False) -> None:
    """List the nights: what was trained, what the gate measured, what became of it.

    Example: [bold]sleepy-coder nights --json | jq '.[].outcome'[/]
    """
    with explained(), wiring.read_store(load_config()) as store:
        reports = store.nights()
    if json:
        as_json([night_summary(report) for report in reports])
        return
    zone = local_zone()
    rows = [
        (
            str(r.cycle),
            f"{r.started.astimezone(zone):%m-%d %H:%M}",
            r.outcome,
            *(f"{e.pass_rate:.1%}" for e in r.reports),
            *("",) * (3 - len(r.reports)),
            r.serving,
        )
        for r in reports
    ]
    started = f"started ({zone.tzname(None)})"
    table("Nights", ("night", started, "outcome", "baseline", "current", "candidate", "serving after"), rows)


@app.command()
def morning(json: Json = False) -> None:
    """The report of the last night: what it learned, what it broke, and why it was deployed or not.

    Example: [bold]sleepy-coder morning[/]
    """
    from sleepy_coder.report.morning import morning as render

    with explained():
        config = load_config()
        with wiring.read_store(config) as store:
            reports, watched = store.nights(last=1), last_state(store, config.canary)
        if not reports:
            raise SleepyError("no night has run yet", "run one with `sleepy-coder night`")
        titles = {} if json else wiring.titles(config)
    if json:
        as_json({**night_summary(reports[-1]), "canary": watched})
    else:
        out.print(render(reports[-1], titles, config.mix.shares))
        if watched is not None:
            say(f"Canary: {sentence(watched)}")


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
        with wiring.read_store(config) as store:
            files = write_all(wiring.report_data(config, store), to or config.home / "reports")
    if json:
        as_json([str(path) for path in files])
    else:
        for path in files:
            say(str(path))


app.command("status")(status_command)


@app.command()
def demo() -> None:
    """A day and three nights on the embedded server: one promoted, one poisoned, one killed and resumed.

    Works in the home folder, which must be empty or hold no more than an earlier demo left. Takes some minutes.

    Example: [bold]sleepy-coder --home /tmp/sleepy-demo demo[/]
    """
    from sleepy_coder.demo import run_demo

    with explained():
        run_demo(load_config())


unwrap(app)
