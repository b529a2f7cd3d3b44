"""Which contender is worth the gate's time: pure functions over what was measured on the dev set.

The dev set is no promise: the best of many is flattered by chance. It only picks, and spares the frozen set candidates
that would hardly pass the gate. The promise is the gate's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

from sleepy_coder.judge.paired import sign_test
from sleepy_coder.types import HARM_ALPHA, Contender

ENOUGH: Final = 60
"""Dev tasks, measured for both, below which nothing is ruled out."""


def best_first(found: Sequence[Contender]) -> tuple[Contender, ...]:
    """By pass rate. Of equals the one that changes the base less comes first: smaller scale, then smaller KL."""
    return tuple(sorted(found, key=lambda one: (-one.rate, one.scale, math.inf if one.kl is None else one.kl)))


def finalists(found: Sequence[Contender]) -> tuple[Contender, ...]:
    """The best third, rounded up (successive halving: Jamieson & Talwalkar 2016, arXiv 1502.07943, with thirds).

    Few tasks tell little, and many are equal: of these, larger scales go on, or small ones would crowd them out.
    """
    return tuple(sorted(found, key=lambda one: (-one.rate, -one.scale)))[: math.ceil(len(found) / 3)]


def within(one: Contender, tasks: Sequence[str]) -> Contender:
    """`one` as it looks on these tasks alone."""
    few = set(tasks)
    return one.model_copy(
        update={
            "passed": tuple(task for task in one.passed if task in few),
            "failed": tuple(task for task in one.failed if task in few),
        }
    )


def ruling(best: Contender, whole: Contender, served: Contender) -> tuple[Literal["go", "no gain", "harm"], str]:
    """Whether `best` goes to the gate, and why not. `whole` is the recipe's own output at full scale.

    Harm is looked for at full scale, whatever the best one does: small scales hide what bad rows taught, and the night
    that was fed them has to know. It is a one-sided exact sign test at 1%.

    Without a gain of at least one task the candidate is dropped. What the gate promotes in four nights of five gains
    8.5 points of the frozen tasks (judge/power.py), so that the best of twelve hardly ever shows none on 96 dev tasks;
    small gains are dropped more often, and come again, because the episodes of such a night are kept.
    """
    gains, losses = _apart(whole, served)
    if _measured(whole, served) >= ENOUGH and (p := sign_test(losses, gains)) <= HARM_ALPHA:
        return "harm", f"the update at full scale gains {gains} dev tasks and loses {losses} (p={p:.2g})"
    gains, losses = _apart(best, served)
    if (common := _measured(best, served)) >= ENOUGH and gains <= losses:
        return "no gain", f"the best contender gains {gains} of {common} dev tasks and loses {losses}"
    return "go", ""


def _apart(one: Contender, served: Contender) -> tuple[int, int]:
    """Tasks that `one` gained and lost beside `served`."""
    return len(set(one.passed) & set(served.failed)), len(set(one.failed) & set(served.passed))


def _measured(one: Contender, served: Contender) -> int:
    return len({*one.passed, *one.failed} & {*served.passed, *served.failed})
