"""The morning report: one screen in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from sleepy_coder.judge.metrics import pass_rate_interval
from sleepy_coder.learn.mix import TASKS
from sleepy_coder.report import words
from sleepy_coder.report.data import ARMS, ASKED_SHARES, Titles, arm, changes, title
from sleepy_coder.types import ExampleKind, NightReport

_STYLES = {
    "promoted": "bold green",
    "rejected": "bold red",
    "inconclusive": "bold yellow",
    "skipped": "bold cyan",
    "failed": "bold red",
}
_ROLES = {"baseline": "baseline", "current": "served before", "candidate": "candidate"}
_BAR = 24
_NOTICED = 0.1  # seconds; shorter phases are not listed


def morning(
    report: NightReport, titles: Titles, asked: Mapping[ExampleKind, float] = ASKED_SHARES, limit: int = 6
) -> RenderableType:
    """One night for the terminal, made for 80 columns and more.

    `titles` maps frozen task ids to (family, prompt); `asked` are the shares asked of the mix; at most
    `limit` tasks are listed as learned and as broken, the rest is counted.
    """
    style = _STYLES[report.outcome]
    body = Table.grid(padding=(0, 2), expand=True)
    body.add_column(style="bold", no_wrap=True, width=9)
    body.add_column(ratio=1)
    change = changes(report)
    lines: list[tuple[str, RenderableType | None]] = [
        (
            "Outcome",
            Text(" ".join(filter(None, (words.headline(report), words.recovery(report)))), style=style),
        ),
        ("Passes", _rates(report)),
        ("Why", _sentences(words.explain(report))),
        ("Headroom", _sentences(words.headroom(report))),
        ("Left out", _sentences(words.left_out(report))),
        ("Learned", _tasks(change.gained, titles, "+", "green", limit) if report.verdict else None),
        ("Broke", _tasks(change.lost, titles, "\N{MINUS SIGN}", "red", limit) if report.verdict else None),
        ("Missing", _missing(report)),
        ("Mix", _mix(report, asked)),
        ("Recipe", Text(words.recipe_line(report.recipe, report.steps, report.kl)) if report.recipe else None),
        ("Stopped", Text(words.stopped(report)) if report.stopped else None),
        ("Chosen", Text(words.chosen(report.choice)) if report.choice else None),
        ("Time", _phases(report)),
    ]
    for label, content in lines:
        if content is not None:
            body.add_row(label, content)
    name = Text.assemble((f" Night {report.cycle} ", "bold"), ("\N{MIDDLE DOT} ", "dim"), (f"{report.outcome} ", style))
    return Group(Rule(name, align="left", style="dim"), body, Rule(style="dim"))


def _rates(report: NightReport) -> RenderableType | None:
    table = Table.grid(padding=(0, 2))
    for name in ARMS:
        found = arm(report, name)
        if found is None:
            continue
        low, high = pass_rate_interval(found)
        filled = round(_BAR * found.pass_rate)
        colour = "cyan" if name == "candidate" else "white"
        table.add_row(
            _ROLES[name],
            Text(words.percent(found.pass_rate), style="bold", justify="right"),
            Text.assemble(("\u2501" * filled, colour), ("\u2500" * (_BAR - filled), "dim")),
            Text(f"{100 * low:.0f}\u2013{100 * high:.0f}%", style="dim"),
        )
    return table if table.row_count else None


def _sentences(found: Sequence[str]) -> RenderableType | None:
    table = Table.grid(padding=(0, 1))
    for sentence in found:
        table.add_row(Text("\N{BULLET}", style="dim"), sentence)
    return table if found else None


def _tasks(tasks: Sequence[str], titles: Titles, sign: str, colour: str, limit: int) -> RenderableType:
    if not tasks:
        return Text("nothing", style="dim")
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, width=12, overflow="ellipsis")
    table.add_column(no_wrap=True, width=24, overflow="ellipsis", style="cyan")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
    for task in tasks[:limit]:
        family, prompt = title(titles, task)
        table.add_row(Text(sign, style=colour), task, family, prompt)
    more = len(tasks) - limit
    total = Text(
        f"{words.counted(len(tasks), 'task')}" + (f", {more} more not shown" if more > 0 else ""),
        style=colour,
    )
    return Group(total, table)


def _missing(report: NightReport) -> RenderableType | None:
    infra = report.verdict.infra_tasks if report.verdict else ()
    if not infra:
        return None
    return Text(f"{words.counted(len(infra), 'task')} without a measurement, counted against the candidate", "yellow")


def _mix(report: NightReport, asked: Mapping[ExampleKind, float]) -> RenderableType | None:
    if tasks := report.counts.get(TASKS):
        return Text(f"{words.counted(tasks, 'task')} answered anew, and nothing else learned from")
    if not report.shares:
        return None
    parts = [
        f"{kind} {report.shares.get(kind, 0.0):.0%} (asked {share:.0%}, "
        f"{words.counted(report.counts.get(kind, 0), 'row')})"
        for kind, share in asked.items()
    ]
    return Group(Text(" \N{MIDDLE DOT} ".join(parts)), *(Text(note, style="dim") for note in report.notes))


def duration(seconds: float) -> str:
    """7.2 s, 3 min 20 s or 1 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def _phases(report: NightReport) -> RenderableType:
    total = (report.finished - report.started).total_seconds()
    parts = [
        f"{phase.name} {duration(phase.seconds)}{' (kept)' if phase.resumed else ''}"
        for phase in report.phases
        if phase.resumed or phase.seconds >= _NOTICED
    ]
    return Group(
        Text(f"{duration(total)}, ended {report.finished.astimezone():%Y-%m-%d %H:%M %Z}"),
        Text(" \N{MIDDLE DOT} ".join(parts), style="dim"),
    )
