"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sleepy_coder.config import CONFIG_FILE, HOME_VARIABLE, SESSION_VARIABLE, Config
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / CONFIG_FILE).write_text(text)


def every_field(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from every_field(kind, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


FIELDS = dict(every_field(Config))


def test_without_a_file_the_defaults_hold(home: Path) -> None:
    config = load_config()
    assert (config.home, config.state, config.adapters) == (home, home / "state", home / "adapters")
    assert (config.mix.replay, config.mix.passed, config.mix.hard) == (0.44, 0.42, 0.14)


def test_a_command_for_any_project_does_not_obey_the_file_of_the_folder_it_is_called_in(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, '[gateway]\nhost = "evil.example"\napi_key = "12345678"\n')
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__PORT", "8401")
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.chdir(home)
    gateway = load_config(here=False).gateway
    assert (gateway.local_url, gateway.api_key) == ("http://127.0.0.1:8401", None)
    assert HOME_VARIABLE not in os.environ, "or what it starts would obey it"
    assert load_config().gateway.host == "evil.example", "who works in a home folder has its settings"


def test_a_command_for_any_project_obeys_the_home_that_was_named(home: Path) -> None:
    write(home, "[gateway]\nport = 8402\n")
    assert load_config(here=False).gateway.port == 8402


def test_the_defaults_are_within_their_own_bounds() -> None:
    defaults = Config().model_dump()
    assert Config.model_validate(defaults).model_dump() == defaults


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_in_a_sentence_what_it_does(name: str) -> None:
    said = FIELDS[name].description or ""
    assert said.endswith(".") and said[0].isupper()


@pytest.mark.parametrize("name", FIELDS)
def test_every_number_has_a_lower_bound(name: str) -> None:
    field = FIELDS[name]
    kinds = set(get_args(field.annotation)) if isinstance(field.annotation, UnionType) else {field.annotation}
    bounds = {bound for rule in field.metadata for bound in ("ge", "gt") if getattr(rule, bound, None) is not None}
    assert bounds or not kinds & {int, float}


def test_the_file_is_read_and_the_environment_is_above_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'seed = 5\n[server]\nurl = "http://127.0.0.1:1"\nbase_name = "from-file"\n')
    monkeypatch.setenv("SLEEPY_CODER_SERVER__URL", "http://127.0.0.1:2")
    config = load_config()
    assert (config.seed, config.server.base_name, config.server.url) == (5, "from-file", "http://127.0.0.1:2")


def test_an_explicit_home_is_above_the_environment(home: Path) -> None:
    (home / "other").mkdir()
    write(home / "other", "seed = 7\n")
    config = load_config(home / "other")
    assert (config.seed, config.home) == (7, home / "other")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("seeds = 5", "seeds"),
        ("[mix]\nreplays = 0.5", "mix.replays"),
        ("[nights]\nwhen = 2", "nights"),
        ("[mix]\nreplay = 1.5", "mix.replay"),
        ("[recipe]\nlearning_rate = 0.0", "recipe.learning_rate"),
        ("[agent]\nattempts = 0", "agent.attempts"),
        ('[eval]\nsamples = "many"', "eval.samples"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(home: Path, text: str, field: str) -> None:
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    assert f"{field}: " in caught.value.message
    assert str(home / CONFIG_FILE) in caught.value.remedy


def test_several_samples_of_a_greedy_answer_are_refused_with_what_to_do(home: Path) -> None:
    """Copies of one answer would count as so many pairs."""
    write(home, "[eval]\nsamples = 4\n")
    with pytest.raises(ConfigError, match=r"set samples = 1, or a temperature above 0"):
        load_config()
    write(home, "[eval]\nsamples = 4\ntemperature = 0.8\n")
    assert load_config().eval.samples == 4


@pytest.mark.parametrize("text", [b"[mix\nreplay = 1", b"seed = = 1", b"name = \xff"])
def test_a_file_that_is_no_toml_is_named(home: Path, text: bytes) -> None:
    (home / CONFIG_FILE).write_bytes(text)
    with pytest.raises(ConfigError, match="is not valid TOML") as caught:
        load_config()
    assert str(home / CONFIG_FILE) in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("SLEEPY_CODER_MIX__REPLAY", "2", "mix.replay"),
        ("SLEEPY_CODER_SERVER__URI", "http://127.0.0.1", "SERVER__URI"),
        ("SLEEPY_CODER_SERVER", "no json", "server"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=field) as caught:
        load_config()
    assert "environment" in caught.value.remedy


@pytest.mark.parametrize("variable", ["SLEEPY_CODER_SERVER_URL", "SLEEPY_CODER_SEVER__URL", "sleepy_coder_server__uri"])
def test_a_misspelled_variable_comes_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:8000")
    with pytest.raises(ConfigError, match=f"{variable} is not a setting") as caught:
        load_config()
    assert "did you mean `SLEEPY_CODER_SERVER__URL`?" in caught.value.remedy


def test_what_an_agent_starts_may_read_the_settings_although_it_knows_its_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SESSION_VARIABLE, "run-1")
    load_config()


def test_shares_that_do_not_add_up_to_one_are_refused(home: Path) -> None:
    write(home, "[mix]\nreplay = 0.9\n")
    with pytest.raises(ConfigError, match=r"mix: .*1\.46"):
        load_config()


def test_settings_cannot_be_changed_once_they_are_read() -> None:
    changed: dict[str, Any] = {"seed": 9}
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = changed["seed"]


@pytest.mark.parametrize(("field", "wrong"), [("window", "nightly"), ("timezone", "Mars/Olympus")])
def test_hours_that_cannot_be_read_are_refused_before_any_night(home: Path, field: str, wrong: str) -> None:
    write(home, f'[night]\n{field} = "{wrong}"\n')
    with pytest.raises(ConfigError, match=wrong):
        load_config()


def test_wrong_hours_are_named_beside_whatever_else_is_wrong(home: Path) -> None:
    write(home, '[recipe]\nrank = 0\n[night]\nwindow = "nightly"\ntimezone = "Mars/Olympus"\nquiet_minutes = -1\n')
    with pytest.raises(ConfigError) as caught:
        load_config()
    for field in ("recipe.rank", "night.window", "night.timezone", "night.quiet_minutes"):
        assert f"{field}: " in caught.value.message


def test_dropping_the_weights_needs_a_command_that_brings_them_back(home: Path) -> None:
    write(home, "[night]\nshare_gpu = true\nsleep_level = 2\n")
    with pytest.raises(ConfigError, match="server.restart_command"):
        load_config()
    write(home, '[server]\nrestart_command = ["true"]\n\n[night]\nshare_gpu = true\nsleep_level = 2\n')
    assert load_config().night.sleep_level == 2
