"""`sleepy-coder recipes`: how a night may learn."""

from __future__ import annotations

from typing import Annotated

import typer

from sleepy_coder.config import Config, RecipeName
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, explained, say, table
from sleepy_coder.learn.recipes import RECIPES, RecipeSpec
from sleepy_coder.learn.trainer import require_for


def with_recipe(config: Config, name: RecipeName | None) -> Config:
    """The settings with the recipe of that name, if one is given. Raises ConfigError where its extra is missing."""
    if not name:
        return config
    if (objective := RECIPES[name].objective) != "none":
        require_for(objective)  # told before a night has dreamed
    return config.model_copy(update={"recipe": config.recipe.model_copy(update={"name": name})})


def recipes_command(
    name: Annotated[RecipeName | None, typer.Argument(help="Show all of this one; default: list them.")] = None,
    json: Json = False,
) -> None:
    """List the recipes, the ways a night may learn: what each does, costs and needs, and whose idea it is.

    With NAME, all about one.

    `recipe.name` in the settings picks one, and `night --recipe NAME` another one for one night.

    Example: [bold]sleepy-coder recipes sam[/]
    """
    with explained():
        usual = load_config().recipe.name
        shown = [RECIPES[name]] if name else list(RECIPES.values())
    if json:
        as_json([{**spec.model_dump(mode="json"), "set": spec.name == usual} for spec in shown])
    elif name:
        rows = [(field.replace("_", " "), _said(getattr(shown[0], field))) for field in RecipeSpec.model_fields]
        table(name, ("", ""), [row for row in rows if row[1]])
    else:
        table(
            "Recipes",
            ("name", "what it does", "cost of a night", "source"),
            [(f"{r.name}{' *' * (r.name == usual)}", f"{r.summary}{_needs(r)}", r.cost, r.source) for r in shown],
        )
        say("* marks recipe.name. `sleepy-coder night --recipe NAME` tries another one for a night.")
        say("`sleepy-coder recipes NAME` shows all of its numbers.")


def _needs(spec: RecipeSpec) -> str:
    return f" Needs {spec.needs}." if spec.needs else ""


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
