"""`sleepy-coder recipes`, and a night by another recipe."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from fakes import FakeServer, FakeTrainer, parts, solver
from test_cli import Done

from sleepy_coder.config import HOME_VARIABLE, RecipeSettings
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ConfigError
from sleepy_coder.journal import RECIPE_NAME, Journal
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.night import run_night
from sleepy_coder.wiring import open_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("SLEEPY_CODER_SERVER__URL", "http://127.0.0.1:9")
    return tmp_path


def test_every_recipe_is_listed_with_its_source_and_cost_and_the_set_one_is_marked(home: Path) -> None:
    (home / "sleepy-coder.toml").write_text('[recipe]\nname = "sam"\n')
    found = Done("recipes", "--json").json
    assert [one["name"] for one in found] == list(RECIPES)
    assert all(one["summary"] and one["source"] and one["cost"] for one in found)
    assert {one["name"] for one in found if one["needs"]} == {"grpo", "sdft"}
    assert [one["name"] for one in found if one["set"]] == ["sam"]
    assert "sam *" in Done("recipes").out


@pytest.mark.parametrize("arguments", [("recipes",), ("recipes", "sam")])
def test_the_list_and_one_recipe_say_whose_idea_it_is(arguments: tuple[str, ...]) -> None:
    assert "2010.01412" in Done(*arguments).out


def test_one_recipe_is_shown_with_the_numbers_that_it_gives() -> None:
    said = Done("recipes", "naive")
    assert (said.status, "500" in said.out, "0.0002" in said.out) == (0, True, True)


@pytest.mark.parametrize("arguments", [("recipes", "magic"), ("night", "--recipe", "magic")])
def test_an_unknown_recipe_is_refused_with_the_names_of_the_known_ones(arguments: tuple[str, ...]) -> None:
    said = Done(*arguments)
    assert said.status == 2
    assert "'magic' is not one of" in said.err
    assert "rft-anchor" in said.err


def test_a_recipe_whose_extra_is_missing_is_refused_before_the_night_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepy_coder.learn.trainer.importlib.util.find_spec", lambda _: None)
    said = Done("night", "--recipe", "grpo")
    assert said.status == 1
    assert "pip install 'sleepy-coder[trl]'" in said.err


def test_a_night_that_lacks_the_extra_of_its_recipe_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepy_coder.learn.trainer.importlib.util.find_spec", lambda _: None)
    made = parts(tmp_path, FakeServer(solver([])), FakeTrainer(), recipe=RecipeSettings(name="sdft"))
    with closing(made.store):
        with pytest.raises(ConfigError, match="needs the package trl"):
            run_night(made)
        assert made.store.unfinished_night() is None


def test_an_unfinished_night_is_not_gone_on_with_by_another_recipe_than_its_own(home: Path) -> None:
    with open_store(load_config()) as store:
        Journal(store).noted(RECIPE_NAME, str, lambda: "sam")
    said = Done("night", "--recipe", "ssr")
    assert (said.status, "goes on with sam" in said.err, "--abandon" in said.err) == (1, True, True)
    assert "goes on with" not in Done("night", "--recipe", "sam").err


def test_the_daemons_night_takes_its_recipe_from_the_settings_alone() -> None:
    said = Done("night", "--now", "--recipe", "sam")
    assert said.status == 1
    assert "recipe.name" in said.err
