"""The command line: `sleepy-coder --help`."""

from __future__ import annotations

import signal
from datetime import datetime
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
from sleepy_coder.cli_sections import Sections
from sleepy_coder.cli_serve import serve_command
from sleepy_coder.cli_service import service_app
from sleepy_coder.cli_study import study_command
from sleepy_coder.config import Config, load_config, settle_home
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
    table,
)
from sleepy_coder.drill import complaint
from sleepy_coder.due import coming, read_diary
from sleepy_coder.errors import NightPaused, ServerError, SleepyError, StoreError
from sleepy_coder.idle import wait_until_idle
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.pause import Pause, paused
from sleepy_coder.preview import preview
from sleepy_coder.report.canary import sentence
from sleepy_coder.report.standing import (
    NO_NIGHT,
    daemon_line,
    episodes_line,
    next_night,
    night_to_come,
    signals_seen,
    small_set,
    unfinished_line,
    why_it_serves,
)
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.gateway_client import begin_night, refuse_elsewhere, running
from sleepy_coder.types import NightReport

_STATUS_SECONDS = 10.0

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
    recipe: Annotated[str | None, typer.Option(help="Learn by this recipe tonight; default: recipe.name.")] = None,
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
    from sleepy_coder.night import run_night
    from sleepy_coder.report.morning import morning

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's Ctrl-C
    with explained():
        config = with_recipe(load_config(), recipe)
        if abandoned:
            if when_idle or now or dry_run or recipe:
                raise SleepyError("--abandon can only be combined with --json", "leave the others out")
            report = _abandon(config)
            if json:
                as_json({"cycle": report.cycle, "outcome": report.outcome, "reason": report.reason})
            else:
                say(f"night {report.cycle} ended as {report.outcome}: {report.reason}")
            return
        if now:
            if recipe:
                raise SleepyError("--now and --recipe do not go together", "set recipe.name, or leave out --now")
            refuse_elsewhere(config, "night --now")
            said = begin_night(config.gateway)
            as_json({"night": said}) if json else say(said)
            return
        if dry_run:
            with wiring.open_parts(config, wiring.Silent()) as parts:
                seen = preview(parts)
            as_json(seen) if json else table("", ("", ""), night_to_come(seen))
            return
        if when_idle:
            wait_until_idle(lambda: wiring.idleness(config), wiring.SystemClock(), lambda said: say(said, err))
        try:
            with (
                progress_bar() as progress,
                wiring.open_parts(config, ProgressWatcher(progress), until=wiring.curfew(config, when_idle)) as parts,
            ):
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


def _abandon(config: Config) -> NightReport:
    brief = config.patient(_STATUS_SECONDS)  # a server that hangs may be why
    with (
        wiring.read_store(config) as store,
        wiring.read_registry(config) as registry,
        wiring.open_server(brief) as server,
    ):
        return abandon(config, store, registry, server, wiring.SystemClock())


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


@app.command()
def status(json: Json = False) -> None:
    """What serves and why, whether the model server answers, when the next night is due and what it has to work with.

    Example: [bold]sleepy-coder status --json | jq -r .serving[/]
    """
    with explained():
        config = load_config()
        servers, found = _server_states(config), running(config)
        with wiring.read_store(config) as store, wiring.read_registry(config) as registry:
            active = registry.active()
            why = why_it_serves(active, registry.manifest(active.name).verdict if active else None, registry.since())
            nights, (epoch, used) = store.nights(last=1), store.openings_used()
            last = nights[0] if nights else None
            budget, _ = wiring.budget(config, store)
            exam = wiring.frozen_sets(config).current()
            small = small_set(len(form_clusters(exam)), len(exam) * config.eval.samples, config.gate)
            now, hours = wiring.SystemClock().now(), config.night.hours()
            held, doubtful = _pause(config.state, now)
            due = coming(now, hours, read_diary(config.state, now), held) if found.holds_nights else None
            unfinished = store.unfinished_night()
            runs = unfinished is not None and wiring.night_runs(config)
            state = {
                "daemon": found.state,
                "other_home": found.elsewhere,
                "paused": held,
                "window": config.night.window,
                "next_night": due.begins if due else None,
                "serving": active.name if active else config.server.base_name,
                "why": why,
                "adapter": active,
                "previous": registry.previous(),
                "server": servers[0],
                "replicas": servers[1:],
                "nights": store.count_nights(),
                "last_night": night_summary(last) if last else None,
                "unfinished_night": unfinished,
                "night_runs": runs,
                "gate": {"epoch": epoch, "openings_used": used, "small_set": small},
                "episodes": (collected := store.count_episodes()),
                "episodes_waiting": (waiting := store.waiting()).trainable + waiting.dreamable,
                "waiting": waiting,
                "quarantined": (aside := store.count_quarantined()),
                "canary": (watched := last_state(store, config.canary)),
                "drill": (drilled := store.last_drill()),
                "drill_complaint": (late := complaint(drilled, len(store.canaries()), now, config.canary.drill_days)),
                "home": str(config.home),
            }
    if json:
        as_json(state)
        return
    rows = [
        ("serving", str(state["serving"])),
        ("why", why),
        ("daemon", daemon_line(found)),
        *((("pause", f"{doubtful}: `sleepy-coder resume`"),) if doubtful else ()),
        ("next night", next_night(due, hours, held, now) if found.holds_nights else NO_NIGHT),
        ("rollback to", str(state["previous"] or config.server.base_name)),
        *(("model server", f"{server['url']} {server['state']}") for server in servers),
        ("canary", sentence(watched) if watched else "nothing has been promoted yet"),
        *((("drill", f"{late}: `sleepy-coder drill`"),) if late else ()),
        ("last night", f"{last.outcome} (night {last.cycle}): {last.reason}" if last else "none yet"),
        ("gate", f"{budget}; {small}" if small else budget),
        ("unfinished", unfinished_line(unfinished, runs)),
        ("episodes", episodes_line(collected, waiting)),
        ("quarantined", f"{aside}: `sleepy-coder episodes quarantine`" if aside else "nothing"),
        ("home", str(config.home)),
    ]
    table("sleepy-coder", ("", ""), rows)


def _pause(state: Path, now: datetime) -> tuple[Pause | None, str]:
    """The pause that holds at `now`, and what is wrong with its file: a doubtful pause is one, without an end."""
    try:
        return paused(state, now), ""
    except StoreError as error:
        return Pause(since=now, reason="its file cannot be read"), error.message


def _server_states(config: Config) -> list[dict[str, object]]:
    """Each model server: its URL, whether it answers, and what it lists."""
    states: list[dict[str, object]] = []
    for url in config.server.urls:
        with VllmClient(url, config.server.api_key, _STATUS_SECONDS) as client:
            try:
                models = [model.name for model in client.models()]
                states.append({"url": url, "state": "sleeps" if client.asleep() else "answers", "models": models})
            except ServerError as error:
                states.append({"url": url, "state": f"does not answer ({error.message})", "models": []})
    return states


@app.command()
def demo() -> None:
    """A day and three nights on the embedded server: one promoted, one poisoned, one killed and resumed.

    Works in the home folder, which must be empty or hold no more than an earlier demo left. Takes some minutes.

    Example: [bold]sleepy-coder --home /tmp/sleepy-demo demo[/]
    """
    from sleepy_coder.demo import run_demo

    with explained():
        run_demo(load_config())
