"""What the nights did, in numbers. Pure functions over evaluation reports and episodes.

Rates and shares are fractions. INFRA samples are the machine's fault and are left out everywhere; a
task without a measured sample has no score.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from statistics import NormalDist
from typing import Final

from sleepy_coder.types import Episode, EvalReport, Outcome, Record

_CONFIDENCE: Final = 0.95


class Changes(Record):
    """Task ids whose mean pass rate rose, and those whose fell."""

    gained: tuple[str, ...]
    lost: tuple[str, ...]


class FamilyRow(Record):
    """One family over several reports: its pass rate in each, `None` where nothing was measured."""

    family: str
    tasks: int
    rates: tuple[float | None, ...]


def task_scores(report: EvalReport) -> dict[str, float]:
    """Task id to the share of its measured samples that passed, ordered by id."""
    passes: dict[str, list[bool]] = {}
    for sample in sorted(report.samples, key=lambda s: s.task_id):
        if sample.outcome is not Outcome.INFRA:
            passes.setdefault(sample.task_id, []).append(sample.outcome is Outcome.PASS)
    return {task: sum(seen) / len(seen) for task, seen in passes.items()}


def changes(before: EvalReport, after: EvalReport) -> Changes:
    """The tasks measured in both reports that got better and those that got worse."""
    old, new = task_scores(before), task_scores(after)
    both = [task for task in old if task in new]
    return Changes(
        gained=tuple(task for task in both if new[task] > old[task]),
        lost=tuple(task for task in both if new[task] < old[task]),
    )


def difference(before: EvalReport, after: EvalReport) -> float | None:
    """By how much the mean score is higher after than before, over the tasks measured in both; None without any."""
    old, new = task_scores(before), task_scores(after)
    both = [new[task] - old[task] for task in old if task in new]
    return math.fsum(both) / len(both) if both else None


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Unbiased chance that one of k samples passes, 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, section 2.1).

    Raises ValueError unless 1 <= k <= samples and 0 <= passed <= samples.
    """
    if not (1 <= k <= samples and 0 <= passed <= samples):
        raise ValueError(f"pass@{k} of {passed} passes in {samples} samples is not defined")
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def mean_pass_at_k(report: EvalReport, k: int, least: int | None = None) -> float:
    """pass@k averaged over the tasks with at least `least` measured samples, by default k.

    Raises ValueError when no task has so many.
    """
    least = least or k
    counts: dict[str, tuple[int, int]] = {}
    for sample in report.samples:
        if sample.outcome is not Outcome.INFRA:
            n, c = counts.get(sample.task_id, (0, 0))
            counts[sample.task_id] = (n + 1, c + (sample.outcome is Outcome.PASS))
    values = [pass_at_k(n, c, k) for n, c in counts.values() if n >= least]
    if not values:
        raise ValueError(f"no task of {report.model} has {least} measured samples")
    return math.fsum(values) / len(values)


def pass_rate_interval(report: EvalReport) -> tuple[float, float]:
    """Wilson's interval of the mean task score (Wilson 1927), with the number of tasks as sample size.

    Exact in spirit for one sample per task and too wide, never too narrow, for several. (0, 1) when
    nothing was measured.
    """
    scores = task_scores(report)
    n = len(scores)
    if not n:
        return (0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + _CONFIDENCE / 2)
    rate = math.fsum(scores.values()) / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (max(0.0, center - half), min(1.0, center + half))


def accuracy_matrix(reports: Sequence[EvalReport], groups: Sequence[Collection[str]]) -> tuple[tuple[float, ...], ...]:
    """R[i][j]: mean score of report i on the tasks of group j (Lopez-Paz & Ranzato 2017, section 2).

    `groups[j]` are the evaluation tasks that stand for what was practised in night j.
    Raises ValueError when a report measured no task of a group.
    """
    rows: list[tuple[float, ...]] = []
    for report in reports:
        scores = task_scores(report)
        row: list[float] = []
        for number, group in enumerate(groups):
            known = [scores[task] for task in group if task in scores]
            if not known:
                raise ValueError(f"{report.model} measured no task of group {number}")
            row.append(math.fsum(known) / len(known))
        rows.append(tuple(row))
    return tuple(rows)


def acc(matrix: Sequence[Sequence[float]]) -> float:
    """ACC: mean of the last row, what the newest model passes over all groups (equation 2)."""
    return math.fsum(matrix[-1]) / len(matrix[-1])


def bwt(matrix: Sequence[Sequence[float]]) -> float:
    """BWT: mean change on each earlier group since it was practised (equation 3); negative is forgetting.

    0 for a single night. Raises ValueError for a matrix that is not square.
    """
    size = len(matrix)
    if any(len(row) != size for row in matrix):
        raise ValueError("BWT needs one group of tasks per night")
    if size < 2:
        return 0.0
    return math.fsum(matrix[-1][i] - matrix[i][i] for i in range(size - 1)) / (size - 1)


def forgetting(matrix: Sequence[Sequence[float]]) -> float:
    """Mean drop of the newest model from each earlier group's best earlier score (Chaudhry et al. 2018, section 3).

    Positive is forgetting, negative says that all earlier bests were passed. The group of the newest night is none
    that can be forgotten yet. 0 for a single night.
    """
    groups = range(min(len(matrix) - 1, len(matrix[-1])))
    if not groups:
        return 0.0
    return math.fsum(max(row[j] for row in matrix[:-1]) - matrix[-1][j] for j in groups) / len(groups)


def forgotten(history: Sequence[EvalReport]) -> tuple[str, ...]:
    """Task ids that some earlier report passed in full and the last one does not, by id."""
    if not history:
        return ()
    once = {task for report in history[:-1] for task, score in task_scores(report).items() if score == 1.0}
    return tuple(task for task, score in task_scores(history[-1]).items() if task in once and score < 1.0)


def repeat_error_rate(before: EvalReport, after: EvalReport) -> float:
    """Share of the tasks measured in both that fail again with an error signature they failed with before.

    0 when no task was measured in both.
    """
    old, new = _signatures(before), _signatures(after)
    common = task_scores(before).keys() & task_scores(after).keys()
    return sum(bool(old.get(task, set()) & new.get(task, set())) for task in common) / len(common) if common else 0.0


def _signatures(report: EvalReport) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for sample in report.samples:
        if sample.outcome is Outcome.FAIL and sample.error_signature:
            found.setdefault(sample.task_id, set()).add(sample.error_signature)
    return found


class Mistakes:
    """Remembers in which session each mistake was made first; is told of episodes in their order."""

    def __init__(self) -> None:
        self._first_seen: dict[str, str] = {}

    def comes_back(self, episode: Episode) -> bool:
        """Whether a mistake of an earlier session is made in this episode; what is new is remembered."""
        mistakes = {
            attempt.verdict.error_signature
            for attempt in episode.attempts
            if attempt.verdict.outcome is Outcome.FAIL and attempt.verdict.error_signature
        }
        seen = [self._first_seen.setdefault(mistake, episode.session) for mistake in mistakes]
        return any(session != episode.session for session in seen)


def family_table(reports: Sequence[EvalReport]) -> tuple[FamilyRow, ...]:
    """Pass rate of every family in every report, families by name."""
    members: dict[str, set[str]] = {}
    for report in reports:
        for sample in report.samples:
            members.setdefault(sample.family, set()).add(sample.task_id)
    scores = [task_scores(report) for report in reports]
    rows: list[FamilyRow] = []
    for family, tasks in sorted(members.items()):
        rates: list[float | None] = []
        for known in scores:
            values = [known[task] for task in tasks if task in known]
            rates.append(math.fsum(values) / len(values) if values else None)
        rows.append(FamilyRow(family=family, tasks=len(tasks), rates=tuple(rates)))
    return tuple(rows)
