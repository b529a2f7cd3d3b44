"""Cases for tests of the gate, built from letters: P pass, F fail, I not measured."""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge.case import Case, Control, TaskOutcomes, policy_sha256


def case(
    baseline: Sequence[str],
    served: Sequence[str],
    candidate: Sequence[str],
    *,
    policy: GatePolicy | None = None,
    groups: int = 1,
    total: int | None = None,
    fresh: Sequence[tuple[str, str, str]] = (),
    controls: tuple[Control, ...] = (),
    opening: int = 1,
    charged: bool = True,
    drifted: str = "",
    cycle: int = 1,
    arms: tuple[str, str, str] = ("base", "served", "candidate"),
    trunk: str = "served",
    names: Sequence[tuple[str, tuple[str, str]]] = (),
) -> Case:
    """A case with one task per cluster; `total` clusters in the whole set, by default those that are there."""
    policy = policy or GatePolicy()
    known = [(task, family) for task, (family, _) in names] or [(f"t{i}", f"g{i % groups}") for i in range(len(served))]
    rows = tuple(
        TaskOutcomes(task=known[i][0], cluster=known[i][0], group=known[i][1], baseline=b, served=s, candidate=c)
        for i, (b, s, c) in enumerate(zip(baseline, served, candidate, strict=True))
    )
    return Case(
        cycle=cycle,
        epoch=1,
        opening=opening,
        charged=charged,
        baseline=arms[0],
        served=arms[1],
        candidate=arms[2],
        trunk=trunk,
        stack="stack",
        set_id="set",
        fresh_set_id="",
        order_seed=1,
        clusters=len(rows) if total is None else total,
        tasks=rows,
        fresh=tuple(
            TaskOutcomes(task=f"f{i}", cluster=f"f{i}", group="g", baseline=b, served=s, candidate=c)
            for i, (b, s, c) in enumerate(fresh)
        ),
        controls=controls,
        drifted=drifted,
        evaluations=3 * len(rows),
        policy=policy,
        policy_sha256=policy_sha256(policy),
    )


def passing(count: int, of: int, samples: int = 1) -> list[str]:
    """`count` of `of` tasks pass with all samples, spread evenly; those of a smaller count are among them."""
    return ["P" * samples if i * 37 % of < count else "F" * samples for i in range(of)]
