"""The command line in an empty home: JSON for scripts, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
import typer
from fakes import FakeClock, FakeServer, FakeTrainer, FakeVerifier, make_episode, make_task, parts, solver
from report_data import report_data
from study_data import exported, study
from talks import Talk, assistant, exchanges_of, user
from test_registry import House, write_base
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from sleepy_coder import __version__, cli_koans, wiring
from sleepy_coder.canary import look
from sleepy_coder.cli import app
from sleepy_coder.cli_sections import SECTIONS
from sleepy_coder.config import CONFIG_FILE, HOME_VARIABLE
from sleepy_coder.config_load import load_config
from sleepy_coder.console import as_json
from sleepy_coder.journal import alone
from sleepy_coder.nap_files import Nap, NapFiles
from sleepy_coder.tasks import SPLITS, load_split
from sleepy_coder.types import NightReport, Outcome, Verdict
from sleepy_coder.wiring import open_registry, open_store

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers there


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("SLEEPY_CODER_SERVER__URL", NOBODY)
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__PORT", "9")  # not that of a daemon which may run on this machine
    monkeypatch.setenv("SLEEPY_CODER_MODEL__PATH", str(write_base(tmp_path / "base")))
    yield tmp_path
    structlog.reset_defaults()


class Done:
    """How a command ended."""

    def __init__(self, *arguments: str, typed: str | bytes = "") -> None:
        result = CliRunner().invoke(app, list(arguments), input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.status = result.exit_code
        self.out, self.err = result.stdout, result.stderr

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = dict(commands(ROOT))


def skipped_night(cycle: int) -> NightReport:
    now = FakeClock().now()
    return NightReport(
        cycle=cycle, started=now, finished=now, outcome="skipped", reason="too little", phases=(), shares={},
        counts={}, notes=(), recipe=None, steps=0, candidate=None, serving="sleepy-base", reports=(), verdict=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_says_what_it_is_for(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip()
    assert not [p.name for p in command.params if p.param_type_name == "option" and not getattr(p, "help", "")]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_can_be_shown(name: str) -> None:
    assert "Usage" in Done(*name.split(), "--help").out


def test_every_command_stands_in_a_section_of_the_help() -> None:
    placed = [name for names in SECTIONS.values() for name in names]
    assert list(ROOT.commands) == placed, "add new ones to sleepy_coder/cli_sections.py"
    shown = Done("--help").out
    assert sorted(SECTIONS, key=shown.index) == list(SECTIONS)


@pytest.mark.parametrize("group", ["", *(name for name, one in ROOT.commands.items() if isinstance(one, TyperGroup))])
def test_the_help_of_every_group_has_an_example(group: str) -> None:
    assert "Example: sleepy-coder" in Done(*group.split(), "--help").out


def test_the_version_is_told() -> None:
    assert Done("--version").out.strip() == f"sleepy-coder {__version__}"


def test_the_status_of_an_empty_home_is_the_bare_base(home: Path) -> None:
    status = Done("status", "--json").json
    assert (status["serving"], status["adapter"], status["previous"]) == ("sleepy-base", None, None)
    assert (status["nights"], status["last_night"], status["unfinished_night"]) == (0, None, None)
    assert (status["episodes"], status["episodes_waiting"], status["quarantined"]) == (0, 0, 0)
    assert status["server"]["url"] == NOBODY and "does not answer" in status["server"]["state"]
    assert status["home"] == str(home)


def test_the_status_for_people_names_what_serves_and_the_server() -> None:
    done = Done("status")
    assert done.status == 0
    assert "sleepy-base" in done.out and "does not answer" in done.out


def test_without_a_daemon_no_night_is_promised() -> None:
    assert Done("status", "--json").json["next_night"] is None
    assert "no night starts by itself" in " ".join(Done("status").out.split())


def test_a_night_that_runs_is_not_to_be_gone_on_with(home: Path) -> None:
    with open_store(load_config()) as store:
        store.begin_night(1)
    assert "`sleepy-coder night` goes on" in " ".join(Done("status").out.split())
    with alone(wiring.night_lock(load_config())):
        assert Done("status", "--json").json["night_runs"]
        assert "night 1 runs now" in Done("status").out


LOOKS = (
    "status", "nights", "morning", "idle", "canary", "report", "replay-verdict", "gate power --nights 50",
    "gate calibrate --nights 100", "adapters list", "adapters show sc-0001-00000000", "adapters rollback --yes",
    "adapters diff sc-0001-00000000 sc-0002-00000000", "adapters promote sc-0001-00000000 --yes", "adapters prune",
    "adapters export sc-0001-00000000", "episodes list", "episodes show e1", "episodes quarantine",
    "episodes export {out}/rows.jsonl",
    "episodes prune --dry-run", "koans list --split frozen", "koans show {koan}", "config check", "config show",
)  # fmt: skip
NEED_A_SERVER = ("night", "night --dry-run", "night --abandon", "cycles 1", "eval", "drill", "koans run")


@pytest.mark.parametrize("command", [*LOOKS, *NEED_A_SERVER])
@pytest.mark.parametrize("there", [True, False], ids=["empty", "missing"])
def test_a_look_and_what_finds_no_server_make_no_home_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, there: bool
) -> None:
    folder, koan = tmp_path / "folder", load_split("day")[0].id
    folder.mkdir()
    monkeypatch.chdir(folder)
    home = folder / "home"
    if there:
        home.mkdir()
    before = sorted(folder.rglob("*"))
    Done("--home", str(home), *command.format(out=tmp_path, koan=koan).split())
    assert sorted(folder.rglob("*")) == before


def test_a_disk_that_refuses_is_an_error_with_a_remedy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(home / "state"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = Done("pause")
    assert done.status == 1
    assert "Read-only file system" in done.err and "--home" in done.err


def test_there_are_no_nights_in_an_empty_home() -> None:
    assert Done("nights", "--json").json == []
    assert Done("nights").status == 0


def test_a_night_is_listed_with_its_outcome(home: Path) -> None:
    with open_store(load_config()) as store:
        store.finish_night(skipped_night(1))
    (night,) = Done("nights", "--json").json
    assert (night["cycle"], night["outcome"], night["reason"]) == (1, "skipped", "too little")
    assert night == Done("status", "--json").json["last_night"]
    assert Done("morning", "--json").json == {**night, "canary": None}
    assert "skipped" in Done("nights").out


@pytest.mark.usefixtures("in_seoul")
def test_tables_tell_local_times_and_name_their_zone(home: Path) -> None:
    night = skipped_night(1)
    with open_store(load_config()) as store:
        store.finish_night(night)
        store.save_episodes([make_episode(1, Outcome.PASS)])
    told = Done("nights").out
    assert "started (KST)" in told and f"{night.started + timedelta(hours=9):%m-%d %H:%M}" in told
    assert "when (KST)" in Done("episodes", "list").out


def test_an_unfinished_night_is_told_in_the_status_with_its_two_ends_and_can_be_abandoned(home: Path) -> None:
    with open_store(load_config()) as store:
        store.begin_night(1)
    assert "`night --abandon` ends it" in " ".join(Done("status").out.split())
    assert Done("night", "--abandon", "--json").json == {
        "cycle": 1, "outcome": "failed", "reason": "abandoned by hand",
    }  # fmt: skip
    assert Done("status", "--json").json["unfinished_night"] is None
    again = Done("night", "--abandon")
    assert (again.status, "no night is unfinished" in again.err) == (1, True)


def test_abandoning_a_night_goes_with_nothing_else() -> None:
    asked = Done("night", "--abandon", "--now")
    assert (asked.status, "--abandon can only be combined" in asked.err) == (1, True)


def test_a_morning_before_the_first_night_says_how_to_have_one() -> None:
    done = Done("morning")
    assert (done.status, done.out) == (1, "")
    assert "sleepy-coder night" in done.err


def test_a_damaged_frozen_set_is_named_by_the_morning(home: Path) -> None:
    with open_store(load_config()) as store:
        store.finish_night(skipped_night(1))
    (home / "state" / "frozen-0001-0000000000000000.jsonl").write_text("{}\n")
    done = Done("morning")
    assert (done.status, done.out) == (1, "")
    assert "frozen-0001" in done.err.replace("\n", "") and "restore it from a backup" in done.err


def test_a_report_before_the_first_judged_night_says_how_to_have_one() -> None:
    done = Done("report")
    assert done.status == 1
    assert "sleepy-coder night" in done.err


def test_a_report_after_skipped_nights_only_says_what_they_lacked(home: Path) -> None:
    with open_store(load_config()) as store:
        store.finish_night(skipped_night(1))
    done = Done("report")
    assert done.status == 1
    assert "the last one ended as skipped (too little)" in done.err


def test_the_report_is_written_where_it_was_asked_for(home: Path) -> None:
    with open_store(load_config()) as store:
        for night in report_data(per_family=2).nights:
            store.finish_night(night)
    files = [Path(path) for path in Done("report", "--out", str(home / "docs"), "--json").json]
    assert {path.name for path in files} == {"results.md", "results.png", "dashboard.html"}
    assert all(path.parent == home / "docs" and path.stat().st_size for path in files)


@pytest.mark.parametrize("split", SPLITS)
def test_the_koans_of_a_split_are_listed(split: str) -> None:
    assert [task["id"] for task in Done("koans", "list", "--split", split, "--json").json] == [
        task.id for task in load_split(split)
    ]


def test_the_families_of_a_split_take_fewer_lines_than_there_are_families() -> None:
    shown = Done("koans", "list").out
    families = {task.family for task in load_split("day")}
    assert all(family in shown for family in families)
    assert len(shown.splitlines()) < len(families)


def test_a_koan_is_shown_whole() -> None:
    task = load_split("day")[0]
    assert Done("koans", "show", task.id, "--json").json == task.model_dump(mode="json")


def test_a_koan_is_shown_with_the_compilers_words_and_its_answer() -> None:
    task = next(task for task in load_split("day") if "[" in "".join(task.files.values()) and task.reference)
    done = Done("koans", "show", task.id, "--answer")
    assert done.status == 0
    assert task.id in done.out and f"error[{task.error_code}]" in done.out


def test_a_task_that_was_met_is_practised_after_the_others(home: Path) -> None:
    from sleepy_coder.tasks import choose_tasks

    tasks = load_split("day")[:10]
    chosen = choose_tasks(tasks, {task.id for task in tasks[:7]}, 5, None, seed=1)
    assert {task.id for task in chosen[:3]} == {task.id for task in tasks[7:]}
    assert chosen == choose_tasks(tasks, {task.id for task in tasks[:7]}, 5, None, seed=1)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("koans", "show", "k0"), "koans list --tasks"),
        (("koans", "show", "[/k0]"), "koans list --tasks"),
        (("koans", "run", "--family", "no_such_family"), "koans list"),
        (("adapters", "show", "sc-0001-00000000"), "adapters list"),
        (("episodes", "export", "no/such/folder/file.jsonl"), "make it"),
    ],
)
def test_what_does_not_exist_is_an_error_with_a_remedy(arguments: tuple[str, ...], remedy: str) -> None:
    done = Done(*arguments)
    assert (done.status, done.out) == (1, "")
    assert "error:" in done.err and remedy in done.err


@pytest.fixture
def half_blind(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A house whose frozen set is two tasks of one family that the model solves; one of them cannot be judged."""
    tasks = (make_task(1000), make_task(1005))
    assert tasks[0].family == tasks[1].family
    verifier = FakeVerifier({tasks[1].id: 1000})
    made = parts(home / "made", FakeServer(solver([1000, 1005])), FakeTrainer(), verifier=verifier, frozen=tasks)
    monkeypatch.setattr(wiring, "open_parts", lambda *_: nullcontext(made))
    yield
    made.store.close()


@pytest.mark.usefixtures("half_blind")
def test_what_the_machine_failed_is_no_failure_of_a_family() -> None:
    done = Done("eval", "--model", "base", "--samples", "2")
    assert done.status == 0
    assert "pass@1 100.0% over 1 task in" in done.out and "pass@2 100.0%" in done.out
    assert "2 of 4 samples could not be measured" in done.out
    (row,) = [line for line in done.out.split("\n") if line.startswith(make_task(1000).family)]
    assert row.split()[1:] == ["2", "100%"]


@pytest.mark.parametrize(
    ("recipe", "options", "hinted"),
    [
        ("hints-only", (), True),
        ("rft-anchor", (), False),
        ("rft-anchor", ("--hints",), True),
    ],
)
def test_an_evaluation_asks_with_hints_where_the_recipe_or_an_option_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, options: tuple[str, ...], hinted: bool
) -> None:
    monkeypatch.setenv("SLEEPY_CODER_RECIPE__NAME", recipe)
    monkeypatch.setattr(wiring, "open_hints", lambda *_: lambda task, verdict: "mind the unit")
    server = FakeServer(solver([1000]))
    made = parts(home / "made", server, FakeTrainer(), frozen=(make_task(1000),))
    monkeypatch.setattr(wiring, "open_parts", lambda *_: nullcontext(made))
    assert Done("eval", "--model", "base", *options).status == 0
    assert {"mind the unit" in call.messages[-1].content for call in server.asked} == {hinted}
    made.store.close()


def test_a_look_at_the_exam_that_no_opening_counts_is_named_as_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "made").mkdir()
    house = House(home / "made")
    staged = house.stage(1).name
    server = FakeServer(solver([1000]))
    server.load(staged, house.adapters / staged)
    made = parts(house.root, server, FakeTrainer(), frozen=(make_task(1000),))
    monkeypatch.setattr(wiring, "open_parts", lambda *_: nullcontext(made))
    monkeypatch.setattr(cli_koans, "load_split", lambda _: made.frozen)
    told = {
        (model, split): "does not count this look" in Done("eval", "--model", model, "--split", split).err
        for model in (staged, "base")
        for split in ("frozen", "dev")
    }
    made.store.close()
    assert [asked for asked, said in told.items() if said] == [(staged, "frozen")]


@pytest.mark.parametrize(("recipe", "hinted"), [("hints-only", True), ("rft-anchor", False)])
def test_a_day_of_koans_asks_with_hints_where_the_recipe_says_so(
    monkeypatch: pytest.MonkeyPatch, recipe: str, hinted: bool
) -> None:
    monkeypatch.setenv("SLEEPY_CODER_RECIPE__NAME", recipe)
    monkeypatch.setattr(wiring, "open_hints", lambda *_: lambda task, verdict: "mind the unit")
    monkeypatch.setattr(wiring, "open_verifier", lambda _: FakeVerifier())
    server = FakeServer(lambda *_: "no edit")
    monkeypatch.setattr(wiring, "answering_server", lambda _: nullcontext(server))
    assert Done("koans", "run", "--count", "1").status == 0
    assert {"mind the unit" in call.messages[1].content for call in server.asked} == {hinted}


@pytest.mark.usefixtures("half_blind")
def test_an_evaluation_that_measured_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with wiring.open_parts(load_config(), wiring.Silent()) as made:
        blind = dataclasses.replace(made, frozen=made.frozen[1:])
    monkeypatch.setattr(wiring, "open_parts", lambda *_: nullcontext(blind))
    done = Done("eval", "--model", "base", "--samples", "2")
    assert done.status == 0
    assert "not measured" in done.out and "%" not in done.out
    assert "pass@2 is unknown: no task has that many measured samples" in done.out.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "family", "said"),
    [("# nothing yet\n", (), "holds no task"), (None, ("--family", "nope"), "has no task of family nope")],
)
def test_tasks_that_are_none_are_neither_practised_nor_checked(
    home: Path, text: str | None, family: tuple[str, ...], said: str
) -> None:
    source = home / "tasks.jsonl"
    source.write_text(make_task(1).model_dump_json() if text is None else text)
    done = Done("koans", "run", "--from", str(source), "--check", *family)
    assert (done.status, said in done.err) == (1, True)
    assert text is None or said in Done("koans", "run", "--from", str(source)).err


def test_a_study_of_which_nothing_is_finished_writes_no_report(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = study([], {})
    monkeypatch.setattr("sleepy_coder.study.run.exported", lambda *_: exported(begun))
    done = Done("study", "--quick", "--report")
    assert (done.status, "nothing of this study is finished" in done.err) == (1, True)
    assert not (home / "reports").exists()


def test_a_session_without_a_name_gets_no_feedback() -> None:
    assert "no session was named" in Done("feedback", " ", "good").err


def test_a_name_in_brackets_is_repeated_as_it_was_given() -> None:
    assert "no task [bold]k0[/]" in Done("koans", "show", "[bold]k0[/]").err


@pytest.mark.parametrize(
    "arguments", [("night", "--json"), ("eval", "--model", "base"), ("koans", "run", "--count", "1")]
)
def test_a_command_that_needs_a_server_says_what_to_start(arguments: tuple[str, ...]) -> None:
    done = Done(*arguments)
    assert (done.status, done.out) == (1, "")
    assert NOBODY in done.err and "Start the model server" in done.err


@pytest.mark.parametrize("dashes", [("--",), ()])
def test_the_options_of_an_agent_are_its_own_with_and_without_dashes(
    monkeypatch: pytest.MonkeyPatch, dashes: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__PORT", "9")
    done = Done("run", *dashes, "aider", "--model", "x", "--json")
    assert done.status == 1
    assert "Start it: sleepy-coder gateway" in done.err


def test_a_command_that_needs_a_model_says_where_it_looked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPY_CODER_MODEL__PATH", str(home / "nothing"))
    done = Done("night")
    assert done.status == 1
    assert str(home / "nothing") in done.err and "model.path" in done.err


def test_help_and_a_new_file_are_to_be_had_with_wrong_settings(home: Path) -> None:
    (home / CONFIG_FILE).write_text("nights = 1\n")
    assert Done("night", "--help").status == 0
    assert Done("config", "init", "--server", "http://127.0.0.1:9", "--yes", "--force").status == 0
    assert Done("config", "check").status == 0


def test_a_home_that_is_no_folder_is_an_error_with_a_remedy(home: Path) -> None:
    file = home / "file"
    file.write_text("")
    done = Done("--home", str(file), "status")
    assert done.status == 1
    assert "--home" in done.err and "Traceback" not in done.err


def test_wrong_settings_are_told_by_every_command(home: Path) -> None:
    (home / CONFIG_FILE).write_text("[mix]\nreplays = 1\n")
    done = Done("status")
    assert done.status == 1
    assert "mix.replays" in done.err and CONFIG_FILE in done.err


@pytest.mark.parametrize(
    ("text", "meant"), [("[mix]\nreplays = 1\n", "mix.replay"), ("[nights]\n", "night"), ("[mix]\nx = 1\n", None)]
)
def test_a_misspelled_setting_is_told_with_the_one_that_was_meant(home: Path, text: str, meant: str | None) -> None:
    (home / CONFIG_FILE).write_text(text)
    said = Done("config", "check").err
    assert (f"did you mean `{meant}`?" in said) if meant else "did you mean" not in said


@pytest.mark.parametrize("port", ["0", "70000", "-1"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    assert Done("serve", "--print", "--port", port).status == 2
    monkeypatch.setenv("SLEEPY_CODER_SERVER__URL", f"http://127.0.0.1:{port}")
    done = Done("serve", "--print")
    assert done.status == 1
    assert "server.url" in done.err and "65535" in done.err


def test_a_port_that_another_process_holds_is_told_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.execvpe", lambda *_: pytest.fail("it was started"))
    with socket.create_server(("127.0.0.1", 0)) as held:
        done = Done("serve", "--port", str(held.getsockname()[1]))
    assert done.status == 1
    assert "is taken" in done.err and "--port" in done.err


def test_the_first_settings_name_no_folder_without_a_model_and_take_an_address_without_http(home: Path) -> None:
    done = Done("config", "init", "--server", "127.0.0.1:9", "--model", str(home / "nope"), "--yes")
    assert (done.status, "no config.json" in done.err, (home / CONFIG_FILE).exists()) == (1, True, False)
    assert Done("config", "init", "--server", "127.0.0.1:9", "--yes").status == 0
    assert 'url = "http://127.0.0.1:9"' in (home / CONFIG_FILE).read_text()


def test_a_home_given_as_an_option_is_used(home: Path) -> None:
    (home / "other").mkdir()
    assert Done("--home", str(home / "other"), "status", "--json").json["home"] == str(home / "other")


def test_episodes_come_back_from_an_export_as_they_were(home: Path) -> None:
    episodes = [make_episode(1, Outcome.PASS), make_episode(2, Outcome.FAIL)]
    first, second = home / "in.jsonl", home / "out.jsonl"
    first.write_text("".join(episode.model_dump_json() + "\n" for episode in episodes))
    assert Done("episodes", "import", str(first), "--json").json == {"imported": 2, "known": 0, "quarantined": 0}
    assert Done("episodes", "export", str(second), "--json").json == {"episodes": 2, "file": str(second)}
    assert Done("episodes", "import", str(second), "--json").json == {"imported": 0, "known": 2, "quarantined": 0}
    assert Done("episodes", "list", "--json").json == [episode.model_dump(mode="json") for episode in episodes]
    assert [e["id"] for e in Done("episodes", "list", "--outcome", "fail", "--json").json] == ["e2"]


def test_the_list_of_episodes_names_who_judged_them(home: Path) -> None:
    (file := home / "in.jsonl").write_text(make_episode(1, Outcome.PASS, source="tool-text").model_dump_json())
    assert Done("episodes", "import", str(file)).status == 0
    assert "judged by" in (listed := Done("episodes", "list").out) and "tool-text" in listed


def test_the_newest_episodes_are_listed_and_in_json_in_the_order_they_were_saved(home: Path) -> None:
    with wiring.open_store(load_config()) as store:
        store.save_episodes(make_episode(number, Outcome.FAIL) for number in range(10, 30))
    listed = Done("episodes", "list", "--limit", "2").out
    assert "2 of 20" in listed and listed.index("e29") < listed.index("e28") and "e27" not in listed
    assert [e["id"] for e in Done("episodes", "list", "--limit", "2", "--json").json] == ["e28", "e29"]


def test_one_episode_is_shown_with_its_sizes_and_the_words_of_its_check(home: Path) -> None:
    episode = make_episode(1, Outcome.FAIL, Outcome.INFRA)
    last = episode.attempts[-1]
    infra = last.model_copy(update={"verdict": Verdict.infra("no go here [1]\nindeed")})
    with wiring.open_store(load_config()) as store:
        store.save_episodes([episode.model_copy(update={"attempts": (episode.attempts[0], infra), "id": "abcdef"})])
        store.save_episodes([make_episode(2, Outcome.PASS, name="x"), make_episode(2, Outcome.PASS, name="y")])
    shown = Done("episodes", "show", "abc").out
    assert "infra, by verifier" in shown and "the check said:\nno go here [1]\nindeed" in shown
    assert "attempt 2: infra" in shown and str(len(last.messages[1].content)) in shown
    assert "no go here [1]" in " ".join(Done("episodes", "list", "--outcome", "infra").out.split())
    assert Done("episodes", "show", "abc", "--json").json["episode"]["id"] == "abcdef"
    assert Done("episodes", "show", "e2").status == 1  # two are called so


def test_an_export_replaces_a_file_only_when_it_is_told_to(home: Path) -> None:
    (file := home / "out.jsonl").write_text("mine")
    done = Done("episodes", "export", str(file))
    assert (done.status, file.read_text()) == (1, "mine") and "--force" in done.err
    assert Done("episodes", "export", str(file), "--force").status == 0
    assert file.read_text() == ""


def test_a_bad_line_is_counted_and_told_and_the_rest_is_imported(home: Path) -> None:
    file = home / "in.jsonl"
    file.write_text(f'{{"id": 1}}\n{make_episode(1, Outcome.PASS).model_dump_json()}\n')
    done = Done("episodes", "import", str(file), "--json")
    assert {name: done.json[name] for name in ("imported", "known", "quarantined")} == {
        "imported": 1,
        "known": 0,
        "quarantined": 1,
    }
    assert [reason.partition(":")[0] for reason in done.json["reasons"]] == ["line 1"]
    assert done.err == ""


@pytest.fixture
def put_aside(home: Path) -> None:
    (home / "in.jsonl").write_text("[]\n")
    assert "episodes quarantine" in Done("episodes", "import", str(home / "in.jsonl")).err


@pytest.mark.usefixtures("put_aside")
def test_what_was_put_aside_is_listed_with_its_source_and_reason_and_named_by_the_status() -> None:
    (one,) = Done("episodes", "quarantine", "--json").json
    assert (one["source"], one["reason"], one["text"]) == ("in.jsonl, line 1", "it is not a JSON object", "[]\n")
    assert "it is not a JSON object" in Done("episodes", "quarantine").out
    assert "episodes quarantine" in Done("status").out


@pytest.mark.usefixtures("put_aside")
def test_what_was_put_aside_can_be_forgotten() -> None:
    assert Done("episodes", "quarantine", "--clear", "--yes", "--json").json == {"cleared": 1}
    assert Done("episodes", "quarantine", "--json").json == []


@pytest.mark.usefixtures("put_aside")
def test_what_was_put_aside_is_not_forgotten_without_a_yes() -> None:
    assert Done("episodes", "quarantine", "--clear", typed="n\n").status == 1
    assert len(Done("episodes", "quarantine", "--json").json) == 1


def test_an_import_that_takes_nothing_in_says_why_and_ends_with_status_one(home: Path) -> None:
    file = home / "in.jsonl"
    file.write_text('{"id": 1}\n[]\n')
    done = Done("episodes", "import", str(file))
    assert done.status == 1
    assert "line 1: " in done.err and "line 2: it is not a JSON object" in done.err


def test_pruning_can_be_tried_first_and_leaves_the_last_days_alone(home: Path) -> None:
    sent = exchanges_of(Talk((user("Mend it."), assistant("Done."))), "x")
    with open_store(load_config()) as store:
        store.save_exchanges(sent)
        store.save_collected([], [exchange.id for exchange in sent])
    now = Done("episodes", "prune", "--days", "36500", "--json").json
    assert now["exchanges"] == 0
    assert Done("episodes", "prune", "--days", "0", "--dry-run", "--json").json["exchanges"] == 1
    assert "1 exchanges" in Done("episodes", "prune", "--days", "0").out
    with open_store(load_config()) as store:
        assert list(store.exchanges()) == []


def test_with_nothing_to_roll_back_nothing_happens() -> None:
    assert Done("adapters", "rollback", "--yes", "--json").json == {"serving": "sleepy-base", "quarantined": None}
    assert "nothing to roll back" in Done("adapters", "rollback").out
    assert Done("adapters", "list", "--json").json == []


@pytest.fixture
def served(home: Path) -> list[str]:
    (home / "made").mkdir()
    house = House(home / "made")
    house.adapters.rename(home / "adapters")
    house.adapters.symlink_to(home / "adapters")
    return house.serve(1, 2)


def test_a_rollback_goes_to_the_previous_adapter_and_then_to_the_base(served: list[str]) -> None:
    first, second = served
    assert Done("adapters", "rollback", "--yes", "--json").json == {"serving": first, "quarantined": second}
    assert Done("adapters", "rollback", "-y", "--json").json == {"serving": "sleepy-base", "quarantined": first}
    states = {adapter["name"]: adapter["state"] for adapter in Done("adapters", "list", "--json").json}
    assert states == {first: "quarantined", second: "quarantined"}


def test_a_rollback_is_not_done_without_a_yes(served: list[str]) -> None:
    assert Done("adapters", "rollback").status == 1
    states = {adapter["name"]: adapter["state"] for adapter in Done("adapters", "list", "--json").json}
    assert states[served[1]] == "active"


def test_what_is_asked_before_a_rollback_is_no_part_of_its_json(served: list[str]) -> None:
    first, second = served
    done = Done("adapters", "rollback", "--json", typed="y\n")
    question = f"Replace {second} by {first}?"
    assert question in done.err and question not in done.out
    assert done.status == 0


def test_times_in_json_are_in_utc_with_a_z(capsys: pytest.CaptureFixture[str]) -> None:
    as_json({"at": datetime(2026, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo"))})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-01-01T00:00:00Z"}


def test_a_canary_is_told_in_the_status_and_by_itself(home: Path, served: list[str]) -> None:
    assert Done("canary", "--json").json is None
    assert "nothing has been promoted yet" in Done("canary").out
    config = load_config()
    registry = open_registry(config)
    with open_store(config) as store:
        look(store, registry, config.canary, config.server.base_name, FakeClock().now())
    told = Done("canary", "--json").json
    trial = told["trial"]
    assert (trial["adapter"], trial["previous"], trial["stage"]) == (served[1], served[0], "split")
    assert told["evidence"]["sessions_e"] == 1.0
    assert [one["trial"]["adapter"] for one in Done("canary", "--all", "--json").json] == [served[1]]
    status = Done("status", "--json").json
    assert status["canary"] == told and status["drill_complaint"] == "no drill was held yet"
    for command in (("canary",), ("canary", "--all"), ("status",)):
        assert served[1] in Done(*command).out


def test_a_rollback_by_hand_ends_the_canary_also_where_no_daemon_looks(served: list[str]) -> None:
    config = load_config()
    with open_store(config) as store:
        look(store, open_registry(config), config.canary, config.server.base_name, FakeClock().now())
    assert Done("adapters", "rollback", "--yes").status == 0
    assert Done("canary", "--json").json["trial"]["stage"] == "rolled_back"
    assert f"{served[1]} was rolled back" in " ".join(Done("status").out.split())


def test_a_rollback_by_hand_holds_where_the_store_is_damaged(home: Path, served: list[str]) -> None:
    config = load_config()
    with open_store(config):
        pass
    config.store_file.write_bytes(b"no database" * 1000)
    done = Done("adapters", "rollback", "--yes")
    assert done.status == 0 and "does not know of it yet" in done.err
    assert open_registry(config).serving("base") == served[0]


def test_a_split_that_ended_without_a_judged_session_is_called_untested(served: list[str]) -> None:
    config = load_config()
    with open_store(config) as store:
        trial = look(store, open_registry(config), config.canary, config.server.base_name, FakeClock().now())
        assert trial is not None
        why = "72 hours are over; 0 sessions were judged"
        store.enter_stage(trial.id, "holdback", 0.9, FakeClock().now(), why)
    said = " ".join(Done("canary", "--all").out.split())
    assert f"{served[1]} was not tested by day: {why}" in said and "passed its test" not in said


@pytest.mark.usefixtures("in_seoul")
def test_canaries_tell_local_times_and_their_zone(home: Path, served: list[str]) -> None:
    config = load_config()
    with open_store(config) as store:
        look(store, open_registry(config), config.canary, config.server.base_name, FakeClock().now())
    began = f"{FakeClock().now() + timedelta(hours=9):%Y-%m-%d %H:%M} KST"
    assert Done("canary", "--all").out.startswith(began)
    assert f"since {began}" in " ".join(Done("canary").out.split())


def test_a_drill_without_a_server_says_what_to_start() -> None:
    done = Done("drill")
    assert done.status == 1 and "Start the model server" in done.err


def test_a_drill_while_the_model_server_naps_says_that_it_does() -> None:
    config = load_config()
    with open_store(config):
        NapFiles(config.state).begin(Nap(why="train", since=FakeClock().now(), pid=1))
    done = Done("drill")
    assert done.status == 1 and "sleeps while a night trains" in done.err
    with open_store(config) as store:
        assert store.last_drill() is None


def test_an_adapter_is_shown_as_its_card_and_as_its_manifest(served: list[str]) -> None:
    assert Done("adapters", "show", served[0], "--json").json["name"] == served[0]
    assert served[0] in Done("adapters", "show", served[0]).out


def test_a_server_that_does_not_answer_is_not_idle_and_the_status_says_so() -> None:
    done = Done("idle", "--json")
    found = json.loads(done.out)
    assert (done.status, found["idle"], found["signals"]["requests"]) == (1, False, None)
    assert "not idle" in Done("idle").out


def test_what_was_seen_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPY_CODER_NIGHT__WINDOW", "")  # any time
    seen = " ".join(Done("idle").out.split())
    assert "in the window yes" in seen
    assert "last exchange none" in seen and "model server unknown" in seen


@pytest.mark.usefixtures("half_blind")
def test_a_dry_run_says_in_words_what_a_night_would_lack() -> None:
    said = " ".join(Done("night", "--dry-run").out.split())
    assert "not enough: 0 of the" in said and "koans run" in said
    assert Done("night", "--dry-run", "--json").json["enough"] is False


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_night_that_waits_can_be_stopped_by_ctrl_c_and_by_a_service_manager(home: Path, by: signal.Signals) -> None:
    command = [sys.executable, "-m", "sleepy_coder", "--home", str(home), "night", "--when-idle"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert "not idle yet" in waiting.stderr.readline()
        waiting.send_signal(by)
        assert "what was finished is kept" in waiting.communicate(timeout=60)[1]
    assert waiting.returncode == 130


def test_status_shows_every_model_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLEEPY_CODER_SERVER__REPLICAS", '["http://127.0.0.1:10"]')
    state = Done("status", "--json").json
    assert [state["server"]["url"], *(replica["url"] for replica in state["replicas"])] == [
        NOBODY,
        "http://127.0.0.1:10",
    ]
    assert "http://127.0.0.1:10 does not answer" in " ".join(Done("status").out.split())
