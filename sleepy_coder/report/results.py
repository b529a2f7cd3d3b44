"""results.md: every night with its numbers, every task by name, and what the numbers cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.judge import metrics
from sleepy_coder.report import words
from sleepy_coder.report.data import (
    ReportData,
    arm,
    baseline_of,
    changes,
    comparable,
    judged,
    on_another_set,
    served_after,
    title,
)
from sleepy_coder.types import Comparison, EvalReport, GateVerdict, NightReport

_FOLD = 20
"""Task lists longer than this are folded away."""


def results_markdown(data: ReportData) -> str:
    """The whole page, which shows the figure beside it."""
    nights = judged(data.nights)
    parts = ["# Results", _summary(data)]
    if nights:
        parts.append("![Pass rates per night, pass rates per family, and each task over the nights](results.png)")
    if data.nights:
        parts += ["## Nights", _nights(data.nights)]
    if nights:
        parts += ["## Keeping what was learned", _memory(data)]
    if data.days:
        parts += ["## The days between", _days(data)]
    apart = on_another_set(data)
    parts += [_night(data, night, night in apart) for night in data.nights]
    if nights:
        parts += ["## Families", _families(comparable(nights))]
        parts += ["## How to read these numbers", _caveats(nights)]
    return "\n\n".join(parts) + "\n"


def _summary(data: ReportData) -> str:
    done = [night.outcome for night in data.nights]
    outcomes = ", ".join(f"{done.count(outcome)} {outcome}" for outcome in dict.fromkeys(done)) or "none yet"
    lines = [
        f"Generated {data.generated:%Y-%m-%d %H:%M %Z}. Serving: `{data.serving}`.",
        f"Nights: {len(data.nights)} ({outcomes}). "
        f"Episodes collected: {data.episodes_total}, of which {data.episodes_passed} passed.",
    ]
    nights = data.compared
    if nights:
        first, now = baseline_of(nights), served_after(nights)[-1]
        gain = metrics.difference(first, now) if first and now else None
        if gain is not None:
            lines.append(
                f"The baseline passes **{_rate(first)}** of the frozen tasks; what serves now passes "
                f"**{_rate(now)}** ({words.points(gain)} points)."
            )
    if other := on_another_set(data):
        lines.append(
            "Judged on another frozen set, and left out wherever nights are compared: "
            f"night {', '.join(str(night.cycle) for night in other)}."
        )
    return "\n".join(f"- {line}" for line in lines)


def _rate(report: EvalReport | None) -> str:
    if report is None:
        return ""
    low, high = metrics.pass_rate_interval(report)
    return f"{words.percent(report.pass_rate)} [{100 * low:.0f}, {100 * high:.0f}]"


def _nights(nights: Sequence[NightReport]) -> str:
    rows: list[list[str]] = []
    for night in nights:
        versus = {c.versus: c for c in night.verdict.comparisons} if night.verdict else {}
        change = changes(night)
        rows.append(
            [
                str(night.cycle),
                f"{night.started:%Y-%m-%d}",
                f"`{night.candidate}`" if night.candidate else "",
                f"**{night.outcome}**" if night.outcome == "promoted" else night.outcome,
                *(_rate(arm(night, name)) for name in ("baseline", "current", "candidate")),
                _difference(versus.get("current")),
                _difference(versus.get("baseline")),
                str(len(change.gained)) if night.verdict else "",
                str(len(change.lost)) if night.verdict else "",
            ]
        )
    head = ["Night", "Date", "Candidate", "Outcome", "Baseline %", "Served before %", "Candidate %"]
    head += ["Candidate \u2212 served", "Candidate \u2212 baseline", "Gained", "Lost"]
    note = "Rates with 95% intervals; differences in points with paired intervals and one-sided p."
    return f"{words.table(head, rows)}\n\n{note} Gained and lost are counted against the model served before."


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    low, high = comparison.interval
    interval = f"[{words.points(low)}, {words.points(high)}]"
    return f"{words.points(comparison.delta)} {interval}, {words.p_text(comparison.p_value)}".replace("<", "&lt;")


def _memory(data: ReportData) -> str:
    """Forgetting, repeated errors and backward transfer of what was served, night after night."""
    nights = data.compared
    history: list[EvalReport] = [report for report in (baseline_of(nights),) if report]
    rows: list[list[str]] = []
    for night, served in zip(nights, served_after(nights), strict=True):
        current, candidate = arm(night, "current"), arm(night, "candidate")
        if served is None or current is None or candidate is None:
            continue
        history.append(served)
        lost = metrics.forgotten(history)
        repeats = metrics.repeat_error_rate(current, candidate)
        rows.append([str(night.cycle), f"`{served.model}`", str(len(lost)), words.percent(repeats)])
    head = ["Night", "Serves after it", "Tasks passed before, failing now", "Candidate repeats an error"]
    return f"{words.table(head, rows)}\n\n{_backward(nights)}"


def _backward(nights: Sequence[NightReport]) -> str:
    """Backward transfer over the tasks that each promoted night gained and all of them measured."""
    promoted = [night for night in nights if night.outcome == "promoted"]
    reports = [report for night in promoted if (report := arm(night, "candidate"))]
    measured = [set(metrics.task_scores(report)) for report in reports]
    groups = [set(changes(night).gained).intersection(*measured) for night in promoted]
    gained = [(report, group) for report, group in zip(reports, groups, strict=True) if group]
    if len(gained) < 2:
        return "Backward transfer needs two promoted nights."
    matrix = metrics.accuracy_matrix([report for report, _ in gained], [group for _, group in gained])
    return (
        f"On the tasks that promoted nights gained: ACC {metrics.acc(matrix):.3f}, "
        f"BWT {words.signed(metrics.bwt(matrix))}, forgetting {words.signed(metrics.forgetting(matrix))} "
        "(Lopez-Paz & Ranzato 2017; Chaudhry et al. 2018). A group is what one night gained, so BWT says how much of "
        "that was lost again, and forgetting how far they are below their best; the last group counts in neither."
    )


def _days(data: ReportData) -> str:
    """How the model did by day: passes, attempts, and mistakes that came back."""
    rows = [
        [
            str(day.before),
            str(day.episodes),
            words.percent(day.passed),
            words.percent(day.at_once),
            "" if day.attempts_to_green is None else f"{day.attempts_to_green:g}",
            words.percent(day.repeats),
        ]
        for day in data.days
    ]
    head = ["Before night", "Episodes", "Passed", "At the first attempt", "Median attempts to green"]
    head += ["A mistake came back"]
    note = (
        "At most 300 episodes of a day are looked at. A mistake is an error signature; it comes back when an earlier "
        "session of these days made it too. Tasks differ from day to day, so differences here prove nothing."
    )
    return f"{words.table(head, rows)}\n\n{note}"


def _night(data: ReportData, night: NightReport, apart: bool) -> str:
    parts = [f"## Night {night.cycle}: {night.outcome}", words.headline(night)]
    if words.recovery(night):
        parts.append(words.recovery(night))
    parts.append("\n".join(f"- {words.cell(sentence)}" for sentence in words.sentences(night, apart)))
    change = changes(night)
    for name, tasks in (("Gained", change.gained), ("Lost", change.lost)):
        if tasks:
            rows = [[f"`{task}`", *map(words.cell, title(data.titles, task))] for task in tasks]
            table = words.table(["Task", "Family", "Prompt"], rows)
            if len(tasks) > _FOLD:
                table = f"<details><summary>all {len(tasks)} tasks</summary>\n\n{table}\n\n</details>"
            parts.append(f"### {name} ({len(tasks)})\n\n{table}")
    if night.recipe:
        mix = ", ".join(
            f"{kind} {night.shares.get(kind, 0.0):.1%} (asked {share:.0%})" for kind, share in data.asked_shares.items()
        )
        rate = f"{night.recipe.learning_rate:.2g}"
        far = "" if night.kl is None else f", KL to the base {words.kl_text(night.kl)} nats per token in the last step"
        parts.append(
            f"Mix: {mix}. Recipe `{night.recipe.name}`: {words.counted(night.steps, 'step')} "
            f"at learning rate {rate}, rank {night.recipe.rank}{far}."
        )
    return "\n\n".join(parts)


def _families(nights: Sequence[NightReport]) -> str:
    baseline = baseline_of(nights)
    served = [(str(night.cycle), report) for night, report in zip(nights, served_after(nights), strict=True) if report]
    reports = ([("baseline", baseline)] if baseline else []) + served
    rows = [
        [
            words.cell(row.family),
            str(row.tasks),
            *("" if rate is None else f"{100 * rate:.0f}" for rate in row.rates),
            "" if row.rates[0] is None or row.rates[-1] is None else words.points(row.rates[-1] - row.rates[0]),
        ]
        for row in metrics.family_table([report for _, report in reports])
    ]
    head = ["Family", "Tasks", "Baseline %", *(f"After night {label} %" for label, _ in served), "Change"]
    return words.table(head, rows) + "\n\nPass rates of what was served after each night."


def _caveats(nights: Sequence[NightReport]) -> str:
    verdicts = [night.verdict for night in nights if night.verdict]
    return "\n".join(f"- {line}" for line in (*(_measured_caveats(verdicts) if verdicts else ()), *_STANDING_CAVEATS))


_STANDING_CAVEATS = (
    "p values are one-sided (better, or for harm worse), intervals two-sided; a gain can be significant at "
    "5% while the 95% interval still touches zero.",
    "Rates speak of tasks like these, not of every program. Intervals of a single rate are wider than those "
    "of a difference, because all models answer the same tasks with the same seeds.",
    "What serves is the best of several candidates on this set, so its rate here is slightly flattering; "
    "a comparison with the baseline on unseen tasks is the fair one.",
)


def _promise(verdict: GateVerdict, nights: int) -> str:
    """What the gate promised when it gave this verdict, the last of `nights`."""
    alpha, evidence = verdict.alpha, verdict.evidence
    if evidence is None:
        return (
            f"A night promotes something no better with a chance of at most {alpha:g}. The same frozen set was judged "
            f"on {words.counted(nights, 'night')}: over all of them the chance is at most {min(1.0, alpha * nights):g}."
        )
    return (
        f"Over one epoch of the frozen set, something no better than the baseline is promoted with a chance of at most "
        f"{alpha:g}. This is epoch {evidence.epoch}; {evidence.opening} of {evidence.openings} openings are used."
    )


def _detectable(effects: Sequence[float]) -> tuple[str, ...]:
    """What the whole set finds, in points; nothing where no night measured all of it."""
    if not effects:
        return ()
    span = " to ".join(dict.fromkeys((f"{min(effects):.1f}", f"{max(effects):.1f}")))
    return (
        f"Minimum detectable effect: {span} points. A candidate that is truly better by this much is found "
        "in 4 nights of 5; of a smaller gain, `inconclusive` is the expected verdict, no proof of absence.",
    )


def _measured_caveats(verdicts: Sequence[GateVerdict]) -> tuple[str, ...]:
    effects = [100 * effect for verdict in verdicts if (effect := verdict.detectable) is not None]
    missing = sum(len(verdict.infra_tasks) for verdict in verdicts)
    return (
        *_detectable(effects),
        _promise(verdicts[-1], len(verdicts)),
        f"Measurements that failed because of the machine: {missing}. Each counts against the candidate.",
        f"Families guarded one by one: {min(len(verdict.families) for verdict in verdicts)}. They are small: "
        "the guard sees a destroyed family, not one that is a little worse.",
    )
