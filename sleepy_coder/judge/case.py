"""What the gate decides on, and what it says: all that `replay-verdict` needs to say it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field

from sleepy_coder.config import GatePolicy
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.types import Decision, EvalReport, FamilyChange, Outcome, Record, is_empty

Scope = Literal["population", "frozen-set-only"]
"""What a gain is claimed of: of tasks like the frozen ones, or of the frozen ones alone (small sets)."""

LETTERS: Mapping[Outcome, str] = {Outcome.PASS: "P", Outcome.FAIL: "F", Outcome.INFRA: "I"}


def _even_unless_said(value: object) -> object:
    """A record without an `early_share` is one that spent evenly."""
    return {"early_share": 0, **cast(dict[str, object], value)} if isinstance(value, dict) else value


RecordedPolicy = Annotated[GatePolicy, BeforeValidator(_even_unless_said)]
"""A policy as it is read back from where it was noted."""


class TaskOutcomes(Record):
    """One task in all arms: a letter for each sample (P pass, F fail, I not measured), in order of their index."""

    task: str
    cluster: str
    group: str
    baseline: str
    served: str
    candidate: str


class Control(Record):
    """What a task's own fix and its broken input gave tonight: letters as in TaskOutcomes."""

    task: str
    reference: str
    broken: str


class Case(Record):
    """Everything that a decision follows from.

    `tasks` are in the order in which they were measured, clusters whole; `clusters` is how many the whole set
    has. `opening` counts from 1 within the epoch, and is `charged` unless the budget is spent. `drifted` says why
    the arms cannot be compared, if they cannot. `evaluations` is how many answers are in it, `saved` how many
    more there would be had the verdict not been final before the end of the set. Hashes are SHA-256 of weights; `trunk`
    is what training started from.
    """

    cycle: int
    epoch: int
    opening: int
    charged: bool
    candidate: str
    served: str
    baseline: str
    trunk: str
    stack: str
    set_id: str
    fresh_set_id: str
    order_seed: int
    clusters: int
    tasks: tuple[TaskOutcomes, ...]
    fresh: tuple[TaskOutcomes, ...]
    controls: tuple[Control, ...]
    drifted: str
    evaluations: int
    saved: int = Field(default=0, exclude_if=is_empty)
    policy: RecordedPolicy
    policy_sha256: str


class Look(Record):
    """The e-values (natural logs, rounded to 6 digits) after `units` units."""

    units: int
    anchor: float
    progress: float
    futility: float


class Effect(Record):
    """Candidate - reference over the clusters measured: mean difference and its two-sided interval, as fractions."""

    delta: float
    interval: tuple[float, float]
    gained: int
    lost: int


class Finding(Record):
    """What the gate says of a case. `final`: measuring more would not change the decision.

    `anchor_needs`, `progress_needs` and `futility_needs` are the logs of the thresholds. `units` is what was
    counted: clusters, or pairs of answers when the scope is the frozen set alone. `fresh` is the log of 1/p against
    a loss on fresh tasks, `leak` the z value of frozen gain - fresh gain; both None without
    enough fresh tasks.
    """

    decision: Decision
    final: bool
    reasons: tuple[str, ...]
    scope: Scope
    units: int
    looks: tuple[Look, ...]
    anchor_needs: float
    progress_needs: float
    futility_needs: float
    versus_baseline: Effect
    versus_served: Effect
    families: tuple[FamilyChange, ...]
    fresh: float | None
    leak: float | None
    missing: tuple[str, ...]


def policy_sha256(policy: GatePolicy) -> str:
    """The hash under which a policy stands in the record."""
    return hashlib.sha256(policy.model_dump_json().encode()).hexdigest()


def outcomes(
    order: Iterable[Cluster], baseline: EvalReport, served: EvalReport, candidate: EvalReport
) -> tuple[TaskOutcomes, ...]:
    """The three arms side by side, in the order of `order`, which may name more tasks than were measured.

    Raises ValueError when an arm lacks a task of a cluster that another arm has.
    """
    arms = [_letters(report) for report in (baseline, served, candidate)]
    found: list[TaskOutcomes] = []
    for cluster in order:
        known = [[task in arm for task in cluster.tasks] for arm in arms]
        if not any(map(any, known)):
            continue
        if not all(map(all, known)):
            raise ValueError(f"the arms differ in tasks: cluster {cluster.id} is not measured in all of them")
        for task in cluster.tasks:
            b, s, c = (arm[task] for arm in arms)
            found.append(
                TaskOutcomes(task=task, cluster=cluster.id, group=cluster.group, baseline=b, served=s, candidate=c)
            )
    return tuple(found)


def comparable(arms: Sequence[EvalReport]) -> str:
    """Why these arms cannot be compared; empty when they can."""
    for name, values in (("task sets", {a.set_id for a in arms}), ("stacks", {a.stack for a in arms})):
        if len(values) > 1:
            return f"the arms were measured on different {name}"
    return ""


def _letters(report: EvalReport) -> dict[str, str]:
    """Task id to its outcomes, in order of the samples' indices."""
    found: dict[str, str] = {}
    for sample in sorted(report.samples, key=lambda s: (s.task_id, s.index)):
        found[sample.task_id] = found.get(sample.task_id, "") + LETTERS[sample.outcome]
    return found
