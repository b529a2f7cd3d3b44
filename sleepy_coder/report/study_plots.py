"""A study's results.png: learning curves with and without the gate, gains, and every frozen task over the cycles."""

# matplotlib's own types are partial where numpy arrays and **kwargs go through.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from sleepy_coder.judge.metrics import changes, task_scores
from sleepy_coder.judge.study import Course, Row
from sleepy_coder.judge.study_data import HERO, StudyData
from sleepy_coder.report.data import Cell
from sleepy_coder.report.plots import COLOURS, INK, QUIET, bare, head, png_of, sheet

_LINES: Final[Mapping[str, str]] = {
    "rft-anchor": "#0072b2",
    "seed-plain": "#e69f00",
    "naive": "#d55e00",
    "sure-dual": "#009e73",
    "sam": "#cc79a7",
    "ssr": "#56b4e9",
    "grpo": "#8c564b",
    "sdft": "#7f3c8d",
    "hints-only": "#000000",
    "no-update": "#767676",
}
"""Okabe & Ito's colours, one for each recipe."""

_CELLS = (Cell.PASS, Cell.FAIL, Cell.GAINED, Cell.LOST)


def study_png(data: StudyData, found: Sequence[Row]) -> bytes:
    """The figure as PNG. The heatmap shows the first seed of each recipe: without the gate, and the default with it."""
    courses = _shown(found)
    tall = 1.4 + 0.17 * sum(len(c.rates) for c in courses)
    figure = sheet(6.2 + tall)
    grid = figure.add_gridspec(2, 3, height_ratios=[5.2, tall])
    left = figure.add_subplot(grid[0, 0])
    right = figure.add_subplot(grid[0, 1], sharey=left)
    for axes, gated, title in ((left, True, "With the gate"), (right, False, "Without the gate")):
        _draw_curves(axes, [row for row in found if row.gated == gated or not row.courses[0].steps], title)
    _draw_gains(figure.add_subplot(grid[0, 2]), found)
    if courses:
        _draw_tasks(figure.add_subplot(grid[1, :]), data, courses)
    return png_of(figure)


def _shown(found: Sequence[Row]) -> list[Course]:
    """The first seed of each row that trained, the default recipe's gated one before all others."""
    rows = [row for row in found if row.courses[0].steps and (not row.gated or row.recipe == HERO)]
    return [row.courses[0] for row in sorted(rows, key=lambda row: (row.recipe != HERO, not row.gated))]


def _draw_curves(axes: Axes, rows: Sequence[Row], title: str) -> None:
    """The mean rate of what serves after each cycle; thin lines are the single seeds."""
    for row in rows:
        cycles = list(range(len(row.courses[0].rates)))
        colour = _LINES[row.recipe]
        for course in row.courses:
            axes.plot(cycles, [100 * rate for rate in course.rates], color=colour, lw=0.8, alpha=0.35)
        mean = [100 * sum(c.rates[i] for c in row.courses) / len(row.courses) for i in cycles]
        style = "-" if row.courses[0].steps else "--"
        axes.plot(cycles, mean, color=colour, lw=2.2, ls=style, marker="o", ms=4, label=row.recipe)
    longest = max((len(row.courses[0].rates) for row in rows), default=1)
    axes.set_xticks(range(longest), ["base", *(str(i) for i in range(1, longest))])
    axes.yaxis.set_major_formatter("{x:.0f}%")
    axes.grid(axis="y", color="#ececec", zorder=0)
    if rows:
        axes.legend(frameon=False, fontsize=9, ncols=1 if len(rows) <= 5 else 2)
    head(axes, title, "frozen tasks passed after each cycle; bold: mean")
    bare(axes, "bottom")


def _draw_gains(axes: Axes, found: Sequence[Row]) -> None:
    """The gain over the baseline at last: a bar for the mean, its interval, a dot for each seed."""
    rows = sorted(found, key=lambda row: row.gain.mean)
    for y, row in enumerate(rows):
        mean, colour = 100 * row.gain.mean, _LINES[row.recipe]
        axes.barh(y, mean, 0.62, color=colour, alpha=0.85 if row.gated else 0.4, zorder=2)
        if row.gain.low is not None and row.gain.high is not None:
            ends = [[mean - 100 * row.gain.low], [100 * row.gain.high - mean]]
            axes.errorbar([mean], [y], xerr=ends, color=INK, lw=1.2, capsize=3, zorder=3)
        dots = [100 * course.gain for course in row.courses]
        axes.plot(dots, [y] * len(dots), "o", color=INK, ms=3, zorder=4)
    names = [f"{row.recipe}{'' if row.gated or not row.courses[0].steps else ' (no gate)'}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.axvline(0, color="#c8c8c8", lw=1)
    axes.xaxis.set_major_formatter("{x:+.0f}")
    axes.grid(axis="x", color="#ececec", zorder=0)
    head(axes, "Gain over the baseline, in points", "after the last cycle; bars: means")
    bare(axes)
    note = "dots: seeds; whiskers: 95% interval over\nthe seeds (Student's t), none for one seed"
    axes.set_xlabel(note, fontsize=9.5, color=QUIET)


def _draw_tasks(axes: Axes, data: StudyData, courses: Sequence[Course]) -> None:
    """A column for each frozen task, by family; a row for the baseline and for what serves after each cycle."""
    base = data.evals[data.facts.base]
    family = {sample.task_id: sample.family for sample in base.samples}
    scores = task_scores(base)
    tasks = sorted(scores, key=lambda task: (family[task], task))
    lines = [[_CELLS.index(Cell.PASS if scores[task] >= 0.5 else Cell.FAIL) for task in tasks]]
    labels = ["baseline"]
    for course in courses:
        for cell in data.cells_of(course.of):
            report = data.evals[cell.served]
            change, now = changes(base, report), task_scores(report)
            codes = {task: Cell.PASS if score >= 0.5 else Cell.FAIL for task, score in now.items()}
            codes |= dict.fromkeys(change.gained, Cell.GAINED) | dict.fromkeys(change.lost, Cell.LOST)
            lines.append([_CELLS.index(codes.get(task, Cell.FAIL)) for task in tasks])
            labels.append(f"{course.of.recipe}{'' if course.of.gated else ', no gate'}  {cell.cycle}")
    colours = ListedColormap([COLOURS[cell] for cell in _CELLS])
    axes.imshow(lines, aspect="auto", cmap=colours, vmin=0, vmax=len(_CELLS) - 1, interpolation="nearest")
    for y in range(1, len(lines)):
        axes.axhline(y - 0.5, color="white", lw=1.6 if labels[y].endswith("  1") else 0.5)
    axes.set_yticks(range(len(lines)), labels)
    axes.set_xticks([])
    names = {Cell.PASS: "pass", Cell.FAIL: "fail", Cell.GAINED: "GAINED", Cell.LOST: "LOST"}
    axes.legend(
        handles=[Patch(facecolor=COLOURS[cell], edgecolor="#c8c8c8", label=names[cell]) for cell in _CELLS],
        frameon=False,
        fontsize=10,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4,
    )
    below = "a column per task, by family; gained and lost against the baseline; the first seed of each recipe"
    head(axes, "Every frozen task, cycle by cycle", below)
    bare(axes)
    axes.tick_params(axis="y", labelsize=8)
