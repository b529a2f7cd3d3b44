"""How nights learn: each recipe is one small declarative object, and all of them share one night and one training loop.

`RecipeSpec` says what a recipe is; `recipe_for` gives the numbers of one night (docs/learning.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

from sleepy_coder.config import RecipeName, RecipeSettings
from sleepy_coder.types import Objective, Recipe, Record

EPOCHS = 3
GENERATIONS: Final = 8
"""Answers to one task that GRPO compares."""
ALPHA, ALPHA_WIDTH = 16, 2048
CHECKPOINT_SHARES: Final = (0.2, 0.4, 0.6, 0.8, 1.0)

Rows = Literal["mix", "failures", "none"]
"""Training rows: the replay mix; the day's failures with their hand-written fixes (the founding failure); none."""

Replay = Literal["buffer", "surprise", "anchors"]
"""What replay draws from: anchors and earlier rows at random; the same, half of it by surprise; anchors alone."""


class RecipeSpec(Record):
    """A recipe. `cost` is what a night of it takes beside one of `rft-anchor`; `source` the paper it follows; `needs`
    what has to be installed besides.

    `objective`, `rows` and `replay` say what is learned from. `dream_hints` lets dreaming ask with hints and feedback
    that are trained away; `kl` holds the model near the base; `average` serves the running average of the weights, and
    `dual` has both go on from night to night; `choose` picks among checkpoints and adapter scales by execution on the
    dev split; `warm` starts from the adapter that serves; `hints` puts retrieved fixes in the prompt of the built-in
    agent instead of training. Numbers that are given here win over the settings.
    """

    name: RecipeName
    summary: str
    source: str
    cost: str
    needs: str = ""
    objective: Objective = "sft"
    rows: Rows = "mix"
    replay: Replay = "buffer"
    dream_hints: bool = False
    kl: bool = False
    average: bool = False
    dual: bool = False
    choose: bool = False
    warm: bool = True
    prompt_loss: bool = False
    hints: bool = False
    sam_rho: float = 0.0
    learning_rate: float | None = None
    rank: int | None = None
    steps: int | None = None


_ALL: Final = (
    RecipeSpec(
        name="rft-anchor",
        summary="Verified answers, dreamed ones and anchors; held near the base by KL; chosen by execution.",
        source="rejection-sampling fine-tuning with self-synthesised rehearsal (SSR, ACL 2024) and a KL anchor",
        cost="the measure of the others",
        replay="surprise",
        dream_hints=True,
        kl=True,
        average=True,
        choose=True,
    ),
    RecipeSpec(
        name="seed-plain",
        summary="The literal 44/42/14 mix, plain SFT.",
        source="the founding project's correction",
        cost="less: one arm of training, no choice among checkpoints",
    ),
    RecipeSpec(
        name="naive",
        summary="The founding failure: failures with hand-written fixes, loss on the prompt too, far too many steps.",
        source="the founding project's first attempt",
        cost="5 times the steps",
        rows="failures",
        warm=False,
        prompt_loss=True,
        learning_rate=2e-4,
        rank=16,
        steps=500,
    ),
    RecipeSpec(
        name="sure-dual",
        summary="Replay by surprise, a fast and a slow LoRA; the slow one, an EMA, serves.",
        source="SuRe, arXiv 2511.22367",
        cost="about the same",
        replay="surprise",
        average=True,
        dual=True,
    ),
    RecipeSpec(
        name="sam",
        summary="Sharpness-aware minimisation: flat minima forget less.",
        source="Li et al., Findings of EMNLP 2024 (249); SAM, arXiv 2010.01412",
        cost="twice the training",
        sam_rho=0.05,
    ),
    RecipeSpec(
        name="ssr",
        summary="Replay of what the base wrote by itself, and of nothing else.",
        source="SSR: Huang et al., ACL 2024 (2024.acl-long.77)",
        cost="about the same",
        replay="anchors",
    ),
    RecipeSpec(
        name="grpo",
        summary="The verifier is the reward: eight rollouts of each task that passes sometimes.",
        source="GRPO, arXiv 2402.03300, through TRL",
        cost="many times as much: it generates while it trains",
        needs="the extra `trl`",
        objective="grpo",
        kl=True,
    ),
    RecipeSpec(
        name="sdft",
        summary="Self-distillation: the model that sees the verified fix teaches itself.",
        source="SDFT, arXiv 2601.19897, through TRL",
        cost="several times as much: it generates while it trains",
        needs="the extra `trl`",
        objective="sdft",
    ),
    RecipeSpec(
        name="hints-only",
        summary="Trains nothing: verified fixes of similar errors are put into the built-in agent's prompt.",
        source="the founding project's best result",
        cost="none at night, longer prompts by day",
        objective="none",
        rows="none",
        hints=True,
    ),
    RecipeSpec(
        name="no-update",
        summary="Changes nothing: what every other recipe has to beat.",
        source="the control",
        cost="none",
        objective="none",
        rows="none",
    ),
)
RECIPES: Final[Mapping[RecipeName, RecipeSpec]] = {spec.name: spec for spec in _ALL}


def alpha_for(width: int) -> int:
    """LoRA alpha for a model of `width` channels: 16, and more for models narrower than 2048.

    Under Adam an entry of A moves by about the learning rate whatever the model's size, and A's input has
    `width` entries that add up, so one learning rate moves a narrow model less (LoRA+: Hayou et al. 2024,
    arXiv 2402.12354, section 3). The learning rate stays the conservative one; alpha makes up for the width.
    """
    return ALPHA * max(1, ALPHA_WIDTH // width)


def recipe_for(
    settings: RecipeSettings,
    rows: int,
    accepted_cycles: int,
    width: int,
    max_length: int,
    seed: int,
    rebase: bool = False,
) -> Recipe:
    """The recipe for `rows` training rows after `accepted_cycles` promoted nights, on a model of `width` channels.

    lr = max(floor, lr0 * decay**accepted); steps = min(max_steps, ceil(3 * rows / batch)). A `rebase` starts at lr0,
    and may take more steps for the rows of many nights. Where answers to tasks are learned from, each is a row.
    """
    spec = RECIPES[settings.name]
    decayed = max(settings.floor, settings.learning_rate * settings.decay ** (0 if rebase else accepted_cycles))
    most = max(settings.max_steps, settings.rebase_steps) if rebase else settings.max_steps
    steps = spec.steps or min(most, math.ceil(EPOCHS * rows / settings.batch_size))
    return Recipe(
        name=spec.name,
        learning_rate=spec.learning_rate or decayed,
        rank=spec.rank or settings.rank,
        alpha=settings.alpha or alpha_for(width),
        dropout=settings.dropout,
        steps=steps,
        batch_size=settings.batch_size,
        warmup_steps=settings.warmup_steps,
        ema=settings.ema if spec.average else 0.0,
        kl_anchor=settings.kl_anchor if spec.kl else 0.0,
        kl_verified=settings.kl_verified if spec.kl else 0.0,
        max_length=max_length,
        seed=seed,
        objective=spec.objective,
        prompt_loss=spec.prompt_loss,
        sam_rho=spec.sam_rho,
        checkpoints=tuple(sorted({math.ceil(steps * share) for share in CHECKPOINT_SHARES})) if spec.choose else (),
        held_out=settings.held_out if spec.choose else 0.0,
        kl_limit=settings.kl_limit if spec.choose else 0.0,
        dual=spec.dual,
        rebase=rebase or not spec.warm,
    )
