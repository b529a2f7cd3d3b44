"""Small studies for tests: what each weights passes is said outright."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from report_data import evaluation, night

from sleepy_coder.config import RecipeName
from sleepy_coder.judge.study_data import Cell, StudyData, StudyExport, StudyFacts
from sleepy_coder.types import EvalReport, NightReport

FAMILIES = ("use_after_move", "missing_field")
TASKS = {f"k{number:02}": (FAMILIES[number // 5], "Mend it.") for number in range(10)}
THEMES = (tuple(list(TASKS)[:5]), tuple(list(TASKS)[5:]))
BASE = "base"


def passed(count: int, start: int = 0) -> set[str]:
    """`count` tasks from `start` on."""
    return set(list(TASKS)[start : start + count])


def measured(weights: str, tasks: set[str]) -> EvalReport:
    return evaluation("candidate", weights, tasks, TASKS)


def cells(
    recipe: RecipeName, seed: int, gated: bool, served: Sequence[str], outcomes: Sequence[str] = ()
) -> list[Cell]:
    """The cells of one trajectory, in which `served` serves after each cycle; the others' candidate is `worse`."""
    found: list[Cell] = []
    trained = recipe not in ("no-update", "hints-only")
    for number, key in enumerate(served):
        before = served[number - 1] if number else BASE
        outcome = (outcomes or ["promoted"] * len(served))[number] if trained else "none"
        found.append(
            Cell(
                recipe=recipe,
                seed=seed,
                gated=gated,
                cycle=number + 1,
                outcome=outcome,
                before=before,
                served=key,
                candidate=(key if outcome == "promoted" else "worse") if trained else None,
                night=_night(number + 1, before) if trained else None,
                kl=0.01 if trained else None,
                train_seconds=40.0 if trained else 0.0,
                seconds=60.0 if trained else 1.0,
            )
        )
    return found


def _night(cycle: int, before: str) -> NightReport:
    return night(cycle, passed(4), (before, passed(4)), passed(5), TASKS).model_copy(update={"reports": ()})


def study(
    found: Sequence[Cell], evals: Mapping[str, set[str]], seeds: Sequence[int] = (0,), many: Sequence[str] = ()
) -> StudyData:
    """A study of two cycles; `evals` says what each weights passes besides those that are always there."""
    known = {BASE: passed(4), "worse": passed(1), **evals}
    return StudyData(
        facts=StudyFacts(
            base=BASE,
            base_name="sleepy-base",
            cycles=2,
            day_tasks=20,
            samples=2,
            quick=False,
            frozen=len(TASKS),
            set_id="frozen",
        ),
        cells=tuple(found),
        evals={weights: measured(weights, tasks) for weights, tasks in known.items()},
        many={weights: _twice(weights, known[weights]) for weights in many},
        themes=dict.fromkeys(seeds, THEMES),
    )


def _twice(weights: str, tasks: set[str]) -> EvalReport:
    """Two samples per task; the second one passes everything."""
    once = measured(weights, tasks)
    again = measured(weights, set(TASKS)).samples
    return once.model_copy(
        update={"samples": (*once.samples, *(sample.model_copy(update={"index": 1}) for sample in again))}
    )


def exported(data: StudyData) -> StudyExport:
    return StudyExport(identity="one", data=data)
