"""When a night starts afresh: with a new adapter, on all rows that are kept, instead of going on from what serves.

Adapters that grow from each other carry every night's mistakes on, and two rejections in a row say that going on from
here leads nowhere. Merging them instead has a trap: `add_weighted_adapter("linear")` adds A and B of adapters that
share most of their weights, which doubles the update.
"""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.config import RecipeSettings
from sleepy_coder.types import NightReport

JUDGED = ("promoted", "rejected", "inconclusive")


def rebase_due(accepted: int, nights: Sequence[NightReport], settings: RecipeSettings) -> bool:
    """Whether the next night starts afresh. `accepted` nights made what serves; `nights` are the last ones that
    were judged, in order.

    After `rebase_after` accepted nights, or `rebase_rejections` rejected ones in a row. A night that started afresh
    counts anew, whatever became of it: it is not tried again at once.
    """
    judged = [night for night in nights if night.outcome in JUDGED and night.recipe is not None]
    fresh = [i for i, night in enumerate(judged) if night.recipe is not None and night.recipe.rebase]
    since = judged[fresh[-1] + 1 :] if fresh else judged
    if fresh and len(since) < settings.rebase_after:
        accepted = 0
    last = since[-settings.rebase_rejections :]
    rejected = len(last) == settings.rebase_rejections and all(night.outcome == "rejected" for night in last)
    return accepted >= settings.rebase_after or rejected
