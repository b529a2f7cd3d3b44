"""How a night's training is sized."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.config import WIDEST_RECIPE, RecipeName, RecipeSettings
from sleepy_coder.config_load import load_config
from sleepy_coder.learn.recipes import RECIPES, recipe_for
from sleepy_coder.types import Recipe

SETTINGS = RecipeSettings()


@pytest.mark.parametrize(
    ("accepted", "rate"), [(0, 1e-4), (1, 9e-5), (2, 8.1e-5), (15, 1e-4 * 0.9**15), (16, 2e-5), (1000, 2e-5)]
)
def test_the_learning_rate_falls_by_a_tenth_with_every_promoted_night_down_to_the_floor(
    accepted: int, rate: float
) -> None:
    assert recipe_for(SETTINGS, 420, accepted, 4096, 1024, 0).learning_rate == pytest.approx(rate)


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (16, 3), (24, 5), (100, 19), (420, 79), (533, 100), (10_000, 100)])
def test_a_night_makes_three_passes_over_its_rows_but_at_most_a_hundred_steps(rows: int, steps: int) -> None:
    assert recipe_for(SETTINGS, rows, 0, 4096, 1024, 0).steps == steps


@pytest.mark.parametrize(("width", "alpha"), [(128, 256), (896, 32), (1536, 16), (2048, 16), (8192, 16)])
def test_narrow_models_get_a_larger_alpha_unless_one_is_set(width: int, alpha: int) -> None:
    assert recipe_for(SETTINGS, 16, 0, width, 1024, 0).alpha == alpha
    assert recipe_for(RecipeSettings(alpha=7), 16, 0, width, 1024, 0).alpha == 7


@given(st.integers(1, 5000), st.integers(0, 200), st.integers(0, 2**31))
def test_everything_else_is_taken_from_the_settings_as_it_is(rows: int, accepted: int, seed: int) -> None:
    recipe = recipe_for(SETTINGS, rows, accepted, 4096, 512, seed)
    same = (type(SETTINGS).model_fields.keys() & Recipe.model_fields.keys()) - {"learning_rate", "alpha"}
    assert {name: getattr(recipe, name) for name in same} == {name: getattr(SETTINGS, name) for name in same}
    assert (recipe.max_length, recipe.seed) == (512, seed)


def test_a_model_server_is_asked_for_the_largest_rank_that_a_recipe_brings() -> None:
    assert max(spec.rank or 0 for spec in RECIPES.values()) == WIDEST_RECIPE
    assert load_config().recipe.largest_rank == WIDEST_RECIPE


@pytest.mark.parametrize(
    ("name", "objective", "has"),
    [
        ("rft-anchor", "sft", {"kl", "average", "choice", "surprise"}),
        ("seed-plain", "sft", set[str]()),
        ("naive", "sft", {"fresh start", "prompt loss", "rate 2e-4", "rank 16", "500 steps"}),
        ("sure-dual", "sft", {"average", "two learners", "surprise"}),
        ("sam", "sft", {"sam"}),
        ("ssr", "sft", set[str]()),
        ("grpo", "grpo", {"kl"}),
        ("sdft", "sdft", set[str]()),
        ("hints-only", "none", set[str]()),
        ("no-update", "none", set[str]()),
    ],
)
def test_each_recipe_trains_with_what_makes_it_that_recipe_and_with_nothing_else(
    name: RecipeName, objective: str, has: set[str]
) -> None:
    made = recipe_for(RecipeSettings(name=name, rank=8), 16, 0, 4096, 512, 0)
    found = {
        "kl": made.kl_anchor > 0 and made.kl_verified > 0,
        "average": made.ema > 0,
        "choice": bool(made.checkpoints) and made.held_out > 0 and made.kl_limit > 0,
        "two learners": made.dual,
        "sam": made.sam_rho == 0.05,
        "prompt loss": made.prompt_loss,
        "fresh start": made.rebase,
        "rate 2e-4": made.learning_rate == 2e-4,
        "rank 16": made.rank == 16,
        "500 steps": made.steps == 500,
        "surprise": RECIPES[name].replay == "surprise",
    }
    assert made.objective == objective
    assert {what for what, there in found.items() if there} == has
