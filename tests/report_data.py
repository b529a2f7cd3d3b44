"""Synthetic nights for tests of the reports, judged by the real gate."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Literal

from gate_cases import case

from sleepy_coder.judge.gate import as_verdict
from sleepy_coder.judge.sequential import judge
from sleepy_coder.report.data import ReportData
from sleepy_coder.report.days import DaySummary
from sleepy_coder.types import Decision, EvalReport, NightReport, Outcome, Phase, Recipe, Sample

FAMILIES = (
    "use_after_move", "borrow_mutable_twice", "mutable_while_borrowed", "assign_immutable",
    "missing_lifetime_fn", "dangling_local", "missing_field", "unknown_field", "missing_use",
    "misspelled_method", "move_out_of_borrow", "moved_in_closure", "partial_move", "consumed_by_loop",
    "non_exhaustive_match", "variant_arity", "reference_expected", "missing_deref", "option_expected",
    "missing_display_bound", "missing_operator_bound", "missing_debug_derive", "missing_trait_item",
    "trait_not_in_scope", "missing_copy_bound", "missing_trait_impl", "str_for_string", "integer_width",
    "missing_return_value", "if_else_types",
)  # fmt: skip
START = datetime(2026, 11, 18, 2, 0, tzinfo=UTC)
Arm = Literal["baseline", "current", "candidate"]


def titles(per_family: int = 10) -> dict[str, tuple[str, str]]:
    rng = random.Random(1)
    return {
        f"{rng.getrandbits(48):012x}": (
            family,
            f"The program should print the total of the {noun}; make it compile.",
        )
        for family in FAMILIES
        for noun in (
            "orders",
            "rivers",
            "lamps",
            "notes",
            "cards",
            "seeds",
            "coins",
            "boats",
            "maps",
            "keys",
        )[:per_family]
    }


def evaluation(arm: Arm, model: str, passed: set[str], tasks: dict[str, tuple[str, str]]) -> EvalReport:
    return EvalReport(
        model=model,
        arm=arm,
        weights_sha256=model,
        set_id="frozen",
        stack="stack",
        seconds=41.0,
        samples=tuple(
            Sample(
                task_id=task,
                family=family,
                index=0,
                seed=20_000,
                outcome=Outcome.PASS if task in passed else Outcome.FAIL,
                served_by=model,
            )
            for task, (family, _) in tasks.items()
        ),
    )


def night(
    cycle: int, base: set[str], now: tuple[str, set[str]], new: set[str], tasks: dict[str, tuple[str, str]]
) -> NightReport:
    name = f"sc-{cycle:04}-{cycle * 2654435761 % 2**32:08x}"
    reports = (
        evaluation("baseline", "sleepy-base", base, tasks),
        evaluation("current", now[0], now[1], tasks),
        evaluation("candidate", name, new, tasks),
    )
    order = random.Random(cycle).sample(list(tasks.items()), len(tasks))
    arms = ([("P" if task in passed else "F") for task, _ in order] for passed in (base, now[1], new))
    judged = case(*arms, names=order, cycle=cycle, opening=cycle)
    verdict = as_verdict(judged, judge(judged), reports)
    outcome = {Decision.PROMOTE: "promoted", Decision.REJECT: "rejected"}.get(verdict.decision, "inconclusive")
    phases = {"anchors": 38.2, "dream": 61.0, "mix": 0.4, "train": 402.5, "evaluate-baseline": 0.1}
    phases |= {"evaluate": 107.3, "gate": 0.1, "deploy": 1.2}
    started = START + timedelta(days=cycle)
    return NightReport.model_validate(
        {
            "cycle": cycle,
            "started": started,
            "finished": started + timedelta(seconds=sum(phases.values())),
            "outcome": outcome,
            "reason": ", ".join(verdict.reasons),
            "phases": tuple(
                Phase(name=step, seconds=seconds, resumed=cycle == 4 and step in ("anchors", "dream"))
                for step, seconds in phases.items()
            ),
            "shares": {"replay": 0.44, "passed": 0.4214, "hard": 0.1386},
            "counts": {"replay": 185, "passed": 177, "hard": 58},
            "notes": ("48 hard rows are repeated to fill 58 places",),
            "kl": 0.0123,
            "dreamed": 40,
            "answered": 31,
            "recipe": Recipe(
                name="rft-anchor",
                learning_rate=1e-4 * 0.9**cycle,
                rank=8,
                alpha=16,
                dropout=0.05,
                steps=80,
                batch_size=16,
                warmup_steps=5,
                ema=0.97,
                kl_anchor=1.0,
                kl_verified=0.05,
                max_length=1024,
                seed=cycle,
            ),
            "steps": 80,
            "candidate": name,
            "serving": name if outcome == "promoted" else now[0],
            "reports": reports,
            "verdict": verdict,
        }
    )


def skipped(cycle: int, serving: str) -> NightReport:
    started = START + timedelta(days=cycle)
    return NightReport(
        cycle=cycle,
        started=started,
        finished=started + timedelta(seconds=2),
        outcome="skipped",
        reason="9 of the 24 rows that a night needs",
        phases=(Phase(name="mix", seconds=0.3),),
        shares={},
        counts={},
        notes=(),
        recipe=None,
        steps=0,
        candidate=None,
        serving=serving,
        reports=(),
        verdict=None,
    )


def renewed() -> ReportData:
    """Night 1 promoted on one frozen set, night 2 on another with no task in common.

    The baseline passes 70% of the first and 50% of the second; what serves, 80% of the second.
    """
    every = list(titles(4).items())
    sets = [dict(every[:60]), dict(every[60:])]

    def passed(part: int, rate: float) -> set[str]:
        return set(list(sets[part])[: round(rate * 60)])

    first = night(1, passed(0, 0.7), ("sleepy-base", passed(0, 0.7)), passed(0, 0.9), sets[0])
    second = night(2, passed(1, 0.5), (first.candidate or "", passed(1, 0.6)), passed(1, 0.8), sets[1])
    nights = (first, _of_epoch(second, 2))
    return report_data(1).model_copy(
        update={
            "nights": tuple(done.model_copy(update={"outcome": "promoted"}) for done in nights),
            "titles": dict(every),
            "days": (),
        }
    )


def _of_epoch(done: NightReport, epoch: int) -> NightReport:
    assert done.verdict and done.verdict.evidence
    evidence = done.verdict.evidence.model_copy(update={"epoch": epoch})
    return done.model_copy(update={"verdict": done.verdict.model_copy(update={"evidence": evidence})})


def report_data(per_family: int = 10) -> ReportData:
    """Five nights: promoted, inconclusive, skipped, recovered and promoted, rejected."""
    tasks, rng = titles(per_family), random.Random(7)
    weak = set(FAMILIES[::4])
    base = {task for task, (family, _) in tasks.items() if rng.random() < (0.15 if family in weak else 0.75)}

    def moved(passed: set[str], gain: float, loss: float) -> set[str]:
        kept = {task for task in sorted(passed) if rng.random() >= loss}
        return kept | {task for task in tasks if task not in passed and rng.random() < gain}

    first = night(1, base, ("sleepy-base", base), better := moved(base, 0.34, 0.02), tasks)
    second = night(2, base, (first.serving, better), moved(better, 0.13, 0.015), tasks)
    third = skipped(3, second.serving)
    fourth = night(4, base, (second.serving, better), best := moved(better, 0.50, 0.01), tasks)
    fifth = night(5, base, (fourth.serving, best), moved(best, 0.05, 0.12), tasks)
    nights = (first, second, third, fourth, fifth)
    return ReportData(
        nights=nights,
        episodes_total=642,
        episodes_passed=417,
        serving=fifth.serving,
        generated=datetime(2026, 11, 23, 6, 30, tzinfo=UTC),
        titles=tasks,
        days=(DaySummary(before=2, episodes=128, passed=0.75, at_once=0.5, attempts_to_green=2.0, repeats=0.25),),
    )
