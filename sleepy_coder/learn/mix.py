"""The training mix of one night: 44% replay, 42% passed, 14% hard.

Pools in, a `TrainingMix` out. The shares are met exactly (to rounding) or the mix says why not.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

from sleepy_coder.config import MixSettings
from sleepy_coder.types import Example, ExampleKind, Task, TrainingMix

KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)
# A hard task is rare and worth repeating; a passed or replayed one is not.
REPEATS: Mapping[ExampleKind, int] = {"replay": 1, "passed": 1, "hard": 4}
TASKS = "tasks"
"""What `counts` of a mix calls tasks that are answered anew."""
_NEW: frozenset[ExampleKind] = frozenset(("passed", "hard"))


class Pool(Protocol):
    """Rows of one kind to draw from. There may be a million, so they are chosen by number and made when drawn."""

    def __len__(self) -> int: ...

    def draw(self, count: int, chooser: random.Random) -> Sequence[int]:
        """The numbers of `count` rows, or of all of them when there are not so many; none twice."""
        ...

    def rows(self, numbers: Sequence[int]) -> list[Example]:
        """The rows of these numbers in that order."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A pool of rows that are there already, drawn by their weights, or in their order where it is `ranked`."""

    examples: Sequence[Example]
    ranked: bool = False

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, count: int, chooser: random.Random) -> Sequence[int]:
        if self.ranked:
            return range(min(count, len(self)))
        return by_weight((row.weight for row in self.examples), count, chooser)

    def rows(self, numbers: Sequence[int]) -> list[Example]:
        return [self.examples[number] for number in numbers]


def by_weight(weights: Iterable[float], count: int, chooser: random.Random) -> list[int]:
    """The numbers of `count` of the weights, all above 0, without repetition (Efraimidis & Spirakis 2006)."""
    keyed = ((-(chooser.random() ** (1 / weight)), number) for number, weight in enumerate(weights))
    return [number for _, number in heapq.nsmallest(count, keyed)]


def _choose(pool: Pool, count: int, chooser: random.Random) -> list[Example]:
    """`count` rows, without repetition until all are in."""
    numbers = pool.draw(count, chooser)
    return pool.rows([numbers[i % len(numbers)] for i in range(count)])


def _counts(total: int, shares: Mapping[ExampleKind, float]) -> dict[ExampleKind, int]:
    """Whole numbers that add up to `total`, by largest remainder."""
    exact: dict[ExampleKind, float] = {kind: total * share for kind, share in shares.items()}
    counts: dict[ExampleKind, int] = {kind: int(value) for kind, value in exact.items()}
    for kind in sorted(exact, key=lambda k: counts[k] - exact[k])[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def compose(
    pools: Mapping[ExampleKind, Pool], settings: MixSettings, seed: int, notes: Sequence[str] = ()
) -> TrainingMix:
    """The largest mix, up to `settings.max_examples`, that meets the asked shares.

    An empty pool gives its share to the others in proportion, and so does the part of the hard share for
    which there are no answers: hard rows are rare by nature and must not starve the night. So does what is missing
    of any other share where the mix would not be worth a night: a few rows are not worse than none. Notes say so.
    Without anything passed or hard there is nothing to learn, and the mix is empty.
    """
    wanted = settings.shares
    said = list(notes)
    present: dict[ExampleKind, float] = {k: share for k, share in wanted.items() if pools.get(k) and share > 0}
    if not present.keys() & _NEW:
        return mix_of([], [*said, "a verifier passed nothing new and no hard task has an answer"], seed)
    for kind in KINDS:
        if kind not in present and wanted[kind] > 0:
            said.append(f"no {kind} rows tonight: their share of {wanted[kind]:.0%} goes to the others")
    room: dict[ExampleKind, int] = {k: len(pools[k]) * REPEATS[k] for k in present}
    counts, scarce = _sizes(present, room, settings.max_examples, settings.min_examples)
    total = sum(counts.values())
    for kind in scarce:
        said.append(f"too few {kind} rows for a night in these shares: what is missing of theirs goes to the others")
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
    return mix_of(chosen, said, seed)


def _sizes(
    shares: Mapping[ExampleKind, float], room: Mapping[ExampleKind, int], most: int, fewest: int
) -> tuple[dict[ExampleKind, int], tuple[ExampleKind, ...]]:
    """Rows of each kind in these shares, and the kinds that gave up a part of theirs lest there be less than `fewest`.

    The scarcest gives up first, until something new alone is left: a little of it would drown in replay.
    """
    counts = _in_shares(shares, room, most)
    scarcest = min(shares, key=lambda k: room[k] / shares[k])
    others: dict[ExampleKind, float] = {k: share for k, share in shares.items() if k != scarcest}
    if sum(counts.values()) >= min(fewest, most) or not others.keys() & _NEW:
        return counts, ()
    rest, gave = _sizes(others, room, most - room[scarcest], fewest - room[scarcest])
    return {scarcest: room[scarcest], **rest}, (scarcest, *gave)


def _in_shares(
    shares: Mapping[ExampleKind, float], room: Mapping[ExampleKind, int], most: int
) -> dict[ExampleKind, int]:
    """As many rows as fit, in these shares; too few hard ones do not hold the others back."""
    whole = sum(shares.values())
    total = min(most, *(int(room[k] * whole / shares[k]) for k in shares if k != "hard" or "passed" not in shares))
    counts = _counts(total, {k: share / whole for k, share in shares.items()})
    if counts.get("hard", 0) <= room.get("hard", 0):
        return counts
    others: dict[ExampleKind, float] = {k: share for k, share in shares.items() if k != "hard"}
    return {**_in_shares(others, room, most - room["hard"]), "hard": room["hard"]}


def with_all(mix: TrainingMix, rows: Sequence[Example]) -> TrainingMix:
    """The mix with all of `rows` that it does not hold yet, as replay."""
    known = {(row.messages, row.completion) for row in mix.examples}
    more = [row.model_copy(update={"kind": "replay"}) for row in rows if (row.messages, row.completion) not in known]
    note = f"a fresh adapter is trained on all kept rows: {len(more)} are added as replay"
    return mix_of([*mix.examples, *more], [*mix.notes, note], mix.seed)


def without(mix: TrainingMix, provenances: Container[str], note: str) -> TrainingMix:
    """The mix without the rows of these provenances; `note` says why they are missing."""
    kept = [row for row in mix.examples if row.provenance not in provenances]
    return mix_of(kept, [*mix.notes, note], mix.seed).model_copy(update={"tasks": mix.tasks, "left_out": mix.left_out})


def of_tasks(mix: TrainingMix, tasks: Sequence[Task]) -> TrainingMix:
    """The mix of a recipe that answers `tasks` anew and learns from these answers alone: no row teaches anything."""
    return mix.model_copy(update={"tasks": tuple(tasks), "counts": {TASKS: len(tasks)}, "shares": {}})


def mix_of(rows: Sequence[Example], notes: Sequence[str], seed: int) -> TrainingMix:
    """All of `rows` and no others, whatever the shares."""
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
