"""What a study says: recipes compared over seeds, with and without the gate. Pure functions over its finished cells.

A trajectory is one recipe with one seed, gated or not, over several cycles of day and night. Without the gate every
candidate is promoted. Rates and differences are fractions; intervals over seeds are Student's t, because seeds, and not
tasks, are what a trajectory is repeated over.
"""

# scipy ships no type information; every value it returns is converted to float right here.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Final

from scipy.stats import t as student

from sleepy_coder.config import RecipeName
from sleepy_coder.judge import metrics
from sleepy_coder.judge.study_data import HERO, Cell, StudyData, Trajectory
from sleepy_coder.types import Record

CONFIDENCE: Final = 0.95
GOAL_GAIN, GOAL_BWT, GOAL_NIGHTS = 0.10, -0.01, 5
_ROUNDING: Final = 1e-9
RIVALS: Final[tuple[RecipeName, ...]] = ("seed-plain", "hints-only", "no-update")


class Course(Record):
    """How one trajectory went. `rates` begins with the baseline; then what serves after each cycle.

    `gained` and `lost` are task ids, last against baseline. `acc`, `bwt` and `forgetting` are over the themes, one a
    cycle; those that speak of change take two cycles. `pass_k` is (baseline, last) at `k` samples and
    `pass_1` the same answers' pass@1, None where that was not measured. `kl` is that of the training which gave what
    serves at last. `worse` are the cycles that were promoted though the candidate passes less of the frozen set than
    what served before or the baseline.
    """

    of: Trajectory
    rates: tuple[float, ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    acc: float | None
    bwt: float | None
    forgetting: float | None
    k: int
    pass_1: tuple[float, float] | None
    pass_k: tuple[float, float] | None
    kl: float | None
    steps: int
    train_seconds: float
    seconds: float
    promoted: int
    worse: tuple[int, ...]

    @property
    def gain(self) -> float:
        return self.rates[-1] - self.rates[0]


class Estimate(Record):
    """A mean over seeds with its interval, which takes two seeds at least."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Row(Record):
    """One recipe, gated or not, over its seeds; `begun` are trajectories that are not as long, and in no mean."""

    recipe: RecipeName
    gated: bool
    courses: tuple[Course, ...]
    begun: tuple[Course, ...] = ()
    final: Estimate
    gain: Estimate
    gained: Estimate
    lost: Estimate
    acc: Estimate | None
    bwt: Estimate | None
    forgetting: Estimate | None
    kl: Estimate | None


class Goal(Record):
    """What the study has to show, whether it does (None: not measured), and the numbers that say so.

    It is met by the mean over the seeds; `proved` says that the whole interval is on that side too.
    """

    text: str
    met: bool | None
    proved: bool
    numbers: str

    @property
    def word(self) -> str:
        """In words whether it is met."""
        if self.met is None:
            return "not measured"
        return ("met" if self.proved else "met by the mean, not proved") if self.met else "missed"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of `values` with Student's t interval. Raises StatisticsError when there are none."""
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Estimate(mean=mean, low=None, high=None, n=n)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=n)


def course(data: StudyData, of: Trajectory) -> Course:
    """How this trajectory went, as far as it is done. Raises ValueError when nothing of it is."""
    cells = data.cells_of(of)
    if not cells:
        raise ValueError(f"no cell of {of} is finished")
    base, last = data.evals[data.facts.base], data.evals[cells[-1].served]
    change = metrics.changes(base, last)
    matrix = _matrix(data, of, cells)
    k, pass_1, pass_k = _passes(data, cells[-1].served)
    return Course(
        of=of,
        rates=(base.pass_rate, *(data.evals[cell.served].pass_rate for cell in cells)),
        gained=change.gained,
        lost=change.lost,
        acc=metrics.acc(matrix) if matrix else None,
        bwt=metrics.bwt(matrix) if len(matrix) > 1 else None,
        forgetting=metrics.forgetting(matrix) if len(matrix) > 1 else None,
        k=k,
        pass_1=pass_1,
        pass_k=pass_k,
        kl=next((cell.kl for cell in reversed(cells) if cell.candidate == cells[-1].served), None),
        steps=sum(cell.night.steps for cell in cells if cell.night),
        train_seconds=math.fsum(cell.train_seconds for cell in cells),
        seconds=math.fsum(cell.seconds for cell in cells),
        promoted=sum(cell.outcome == "promoted" for cell in cells),
        worse=tuple(cell.cycle for cell in cells if _is_worse(data, cell)),
    )


def _matrix(data: StudyData, of: Trajectory, cells: Sequence[Cell]) -> tuple[tuple[float, ...], ...]:
    """R[i][j]: what serves after cycle i, on the theme of day j. Empty when a theme has no frozen task."""
    themes = data.themes.get(of.seed, ())[: len(cells)]
    if len(themes) < len(cells) or not all(themes):
        return ()
    return metrics.accuracy_matrix([data.evals[cell.served] for cell in cells], themes)


_Pair = tuple[float, float]


def _passes(data: StudyData, last: str) -> tuple[int, _Pair | None, _Pair | None]:
    """k, and what of several answers to each task passes at 1 and at k: (baseline, last)."""
    if data.facts.base not in data.many or last not in data.many:
        return 0, None, None
    first, after = data.many[data.facts.base], data.many[last]
    k = min(max(sample.index for sample in report.samples) for report in (first, after)) + 1
    at_1, at_k = ((metrics.mean_pass_at_k(first, n), metrics.mean_pass_at_k(after, n)) for n in (1, k))
    return k, at_1, at_k


def _is_worse(data: StudyData, cell: Cell) -> bool:
    if cell.outcome != "promoted" or cell.candidate is None:
        return False
    against = max(data.evals[cell.before].pass_rate, data.evals[data.facts.base].pass_rate)
    return data.evals[cell.candidate].pass_rate < against


def rows(data: StudyData) -> tuple[Row, ...]:
    """Every recipe, gated or not, over its seeds: the trajectories that are as long as the longest of their row."""
    found: dict[tuple[RecipeName, bool], list[Course]] = {}
    for of in data.trajectories():
        found.setdefault((of.recipe, of.gated), []).append(course(data, of))
    return tuple(_row(recipe, gated, courses) for (recipe, gated), courses in found.items())


def _row(recipe: RecipeName, gated: bool, courses: Sequence[Course]) -> Row:
    longest = max(len(c.rates) for c in courses)
    whole = tuple(c for c in courses if len(c.rates) == longest)

    def over(value: Callable[[Course], float | None]) -> Estimate | None:
        known = [v for c in whole if (v := value(c)) is not None]
        return estimate(known) if known else None

    return Row(
        recipe=recipe,
        gated=gated,
        courses=whole,
        begun=tuple(c for c in courses if c not in whole),
        final=estimate([c.rates[-1] for c in whole]),
        gain=estimate([c.gain for c in whole]),
        gained=estimate([len(c.gained) for c in whole]),
        lost=estimate([len(c.lost) for c in whole]),
        acc=over(lambda c: c.acc),
        bwt=over(lambda c: c.bwt),
        forgetting=over(lambda c: c.forgetting),
        kl=over(lambda c: c.kl),
    )


def names(found: Sequence[Row]) -> tuple[RecipeName, ...]:
    """The recipes that were measured."""
    seen: dict[RecipeName, None] = {row.recipe: None for row in found}
    return tuple(seen)


def find(found: Sequence[Row], recipe: RecipeName, gated: bool) -> Row | None:
    """The row of a recipe; one that trains nothing has but one, for there is nothing to gate."""
    mine = [row for row in found if row.recipe == recipe]
    return next((row for row in mine if row.gated == gated), next((r for r in mine if r.courses[0].steps == 0), None))


def paired(one: Row, other: Row) -> Estimate | None:
    """The difference of the last rates, seed by seed; None when they share no seed of the same length."""
    theirs = {c.of.seed: c for c in other.courses}
    pairs = [(c, theirs[c.of.seed]) for c in one.courses if c.of.seed in theirs]
    same = [mine.rates[-1] - its.rates[-1] for mine, its in pairs if len(mine.rates) == len(its.rates)]
    return estimate(same) if same else None


def points(value: Estimate | None) -> str:
    """A difference in points, with its interval where there is one."""
    return "not measured" if value is None else spanned(value, "+.1f", 100)


def spanned(value: Estimate, form: str, scale: float = 1) -> str:
    """The mean in this format, with its interval where there is one."""
    ends = [f"{scale * end:{form}}" for end in (value.low, value.high) if end is not None]
    span = f" [{', '.join(ends)}]" if ends else ""
    return f"{scale * value.mean:{form}}{span}".replace("-", "\N{MINUS SIGN}")


def goals(found: Sequence[Row]) -> tuple[Goal, ...]:
    """The goals with what was measured."""
    hero, free, naive = find(found, HERO, True), find(found, HERO, False), find(found, "naive", False)
    bwt = f"BWT is at least {100 * GOAL_BWT:.0f} point".replace("-", "\N{MINUS SIGN}")
    gain = _gain_within(hero, GOAL_NIGHTS) if hero else None
    text = f"`{HERO}`, gated, gains at least {100 * GOAL_GAIN:.0f} points within {GOAL_NIGHTS} nights"
    out = [
        _at_least(text, gain, GOAL_GAIN),
        _at_least(f"its {bwt}", hero.bwt if hero else None, GOAL_BWT),
        _at_least(f"without the gate its {bwt}", free.bwt if free else None, GOAL_BWT),
    ]
    for name in RIVALS:
        rival = find(found, name, True)
        out.append(_more_than_nothing(f"it beats `{name}`", paired(hero, rival) if hero and rival else None))
    out.append(_more_than_nothing("`naive` without a gate loses", naive.gain if naive else None, sign=-1))
    gated = [c for row in found if row.gated for c in (*row.courses, *row.begun)]
    worse, promoted = sum(len(c.worse) for c in gated), sum(c.promoted for c in gated)
    out.append(
        Goal(
            text="with the gate nothing is promoted that is worse",
            met=worse == 0 if promoted else None,
            proved=True,
            numbers=f"{worse} of {promoted} promotions",
        )
    )
    return tuple(out)


def _goal(text: str, value: Estimate | None, holds: Callable[[float], bool]) -> Goal:
    """A goal that is met where its mean `holds`, and proved where both ends of the interval do."""
    if value is None:
        return Goal(text=text, met=None, proved=False, numbers=points(None))
    ends = [end for end in (value.low, value.high) if end is not None]
    return Goal(text=text, met=holds(value.mean), proved=bool(ends) and all(map(holds, ends)), numbers=points(value))


def _at_least(text: str, value: Estimate | None, limit: float) -> Goal:
    return _goal(text, value, lambda reached: reached >= limit - _ROUNDING)


def _more_than_nothing(text: str, value: Estimate | None, sign: int = 1) -> Goal:
    """A goal that is met by a difference of this sign."""
    return _goal(text, value, lambda apart: sign * apart > _ROUNDING)


def _gain_within(row: Row, nights: int) -> Estimate:
    """The gain over the baseline after so many nights, or after all where there were fewer."""
    return estimate([c.rates[min(nights, len(c.rates) - 1)] - c.rates[0] for c in row.courses])


def remaining(done: Sequence[Cell], open_cells: Sequence[tuple[RecipeName, bool]]) -> float | None:
    """Seconds that the open cells (recipe, gated) will take, by the cells done: of their kind where there are any."""
    if not done:
        return None

    def usual(recipe: RecipeName, gated: bool) -> float:
        mine = [c for c in done if c.recipe == recipe]
        kind = [c for c in mine if c.gated == gated]
        return statistics.fmean(c.seconds for c in kind or mine or done)

    return math.fsum(usual(recipe, gated) for recipe, gated in open_cells)
