"""How a night's training is sized: the default recipe `rft-anchor` (docs/learning.md)."""

from __future__ import annotations

import math

from sleepy_coder.config import RecipeSettings
from sleepy_coder.types import Recipe

EPOCHS = 3
ALPHA, ALPHA_WIDTH = 16, 2048


def alpha_for(width: int) -> int:
    """LoRA alpha for a model of `width` channels: 16, and more for models narrower than 2048.

    Under Adam an entry of A moves by about the learning rate whatever the model's size, and A's input has
    `width` entries that add up, so one learning rate moves a narrow model less (LoRA+: Hayou et al. 2024,
    arXiv 2402.12354, section 3). The learning rate stays the conservative one; alpha makes up for the width.
    """
    return ALPHA * max(1, ALPHA_WIDTH // width)


def recipe_for(
    settings: RecipeSettings, rows: int, accepted_cycles: int, width: int, max_length: int, seed: int
) -> Recipe:
    """The recipe for `rows` training rows after `accepted_cycles` promoted nights, on a model of `width` channels.

    lr = max(floor, lr0 * decay**accepted); steps = min(max_steps, ceil(3 * rows / batch)).
    """
    return Recipe(
        name="rft-anchor",
        learning_rate=max(settings.floor, settings.learning_rate * settings.decay**accepted_cycles),
        rank=settings.rank,
        alpha=settings.alpha or alpha_for(width),
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
