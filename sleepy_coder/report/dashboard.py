"""dashboard.html: one file that holds data, script and styles and opens from disk, offline.

Charts are drawn by Chart.js (vendor/, MIT). The page forbids itself all network access by a content
security policy; the gateway's version may ask the gateway for its state, and nothing else.
"""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from sleepy_coder.judge.metrics import pass_rate_interval, task_scores
from sleepy_coder.report import words
from sleepy_coder.report.data import (
    ARMS,
    Cell,
    ReportData,
    arm,
    baseline_of,
    changes,
    columns,
    on_another_set,
    served_after,
    tasks_by_family,
    title,
)
from sleepy_coder.report.days import DaySummary
from sleepy_coder.types import EvalReport, NightReport, Phase, Record

_CODES = {Cell.PASS: "p", Cell.FAIL: "f", Cell.GAINED: "g", Cell.LOST: "l", Cell.MISSING: "m"}


class ArmView(Record):
    """One arm's rate with its 95% interval, as fractions."""

    arm: str
    model: str
    rate: float
    low: float
    high: float


class ShareView(Record):
    """One kind of rows in the mix: asked and met share as fractions."""

    kind: str
    asked: float
    met: float
    rows: int


class NightView(Record):
    """One night as the page shows it; times are ISO 8601 in UTC, `seconds` wall-clock."""

    cycle: int
    started: str
    seconds: float
    outcome: str
    candidate: str | None
    serving: str
    headline: str
    recovery: str
    sentences: tuple[str, ...]
    reasons: tuple[str, ...]
    arms: tuple[ArmView, ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    shares: tuple[ShareView, ...]
    notes: tuple[str, ...]
    recipe: str
    phases: tuple[Phase, ...]


class TaskView(Record):
    """One frozen task; `cells` has a letter per column: p(ass) f(ail) g(ained) l(ost) m(issing)."""

    id: str
    family: str
    prompt: str
    cells: str


class FamilyView(Record):
    """One family's rates at first and now, as fractions; None where nothing was measured."""

    family: str
    tasks: int
    baseline: float | None
    serving: float | None


class Dashboard(Record):
    """All that the page's script reads. `baseline` and `now`: what was at first and what serves, on the newest set."""

    serving: str
    baseline: float | None
    now: float | None
    generated: str
    episodes_total: int
    episodes_passed: int
    columns: tuple[str, ...]
    promoted: tuple[bool, ...]
    days: tuple[DaySummary, ...]
    nights: tuple[NightView, ...]
    tasks: tuple[TaskView, ...]
    families: tuple[FamilyView, ...]


def dashboard_html(data: ReportData, *, live: bool = False) -> str:
    """The whole page; `live` is for the gateway, and shows the numbers of the moment as well."""
    environment = Environment(loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("dashboard.html").render(
        live=Markup(_asset("templates", "live.js")) if live else "",
        serving=data.serving,
        style=Markup(_asset("templates", "dashboard.css")),
        chart=Markup(_asset("vendor", "chart.umd.min.js").partition("\n//# sourceMappingURL")[0]),
        script=Markup(_asset("templates", "dashboard.js")),
        data=Markup(embeddable(dashboard_view(data).model_dump_json())),
    )


def embeddable(json: str) -> str:
    """JSON that means the same and cannot end the script element it stands in."""
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def dashboard_view(data: ReportData) -> Dashboard:
    """What the page shows, from what the nights recorded."""
    shown, apart = columns(data), on_another_set(data)
    first, now = _ends(data)
    return Dashboard(
        serving=data.serving,
        baseline=first.pass_rate if first else None,
        now=now.pass_rate if now else None,
        generated=data.generated.isoformat(),
        episodes_total=data.episodes_total,
        episodes_passed=data.episodes_passed,
        columns=tuple(column.label for column in shown),
        days=data.days,
        promoted=tuple(bool(column.promoted) for column in shown),
        nights=tuple(_night(data, night, night in apart) for night in data.nights),
        tasks=tuple(
            TaskView(
                id=task,
                family=family,
                prompt=title(data.titles, task)[1],
                cells="".join(_CODES[column.cells.get(task, Cell.MISSING)] for column in shown),
            )
            for family, tasks in tasks_by_family(data).items()
            for task in tasks
        ),
        families=_families(data, first, now),
    )


def _night(data: ReportData, night: NightReport, apart: bool) -> NightView:
    change, recipe = changes(night), night.recipe
    arms: list[ArmView] = []
    for name in ARMS:
        report = arm(night, name)
        if report is not None:
            low, high = pass_rate_interval(report)
            arms.append(ArmView(arm=name, model=report.model, rate=report.pass_rate, low=low, high=high))
    return NightView(
        cycle=night.cycle,
        started=night.started.isoformat(),
        seconds=(night.finished - night.started).total_seconds(),
        outcome=night.outcome,
        candidate=night.candidate,
        serving=night.serving,
        headline=words.headline(night),
        recovery=words.recovery(night),
        sentences=words.sentences(night, apart),
        reasons=night.verdict.reasons if night.verdict else (),
        arms=tuple(arms),
        gained=change.gained,
        lost=change.lost,
        shares=tuple(
            ShareView(kind=kind, asked=asked, met=night.shares[kind], rows=night.counts.get(kind, 0))
            for kind, asked in data.asked_shares.items()
            if kind in night.shares
        ),
        notes=night.notes,
        recipe=words.recipe_line(recipe, night.steps, night.kl) if recipe else "",
        phases=night.phases,
    )


def _ends(data: ReportData) -> tuple[EvalReport | None, EvalReport | None]:
    """The baseline and what serves now, on the newest frozen set."""
    nights = data.compared
    return (baseline_of(nights), served_after(nights)[-1]) if nights else (None, None)


def _families(data: ReportData, first: EvalReport | None, now: EvalReport | None) -> tuple[FamilyView, ...]:
    old, new = (task_scores(report) if report else {} for report in (first, now))

    def rate(scores: dict[str, float], tasks: tuple[str, ...]) -> float | None:
        known = [scores[task] for task in tasks if task in scores]
        return sum(known) / len(known) if known else None

    return tuple(
        FamilyView(family=family, tasks=len(tasks), baseline=rate(old, tasks), serving=rate(new, tasks))
        for family, tasks in tasks_by_family(data).items()
    )


def _asset(folder: str, name: str) -> str:
    return (files("sleepy_coder.report") / folder / name).read_text(encoding="utf-8")


def _template(name: str) -> str:
    return _asset("templates", f"{name}.j2")
