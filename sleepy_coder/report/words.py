"""Verdicts and outcomes in plain sentences, with the numbers they rest on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from sleepy_coder.judge import metrics
from sleepy_coder.report.data import arm
from sleepy_coder.types import Choice, Comparison, GateVerdict, NightReport, Recipe

_NAMES = {"baseline": "the frozen baseline", "current": "the served model"}
_LEADS = {"GAIN": "Better than", "NO_GAIN": "No proven gain over"}
_SHORT = {"E_ANCHOR_LOW": "NO_GAIN_VS_BASELINE", "E_PROG_LOW": "NO_GAIN_VS_CURRENT"}

ANOTHER_SET = "Judged on another frozen set than the newest night, with which it is not compared."


def percent(fraction: float) -> str:
    """A rate, as 61.3%."""
    return f"{100 * fraction:.1f}%"


def points(fraction: float) -> str:
    """A difference of rates in percentage points, as +6.3 (with a true minus sign)."""
    return f"{100 * fraction:+.1f}".replace("-", "\N{MINUS SIGN}")


def signed(fraction: float) -> str:
    """A signed fraction, as +0.037 (with a true minus sign)."""
    return f"{fraction:+.3f}".replace("-", "\N{MINUS SIGN}")


def e_text(log_e: float) -> str:
    """An e-value, given its natural log."""
    return f"E={math.exp(log_e):.2g}" if log_e < math.log(1000) else f"E=10^{log_e / math.log(10):.1f}"


def p_text(p: float) -> str:
    """A p value to two significant digits."""
    return "p<0.0001" if p < 0.0001 else f"p={p:.2g}"


def kl_text(kl: float) -> str:
    """A KL in nats per token to two significant digits; trainers report four decimals."""
    return f"{kl:.2g}" if kl >= 0.0001 else "below 0.0001"


def counted(number: int, noun: str) -> str:
    """1 task, 2 tasks."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the cells are put in as they are."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Text that cannot break out of a table cell, nor become a link or a tag."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("[", "\\[")
    return plain.replace("<", "&lt;").replace("`", "'")


def headline(report: NightReport) -> str:
    """What happened to the served model, in one sentence."""
    candidate, serving = report.candidate or "The candidate", report.serving
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


def recipe_line(recipe: Recipe, steps: int, kl: float | None = None) -> str:
    """How the candidate was trained, in one line; `kl` is how far it went from the base, in nats per token."""
    return " \N{MIDDLE DOT} ".join(
        (
            recipe.name,
            counted(steps, "step"),
            f"learning rate {recipe.learning_rate:.2g}",
            f"rank {recipe.rank}",
            f"batch {recipe.batch_size}",
            *([] if kl is None else [f"KL to the base {kl_text(kl)}"]),
        )
    )


def headroom(report: NightReport) -> tuple[str, ...]:
    """How much there was to gain, so that a night that could not win is understood.

    Training on its own verified answers brings a model about as far as sampling does: from pass@1 towards pass@k.
    """
    found: list[str] = []
    current = arm(report, "current")
    k = 1 + max((sample.index for sample in current.samples), default=0) if current else 1
    if current is not None and k > 1:
        with suppress(ValueError):  # no task has k measured samples
            once, often = (metrics.mean_pass_at_k(current, few, least=k) for few in (1, k))
            found.append(
                f"What served passes {percent(once)} of the frozen tasks at once and {percent(often)} in {k} samples: "
                f"{points(often - once)} points to gain."
            )
    if report.dreamed:
        end = "" if report.answered else ": they taught nothing"
        found.append(
            f"Dreaming answered {report.answered} of {counted(report.dreamed, 'task')} that had failed by day{end}."
        )
    return tuple(found)


def left_out(report: NightReport) -> tuple[str, ...]:
    """What was there to learn from, and was not; with what to do about it."""
    found: list[str] = []
    if leaks := report.left_out.leaks:
        were = "was" if leaks == 1 else "were"
        found.append(
            f"{counted(leaks, 'episode')} {were} too close to frozen tasks and {were} put aside: "
            "`sleepy-coder episodes quarantine`."
        )
    lengths = f"{report.recipe.max_length} tokens" if report.recipe else "model.max_length"
    if too_long := report.left_out.too_long:
        of = counted(too_long + report.counts.get("passed", 0), "passed conversation")
        found.append(f"{too_long} of {of} taught nothing, longer than {lengths}: raise model.max_length.")
    if report.left_out.cut_turns:
        turns = counted(report.left_out.cut_turns, "turn")
        found.append(f"{turns} of passed conversations beyond {lengths} taught nothing: raise model.max_length.")
    return tuple(found)


def sentences(report: NightReport, apart: bool) -> tuple[str, ...]:
    """All that the pages say of a night; `apart` when it was judged on another set than the newest one."""
    told = (*explain(report), *_measured_later(report), *headroom(report), *left_out(report))
    return (*told, ANOTHER_SET) if apart else told


def _measured_later(report: NightReport) -> tuple[str, ...]:
    """Where a study shows all tasks of a night whose gate had seen enough before the end: the two may disagree."""
    verdict, shown = report.verdict, arm(report, "candidate")
    if shown is None or verdict is None or not verdict.comparisons or verdict.evidence is None:
        return ()
    judging = {sample.task_id for sample in shown.samples}.difference(verdict.evidence.left_out)
    seen = verdict.comparisons[0].tasks
    if verdict.evidence.whole or seen >= len(judging):
        return ()
    return (
        f"The bars and squares are the study's later measurement of all {len(judging)} tasks; the gate saw {seen} "
        "of them.",
    )


def stopped(report: NightReport) -> str:
    """Why training ended before its last step."""
    planned = f" of {report.recipe.steps}" if report.recipe else ""
    return f"after step {report.steps}{planned}: {report.stopped}"


def chosen(choice: Choice) -> str:
    """Which weights are the candidate, at what scale, and what they pass of the dev tasks beside what serves."""
    best, served = choice.chosen, choice.served
    folder, _, step = best.weights.rpartition("/")
    weights = f"the weights of step {int(step)}" if folder else "the recipe's own output"
    scale = "at full scale" if best.scale == 1 else f"at {best.scale:g} of their scale"
    said = f"{weights}, {scale}, the best of {counted(len(choice.contenders), 'contender')}"
    if served is None:
        return said
    tasks = len(best.passed) + len(best.failed)
    return f"{said}: {percent(best.rate)} of {counted(tasks, 'dev task')}, what serves {percent(served.rate)}"


def explain(report: NightReport) -> tuple[str, ...]:
    """Why the candidate was or was not deployed, one sentence per reason, worst first."""
    verdict = report.verdict
    if verdict is None:
        return (f"{report.reason[:1].upper()}{report.reason[1:].rstrip('.')}.",) if report.reason else ()
    found = [*(_sentence(code, verdict) for code in _told_once(verdict)), *_measured(verdict)]
    if report.outcome != "promoted" and verdict.comparisons and verdict.detectable is not None:
        found.append(
            f"This task set finds true gains of {100 * verdict.detectable:.1f} points or more "
            "in 4 nights of 5; smaller ones often stay unproven."
        )
    return tuple(found)


def _measured(verdict: GateVerdict) -> Iterator[str]:
    """How much of the set was measured, when it was not all of it."""
    evidence = verdict.evidence
    if evidence is None:
        return
    if not evidence.whole and evidence.units:
        unit = "cluster" if evidence.scope == "population" else "pair"
        yield (
            f"That was final after {counted(evidence.units, unit)} of a set of {evidence.total} clusters: "
            f"{counted(evidence.saved, 'answer')} did not have to be measured."
        )
    if evidence.fresh and "FRESH_LOW" not in verdict.reasons and "LEAK_GAP" not in verdict.reasons:
        yield f"{counted(evidence.fresh, 'cluster')} of fresh tasks, which nobody has trained on, show no loss."
    if evidence.left_out:
        yield (
            f"{counted(len(evidence.left_out), 'task')} stood aside that night: the task's own fix failed its check, "
            f"or its broken program passed ({', '.join(evidence.left_out)})."
        )


def _same_reference(verdict: GateVerdict) -> bool:
    """Whether baseline and served model answered alike, so that one comparison tells both."""
    return len({(c.gained, c.lost) for c in verdict.comparisons}) == 1


def _told_once(verdict: GateVerdict) -> tuple[str, ...]:
    """The codes without those that another one implies: of one comparison for two checks one is enough, and what is
    futile has not gained."""
    implied: set[str] = set()
    if _same_reference(verdict):
        implied |= {"GAIN_VS_CURRENT"} if "GAIN_VS_BASELINE" in verdict.reasons else set()
        implied |= {"E_PROG_LOW"} if "E_ANCHOR_LOW" in verdict.reasons else set()
    if "FUTILE_OR_HARMFUL" in verdict.reasons:
        implied |= {"E_PROG_LOW"}
    return tuple(code for code in verdict.reasons if code not in implied)


def _sentence(code: str, verdict: GateVerdict) -> str:
    kind, _, reference = _SHORT.get(code, code).partition("_VS_")
    if kind in _LEADS and verdict.comparisons:
        comparison = next(c for c in verdict.comparisons if c.versus == reference.lower())
        return _comparison(kind, comparison, verdict)
    name, _, rest = code.partition("(")
    if name == "FAMILY_HARM":
        family = next(f for f in verdict.families if f.family == rest.rstrip(")"))
        return (
            f"The family {family.family} got worse: {family.gained} gained, {family.lost} lost "
            f"of {counted(family.tasks, 'cluster' if verdict.evidence else 'task')} ({p_text(family.p_harm)})."
        )
    tasks = verdict.comparisons[0].tasks if verdict.comparisons else 0
    return {
        "ENV_DRIFT": "The three models were not measured on the same tasks and on the stack of now, so they cannot be "
        "compared.",
        "INFRA_MISSING": f"{len(verdict.infra_tasks)} of {tasks} tasks could not be measured because the "
        "machine failed, or failed their controls: more than the gate accepts, or enough to hide harm.",
        "BUDGET_EXHAUSTED": "This epoch of the frozen set has no opening left: `sleepy-coder gate renew` puts unseen "
        "tasks in its place, and a new epoch begins.",
        "FUTILE_OR_HARMFUL": "A gain over the served model that is worth a promotion is ruled out"
        + (f": {_counts(verdict.comparisons[-1])}." if verdict.comparisons else "."),
        "FRESH_LOW": "A loss on tasks that nobody has trained on cannot be ruled out.",
        "LEAK_GAP": "The gain on the frozen tasks is too large beside that on fresh ones.",
        "SMALL_SET": "The frozen set is too small to promote on its own word.",
    }.get(name, code)


def _comparison(kind: str, comparison: Comparison, verdict: GateVerdict) -> str:
    name = _NAMES[comparison.versus]
    if _same_reference(verdict):
        name = "the served model (equal to the baseline)"
    return f"{_LEADS[kind]} {name}: {_counts(comparison)}, {_strength(comparison, verdict)}."


def _counts(comparison: Comparison) -> str:
    low, high = comparison.interval
    return (
        f"{len(comparison.gained)} gained, {len(comparison.lost)} lost "
        f"of {counted(comparison.tasks, 'task')}, {points(comparison.delta)} points "
        f"({comparison.confidence:.0%} interval {points(low)} to {points(high)})"
    )


def _strength(comparison: Comparison, verdict: GateVerdict) -> str:
    """The number that decided, and what it has to be; a p value for verdicts of before there was evidence."""
    evidence = verdict.evidence
    if evidence is None:
        return f"{p_text(comparison.p_value)} ({verdict.alpha:g} or less is needed)"
    if comparison.versus == "baseline":
        found, needed = evidence.versus_baseline, evidence.baseline_needs
    else:
        found, needed = evidence.versus_current, evidence.current_needs
    if _same_reference(verdict):  # one comparison for both checks, so that the stricter one decides
        needed = max(evidence.baseline_needs, evidence.current_needs)
    return f"{e_text(found)} ({math.exp(needed):.0f} or more is needed)"
