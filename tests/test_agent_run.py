"""`sleepy-coder run`: any agent, through the gateway, with a verifier's word on what it left behind."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import venv as builder
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from conftest import TinyServer
from fakes import passed_examples
from planted import plant
from talks import START, Talk, assistant, bash, exchanges_of, result, system, user
from test_gateway_main import process, wait_for

from sleepy_coder.cli_run import run_command
from sleepy_coder.collect.agent_run import command_line, environment
from sleepy_coder.collect.check_command import check_of, lacks_tool, typed
from sleepy_coder.collect.gathering import gather_resting
from sleepy_coder.collect.project import as_found, checked, harmless
from sleepy_coder.collect.project_files import left_out, missing_words, read_project
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import CONFIG_FILE
from sleepy_coder.errors import ConfigError, InfraError, SandboxUnavailable, TaskFormatError
from sleepy_coder.serve.gateway_client import VerifierWord
from sleepy_coder.serve.process import free_port
from sleepy_coder.store import Store
from sleepy_coder.types import Outcome, SessionCheck, Task, Verdict
from sleepy_coder.verify.command import TaskVerifier, verifier
from sleepy_coder.verify.installed import find_installed

BROKEN = "def add(a, b):\n    return a - b\n"
MENDED = BROKEN.replace("-", "+")
TEST = "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
PYTEST = ("pytest", "-q")
STUB = "def solve():\n    ...\n"
PLAIN = {"calc.py", "test_calc.py", "pyproject.toml"}
LATER = START + timedelta(hours=1)
REST = timedelta(minutes=10)
REDACTOR = SecretRedactor(())


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskVerifier]:
    with closing(verifier(tmp_path_factory.mktemp("judge") / "verdicts.db")) as judge:
        yield judge


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "calc"\n')
    (folder / "calc.py").write_text(BROKEN)
    (folder / "test_calc.py").write_text(TEST)
    return folder


def judged(judge: TaskVerifier, task: Task, folder: Path, session: str = "s") -> SessionCheck:
    found = checked(judge, session, task, folder)
    assert found is not None
    return harmless(REDACTOR, found)


@pytest.mark.parametrize(
    ("files", "command"),
    [
        ({"Cargo.toml": "", "pyproject.toml": ""}, "cargo test --offline"),
        ({"manage.py": "", "pyproject.toml": "[project]"}, "python manage.py test"),
        ({"manage.py": "", "setup.cfg": "[tool:pytest]"}, "pytest -q"),
        ({"manage.py": "", "pytest.ini": ""}, "pytest -q"),
        ({"tox.ini": "[tox]"}, "pytest -q"),
        ({"requirements-dev.txt": ""}, "pytest -q"),
        ({"README.md": ""}, ""),
        ({"package.json": '{"scripts": {"test": "jest"}}', "Makefile": "test:\n"}, "npm test"),
        ({"package.json": '{"scripts": {"test": "echo no test specified && exit 1"}}'}, ""),
        ({"package.json": "{}", "pyproject.toml": ""}, "pytest -q"),
        ({"go.mod": ""}, "go test ./..."),
        ({"pom.xml": ""}, "mvn -o -q test"),
        ({"Makefile": "all: a\ncheck: all\n\t./a\n"}, "make check"),
        ({"CMakeLists.txt": "project(a)", "Makefile": "test:\n"}, "make test"),
        ({"go.mod": "", "requirements.txt": ""}, ""),
        ({"go.mod": "", "pytest.ini": ""}, "pytest -q"),
    ],
)
def test_a_project_says_itself_how_it_is_checked(tmp_path: Path, files: dict[str, str], command: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert check_of(tmp_path).command == (tuple(command.split()) or None)


def test_of_several_languages_the_user_is_told_that_none_is_taken(tmp_path: Path) -> None:
    for name in ("go.mod", "requirements.txt"):
        (tmp_path / name).write_text("")
    assert check_of(tmp_path).why == "requirements.txt and go.mod are of several languages"


def test_cmakes_tests_are_built_outside_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("project(a C)\nenable_testing()\n")
    command = check_of(tmp_path).command
    assert command and command[:2] == ("sh", "-c") and "ctest --test-dir /tmp/build" in command[2]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("npm test -- --bail", ("npm", "test", "--", "--bail")),
        ("pytest -k 'a && b'", ("pytest", "-k", "a && b")),
        ("npm run lint && npm test", ("sh", "-c", "npm run lint && npm test")),
        ("npm run lint;npm test", ("sh", "-c", "npm run lint;npm test")),
        ("CI=1 npm test", ("sh", "-c", "CI=1 npm test")),
        ("pytest tests/test_*.py", ("sh", "-c", "pytest tests/test_*.py")),
        ("pytest 'a[*]'", ("pytest", "a[*]")),
        ("! grep x y", ("sh", "-c", "! grep x y")),
        ("~/bin/check", ("sh", "-c", "~/bin/check")),
        ("npm test > log", ("sh", "-c", "npm test > log")),
        ("npm test | tail", ("bash", "-o", "pipefail", "-c", "npm test | tail")),
        ("", ()),
    ],
)
def test_a_check_that_a_shell_has_to_read_is_given_to_one(text: str, command: tuple[str, ...]) -> None:
    assert typed(text) == command


def test_a_check_whose_quotes_do_not_close_is_no_check() -> None:
    with pytest.raises(ConfigError, match="the check's quotes do not close"):
        typed("npm test 'x")


def test_all_of_a_shells_line_is_run_and_a_pipe_hides_no_failure(project: Path, judge: TaskVerifier) -> None:
    for line in ("true && false", "false | cat"):
        task = as_found(project, typed(line))
        (project / "calc.py").write_text(f"{MENDED}# {line}\n")
        assert not judged(judge, task, project).verdict.passed
    task = as_found(project, typed("X=1 && test $X = 1"))
    (project / "calc.py").write_text(BROKEN)
    assert judged(judge, task, project).verdict.passed


def test_a_check_whose_program_is_nowhere_is_known_before_the_agent_starts(project: Path) -> None:
    (project / "run.sh").write_text("")
    found = [lacks_tool((tool,), project, os.environ) for tool in ("npmm", "./none.sh", "./run.sh", "sh", "pytest")]
    assert found == [True, True, False, False, False]


def test_what_the_agent_leaves_is_verified_in_the_sandbox(project: Path, judge: TaskVerifier) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(BROKEN.replace("-", "*"))
    assert judged(judge, task, project).verdict.outcome is Outcome.FAIL
    (project / "calc.py").write_text(MENDED)
    assert judged(judge, task, project).verdict.passed


def test_a_test_that_was_red_before_and_stays_so_is_not_held_against_the_agent(
    project: Path, judge: TaskVerifier
) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(BROKEN + "# a word\n")
    verdict = judged(judge, task, project).verdict
    assert (verdict.outcome, verdict.detail.partition(":")[0]) == (
        Outcome.INFRA,
        "it failed before the session too, and in the same way",
    )


class Says:
    """A verifier with one verdict for the files as they were, and another for those of now."""

    def __init__(self, before: Verdict, now: Verdict) -> None:
        self.before, self.now = before, now

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        return self.before if files == task.files else self.now


PASSED = Verdict(outcome=Outcome.PASS, stage="done")


def failed(feedback: str) -> Verdict:
    return Verdict(outcome=Outcome.FAIL, stage="test", feedback=feedback)


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [
        (failed("1 failed in 0.12s <X at 0x7f1a>"), failed("1 failed in 3 s <X at 0x7f2b>"), Outcome.INFRA),
        (failed("timed out after 120 s"), failed("timed out after 120 s"), Outcome.INFRA),
        (failed("1 failed in 0.12s"), failed("2 failed in 0.12s"), Outcome.FAIL),
        (failed("# duration_ms 191.308268"), failed("# duration_ms 1424.27"), Outcome.INFRA),
        (
            failed("(real) =   0.01 sec\nStart at 10:12:33"),
            failed("(real) =   0.02 sec\nStart at 11:12:34"),
            Outcome.INFRA,
        ),
        (failed("2026-12-01T00_25_15_056Z-debug"), failed("2026-12-01T00_26_01_101Z-debug"), Outcome.INFRA),
        (PASSED, failed("timed out after 120 s"), Outcome.FAIL),
        (Verdict(outcome=Outcome.INFRA, stage="infra", detail="full"), failed("1 failed"), Outcome.INFRA),
    ],
)
def test_a_failure_is_the_agents_only_when_it_was_not_there_before(
    project: Path, before: Verdict, now: Verdict, outcome: Outcome
) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    found = checked(Says(before, now), "s", task, project)
    assert found and found.verdict.outcome is outcome


@pytest.mark.parametrize(
    ("command", "written", "is_judged"),
    [
        (PYTEST, ("add.go",), False),
        (PYTEST, ("add.go", "calc.py"), True),
        (PYTEST, ("page.html",), True),
        (("cargo", "test", "--offline"), ("src/a.c",), True),
        (("./check.sh",), ("add.go",), True),
        (("./check.sh",), ("CMakeLists.txt",), True),
        (("./check.sh",), ("package.json", "notes.json"), True),
        (("./check.sh",), ("tsconfig.build.json",), True),
        (("./check.sh",), ("BUILD",), True),
        (("./check.sh",), ("notes.json", "LICENSE", "words.txt"), False),
    ],
)
def test_only_a_program_that_the_check_speaks_of_is_judged(
    project: Path, command: tuple[str, ...], written: tuple[str, ...], is_judged: bool
) -> None:
    task = as_found(project, command)
    for name in written:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x\n")
    assert (checked(Says(PASSED, PASSED), "s", task, project) is not None) == is_judged


def test_a_makefile_changed_in_a_way_that_may_be_honest_is_nobodys_failure(project: Path, judge: TaskVerifier) -> None:
    makefile = "CFLAGS = -Wall\ntest: t\n\t./t\n"
    (project / "Makefile").write_text(makefile)
    task = as_found(project, ("make", "test"))
    (project / "Makefile").write_text(makefile.replace("-Wall", "-Wall -std=c11"))
    found = judged(judge, task, project).verdict
    assert (found.outcome, "nobody can tell" in found.detail) == (Outcome.INFRA, True)
    (project / "Makefile").write_text(makefile.replace("./t", "true"))
    assert judged(judge, task, project).verdict.stage == "cheat"


@pytest.mark.parametrize(
    "written", [(), (".aider.chat.history.md",), ("README.md", "NOTICE"), ("run.log", "last.traj.json")]
)
def test_an_agent_that_changed_no_program_is_not_judged_whatever_its_project_was_worth(
    project: Path, judge: TaskVerifier, written: tuple[str, ...]
) -> None:
    (project / "calc.py").write_text(MENDED)
    task = as_found(project, PYTEST)
    for name in written:
        (project / name).write_text("What was said.\n")
    assert checked(judge, "s", task, project) is None


def test_a_secret_in_the_command_of_a_check_is_not_kept(project: Path, judge: TaskVerifier) -> None:
    planted = plant("github-pat", random.Random(2))
    task = as_found(project, ("env", f"{planted.name}={planted.secret}", "pytest", "-q"))
    (project / "calc.py").write_text(MENDED)
    check = judged(judge, task, project)
    assert check.verdict.passed and planted.secret not in check.model_dump_json()
    assert check.task.command[0] == "env"


def test_of_a_command_in_which_only_two_words_make_a_secret_the_first_word_is_kept(project: Path) -> None:
    task = as_found(project, ("pytest", "--pass" + "word", "xk29fQm3pTz81"))
    (project / "calc.py").write_text(MENDED)
    found = checked(Says(PASSED, PASSED), "s", task, project)
    assert found and harmless(REDACTOR, found).task.command == ("pytest",)


def test_what_passes_in_an_environment_that_the_agent_changed_is_no_pass(project: Path) -> None:
    builder.create(project / ".venv")
    installed = find_installed(project, {}, PYTEST)
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    (project / ".venv" / "bin" / "pytest").write_text("#!/bin/true\n")
    found = checked(Says(PASSED, PASSED), "s", task, project, installed)
    assert found and found.verdict.outcome is Outcome.INFRA


def test_what_fails_in_an_environment_that_the_agent_changed_has_failed(project: Path) -> None:
    builder.create(project / ".venv")
    installed = find_installed(project, {}, PYTEST)
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    (project / ".venv" / "bin" / "pytest").write_text("#!/bin/false\n")
    found = checked(Says(PASSED, failed("1 failed")), "s", task, project, installed)
    assert found and found.verdict.outcome is Outcome.FAIL


def test_an_agent_that_cheats_has_failed_though_its_check_could_not_be_run_before(project: Path) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    no_room = Verdict(outcome=Outcome.INFRA, stage="infra", detail="the disk is full")
    cheat = Verdict(outcome=Outcome.FAIL, stage="cheat", feedback="test_calc.py was changed")
    found = checked(Says(no_room, cheat), "s", task, project)
    assert found and found.verdict == cheat


def test_an_agent_that_edits_the_test_has_failed_whatever_the_test_says_now(project: Path, judge: TaskVerifier) -> None:
    task = as_found(project, PYTEST)
    (project / "test_calc.py").write_text(TEST.replace("== 3", "== -1"))
    verdict = judged(judge, task, project).verdict
    assert (verdict.outcome, verdict.stage) == (Outcome.FAIL, "cheat")


def test_a_folder_that_the_sandbox_cannot_hold_is_refused_with_the_reason(project: Path) -> None:
    (project / "data").mkdir()
    for number in range(9):
        (project / "data" / f"{number}.txt").write_text("x" * 1_000_000)
    with pytest.raises(TaskFormatError, match=r"8\.6 MiB of text in 12 files.* is data"):
        as_found(project, PYTEST)


def test_a_folder_of_more_files_than_the_sandbox_takes_is_refused_however_small_they_are(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepy_coder.collect.project_files.SOURCE_FILES", len(PLAIN) - 1)
    with pytest.raises(TaskFormatError, match="in 3 files, more than"):
        as_found(project, PYTEST)


def test_of_a_project_in_git_all_counts_but_what_git_ignores(project: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / ".gitignore").write_text("*.db\n.env\n")
    (project / "build").mkdir()
    for name in ("build/made.py", "state.db", ".env", "large.py"):
        (project / name).write_text("x = 1\n" * 40_000)
    assert set(read_project(project)) == {*PLAIN, ".gitignore", "build/made.py", "large.py"}


def test_a_repositorys_settings_start_no_program(project: Path, tmp_path: Path) -> None:
    for words in (["init", "-q"], ["config", "core.fsmonitor", f"touch {tmp_path}/started; false"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    assert set(read_project(project)) == PLAIN
    assert not (tmp_path / "started").exists()


def test_what_was_installed_or_built_is_no_part_of_a_project_without_git(project: Path) -> None:
    for name in ("node_modules", "__pycache__", "dist", ".cache", "env/lib"):
        (project / name).mkdir(parents=True)
        (project / name / "there.py").write_text("x = 1\n")
    (project / "env" / "pyvenv.cfg").write_text("")
    assert set(read_project(project)) == PLAIN


def test_a_file_that_was_there_counts_whatever_git_is_told_to_ignore_meanwhile(project: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    before = read_project(project)
    (project / ".gitignore").write_text("*.toml\n")
    assert "pyproject.toml" not in read_project(project)
    assert "pyproject.toml" in read_project(project, before)


def test_a_link_in_the_place_of_a_folder_leads_nowhere(project: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key.py").write_text("hush")
    (project / "src").symlink_to(tmp_path / "private")
    assert set(read_project(project, ["src/key.py"])) == PLAIN


def test_a_link_to_a_file_or_folder_of_the_project_is_followed_and_no_other(project: Path, tmp_path: Path) -> None:
    (tmp_path / "key.py").write_text("hush")
    (project / "lib").mkdir()
    (project / "lib" / "a.py").write_text("x = 1\n")
    links = {
        "b.py": "lib/a.py",
        "src": "lib",
        "lib/up": "..",
        "key.py": "../key.py",
        "o.py": "o.py",
    }
    for name, target in links.items():
        (project / name).symlink_to(target)
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    found = read_project(project)
    assert set(found) == {*PLAIN, "lib/a.py", "b.py", "src/a.py"}
    assert found["b.py"] == found["src/a.py"] == "x = 1\n"


def test_the_files_that_a_check_misses_are_named_with_the_reason(project: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / ".gitignore").write_text("Makefile\n*.o\n")
    (project / "Makefile").write_text("test:\n")
    (project / "util.h").write_bytes("/* für */\n".encode("latin-1"))
    (project / "amalgam.c").write_text("x" * 1_100_000)
    (project / "out.h").symlink_to(tmp_path / "elsewhere.h")
    for name in ("icon.png", "a.o"):
        (project / name).write_bytes(b"\0\xff")
    assert left_out(project) == {
        "Makefile": "git ignores it",
        "amalgam.c": "larger than 1 MiB",
        "out.h": "a link that leads out of the project's files",
        "util.h": "no UTF-8",
    }
    assert missing_words(project).startswith("the check will not see amalgam.c (larger than 1 MiB), ")


def test_of_a_project_only_what_the_agent_changed_is_kept(project: Path) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    (project / "more.py").write_text("x = 1\n")
    found = checked(Says(PASSED, PASSED), "s", task, project)
    assert found and found.task.files == {"calc.py": BROKEN, "more.py": ""}


def test_the_secrets_of_a_project_are_not_kept_with_what_its_check_said(project: Path, judge: TaskVerifier) -> None:
    planted = plant("github-pat", random.Random(1))
    (project / ".env").write_text(f"{planted.name}={planted.secret}\n")
    (project / "key.pem").write_text("-----BEGIN " + f"PRIVATE KEY-----\n{'MIIE' * 16}\n")
    task = as_found(project, PYTEST)
    for name in (".env", "key.pem"):
        (project / name).write_text("")
    (project / "calc.py").write_text(MENDED + f'raise ValueError("{planted.secret}")\n')
    check = judged(judge, task, project)
    assert planted.secret in task.files[".env"], "the sandbox has the project as it is"
    assert planted.secret not in check.model_dump_json()
    assert check.task.files[".env"].startswith(f"{planted.name}=<SECRET:")
    assert "key.pem" not in check.task.files
    assert check.task.id != task.id, "its id is that of its content"


def test_an_agent_that_leaves_nothing_is_not_judged(project: Path, judge: TaskVerifier) -> None:
    task = as_found(project, PYTEST)
    for file in project.iterdir():
        file.unlink()
    with pytest.raises(InfraError, match="no files"):
        checked(judge, "s", task, project)


def test_the_agent_is_pointed_at_its_own_session_and_the_users_key_stays() -> None:
    present = {"PATH": "/bin", "OPENAI_API_KEY": "mine"}
    found = environment("http://127.0.0.1:8400", "run-1", "sleepy-coder", None, present)
    assert found["OPENAI_BASE_URL"] == found["OPENAI_API_BASE"] == "http://127.0.0.1:8400/s/run-1/v1"
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8400/s/run-1"
    assert (found["PATH"], found["OPENAI_API_KEY"]) == ("/bin", "mine")
    guarded = environment("http://h", "run-1", "sleepy-coder", "gate", present)
    assert guarded["OPENAI_API_KEY"] == guarded["ANTHROPIC_API_KEY"] == "gate"


def test_opencode_and_codex_that_read_no_url_from_a_variable_are_pointed_all_the_same() -> None:
    found = environment("http://h", "run-1", "sleepy-coder", None, {})
    laid_over = json.loads(found["OPENCODE_CONFIG_CONTENT"])
    assert laid_over["provider"]["sleepy-coder"]["options"]["baseURL"] == "http://h/s/run-1/v1"
    codex = command_line(["/opt/codex", "exec", "Mend it."], "http://h", "run-1", "sleepy-coder")
    assert (codex[0], codex[-2:]) == ("/opt/codex", ["exec", "Mend it."])
    assert 'model_providers.sleepy-coder.base_url="http://h/s/run-1/v1"' in codex
    assert command_line(["aider", "-m", "Mend it."], "http://h", "run-1", "sleepy-coder") == ["aider", "-m", "Mend it."]


TALK = (
    system("You mend code."),
    user("Mend it."),
    assistant("", bash("c", "pytest")),
    result("c", "1 failed"),
    assistant("It works now."),
)


def test_a_verified_session_trains_and_its_verifier_is_believed_over_every_hint(
    tmp_path: Path, project: Path, judge: TaskVerifier
) -> None:
    task = as_found(project, PYTEST)
    (project / "calc.py").write_text(MENDED)
    with Store(tmp_path / "store.db") as store:
        store.begin_check("run-1", START)
        store.save_exchanges(exchanges_of(Talk(TALK, session="run-1", source="path"), "x"))
        store.save_feedback("run-1", False)
        assert gather_resting(store, LATER, REST) == 0, "the verifier has not spoken yet"
        store.save_check(judged(judge, task, project, "run-1"))
        assert gather_resting(store, LATER, REST) == 1
        (episode,) = store.episodes()
    assert (episode.outcome, episode.outcome_source) == (Outcome.PASS, "verifier")
    assert episode.task and episode.task.command == PYTEST
    (row,) = passed_examples([episode], 4)
    assert (row.first_turn, row.family) == (2, "run_project")


def test_a_check_that_never_came_does_not_hold_a_session_for_ever(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        store.begin_check("run-1", START)
        store.save_exchanges(exchanges_of(Talk(TALK, session="run-1", source="path"), "x"))
        assert gather_resting(store, LATER, REST) == 0
        assert gather_resting(store, START + timedelta(days=1, hours=1), REST) == 1


AGENT = """
import json, os, pathlib, urllib.request
body = {"model": os.environ["OPENAI_MODEL"], "max_tokens": 4, "messages": [{"role": "user", "content": "Mend it."}]}
asked = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
urllib.request.urlopen(asked).read()
file = pathlib.Path("calc.py")
file.write_text(file.read_text().replace("-", "+"))
raise SystemExit(3)
"""


def run(folder: Path, port: int, *arguments: str, command: str = "run") -> subprocess.CompletedProcess[str]:
    """What a developer types in a project, who knows no more of the gateway than its port."""
    typed = [sys.executable, "-m", "sleepy_coder", command, *arguments]
    environment = {**os.environ, "SLEEPY_CODER_GATEWAY__PORT": str(port)}
    environment.pop("SLEEPY_CODER_HOME", None)
    return subprocess.run(typed, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@contextmanager
def a_gateway(home: Path, tiny_server: TinyServer) -> Iterator[int]:
    """A gateway that records into `home`; its port."""
    port = free_port()
    home.mkdir()
    settings = {"SLEEPY_CODER_SERVER__URL": tiny_server.url, "SLEEPY_CODER_SERVER__BASE_NAME": "tiny"}
    with process(home, port, **settings) as gateway:
        wait_for(f"http://127.0.0.1:{port}", gateway)
        yield port


@pytest.mark.slow
def test_an_agent_run_for_real_is_recorded_verified_and_ends_with_its_own_status(
    tmp_path: Path, project: Path, tiny_server: TinyServer
) -> None:
    home = tmp_path / "home"
    with a_gateway(home, tiny_server) as port:
        done = run(project, port, "--json", "--", sys.executable, "-c", AGENT)
        assert done.returncode == 3, done.stderr
        said = json.loads(done.stdout)
        noted = run(project, port, said["session"], "good", "--note", "quick", command="feedback")
    assert noted.returncode == 0, noted.stderr
    assert {path.name for path in project.iterdir()} == {"calc.py", "test_calc.py", "pyproject.toml"}
    assert (said["status"], said["outcome"], said["check"]) == (3, "pass", list(PYTEST))
    with Store(home / "state" / "sleepy.db") as store:
        (exchange,) = store.exchanges()
        assert (exchange.session, exchange.session_source) == (said["session"], "path")
        assert store.checks([said["session"]])[said["session"]].verdict.passed
        assert store.feedback() == {said["session"]: (True, "quick")}


class Told:
    """`run` in this process, with a gateway that only listens: what it is told of the session that `agent` had."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: list[VerifierWord] = []
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sleepy_coder.cli_run.gateway_answers", bool)
        monkeypatch.setattr("sleepy_coder.cli_run.tell_verdict", self._hear)

    def _hear(self, _: object, word: VerifierWord) -> None:
        self.words.append(word)

    def ends(self, agent: str) -> list[str]:
        with suppress(typer.Exit):
            run_command([sys.executable, "-c", agent])
        assert len({word.nonce for word in self.words}) <= 1
        return [word.state for word in self.words]


REMOVES = "import pathlib\nfor file in pathlib.Path().iterdir(): file.unlink()"
GROWS = "import pathlib\nfor n in range(9): pathlib.Path(f'{n}.txt').write_text('x' * 1_000_000)"


@pytest.mark.parametrize("agent", ["", REMOVES, GROWS])
def test_whatever_an_agent_leaves_that_no_verifier_speaks_of_its_session_has_not_passed(
    project: Path, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    """Or an adapter that does nothing would have no sessions that the canary counts."""
    assert Told(project, monkeypatch).ends(agent) == ["awaited", "not_passed"]


def test_an_agent_that_takes_the_environment_of_the_check_away_has_not_passed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.create(project / ".venv")
    agent = "import pathlib, shutil\nshutil.rmtree('.venv')\npathlib.Path('calc.py').write_text('x = 1\\n')"
    told = Told(project, monkeypatch)
    assert told.ends(agent) == ["awaited", "spoken"]
    check = told.words[-1].check
    assert check is not None and not check.verdict.passed


@pytest.mark.parametrize("agent", ["", REMOVES])
def test_where_no_verifier_can_be_opened_nobody_awaits_one_whatever_the_agent_does(
    project: Path, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    def none(_: object) -> None:
        raise SandboxUnavailable("bubblewrap is missing", "Install it")

    monkeypatch.setattr("sleepy_coder.cli_run.wiring.open_project_verifier", none)
    assert Told(project, monkeypatch).ends(agent) == []


@pytest.mark.slow
def test_a_session_whose_verifier_fails_is_awaited_no_more(
    tmp_path: Path, project: Path, tiny_server: TinyServer
) -> None:
    home = tmp_path / "home"
    with a_gateway(home, tiny_server) as port:
        done = run(project, port, "--", sys.executable, "-c", REMOVES)
    assert done.returncode == 1 and "no files" in done.stderr
    with closing(sqlite3.connect(home / "state" / "sleepy.db")) as raw:
        assert raw.execute("SELECT payload, passed FROM session_checks").fetchall() == [(None, 0)]


def test_without_a_gateway_it_says_what_to_start_and_runs_nothing(tmp_path: Path, project: Path) -> None:
    done = run(project, 9, "--", sys.executable, "-c", "open('ran', 'w')")
    assert done.returncode == 1
    assert "sleepy-coder gateway" in done.stderr
    assert not (project / "ran").exists()


@pytest.mark.slow
def test_a_check_that_cannot_be_run_is_refused_before_the_agent_starts(
    tmp_path: Path, project: Path, tiny_server: TinyServer
) -> None:
    with a_gateway(tmp_path / "home", tiny_server) as port:
        for verify, said in (("npmm test", "no npmm"), ("npm test 'x", "quotes do not close")):
            done = run(project, port, "--verify", verify, "--", sys.executable, "-c", "open('ran', 'w')")
            assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert not (project / "ran").exists()


def test_who_keeps_settings_in_the_folder_is_told_that_run_does_not_read_them(project: Path) -> None:
    (project / CONFIG_FILE).write_text("[gateway]\nport = 8401\n")
    done = run(project, 9, "--", "true")
    assert (done.returncode, "sleepy-coder --home . run" in done.stderr) == (1, True)


def test_two_projects_with_the_same_stub_are_two_tasks(tmp_path: Path) -> None:
    kept: list[str] = []
    for name, test in (("one", "assert solve() == 1\n"), ("two", "assert solve() == 2\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "solution.py").write_text(STUB)
        (folder / "test_solution.py").write_text(f"from solution import solve\n{test}")
        before = as_found(folder, PYTEST)
        (folder / "solution.py").write_text(STUB.replace("...", "return 1"))
        check = checked(Says(PASSED, PASSED), "s", before, folder)
        assert check is not None and set(check.task.files) == {"solution.py"}
        kept.append(harmless(REDACTOR, check).task.id)
    assert kept[0] != kept[1]


def test_a_module_that_git_ignores_is_a_part_of_the_program_and_so_is_a_repository_inside(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "dep"):
        (folder / "pkg").mkdir(parents=True)
        subprocess.run(("git", "init", "-q"), cwd=folder, check=True)
        (folder / ".gitignore").write_text("_version.py\nbuild/\n")
        (folder / "pkg" / "_version.py").write_text("version = '1'\n")
        (folder / "pkg" / "core.py").write_text("from pkg._version import version\n")
        (folder / "build").mkdir()
        (folder / "build" / "made.py").write_text("")
    found = set(read_project(tmp_path))
    assert {"pkg/core.py", "pkg/_version.py", "dep/pkg/core.py", "dep/pkg/_version.py"} <= found
    assert not any("build" in name for name in found)
