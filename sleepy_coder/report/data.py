"""What the reports are made from, and the questions all of them ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from sleepy_coder.config import MixSettings
from sleepy_coder.judge import metrics
from sleepy_coder.report.days import DaySummary
from sleepy_coder.types import EvalReport, ExampleKind, NightReport, Record

ASKED_SHARES = MixSettings.model_validate({}).shares
"""The shares of the training mix that are asked for unless the configuration says otherwise."""

ARMS: tuple[Literal["baseline", "current", "candidate"], ...] = ("baseline", "current", "candidate")

Titles = Mapping[str, tuple[str, str]]
"""Task id to its family and its prompt."""


class ReportData(Record):
    """Everything that results and dashboard show. `titles`: frozen task id to (family, prompt)."""

    nights: tuple[NightReport, ...]
    episodes_total: int
    episodes_passed: int
    serving: str
    generated: datetime
    titles: dict[str, tuple[str, str]]
    asked_shares: dict[ExampleKind, float] = ASKED_SHARES
    days: tuple[DaySummary, ...] = ()

    @property
    def compared(self) -> tuple[NightReport, ...]:
        """The judged nights that may be compared with the newest one."""
        return comparable(judged(self.nights))


class Cell(StrEnum):
    """How a task stands after a night: as before (pass, fail), changed by the candidate, or unmeasured."""

    PASS = "pass"
    FAIL = "fail"
    GAINED = "gained"
    LOST = "lost"
    MISSING = "missing"


class Column(Record):
    """One column of the task x night heatmap. `promoted` is None for the baseline's own column."""

    label: str
    cells: dict[str, Cell]
    promoted: bool | None


def arm(report: NightReport, name: str) -> EvalReport | None:
    """The evaluation of one arm, None when the night did not get that far."""
    return next((found for found in report.reports if found.arm == name), None)


def changes(report: NightReport) -> metrics.Changes:
    """What the candidate gained and lost against the model that was served, measured tasks only."""
    current, candidate = arm(report, "current"), arm(report, "candidate")
    if current is None or candidate is None:
        return metrics.Changes(gained=(), lost=())
    return metrics.changes(current, candidate)


def judged(nights: Iterable[NightReport]) -> tuple[NightReport, ...]:
    """Those that measured a candidate."""
    return tuple(night for night in nights if arm(night, "candidate") and arm(night, "current"))


def comparable(nights: Sequence[NightReport]) -> tuple[NightReport, ...]:
    """Those of the judged `nights` that the frozen set of the last one judged: rates on two sets do not compare."""
    return on_set_of(nights[-1], nights) if nights else ()


def on_set_of(night: NightReport, nights: Sequence[NightReport]) -> tuple[NightReport, ...]:
    """Those of the judged `nights` that the frozen set of `night` judged."""
    return tuple(other for other in nights if _same_set(other, night))


def on_another_set(data: ReportData) -> tuple[NightReport, ...]:
    """The nights that another frozen set judged than the newest one's."""
    nights = judged(data.nights)
    kept = comparable(nights)
    return tuple(night for night in nights if night not in kept)


def _same_set(one: NightReport, other: NightReport) -> bool:
    """An epoch is one set. Verdicts of before there were epochs go by the tasks, of which a night may ask a part."""
    epochs = [night.verdict.evidence.epoch for night in (one, other) if night.verdict and night.verdict.evidence]
    if len(epochs) == 2:
        return epochs[0] == epochs[1]
    asked = [{sample.task_id for report in night.reports for sample in report.samples} for night in (one, other)]
    return asked[0] <= asked[1] or asked[0] >= asked[1]


def whole(night: NightReport) -> bool:
    """Whether a judged night measured all of the set; one that is found harmful may end before that."""
    return night.verdict is None or night.verdict.evidence is None or night.verdict.evidence.whole


def baseline_of(nights: Sequence[NightReport]) -> EvalReport | None:
    """The baseline of the first of the judged `nights`, all of one set, that measured all of it, else of the first."""
    return arm(next(filter(whole, nights), nights[0]), "baseline")


def served_after(nights: Sequence[NightReport]) -> tuple[EvalReport | None, ...]:
    """The measurement of what serves after each of the judged `nights`, all of one set: the candidate's if promoted.

    After a night that ended before the end of the set, the one of another night that measured most of it by the same
    weights.
    """
    found: list[EvalReport | None] = []
    for night in nights:
        now = arm(night, "candidate" if night.outcome == "promoted" else "current")
        if now is not None and not whole(night):
            others = [report for other in nights for report in other.reports]
            same = [report for report in others if report.weights_sha256 == now.weights_sha256]
            now = max((now, *same), key=lambda report: len(report.samples))
        found.append(now)
    return tuple(found)


def columns(data: ReportData) -> tuple[Column, ...]:
    """The baseline's column and one per comparable night: the candidate against what was served then."""
    nights = data.compared
    if not nights:
        return ()
    out: list[Column] = []
    baseline = baseline_of(nights)
    if baseline is not None:
        out.append(Column(label="base", cells=_cells(baseline, metrics.Changes(gained=(), lost=())), promoted=None))
    for night in nights:
        candidate = arm(night, "candidate")
        if candidate is not None:
            cells = _cells(candidate, changes(night))
            out.append(Column(label=f"N{night.cycle}", cells=cells, promoted=night.outcome == "promoted"))
    return tuple(out)


def _cells(report: EvalReport, changed: metrics.Changes) -> dict[str, Cell]:
    cells = {sample.task_id: Cell.MISSING for sample in report.samples}
    for task, score in metrics.task_scores(report).items():
        cells[task] = Cell.PASS if score >= 0.5 else Cell.FAIL
    cells.update(dict.fromkeys(changed.gained, Cell.GAINED))
    cells.update(dict.fromkeys(changed.lost, Cell.LOST))
    return cells


def tasks_by_family(data: ReportData) -> dict[str, tuple[str, ...]]:
    """Family to its task ids, both in alphabetical order, over the comparable nights."""
    found: dict[str, set[str]] = {}
    for night in data.compared:
        for report in night.reports:
            for sample in report.samples:
                found.setdefault(sample.family, set()).add(sample.task_id)
    return {family: tuple(sorted(tasks)) for family, tasks in sorted(found.items())}


def changed_tasks(data: ReportData) -> tuple[str, ...]:
    """Ids of the tasks that some candidate of the comparable nights gained or lost, by family and id."""
    touched: set[str] = set()
    for night in data.compared:
        change = changes(night)
        touched.update(change.gained, change.lost)
    return tuple(task for tasks in tasks_by_family(data).values() for task in tasks if task in touched)


def title(titles: Titles, task: str) -> tuple[str, str]:
    """Family and one-line prompt of a task, empty where unknown."""
    family, prompt = titles.get(task, ("", ""))
    return family, " ".join(prompt.split())


def shorten(text: str, letters: int) -> str:
    """`text` cut to at most `letters` characters, with an ellipsis where something is missing."""
    return text if len(text) <= letters else text[: max(0, letters - 1)].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
