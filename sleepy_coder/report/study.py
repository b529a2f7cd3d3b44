"""A study's results.md, results.png, dashboard.html and study.json, all from what its store holds; and that itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sleepy_coder.files import write_atomic
from sleepy_coder.judge import study as judged
from sleepy_coder.judge.study import Goal, Row
from sleepy_coder.judge.study_data import Cell, StudyData, StudyExport, StudyFacts, Trajectory
from sleepy_coder.report.data import ReportData, Titles
from sleepy_coder.types import NightReport, Record


class StudyFile(Record):
    """study.json: what pages and scripts read."""

    facts: StudyFacts
    baseline: float
    goals: tuple[Goal, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]


def write_study(kept: StudyExport, titles: Titles, folder: Path) -> tuple[Path, ...]:
    """Write the five files to `folder`; dashboard.html only where a night was judged. The paths written."""
    from sleepy_coder.report.dashboard import dashboard_html
    from sleepy_coder.report.study_page import study_markdown
    from sleepy_coder.report.study_plots import study_png

    data = kept.data
    found = judged.rows(data)
    said = StudyFile(
        facts=data.facts,
        baseline=data.evals[data.facts.base].pass_rate,
        goals=judged.goals(found),
        rows=found,
        cells=data.cells,
    )
    files: dict[Path, str | bytes] = {
        folder / "results.md": study_markdown(data, found),
        folder / "results.png": study_png(data, found),
        folder / "study.json": said.model_dump_json(indent=1) + "\n",
        folder / "study-data.json.gz": kept.pack(),
    }
    shown = data.shown()
    if shown is not None:
        files[folder / "dashboard.html"] = dashboard_html(as_report(data, shown, titles))
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        write_atomic(path, content)
    return tuple(files)


def as_report(data: StudyData, of: Trajectory, titles: Titles) -> ReportData:
    """The nights of one trajectory as the reports of a home show them, each measured on the whole frozen set."""
    nights = tuple(_night(data, cell, cell.night) for cell in data.cells_of(of) if cell.night)
    return ReportData(
        nights=nights,
        episodes_total=0,
        episodes_passed=0,
        serving=nights[-1].serving if nights else data.facts.base_name,
        generated=max(night.finished for night in nights),
        titles=dict(titles),
    )


def _night(data: StudyData, cell: Cell, night: NightReport) -> NightReport:
    keys: list[tuple[Literal["baseline", "current", "candidate"], str]] = []
    if cell.candidate:
        keys = [("baseline", data.facts.base), ("current", cell.before), ("candidate", cell.candidate)]
    reports = tuple(data.evals[key].model_copy(update={"arm": arm}) for arm, key in keys)
    return night.model_copy(update={"reports": reports})
