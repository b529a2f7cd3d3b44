"""Fresh tasks: a share of what is met by day is judged before it may train.

The unit is the program (`Task.cluster`), not the family: copies under other names are held back together, but holding
whole families back would keep a kind of error from being learned at all for as long.
"""

from __future__ import annotations

import hashlib
from typing import Final

from sleepy_coder.types import Task

BUCKETS: Final = 1000


def bucket_of(task: Task) -> int | None:
    """Where the task's program falls, in 0 .. BUCKETS - 1, the same for ever; None when it cannot be asked again.

    A share of s holds the programs in the first s * BUCKETS back.
    """
    if not task.prompt:
        return None
    return int(hashlib.sha256(f"fresh {task.cluster or task.id}".encode()).hexdigest()[:12], 16) % BUCKETS
