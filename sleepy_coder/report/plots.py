"""results.png: the nights compared, the families, and every task over the nights."""

# matplotlib's own types are partial where numpy arrays and **kwargs go through.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from sleepy_coder.judge.metrics import family_table, pass_rate_interval
from sleepy_coder.report.data import (
    Cell,
    Column,
    ReportData,
    arm,
    baseline_of,
    changed_tasks,
    columns,
    comparable,
    judged,
    served_after,
    shorten,
    tasks_by_family,
    title,
)
from sleepy_coder.types import NightReport

COLOURS: Mapping[Cell, str] = {
    Cell.PASS: "#cfe4f3",
    Cell.FAIL: "#b9b4ac",
    Cell.GAINED: "#0072b2",
    Cell.LOST: "#d55e00",
    Cell.MISSING: "#ffffff",
}
"""Okabe & Ito's blue and vermilion for what changed, pale tints for the rest; distinct in grey as well."""

_ARMS = {
    "baseline": ("Baseline (frozen)", "#767676", "o", -0.16),
    "current": ("Served before", "#e69f00", "s", 0.0),
    "candidate": ("Candidate", "#0072b2", "D", 0.16),
}
INK, QUIET = "#1f2328", "#6b7076"
DPI = 130
_LATEST = 14
_SPELLED = 8
"""So many nights have room for their outcome below the axis."""
_NAME = 34
"""Letters of a family's name: longer ones would leave the bars no room and run into the next block."""
_LABELLED = 72


def results_png(data: ReportData, dpi: int = DPI) -> bytes:
    """The figure as PNG. Shows the latest 14 judged nights, and up to 72 changed tasks by name.

    Raises ValueError when no night was judged.
    """
    shown = columns(data)
    if not shown:
        raise ValueError("no night has measured a candidate, so there is nothing to draw")
    shown = (*shown[:1], *shown[1:][-_LATEST:])
    families, changed = tasks_by_family(data), changed_tasks(data)
    per_row = max(1, min(5, 60 // max(map(len, families.values()))))
    block_rows = math.ceil(len(families) / per_row)
    label_rows = math.ceil(min(len(changed), _LABELLED) / 3)
    heights = [
        3.6,
        0.9 + block_rows * (0.34 + 0.115 * len(shown)),
        0.9 + 0.19 * (label_rows + 1),
    ]
    figure = sheet(sum(heights) + 1.6)
    grid = figure.add_gridspec(3, 2, height_ratios=heights, width_ratios=[1, 1.5])
    _draw_rates(figure.add_subplot(grid[0, 0]), data)
    _draw_families(figure.add_subplot(grid[0, 1]), data)
    _draw_blocks(figure.add_subplot(grid[1, :]), families, shown, per_row)
    _draw_changed(figure.add_subplot(grid[2, :]), data, changed, shown)
    figure.suptitle(
        f"sleepy-coder: {len(judged(data.nights))} judged nights, serving {data.serving}",
        x=0.01,
        ha="left",
        fontsize=17,
        fontweight="bold",
        color=INK,
    )
    return png_of(figure, dpi)


def sheet(height: float) -> Figure:
    """An empty figure, as wide as all are."""
    figure = Figure(figsize=(16, height), facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)  # type: ignore[union-attr]
    return figure


def png_of(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG, the same bytes each time."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def head(axes: Axes, text: str, below: str) -> None:
    """A title, and a line below it."""
    axes.set_title(text, loc="left", fontsize=13, fontweight="bold", color=INK, pad=22)
    axes.text(0, 1.0, below, transform=axes.transAxes, fontsize=9.5, color=QUIET, va="bottom")


def bare(axes: Axes, *keep: str) -> None:
    """No frame but for the sides to `keep`."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side in keep)
        axes.spines[side].set_color("#c8c8c8")
    axes.tick_params(colors=QUIET, labelsize=9.5, length=0)


def _draw_rates(axes: Axes, data: ReportData) -> None:
    """Three arms per night with 95% intervals; a star marks what was promoted."""
    nights = judged(data.nights)[-_LATEST:]
    for name, (label, colour, marker, shift) in _ARMS.items():
        found = [(i, report) for i, night in enumerate(nights) if (report := arm(night, name))]
        x = [i + shift for i, _ in found]
        y = [100 * report.pass_rate for _, report in found]
        ends = [pass_rate_interval(report) for _, report in found]
        below = [v - 100 * low for v, (low, _) in zip(y, ends, strict=True)]
        above = [100 * high - v for v, (_, high) in zip(y, ends, strict=True)]
        axes.errorbar(
            x,
            y,
            yerr=[below, above],
            fmt=marker,
            color=colour,
            ms=7,
            lw=1.6,
            capsize=3,
            label=label,
            zorder=3,
        )
    for i, night in enumerate(nights):
        candidate = arm(night, "candidate")
        if night.outcome == "promoted" and candidate is not None:
            top = 100 * pass_rate_interval(candidate)[1]
            axes.annotate("\N{BLACK STAR}", (i + 0.16, top), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks(range(len(nights)), night_names(nights))
    axes.set_xlim(-0.6, len(nights) - 0.4)
    axes.yaxis.set_major_formatter("{x:.0f}%")
    axes.grid(axis="y", color="#ececec", zorder=0)
    axes.margins(y=0.15)
    bare(axes, "bottom")
    axes.legend(frameon=False, fontsize=9.5, loc="lower right", ncols=3)
    head(
        axes,
        "Pass rate on the frozen tasks",
        "pass@1 with 95% intervals; \N{BLACK STAR} promoted"
        + ("; * judged on another set" if _crowded(nights) and len(comparable(nights)) < len(nights) else ""),
    )


def _crowded(nights: Sequence[NightReport]) -> bool:
    return len(nights) > _SPELLED


def night_names(nights: Sequence[NightReport]) -> list[str]:
    """What stands below each night: its outcome too, where there is room for that."""
    known = comparable(nights)
    if _crowded(nights):
        return [f"N{night.cycle}{'' if night in known else '*'}" for night in nights]
    other = ["" if night in known else "\nanother set" for night in nights]
    return [f"night {night.cycle}\n{night.outcome}{mark}" for night, mark in zip(nights, other, strict=True)]


def _draw_families(axes: Axes, data: ReportData) -> None:
    """Baseline and served rate of each family, largest gain first."""
    nights = data.compared
    first, last = baseline_of(nights), served_after(nights)[-1]
    if first is None or last is None:
        return
    rates = [(row.family, *row.rates) for row in family_table([first, last])]
    rows = [(name, old, new) for name, old, new in rates if old is not None and new is not None]
    rows.sort(key=lambda row: (row[1] - row[2], row[0]))
    x = list(range(len(rows)))
    axes.bar([i - 0.2 for i in x], [100 * old for _, old, _ in rows], 0.4, color="#9a9a9a", label="baseline")
    colours = [COLOURS[Cell.LOST] if new < old else COLOURS[Cell.GAINED] for _, old, new in rows]
    axes.bar([i + 0.2 for i in x], [100 * new for _, _, new in rows], 0.4, color=colours)
    size = 8.5 if len(rows) <= 35 else 6.8
    axes.set_xticks(x, [shorten(name, _NAME) for name, _, _ in rows], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.8, len(rows) - 0.2)
    axes.set_ylim(0, 100)
    axes.yaxis.set_major_formatter("{x:.0f}%")
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#ececec")
    bare(axes, "bottom")
    axes.tick_params(axis="x", labelsize=size)
    axes.legend(
        handles=[
            Patch(color="#9a9a9a", label="baseline"),
            Patch(color=COLOURS[Cell.GAINED], label="serving now"),
            Patch(color=COLOURS[Cell.LOST], label="serving now, below baseline"),
        ],
        frameon=False,
        fontsize=9.5,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
    )
    head(axes, "Families", "pass rate per family, largest gain first")


def _draw_blocks(axes: Axes, families: Mapping[str, Sequence[str]], shown: Sequence[Column], per_row: int) -> None:
    """One block per family: a column for each task, a row for each night."""
    widest = max(len(tasks) for tasks in families.values())
    wide, tall = widest + 3.2, len(shown) + 2.6
    for number, (family, tasks) in enumerate(families.items()):
        left, top = (number % per_row) * wide, (number // per_row) * tall
        axes.text(left, top - 0.35, shorten(family, _NAME), fontsize=9.5, color=INK, va="bottom")
        for row, column in enumerate(shown):
            colour = INK if column.promoted else QUIET
            weight = "bold" if column.promoted else "normal"
            axes.text(
                left - 0.25,
                top + row + 0.5,
                column.label,
                fontsize=6.5,
                color=colour,
                weight=weight,
                ha="right",
                va="center",
            )
            for x, task in enumerate(tasks):
                _draw_cell(axes, left + x, top + row, column.cells.get(task, Cell.MISSING))
    rows = math.ceil(len(families) / per_row)
    axes.set_xlim(-2.0, per_row * wide - 2.2)
    axes.set_ylim(rows * tall - 0.8, -2.0)
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)
    names = {Cell.PASS: "pass", Cell.FAIL: "fail", Cell.GAINED: "+ GAINED", Cell.LOST: "\N{MINUS SIGN} LOST"}
    axes.legend(
        handles=[Patch(facecolor=COLOURS[cell], edgecolor="#c8c8c8", label=name) for cell, name in names.items()],
        frameon=False,
        fontsize=10,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4,
    )
    head(
        axes,
        "Every frozen task, night by night",
        "a column per task; rows: the baseline, then each night's candidate against what was served then "
        "(bold: promoted)",
    )


def _draw_cell(axes: Axes, x: float, y: float, cell: Cell, wide: float = 1.0, tall: float = 1.0) -> None:
    edge = "#d0d0d0" if cell is Cell.MISSING else "white"
    axes.add_patch(Rectangle((x, y), wide, tall, facecolor=COLOURS[cell], edgecolor=edge, linewidth=0.8))
    sign = {Cell.GAINED: "+", Cell.LOST: "\N{MINUS SIGN}"}.get(cell)
    if sign:
        axes.text(
            x + wide / 2,
            y + tall / 2,
            sign,
            fontsize=7,
            color="white",
            weight="bold",
            ha="center",
            va="center_baseline",
        )


def _draw_changed(axes: Axes, data: ReportData, changed: Sequence[str], shown: Sequence[Column]) -> None:
    """The tasks that some candidate gained or lost, by name, in three columns."""
    named, wide, step = changed[:_LABELLED], 60.0, 2.1
    rows, room = max(1, math.ceil(len(named) / 3)), len(shown) * step + 0.8
    letters = int((wide - room) * 1.25)
    for number, task in enumerate(named):
        left, top = (number // rows) * wide, number % rows
        for i, column in enumerate(shown):
            _draw_cell(axes, left + i * step, top + 0.06, column.cells.get(task, Cell.MISSING), step - 0.15, 0.88)
        text = shorten("  ".join((task[:12], *title(data.titles, task))), letters)
        axes.text(left + room, top + 0.5, text, fontsize=7.6, va="center", color=INK)
    for block in range(math.ceil(len(named) / rows)):
        for i, column in enumerate(shown):
            x = block * wide + (i + 0.5) * step
            axes.text(x, -0.15, column.label, fontsize=5.6, ha="center", va="bottom", color=QUIET)
    axes.set_xlim(-0.5, 3 * wide)
    axes.set_ylim(rows + 0.2, -1.2)
    axes.set_xticks([])
    axes.set_yticks([])
    bare(axes)
    more = len(changed) - len(named)
    below = f"{len(changed)} of {sum(map(len, tasks_by_family(data).values()))} tasks changed on some night"
    head(axes, "Changed tasks by name", below + (f"; {more} more are listed in results.md" if more > 0 else ""))
