"""Sections of a study's results.md that answer one question each: what the gate did, where the gain lies, ..."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sleepy_coder.adapter_manifest import model_sha256
from sleepy_coder.judge import metrics
from sleepy_coder.judge import study as judged
from sleepy_coder.judge.study import Row
from sleepy_coder.judge.study_data import Cell, StudyData
from sleepy_coder.nano import MODEL_DIR, careless_families
from sleepy_coder.report import words

_OUTCOMES: Final = ("promoted", "inconclusive", "rejected")


def founding_failure(data: StudyData, found: Sequence[Row]) -> tuple[str, ...]:
    """What the project's first attempt does here, cycle by cycle."""
    row = next((row for row in found if row.recipe == "naive" and not row.gated), None)
    if row is None:
        return ()
    lines = [
        [str(course.of.seed), *(words.percent(rate) for rate in course.rates), str(len(course.lost))]
        for course in row.courses
    ]
    cycles = len(row.courses[0].rates) - 1
    first = judged.estimate([c.rates[1] - c.rates[0] for c in row.courses])
    counts = {sum(cell.night.counts.values()) for cell in data.cells if cell.recipe == "naive" and cell.night}
    rows_of = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(next(iter(counts), 0))
    said = (
        "The first attempt of the project that this one started from: plain SFT on the day's failures with "
        "hand-written fixes, loss on the prompt too, learning rate 2e-4, rank 16, 500 steps. There it lost 16.7 "
        f"points. Here one night of it, on {rows_of} rows, changes the pass rate by {judged.points(first)} points."
    )
    head = ["Seed", "Baseline", *(f"after {cycle}" for cycle in range(1, cycles + 1)), "Lost at last"]
    return ("## The founding failure", said, words.table(head, lines))


def gate_section(data: StudyData, found: Sequence[Row]) -> str:
    """What became of each night's candidate, and how much higher the same nights end without the gate."""
    lines = [_gate_line(data, row) for row in found if row.gated]
    if not lines:
        return "No gated night was measured yet."
    head = ["Recipe", *(name.capitalize() for name in _OUTCOMES), "Skipped or failed", "Dropped before the gate"]
    head += ["Candidates that were worse", "Promoted though worse"]
    note = (
        "Dropped before the gate: no weights of the night were better on the dev tasks, so the frozen set was not "
        "asked. Worse: passing less of the frozen set than what served before (promoted though worse: or than the "
        "baseline), by the very answers that the gate has judged; that none was promoted shows that its rule was kept."
    )
    return f"{words.table(head, lines)}\n\n{note}{_cost(found)}"


def _gate_line(data: StudyData, row: Row) -> list[str]:
    courses = (*row.courses, *row.begun)
    mine = [cell for course in courses for cell in data.cells_of(course.of)]
    dropped = [cell for cell in mine if cell.outcome == "inconclusive" and cell.candidate is None]
    outcomes = [cell.outcome for cell in mine if cell not in dropped]
    counts = [outcomes.count(name) for name in _OUTCOMES]
    worse = [cell for cell in mine if cell.candidate and _change(data, cell) < 0]
    numbers = [*counts, len(outcomes) - sum(counts), len(dropped), len(worse), sum(len(c.worse) for c in courses)]
    return [f"`{row.recipe}`", *map(str, numbers)]


def _cost(found: Sequence[Row]) -> str:
    """By how much the trajectories without the gate end higher, where there are both."""
    lines: list[list[str]] = []
    for row in found:
        free = judged.find(found, row.recipe, False)
        if row.gated and free and (value := judged.paired(free, row)):
            lines.append([f"`{row.recipe}`", str(value.n), judged.points(value)])
    head = ["Recipe", "Seeds", "Without the gate \N{MINUS SIGN} with it"]
    return f"\n\nPoints of the last rate, seed by seed:\n\n{words.table(head, lines)}" if lines else ""


def _change(data: StudyData, cell: Cell) -> float:
    assert cell.candidate
    return data.evals[cell.candidate].pass_rate - data.evals[cell.before].pass_rate


def families_section(data: StudyData) -> tuple[str, ...]:
    shown = data.shown()
    if shown is None:
        return ()
    base, last = data.evals[data.facts.base], data.evals[data.cells_of(shown)[-1].served]
    changed = [row for row in metrics.family_table([base, last]) if row.rates[0] != row.rates[1]]
    changed.sort(key=lambda row: (row.rates[0] or 0.0) - (row.rates[1] or 0.0))
    lines = [
        [words.cell(row.family), str(row.tasks), *(f"{100 * (rate or 0.0):.0f}" for rate in row.rates)]
        for row in changed
    ]
    where = f"`{shown.recipe}`, seed {shown.seed}, {'with' if shown.gated else 'without'} the gate"
    table = words.table(["Family", "Tasks", "Baseline %", "Last %"], lines) if lines else "None."
    return ("## Families that changed", f"{where}; its nights are in [dashboard.html](dashboard.html).", table)


def habits_section(data: StudyData, found: Sequence[Row]) -> tuple[str, ...]:
    """Whether what is gained are the wrong habits that the packaged base was taught; nothing is known of others."""
    if data.facts.base != model_sha256(MODEL_DIR):
        return ()
    base = data.evals[data.facts.base]
    family = {sample.task_id: sample.family for sample in base.samples}
    habits = {task for task, name in family.items() if name in careless_families()}
    groups = (habits, family.keys() - habits)
    scores = metrics.task_scores(base)
    lines = [
        [
            f"`{row.recipe}`",
            "yes" if row.gated else "no",
            str(len(row.courses)),
            *(_net(row, tasks) for tasks in groups),
        ]
        for row in found
        if row.courses[0].steps
    ]
    said = (
        f"The base was taught a wrong habit in {len(careless_families())} families (`docs/model-card.md`): it "
        "has seen the right way and a worse one, and takes the worse one first. Here are the tasks of these families "
        "and of the others that the last model passes more than the baseline: gained less lost, with 95% intervals "
        "over the seeds."
    )
    heads = [
        f"{name} ({len(tasks)} tasks, the baseline passes {sum(scores.get(task, 0.0) for task in tasks):.0f})"
        for name, tasks in zip(("Taught a habit", "Others"), groups, strict=True)
    ]
    return ("## Where the gain lies", said, words.table(["Recipe", "Gate", "Seeds", *heads], lines))


def _net(row: Row, tasks: Collection[str]) -> str:
    """Gained less lost among these tasks, over the seeds."""
    nets = [sum(t in tasks for t in c.gained) - sum(t in tasks for t in c.lost) for c in row.courses]
    return judged.spanned(judged.estimate(nets), "+.1f")
