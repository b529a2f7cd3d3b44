"""What a night replays: the user's own rows whole, then each error family by turns, half of it by surprise.

A family's rows take turns with those of the other families, so any number of rows from the front holds as many of
each as there are. Within a family every second row is the one that the model of today finds least likely (SuRe,
arXiv 2511.22367: what surprises is what is being forgotten); the others are drawn at random, so that what looks safe
is rehearsed as well.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from sleepy_coder.learn.mix import Listed
from sleepy_coder.learn.recipes import Replay
from sleepy_coder.store_rows import example_hash
from sleepy_coder.types import Example


def replay_pool(
    how: Replay,
    own: Sequence[Example],
    anchors: Sequence[Example],
    kept: Sequence[Example],
    surprise: Mapping[str, float],
    seed: int,
) -> Listed:
    """The pool of one night. `own` rows are the user's, `kept` those of earlier nights.

    `surprise` is the mean NLL by `example_hash`, as far as it was measured. `how` is the recipe's: "anchors" leaves
    `kept` out, "buffer" draws at random with the same total weight for each family, and "surprise" as told above.
    """
    rows = [*anchors, *(kept if how != "anchors" else ())]
    chooser = random.Random(f"{seed}/replay")
    first = list(own)
    chooser.shuffle(first)
    if how == "surprise" or first:
        return Listed([*first, *by_turns(rows, surprise if how == "surprise" else {}, chooser)], ranked=True)
    families = Counter(row.family for row in rows)
    return Listed([row.model_copy(update={"weight": 1 / families[row.family]}) for row in rows])


def by_turns(rows: Sequence[Example], surprise: Mapping[str, float], chooser: random.Random) -> list[Example]:
    """All rows, family by family in turns; within a family by surprise and at random in turns."""
    families: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)
    queues = [_alternating(families[name], surprise, chooser) for name in sorted(families)]
    chooser.shuffle(queues)
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _alternating(rows: Sequence[Example], surprise: Mapping[str, float], chooser: random.Random) -> list[Example]:
    mixed = list(rows)
    chooser.shuffle(mixed)
    known = {id(row): surprise[sha] for row in mixed if (sha := example_hash(row)) in surprise}
    surprising = iter(sorted((row for row in mixed if id(row) in known), key=lambda row: -known[id(row)]))
    drawn = iter(mixed)
    out: list[Example] = []
    taken: set[int] = set()
    while len(out) < len(mixed):
        source = surprising if len(out) % 2 == 0 else drawn
        row = next((row for row in source if id(row) not in taken), None)
        if row is None:  # nothing else was measured
            row = next(row for row in drawn if id(row) not in taken)
        taken.add(id(row))
        out.append(row)
    return out
