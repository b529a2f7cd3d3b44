"""A study's results.md: goals, tables over seeds, what the gate did, and what the numbers cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sleepy_coder.judge import metrics
from sleepy_coder.judge import study as judged
from sleepy_coder.judge.study import Course, Estimate, Row
from sleepy_coder.judge.study_data import DAY_TASKS, HERO, SAMPLES, StudyData
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.report import words
from sleepy_coder.report.study_sections import families_section, founding_failure, gate_section, habits_section


def study_markdown(data: StudyData, found: Sequence[Row]) -> str:
    """The whole page."""
    parts = [
        "# Results",
        _summary(data, found),
        "![Learning curves with and without the gate, gains over the baseline, and each frozen task over the cycles]"
        "(results.png)",
        "Thin lines and dots are single seeds, bold lines and bars their means. Whiskers are 95% intervals over the "
        "seeds (Student's t), so a single seed has none.",
        "## Goals",
        words.table(
            ["Goal", "", "Measured (points over the baseline, or as said)"],
            [[g.text, f"**{g.word}**", g.numbers] for g in judged.goals(found)],
        ),
        _GOALS,
        "## With the gate",
        _rows(data, [row for row in found if row.gated or not row.courses[0].steps]),
        "## Without the gate",
        "Every candidate is promoted, whatever it is worth; the next night begins from it, but for `naive`, "
        "which always begins afresh.",
        _rows(data, [row for row in found if not row.gated]),
        _COLUMNS,
        "## The default recipe against the others",
        _pairs(found),
        *habits_section(data, found),
        *founding_failure(data, found),
        "## What the gate did",
        gate_section(data, found),
        "## Every trajectory",
        _trajectories(data),
        *families_section(data),
        "## How it was measured",
        _method(data),
        "## Sources",
        "\n".join(
            [
                *(f"- `{name}`: {RECIPES[name].source}" for name in judged.names(found)),
                "- ACC and BWT: Lopez-Paz & Ranzato 2017; forgetting: Chaudhry et al. 2018; pass@k: Chen et al. 2021",
            ]
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _only(found: Sequence[Row]) -> str:
    """The option that left out half of the study, if one did: what trains nothing has no gate in either half."""
    gated = {row.gated for row in found if row.courses[0].steps}
    return f" --only {'gated' if gated.pop() else 'ungated'}" if len(gated) == 1 else ""


def _command(data: StudyData, found: Sequence[Row]) -> str:
    """The command that runs this study again: a quick one has a size of its own."""
    facts, names = data.facts, ",".join(judged.names(found))
    seeds = max((len(row.courses) for row in found), default=0)
    size = " --quick" if facts.quick else f" --seeds {seeds} --cycles {facts.cycles}"
    if not facts.quick and facts.day_tasks != DAY_TASKS:
        size += f" --day-tasks {facts.day_tasks}"
    if not facts.quick and facts.samples != SAMPLES:
        size += f" --samples {facts.samples}"
    return f"sleepy-coder study --recipes {names}{size}{_only(found)}"


def _summary(data: StudyData, found: Sequence[Row]) -> str:
    facts, base = data.facts, data.evals[data.facts.base]
    low, high = metrics.pass_rate_interval(base)
    seeds = max((len(row.courses) for row in found), default=0)
    nights = [cell.night.finished for cell in data.cells if cell.night]
    lines = [
        f"{words.counted(len(data.cells), 'cell')} ({words.counted(len({r.recipe for r in found}), 'recipe')}, up to "
        f"{words.counted(seeds, 'seed')}, {words.counted(facts.cycles, 'cycle')} of day and night), the last one of "
        f"{max(nights):%Y-%m-%d %H:%M %Z}."
        if nights
        else "No night was measured yet.",
        f"The baseline `{facts.base_name}` passes **{words.percent(base.pass_rate)}** "
        f"[{100 * low:.0f}, {100 * high:.0f}] of {facts.frozen} frozen tasks.",
        f"Written from the finished cells of `{_command(data, found)} --out docs`; "
        "`docs/how-to/run-the-study.md` tells how to run it.",
    ]
    for kind, reports in (("greedy", data.evals), ("sampled", data.many)):
        if (stacks := len({report.stack for report in reports.values()})) > 1:
            lines.append(
                f"Careful: what was measured ({kind}) is from {stacks} versions of the model's or the verifier's "
                "software, and differences across them are not the weights' alone."
            )
    if infra := sum(report.infra for report in (*data.evals.values(), *data.many.values())):
        lines.append(f"Careful: {words.counted(infra, 'answer')} could not be judged, and rates leave them out.")
    if facts.quick:
        lines.append("This was a quick study: too little training and too few tasks to compare anything.")
    return "\n".join(f"- {line}" for line in lines)


def _number(value: Estimate | None) -> str:
    return "" if value is None else judged.spanned(value, ".4f")


def _share(value: Estimate | None) -> str:
    return "" if value is None else words.percent(value.mean)


def _passes(pairs: Sequence[tuple[float, float] | None]) -> str:
    known = [pair for pair in pairs if pair]
    if not known:
        return ""
    first, last = (sum(pair[i] for pair in known) / len(known) for i in (0, 1))
    return f"{words.percent(first)} \N{RIGHTWARDS ARROW} {words.percent(last)}"


def _rows(data: StudyData, found: Sequence[Row]) -> str:
    head = ["Recipe", "Seeds", "Last rate", "Gain", "Gained", "Lost", "ACC", "BWT", "Forgetting"]
    head += ["pass@1, sampled", f"pass@{data.facts.samples}", "KL", "Steps", "Training s a cycle", "Promoted"]
    lines: list[list[str]] = []
    for row in sorted(found, key=lambda r: -r.final.mean):
        cycles = sum(len(course.rates) - 1 for course in row.courses)
        trained = row.courses[0].steps > 0
        lines.append(
            [
                f"`{row.recipe}`",
                str(len(row.courses)),
                _share(row.final),
                judged.points(row.gain),
                f"{row.gained.mean:.0f}",
                f"{row.lost.mean:.0f}",
                _share(row.acc),
                judged.points(row.bwt) if row.bwt else "",
                judged.points(row.forgetting) if row.forgetting else "",
                _passes([course.pass_1 for course in row.courses]),
                _passes([course.pass_k for course in row.courses]),
                _number(row.kl),
                f"{sum(c.steps for c in row.courses) / len(row.courses):.0f}" if trained else "none",
                f"{sum(c.train_seconds for c in row.courses) / cycles:.0f}" if trained else "none",
                f"{sum(c.promoted for c in row.courses)} of {cycles}" if trained else "",
            ]
        )
    return words.table(head, lines) if lines else "None yet."


_GOALS = (
    "Met: the mean over the seeds is on the right side of the limit, and so is its whole 95% interval; where only the "
    "mean is, or there is one seed, it is not proved. With the gate what serves changes with each promotion only, so "
    "the BWT of a trajectory with one promotion is what its first adapter made of earlier themes; without the gate "
    "every night counts."
)
_COLUMNS = (
    "Means over the seeds; in brackets 95% intervals over the seeds (Student's t), where there are two at least. "
    "Gain, BWT and forgetting in points; gained and lost are tasks, last against baseline; ACC, BWT and forgetting "
    "are over the themes of the days; sampled pass@1 and pass@k are of the same answers, baseline and last, while all "
    "other rates are greedy; KL to the base in nats a token, at the end of the training that gave what serves "
    "at last, on that recipe's own rows, so it does not compare recipes."
)


def _pairs(found: Sequence[Row]) -> str:
    lines: list[list[str]] = []
    for name in judged.names(found):
        pairs = [(judged.find(found, HERO, gated), judged.find(found, name, gated)) for gated in (True, False)]
        both = [judged.paired(one, other) if one and other else None for one, other in pairs]
        if name != HERO and any(both):
            lines.append([f"`{name}`", *(judged.points(value) for value in both)])
    note = "Points by which the last model passes more of the frozen tasks, seed by seed, with 95% intervals."
    head = [f"`{HERO}` \N{MINUS SIGN}", "with the gate", "without"]
    table = words.table(head, lines) if lines else "Nothing to compare."
    return f"{note}\n\n{table}"


def _trajectories(data: StudyData) -> str:
    courses: list[Course] = [judged.course(data, of) for of in data.trajectories()]
    longest = max((len(course.rates) for course in courses), default=1)
    head = ["Recipe", "Gate", "Seed", "Baseline", *(f"after {cycle}" for cycle in range(1, longest))]
    lines: list[list[str]] = []
    for course in courses:
        marks = {"promoted": "", "none": "", "inconclusive": " (held)", "rejected": " (turned down)"}
        shown = [
            words.percent(rate) + marks.get(cell.outcome, f" ({cell.outcome})")
            for rate, cell in zip(course.rates[1:], data.cells_of(course.of), strict=True)
        ]
        gate = "yes" if course.of.gated else "no"
        lines.append([f"`{course.of.recipe}`", gate, str(course.of.seed), words.percent(course.rates[0]), *shown])
    return words.table(head, [[*line, *[""] * (len(head) - len(line))] for line in lines]) + (
        "\n\nPass rate of what serves after each cycle; in brackets what became of a candidate that does not."
    )


_METHOD: Final = """\
- Each day has up to {day_tasks} tasks of the day split, met by the base model, once for each seed: every recipe has the
  same episodes, and none are held back as fresh tasks. The tasks of a real day would be met by what serves, which
  would give each recipe other rows.
- Each day has a theme, a part of the task families. Half of a theme's tasks come on its day and the others on any day.
  ACC, BWT and forgetting are over the frozen tasks of the themes: R[i][j] is what serves after cycle i on the theme of
  day j.
- All models answer the same {frozen} frozen tasks (set `{set_id}`), greedily, judged by rustc. pass@k is at {samples}
  samples with temperature 0.8.
- With the gate a night is what `sleepy-coder night` does, in a home of its own. Without it the same night promotes its
  candidate, whatever the gate says.
- Work that is equal is done once: the same weights are not asked the same twice, nor the same rows trained on the same
  start twice. So the seconds are those of training alone, on a machine that may have had other work, and of a training
  that was stopped and went on those since then; all cells took {hours:.1f} h as they were run.
- {states}
- `hints-only` and `no-update` train nothing, so there is nothing to gate.
- The frozen set judges every candidate, so the best of several is a little flattered on it; differences between recipes
  share that, and those between with and without the gate do not, since only the gate chooses by it. Settings of the
  default recipe (alpha, dropout, stopping early, how many anchors) were chosen on the same tasks, before this study
  ([experiments](experiments.md)), so its gain over the baseline is a little flattered by that too. Which weights of a
  night are the candidate is chosen on the dev tasks, which share no task with the frozen set."""


def _method(data: StudyData) -> str:
    hours = sum(cell.seconds for cell in data.cells) / 3600
    return _METHOD.format(**data.facts.model_dump(), hours=hours, states=_states(data))


def _states(data: StudyData) -> str:
    """When the nights were run, and by how many states of the code."""
    nights = [cell.night for cell in data.cells if cell.night]
    if not nights:
        return "No night was run yet."
    known = {cell.code for cell in data.cells if cell.night} - {None}
    unknown = sum(cell.code is None for cell in data.cells if cell.night)
    by = [words.counted(len(known), "state") + " of the code" if known else ""]
    by += [f"{words.counted(unknown, 'night')} by one that was not recorded" if unknown else ""]
    return (
        f"The nights were run from {min(n.started for n in nights):%Y-%m-%d %H:%M} to "
        f"{max(n.finished for n in nights):%Y-%m-%d %H:%M %Z}, by {', '.join(filter(None, by))}. A study goes on over "
        "changes of the code that leave its settings as they are."
    )
