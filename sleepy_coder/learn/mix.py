"""The training mix of one night: 44% replay, 42% passed, 14% hard.

Pure: episodes and pools in, a `TrainingMix` out. The shares are met exactly (to rounding) or the
mix says why not.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from sleepy_coder.config import MixSettings
from sleepy_coder.types import Episode, Example, ExampleKind, Outcome, TrainingMix

KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)
WEIGHT_FLOOR = 0.2
# A hard task is rare and worth repeating; a passed or replayed one is not.
REPEATS: Mapping[ExampleKind, int] = {"replay": 1, "passed": 1, "hard": 4}


def passed_examples(episodes: Iterable[Episode], per_task: int) -> tuple[Example, ...]:
    """Rows from episodes that a verifier passed: the first prompt with the completion that passed.

    A fix found on attempt k > 1 is paired with the first prompt (hindsight), so the model learns to
    give it at once. The weight is sqrt(p(1-p)) of the task's pass rate p, at least 0.2: tasks
    passed sometimes teach most. Equal rows count once, and one task gives at most `per_task`. Another agent's
    conversation on a task teaches all of its turns.
    """
    rates: dict[str, list[bool]] = {}
    rows: dict[tuple[object, ...], Example] = {}
    for episode in episodes:
        if episode.task is None or episode.outcome_source != "verifier":
            continue
        task = episode.task
        rates.setdefault(task.id, []).extend(
            a.verdict.passed for a in episode.attempts if a.verdict.outcome is not Outcome.INFRA
        )
        last = episode.attempts[-1] if episode.attempts else None
        if episode.outcome is Outcome.PASS and last is not None and last.verdict.passed:
            # Conversations end in much the same words; what differs is what was done before.
            rows.setdefault(
                (task.id, last.completion, *(last.messages if last.first_turn is not None else ())),
                Example(
                    messages=episode.attempts[0].messages,
                    completion=last.completion,
                    kind="passed",
                    task_id=task.id,
                    family=task.family,
                    provenance=episode.id,
                    reply=last.reply,
                    tools=last.tools,
                    first_turn=last.first_turn,
                ),
            )
    kept: list[Example] = []
    count: dict[str, int] = {}
    for row in rows.values():
        task_id = row.task_id
        count[task_id] = count.get(task_id, 0) + 1
        if count[task_id] <= per_task:
            rate = sum(rates[task_id]) / len(rates[task_id])
            kept.append(row.model_copy(update={"weight": max(WEIGHT_FLOOR, math.sqrt(rate * (1 - rate)))}))
    return tuple(kept)


def _choose(rows: Sequence[Example], count: int, chooser: random.Random) -> list[Example]:
    """`count` rows: weighted, without repetition until all are in (Efraimidis & Spirakis 2006)."""
    keyed = sorted(rows, key=lambda row: (-(chooser.random() ** (1 / row.weight)), row.provenance))
    return [keyed[i % len(keyed)] for i in range(count)]


def _counts(total: int, shares: Mapping[ExampleKind, float]) -> dict[ExampleKind, int]:
    """Whole numbers that add up to `total`, by largest remainder."""
    exact: dict[ExampleKind, float] = {kind: total * share for kind, share in shares.items()}
    counts: dict[ExampleKind, int] = {kind: int(value) for kind, value in exact.items()}
    for kind in sorted(exact, key=lambda k: counts[k] - exact[k])[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def compose(
    pools: Mapping[ExampleKind, Sequence[Example]], settings: MixSettings, seed: int, notes: Sequence[str] = ()
) -> TrainingMix:
    """The largest mix, up to `settings.max_examples`, that meets the asked shares.

    An empty pool gives its share to the others in proportion, and so does the part of the hard share for
    which there are no answers: hard rows are rare by nature and must not starve the night. Notes say so.
    Without anything passed or hard there is nothing to learn, and the mix is empty.
    """
    wanted: dict[ExampleKind, float] = {"replay": settings.replay, "passed": settings.passed, "hard": settings.hard}
    said = list(notes)
    present: dict[ExampleKind, float] = {k: share for k, share in wanted.items() if pools.get(k) and share > 0}
    if not present.keys() & {"passed", "hard"}:
        return _mix([], [*said, "nothing new was passed and no hard task has an answer"], seed)
    for kind in KINDS:
        if kind not in present and wanted[kind] > 0:
            said.append(f"no {kind} rows tonight: their share of {wanted[kind]:.0%} goes to the others")
    counts = _sizes(present, {k: len(pools[k]) * REPEATS[k] for k in present}, settings.max_examples)
    total = sum(counts.values())
    for kind, count in counts.items():
        if count > len(pools[kind]):
            said.append(f"{len(pools[kind])} {kind} rows are repeated to fill {count} places")
        if count == len(pools[kind]) * REPEATS[kind] and total < settings.max_examples:
            said.append(f"there are no more {kind} rows than these {count}")
    chooser = random.Random(seed)
    chosen: list[Example] = []
    for kind, count in counts.items():
        rows = _choose(pools[kind], count, chooser)
        chosen.extend(row.model_copy(update={"kind": kind}) for row in rows)
    chooser.shuffle(chosen)
    return _mix(chosen, said, seed)


def _sizes(shares: Mapping[ExampleKind, float], room: Mapping[ExampleKind, int], most: int) -> dict[ExampleKind, int]:
    """Rows of each kind: as many as fit, in these shares; too few hard ones do not hold the others back."""
    whole = sum(shares.values())
    total = min(most, *(int(room[k] * whole / shares[k]) for k in shares if k != "hard" or "passed" not in shares))
    counts = _counts(total, {k: share / whole for k, share in shares.items()})
    if counts.get("hard", 0) <= room.get("hard", 0):
        return counts
    others: dict[ExampleKind, float] = {k: share for k, share in shares.items() if k != "hard"}
    return {**_sizes(others, room, most - room["hard"]), "hard": room["hard"]}


def _mix(rows: Sequence[Example], notes: Sequence[str], seed: int) -> TrainingMix:
    counts: dict[str, int] = {kind: sum(row.kind == kind for row in rows) for kind in KINDS}
    digest = hashlib.sha256("\n".join(row.model_dump_json() for row in rows).encode()).hexdigest()
    return TrainingMix(
        examples=tuple(rows),
        shares={kind: round(n / len(rows), 4) if rows else 0.0 for kind, n in counts.items()},
        counts=counts,
        notes=tuple(notes),
        seed=seed,
        sha256=digest,
    )
