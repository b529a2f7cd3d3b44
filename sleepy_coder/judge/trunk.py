"""The trunk: which weights the next night's training starts from."""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.judge.record import VerdictRecord
from sleepy_coder.types import Decision


def trunk(verdicts: Sequence[VerdictRecord], served: str, nights: int) -> str:
    """SHA-256 of the weights to start from, after `verdicts` (oldest first), while `served` serves.

    An undecided candidate is trained on, because small gains add up until they can be proved; after `nights`
    undecided nights in a row, or a verdict that is no mere lack of proof, training starts from `served` again.
    """
    if not verdicts:
        return served
    last = verdicts[-1]
    undecided = last.finding.decision is Decision.INCONCLUSIVE and "LEAK_GAP" not in last.finding.reasons
    if last.case.served != served or not undecided or _held(verdicts) > nights:
        return served
    return last.case.candidate


def _held(verdicts: Sequence[VerdictRecord]) -> int:
    """How many undecided candidates in a row, up to the last one, were each trained from the one before."""
    count = 1
    for before, after in zip(reversed(verdicts[:-1]), reversed(verdicts[1:]), strict=True):
        if before.finding.decision is not Decision.INCONCLUSIVE or after.case.trunk != before.case.candidate:
            break
        count += 1
    return count
