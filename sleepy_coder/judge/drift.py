"""Has the baseline changed since it was measured? Asked of a tenth of it, each night."""

from __future__ import annotations

from typing import Final

import numpy as np

from sleepy_coder.types import EvalReport, Outcome

LEVEL: Final = 0.01
"""How often a base that has not changed is measured again for nothing."""

_SHUFFLES: Final = 2000


def drifted(earlier: EvalReport, again: EvalReport, *, greedy: bool) -> bool:
    """Whether the tasks of `again`, asked of the same weights as `earlier`, come out otherwise than they did.

    Greedy answers have to be the same. Drawn ones have to look like draws from the same chances: a permutation test of
    the squared differences of the tasks' means, which sees tasks that trade places as well as a shift of all.
    A task that the machine failed is a difference.
    """
    if again.infra:
        return True
    if greedy:
        before = {(sample.task_id, sample.index): sample.outcome for sample in earlier.samples}
        return any(sample.outcome is not before.get((sample.task_id, sample.index)) for sample in again.samples)
    old, new = _passes(earlier), _passes(again)
    counts = np.array([(*old[task], *new[task]) for task in sorted(new)], dtype=np.int64)
    old_passed, old_n, new_passed, new_n = counts.T
    drawn = np.random.default_rng(0).hypergeometric(
        old_passed + new_passed, old_n + new_n - old_passed - new_passed, new_n, (_SHUFFLES, len(counts))
    )
    apart = np.square(drawn / new_n - (old_passed + new_passed - drawn) / old_n).sum(axis=1)
    seen = np.square(new_passed / new_n - old_passed / old_n).sum()
    return bool((1 + (apart >= seen - 1e-12).sum()) / (1 + _SHUFFLES) <= LEVEL)


def _passes(report: EvalReport) -> dict[str, tuple[int, int]]:
    """Task id to how many of its samples passed, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for sample in report.samples:
        passed, n = found.get(sample.task_id, (0, 0))
        found[sample.task_id] = (passed + (sample.outcome is Outcome.PASS), n + 1)
    return found
