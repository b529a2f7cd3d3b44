"""How a night's training is sized: the default recipe `rft-anchor` (docs/learning.md)."""

from __future__ import annotations

import math

from sleepy_coder.config import RecipeSettings
from sleepy_coder.types import Recipe

EPOCHS = 3


def recipe_for(settings: RecipeSettings, rows: int, accepted_cycles: int, max_length: int, seed: int) -> Recipe:
    """The recipe for `rows` training rows after `accepted_cycles` promoted nights.

    lr = max(floor, lr0 * decay**accepted); steps = min(max_steps, ceil(3 * rows / batch)).
    """
    return Recipe(
        name="rft-anchor",
        learning_rate=max(settings.floor, settings.learning_rate * settings.decay**accepted_cycles),
        rank=settings.rank,
        alpha=settings.alpha,
        dropout=settings.dropout,
        steps=min(settings.max_steps, math.ceil(EPOCHS * rows / settings.batch_size)),
        batch_size=settings.batch_size,
        warmup_steps=settings.warmup_steps,
        ema=settings.ema,
        kl_anchor=settings.kl_anchor,
        kl_verified=settings.kl_verified,
        max_length=max_length,
        seed=seed,
    )
