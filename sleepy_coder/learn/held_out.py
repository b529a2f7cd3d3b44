"""Rows that training is measured by: some held out of it, and a few anchors as a probe of the distance to the base.

Which they are follows from the task alone, so that a task that is held out is so every night. Where more than 32 tasks
would be, those with the lowest draws are: the others are trained on that night.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sleepy_coder.types import OWN, Example

MOST_HELD_OUT = 32
PROBED = 8


def _draw(task_id: str) -> float:
    """A number in [0, 1) that follows from the task."""
    return int(hashlib.sha256(f"held out/{task_id}".encode()).hexdigest()[:12], 16) / 16**12


def held_out(examples: Sequence[Example], share: float) -> list[int]:
    """Which of `examples` are not to be trained on: all rows of a share of the tasks, at most 32 tasks.

    Anchors are not among them, nor are the user's own rows, which are to be learned whole. None when nothing else would
    be left to learn.
    """
    tasks = {row.task_id for row in examples if not row.anchor and row.family != OWN}
    chosen = set(sorted((task for task in tasks if _draw(task) < share), key=_draw)[:MOST_HELD_OUT])
    if chosen == tasks:
        return []
    return [i for i, row in enumerate(examples) if not row.anchor and row.task_id in chosen]


def probe(examples: Sequence[Example]) -> list[int]:
    """Which of `examples` the distance to the base is measured on: at most 8 anchors, one row per task."""
    anchors = {row.task_id: i for i, row in enumerate(examples) if row.anchor}
    return [anchors[task] for task in sorted(anchors, key=_draw)[:PROBED]]
