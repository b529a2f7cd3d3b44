"""The commands around the daemon: settings, pauses, its log, and adapters by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import TinyServer
from safetensors.numpy import load_file
from test_cli import Done, home  # noqa: F401 - the fixture of an empty home
from test_gateway_client import answering, state
from test_registry import MIX, RECIPE, House, lora, write_trained

from sleepy_coder.config import CONFIG_FILE
from sleepy_coder.config_load import load_config
from sleepy_coder.pause import paused
from sleepy_coder.registry import model_sha256
from sleepy_coder.report.logs import readable
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.types import AdapterState, Choice, Contender

pytestmark = pytest.mark.usefixtures("home")
LINE = json.dumps(
    {
        "event": "adapter.promoted",
        "serving": "sc-0001-00000000",
        "level": "warning",
        "timestamp": "2026-07-02T01:02:03Z",
    }
)
OTHER = json.dumps({"event": "exchange.recorded", "id": "1", "level": "info", "timestamp": "2026-07-02T01:02:03Z"})


# Settings


def test_the_settings_shown_name_where_each_is_from_and_no_key(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text('[server]\napi_key = "sk-very-secret"\n')
    shown = Done("config", "show", "--json").json
    assert shown["server.api_key"] == {"value": "***", "from": CONFIG_FILE}
    assert shown["server.url"]["from"] == "environment"
    assert shown["recipe.rank"]["from"] == ""


def test_wrong_settings_fail_the_check_and_are_named(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("[recipe]\nrank = 0\n")
    done = Done("config", "check")
    assert done.status == 1
    assert "recipe.rank" in done.err


def test_right_settings_pass_the_check() -> None:
    assert "server.url" in Done("config", "check", "--json").json["changed"]


def test_a_model_that_is_not_there_is_no_right_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPY_CODER_MODEL__PATH", "/nope")
    done = Done("config", "check")
    assert (done.status, "/nope holds no model" in done.err, "correct model.path" in done.err) == (1, True, True)


def test_a_home_without_settings_is_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SERVER__URL", "MODEL__PATH", "GATEWAY__PORT"):
        monkeypatch.delenv(f"SLEEPY_CODER_{variable}")
    for command in ("check", "show"):
        assert "all settings have their defaults" in " ".join(Done("config", command).out.split())


def test_a_credential_and_a_section_of_the_environment_are_named_as_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gateway.api_key").write_text("a-long-enough-key\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("SLEEPY_CODER_RECIPE", '{"rank": 4}')
    shown = Done("config", "show", "--json").json
    assert (shown["gateway.api_key"]["from"], shown["recipe.rank"]["from"]) == ("credential", "environment")


def test_the_first_settings_are_written_and_an_existing_file_is_kept(tmp_path: Path) -> None:
    written = Done(
        "config", "init", "--yes", "--server", "http://127.0.0.1:9", "--window", "23:00-04:30", "--json"
    ).json
    assert written["file"] == str(tmp_path / CONFIG_FILE)
    assert load_config().night.window == "23:00-04:30"
    assert Done("config", "init", "--yes").status == 1
    assert load_config().night.window == "23:00-04:30"


def test_what_is_asked_for_the_first_settings_is_no_part_of_their_json() -> None:
    done = Done("config", "init", "--server", "http://127.0.0.1:9", "--json", typed="\n\n22:00-05:00\n")
    question = "Name of the base model there"
    assert question in done.err and question not in done.out
    assert load_config().night.window == "22:00-05:00"


def test_the_first_settings_are_those_of_the_model_that_serves(
    tiny_server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Done("config", "init", "--yes", "--server", tiny_server.url)
    for variable in ("SERVER__URL", "MODEL__PATH"):
        monkeypatch.delenv(f"SLEEPY_CODER_{variable}")
    config = load_config()
    assert (config.server.url, config.server.base_name, config.server.engine) == (tiny_server.url, "tiny", "vllm")
    assert config.model.path == tiny_server.model
    with VllmClient(tiny_server.url) as client:
        assert config.model.max_length == client.models()[0].max_length
    assert config.agent.max_tokens == config.eval.max_tokens == config.model.max_length // 4


def test_without_a_model_server_the_first_settings_are_those_of_the_nano_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sleepy_coder.cli_config._USUAL_PORTS", (9,))
    written = Done("config", "init", "--yes", "--json").json
    assert (written["server"], written["base"], written["model"]) == ("http://127.0.0.1:8399", "sleepy-base", None)


def test_first_settings_that_are_wrong_leave_no_file_behind(tmp_path: Path) -> None:
    assert Done("config", "init", "--yes", "--server", 'http://"', "--json").status == 1
    assert not (tmp_path / CONFIG_FILE).exists()


# Pauses


def test_nights_are_paused_until_somebody_resumes(tmp_path: Path) -> None:
    assert Done("pause", "--reason", "holidays", "--json").json["until"] is None
    held = paused(tmp_path / "state", datetime(2100, 1, 1, tzinfo=UTC))
    assert held and held.reason == "holidays"
    assert Done("resume", "--json").json == {"was_paused": True}
    assert Done("resume", "--json").json == {"was_paused": False}
    assert paused(tmp_path / "state", datetime.now(UTC)) is None


def test_a_pause_that_cannot_be_read_is_told_by_the_status_and_hides_nothing_else(tmp_path: Path) -> None:
    Done("pause")
    (tmp_path / "state" / "pause.json").write_text("{")
    assert Done("status", "--json").json["paused"]["reason"] == "its file cannot be read"
    lines = [line.split() for line in Done("status").out.splitlines()]
    assert {"serving", "pause", "home"} <= {words[0] for words in lines if words}
    assert "cannot be read" in " ".join(Done("status").out.split())


def test_a_pause_of_some_hours_ends_by_itself(tmp_path: Path) -> None:
    Done("pause", "--hours", "2")
    now = datetime.now(UTC)
    assert paused(tmp_path / "state", now)
    assert paused(tmp_path / "state", now + timedelta(hours=2, minutes=1)) is None


def test_tonight_is_over_when_its_window_closes() -> None:
    until = datetime.fromisoformat(Done("pause", "--tonight", "--json").json["until"])
    assert f"{until.astimezone():%H:%M}" == "06:00"


def test_a_pause_is_told_by_the_status_although_no_daemon_holds_nights() -> None:
    Done("pause", "--reason", "holidays")
    said = " ".join(Done("status").out.split())
    assert " pause paused until `sleepy-coder resume` (holidays) next night " in said


@pytest.mark.parametrize("hours", ["0", "nan", "1e9"])
def test_a_pause_is_longer_than_nothing_and_a_year_at_most(tmp_path: Path, hours: str) -> None:
    assert Done("pause", "--hours", hours).status != 0
    assert not (tmp_path / "state").exists()


# The daemon of another home


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A daemon of another home on this home's port; what it was asked for."""
    with answering([state(tmp_path / "other")]) as (settings, asked):
        monkeypatch.setenv("SLEEPY_CODER_GATEWAY__PORT", str(settings.port))
        yield asked


@pytest.mark.parametrize("command", ["pause", "resume", "night --now"])
def test_what_the_daemon_of_another_home_would_not_hear_is_refused(
    tmp_path: Path, elsewhere: list[str], command: str
) -> None:
    done = Done(*command.split())
    assert (done.status, elsewhere) == (1, ["/admin/state"])
    assert f"sleepy-coder --home {tmp_path / 'other'} {command}" in done.err
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("elsewhere")
def test_the_status_does_not_take_another_home_s_daemon_for_its_own(tmp_path: Path) -> None:
    status = Done("status", "--json").json
    assert (status["daemon"], status["next_night"]) == (None, None)
    assert status["other_home"] == str(tmp_path / "other")


# The log


def test_the_log_of_the_nights_leaves_out_the_days() -> None:
    assert [line.split()[3] for line in readable([LINE, OTHER, "Started sleepy-coder."], nights=True)] == [
        "adapter.promoted"
    ]


def test_what_others_say_during_a_night_belongs_to_it() -> None:
    line = {"event": "server.adapter_loaded", "night_id": "night-0007", "timestamp": "2026-07-02T01:02:03Z"}
    assert list(readable([json.dumps(line)], nights=True))


def test_what_is_no_line_of_ours_is_passed_on_as_it_is() -> None:
    assert list(readable(["Traceback (most recent call last):\n"])) == ["Traceback (most recent call last):"]


def test_the_log_is_read_from_a_file_as_from_the_journal(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"{LINE}\n{OTHER}\n")
    assert "serving=sc-0001-00000000" in Done("logs", "--file", str(tmp_path / "log")).out
    raw = Done("logs", "--file", str(tmp_path / "log"), "--nights", "--json").out
    assert json.loads(raw)["event"] == "adapter.promoted"


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"Traceback \xff\n")
    assert Done("logs", "--file", str(tmp_path / "log")).out == "Traceback \N{REPLACEMENT CHARACTER}\n"
    assert Done("logs", "--file", "-", typed=b"Traceback \xff\n").out == "Traceback \N{REPLACEMENT CHARACTER}\n"


def test_json_says_beside_it_how_many_lines_were_no_events(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"Started sleepy-coder.\n\n{LINE}\n[1]\n")
    done = Done("logs", "--file", str(tmp_path / "log"), "--json")
    assert (done.out.strip(), done.err) == (LINE, "2 lines without an event left out\n")


def test_a_journal_without_a_word_says_where_a_daemon_in_a_terminal_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journalctl").write_text("#!/bin/sh\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "`sleepyd` in a terminal prints its log there" in Done("logs").err


# Adapters by hand


def test_an_export_of_no_adapter_draws_no_bar() -> None:
    done = Done("adapters", "export", "nope")
    assert done.status == 1
    assert done.err.startswith("error: ")


@pytest.fixture
def house(tmp_path: Path) -> House:
    (tmp_path / "made").mkdir()
    house = House(tmp_path / "made")
    house.adapters.rename(tmp_path / "adapters")
    house.adapters.symlink_to(tmp_path / "adapters")
    return house


def test_two_adapters_are_told_apart_by_recipe_weights_and_tasks(house: House) -> None:
    first, second = house.stage(1).name, house.stage(2).name
    found = Done("adapters", "diff", first, second, "--json").json
    assert found["distance"] >= 0
    assert not found["comparable"]
    assert Done("adapters", "diff", first, first, "--json").json["distance"] == pytest.approx(0, abs=1e-6)


def test_a_damaged_frozen_set_is_named_by_a_comparison(house: House) -> None:
    first, second = house.stage(1).name, house.stage(2).name
    state = house.root.parent / "state"
    state.mkdir(exist_ok=True)
    (state / "frozen-0001-0000000000000000.jsonl").write_text("{}\n")
    done = Done("adapters", "diff", first, second)
    assert (done.status, done.out) == (1, "")
    assert "restore it from a backup" in done.err


def test_the_distance_of_two_adapters_is_that_of_the_updates_they_make(house: House) -> None:
    first, second = house.stage(1), house.stage(2)

    def update(folder: Path) -> dict[str, np.ndarray]:
        weights = load_file(folder / "adapter_model.safetensors")
        names = [name.removesuffix("lora_A.weight") for name in weights if "lora_A" in name]
        return {n: weights[n + "lora_B.weight"] @ weights[n + "lora_A.weight"] for n in names}

    ours, theirs = update(first.path), update(second.path)
    apart = sum(((ours[n] - theirs[n]) ** 2).sum() for n in ours) / sum((ours[n] ** 2).sum() for n in ours)
    found = Done("adapters", "diff", first.name, second.name, "--json").json
    assert found["distance"] == pytest.approx(float(apart) ** 0.5, rel=1e-3)


def test_the_distance_of_two_adapters_counts_the_scale_that_was_chosen(house: House) -> None:
    first = house.stage(1)
    quarter = write_trained(house.root / "quarter", lora(1), lora_alpha=RECIPE.alpha // 4)
    second = house.registry.stage(
        quarter, cycle=2, parent=None, base=house.base, base_model="b", base_sha256=model_sha256(house.base), mix=MIX,
        recipe=RECIPE, choice=Choice(contenders=(Contender(weights="adapter", scale=0.25),)),
    )  # fmt: skip
    found = Done("adapters", "diff", first.name, second.name, "--json").json
    assert found["distance"] == pytest.approx(0.75)
    assert found["recipe"]["alpha"] == ["8", "2"]


def test_nothing_is_deleted_while_nobody_knows_what_the_server_holds(house: House) -> None:
    house.stage(1)
    done = Done("adapters", "prune", "--keep", "1", "--yes")
    assert done.status == 1
    assert "it is unknown" in done.err


def test_an_adapter_that_the_server_cannot_load_is_not_promoted(house: House) -> None:
    name = house.stage(1).name
    assert Done("adapters", "promote", name, "--yes").status == 1
    assert house.registry.get(name).state is AdapterState.STAGED
