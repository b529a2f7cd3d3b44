"""Verdicts and outcomes in plain sentences, with the numbers they rest on."""

from __future__ import annotations

from sleepy_coder.report.data import arm
from sleepy_coder.types import Comparison, GateVerdict, NightReport, Recipe

_NAMES = {"baseline": "the frozen baseline", "current": "the served model"}
_LEADS = {"GAIN": "Better than", "NO_GAIN": "No proven gain over", "HARM": "Worse than"}


def percent(fraction: float) -> str:
    """A rate, as 61.3%."""
    return f"{100 * fraction:.1f}%"


def points(fraction: float) -> str:
    """A difference of rates in percentage points, as +6.3 (with a true minus sign)."""
    return f"{100 * fraction:+.1f}".replace("-", "\N{MINUS SIGN}")


def signed(fraction: float) -> str:
    """A signed fraction, as +0.037 (with a true minus sign)."""
    return f"{fraction:+.3f}".replace("-", "\N{MINUS SIGN}")


def p_text(p: float) -> str:
    """A p value to two significant digits."""
    return "p<0.0001" if p < 0.0001 else f"p={p:.2g}"


def counted(number: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def headline(report: NightReport) -> str:
    """What happened to the served model, in one sentence."""
    candidate, serving = report.candidate or "the candidate", report.serving
    current, new = arm(report, "current"), arm(report, "candidate")
    if report.outcome == "promoted" and current is not None and new is not None:
        return (
            f"{candidate} serves from now on: it passes {percent(new.pass_rate)} of the frozen tasks, "
            f"its predecessor {percent(current.pass_rate)}."
        )
    return {
        "promoted": f"{candidate} serves from now on.",
        "rejected": f"{candidate} was turned down. {serving} goes on serving, unchanged.",
        "inconclusive": f"{candidate} is not proven better. {serving} goes on serving, unchanged.",
        "skipped": f"Nothing was trained. {serving} goes on serving, unchanged.",
        "failed": f"The night did not finish. {serving} goes on serving, unchanged.",
    }[report.outcome]


def recovery(report: NightReport) -> str:
    """A sentence for a night that was interrupted and went on; empty for one that was not."""
    resumed = [phase.name for phase in report.phases if phase.resumed]
    if not resumed:
        return ""
    return f"Recovered from an interruption: {counted(len(resumed), 'phase')} kept ({', '.join(resumed)})."


def recipe_line(recipe: Recipe, steps: int) -> str:
    """How the candidate was trained, in one line."""
    return " \N{MIDDLE DOT} ".join(
        (
            recipe.name,
            counted(steps, "step"),
            f"learning rate {recipe.learning_rate:.2g}",
            f"rank {recipe.rank}",
            f"batch {recipe.batch_size}",
        )
    )


def explain(report: NightReport) -> tuple[str, ...]:
    """Why the candidate was or was not deployed, one sentence per reason, worst first."""
    verdict = report.verdict
    if verdict is None:
        return (f"{report.reason[:1].upper()}{report.reason[1:].rstrip('.')}.",) if report.reason else ()
    found = [_sentence(code, verdict) for code in _told_once(verdict)]
    if report.outcome != "promoted" and verdict.comparisons:
        found.append(
            f"This task set finds true gains of {100 * verdict.minimum_detectable_effect:.1f} points or more "
            "in 4 nights of 5; smaller ones often stay unproven."
        )
    return tuple(found)


def _same_reference(verdict: GateVerdict) -> bool:
    """Whether baseline and served model answered alike, so that one comparison tells both."""
    return len({(c.gained, c.lost) for c in verdict.comparisons}) == 1


def _told_once(verdict: GateVerdict) -> tuple[str, ...]:
    """The codes without those that another one implies: NO_GAIN beside HARM, twins of one comparison."""
    implied = {code.replace("HARM_VS", "NO_GAIN_VS") for code in verdict.reasons if code.startswith("HARM_VS")}
    if _same_reference(verdict):
        implied |= {code for code in verdict.reasons if code.endswith("_VS_BASELINE")}
    return tuple(code for code in verdict.reasons if code not in implied)


def _sentence(code: str, verdict: GateVerdict) -> str:
    kind, _, reference = code.partition("_VS_")
    if kind in _LEADS:
        comparison = next(c for c in verdict.comparisons if c.versus == reference.lower())
        return _comparison(kind, comparison, verdict)
    name, _, rest = code.partition("(")
    if name == "FAMILY_HARM":
        family = next(f for f in verdict.families if f.family == rest.rstrip(")"))
        return (
            f"The family {family.family} got worse: {family.gained} gained, {family.lost} lost "
            f"of {counted(family.tasks, 'task')} ({p_text(family.p_harm)})."
        )
    tasks = verdict.comparisons[0].tasks if verdict.comparisons else 0
    return {
        "ENV_DRIFT": "The three models were not measured on the same tasks and stack and cannot be compared.",
        "INFRA_MISSING": f"{len(verdict.infra_tasks)} of {tasks} tasks could not be measured because the "
        "machine failed, which is more than the gate accepts.",
        "DOMINATED": "It lost tasks and gained none, which no improvement looks like.",
        "IDENTICAL": "It answers like the model that is served already.",
        "TOO_FEW_TASKS": f"The frozen set has only {counted(tasks, 'task')}, too few to promote anything on.",
    }.get(name, code)


def _comparison(kind: str, comparison: Comparison, verdict: GateVerdict) -> str:
    name = _NAMES[comparison.versus]
    if _same_reference(verdict):
        name = "the served model (equal to the baseline)"
    low, high = comparison.interval
    rule = f"{verdict.alpha:g} or less rejects" if kind == "HARM" else f"{verdict.alpha:g} or less is needed"
    return (
        f"{_LEADS[kind]} {name}: {len(comparison.gained)} gained, {len(comparison.lost)} lost "
        f"of {counted(comparison.tasks, 'task')}, {points(comparison.delta)} points "
        f"({comparison.confidence:.0%} interval {points(low)} to {points(high)}), "
        f"{p_text(comparison.p_harm if kind == 'HARM' else comparison.p_value)} ({rule})."
    )
