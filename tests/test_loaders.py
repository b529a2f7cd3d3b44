"""A user's own tasks: JSON lines and folders of cargo projects."""

from __future__ import annotations

import json
import os
import socket
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.errors import TaskFormatError
from sleepy_coder.tasks import task_id
from sleepy_coder.tasks.build import generate, to_task
from sleepy_coder.tasks.loaders import (
    MAX_FILE_BYTES,
    load_cargo_folder,
    load_jsonl,
)

SHORT = {"prompt": "Say hi.", "code": "fn main() {\n    prinln!();\n}\n", "expected_stdout": "hi\n"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), "utf-8")
    return path


def test_a_full_record_comes_back_unchanged(tmp_path: Path) -> None:
    tasks = tuple(to_task(drawn, "out\n") for drawn in generate("use_after_move", "day", 3, seed=1))
    path = write(tmp_path / "t.jsonl", *(task.model_dump_json() for task in tasks))
    assert load_jsonl(path) == tasks


def test_the_shortest_form_becomes_a_program_whose_output_is_compared(tmp_path: Path) -> None:
    (task,) = load_jsonl(write(tmp_path / "mine.jsonl", SHORT))
    assert task.files == {"main.rs": SHORT["code"]}
    assert (task.command, task.expected_stdout) == (("rust-run",), "hi\n")
    assert (task.family, task.origin, task.language) == ("user", "mine.jsonl", "rust")
    assert task.id == task_id(task.files, task.prompt, task.command, "hi\n", "")


def test_tests_make_a_tested_task(tmp_path: Path) -> None:
    line = {"prompt": "p", "code": "fn f() {}", "tests": "#[test]\nfn t() { f() }"}
    (task,) = load_jsonl(write(tmp_path / "t.jsonl", line))
    assert (task.command, task.hidden_tests) == (("rust-test",), line["tests"])


def test_any_command_can_judge_any_files(tmp_path: Path) -> None:
    line = {
        "prompt": "p",
        "language": "python",
        "files": {"a.py": "x = 1", "test_a.py": "def test_x(): ..."},
        "command": ["pytest", "-q"],
    }
    (task,) = load_jsonl(write(tmp_path / "t.jsonl", line))
    assert (task.command, list(task.files), task.language) == (
        ("pytest", "-q"),
        ["a.py", "test_a.py"],
        "python",
    )


def test_blank_lines_and_comments_are_skipped(tmp_path: Path) -> None:
    assert len(load_jsonl(write(tmp_path / "t.jsonl", "# mine", "", SHORT, "   "))) == 1


def full(**changes: object) -> dict[str, object]:
    (drawn,) = generate("use_after_move", "day", 1, seed=1)
    return {**to_task(drawn, "out\n").model_dump(mode="json"), **changes}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "it is not a JSON object"),
        ({**SHORT, "prompt": 3}, "prompt: Input should be a valid string"),
        ({**SHORT, "promt": "x"}, "promt: Extra inputs are not permitted"),
        ({"code": "x", "tests": "y"}, "prompt: Field required"),
        ({"prompt": "p", "tests": "y"}, "give either `code`"),
        ({**SHORT, "files": {"a": "b"}}, "give either `code`"),
        ({**SHORT, "code": " \n"}, "there is no program in it"),
        ({"prompt": "p", "code": "x"}, "it cannot be checked"),
        ({**SHORT, "command": []}, "`command` is empty"),
        ({**SHORT, "language": "python"}, "a python task needs a `command`"),
        ({**SHORT, "command": ["gcc", "a.c", "&&", "./a.out"]}, 'use ["sh", "-c", "A && B"]'),
        (full(command=["a", "|", "b"]), 'use ["sh", "-c", "A | B"]'),
        (full(prompt="another"), "its content has the id"),
        (full(origin=None), "origin: Input should be a valid string"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_line_is_named_with_file_line_and_reason(tmp_path: Path, line: object, reason: str) -> None:
    path = write(tmp_path / "bad.jsonl", SHORT, line)
    with pytest.raises(TaskFormatError) as caught:
        load_jsonl(path)
    assert f"{path}, line 2: " in caught.value.message
    assert reason in caught.value.message


def test_a_semicolon_that_a_program_asks_for_is_no_shells(tmp_path: Path) -> None:
    (found,) = load_jsonl(write(tmp_path / "a.jsonl", {**SHORT, "command": ["find", "-exec", "false", ";"]}))
    assert found.command[-1] == ";"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskFormatError, match=r"gone\.jsonl cannot be read"):
        load_jsonl(tmp_path / "gone.jsonl")


@settings(max_examples=60)
@given(data=st.binary(max_size=200))
def test_of_any_bytes_a_line_is_refused_or_holds_no_task(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "t.jsonl"
    path.write_bytes(data)
    with suppress(TaskFormatError):
        assert load_jsonl(path) == ()


def cargo(folder: Path, *, description: str = "", readme: str = "", lib: str = "pub fn f() {}\n") -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    about = f'description = "{description}"\n' if description else ""
    (folder / "Cargo.toml").write_text(f'[package]\nname = "{folder.name}"\nversion = "0.1.0"\n{about}')
    (folder / "src" / "lib.rs").write_text(lib)
    (folder / "tests" / "it.rs").write_text("#[test]\nfn works() {}\n")
    if readme:
        (folder / "README.md").write_text(readme)
    return folder


def test_every_cargo_project_becomes_one_task(tmp_path: Path) -> None:
    cargo(tmp_path / "exercises" / "two", readme="# Two\n\nDo two.\n")
    cargo(tmp_path / "exercises" / "one", description="Do one.")
    one, two = load_cargo_folder(tmp_path)
    assert (one.prompt, two.prompt) == ("Do one.", "# Two\n\nDo two.")
    assert one.command == ("cargo", "test", "--offline")
    assert list(one.files) == ["src/lib.rs", "Cargo.toml", "tests/it.rs"]
    assert (two.family, two.origin) == ("cargo_exercises", "cargo:exercises/two")
    assert one.id != two.id and one.cluster != two.cluster


def test_a_single_project_can_be_named_directly(tmp_path: Path) -> None:
    (task,) = load_cargo_folder(cargo(tmp_path / "leap", description="Leap years."))
    assert task.family == "cargo_leap"


def test_instructions_of_an_exercise_are_its_prompt(tmp_path: Path) -> None:
    folder = cargo(tmp_path / "leap", description="Leap years.")
    (folder / ".docs").mkdir()
    (folder / ".docs" / "instructions.md").write_text("Is it a leap year?")
    assert load_cargo_folder(tmp_path)[0].prompt == "Is it a leap year?"


def test_build_output_links_binaries_and_large_files_are_left_out(tmp_path: Path) -> None:
    folder = cargo(tmp_path / "p", description="d")
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (folder / "target").mkdir()
    (folder / "target" / "junk.rs").write_text("junk")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "src" / "link.rs").symlink_to(outside)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "logo.png").write_bytes(b"\x89PNG\x00\xff")
    (folder / "zero.bin").write_bytes(b"a\0b")
    (folder / "big.txt").write_text("x" * (MAX_FILE_BYTES + 1))
    (task,) = load_cargo_folder(tmp_path)
    assert list(task.files) == ["src/lib.rs", "Cargo.toml", "tests/it.rs"]


def test_pipes_and_sockets_are_neither_read_nor_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cargo(tmp_path / "p", description="d")
    os.mkfifo(folder / "src" / "pipe.rs")
    os.mkfifo(tmp_path / "Cargo.toml")
    monkeypatch.chdir(folder)  # a socket's address is at most 107 bytes long
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("server.rs")
        (task,) = load_cargo_folder(tmp_path)
    assert list(task.files) == ["src/lib.rs", "Cargo.toml", "tests/it.rs"]


def test_a_workspace_gives_its_members_and_not_itself(tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["a"]\n')
    cargo(tmp_path / "a", description="d")
    assert [task.origin for task in load_cargo_folder(tmp_path)] == ["cargo:a"]


def test_files_of_a_nested_project_belong_to_that_project_only(tmp_path: Path) -> None:
    outer = cargo(tmp_path / "outer", description="outer")
    cargo(outer / "inner", description="inner")
    tasks = {task.prompt: task for task in load_cargo_folder(tmp_path)}
    assert [name for name in tasks["outer"].files if "inner" in name] == []
    assert "src/lib.rs" in tasks["inner"].files


def test_the_same_project_has_the_same_id_elsewhere(tmp_path: Path) -> None:
    cargo(tmp_path / "here" / "p", description="d")
    cargo(tmp_path / "there" / "p", description="d")
    first, second = load_cargo_folder(tmp_path)
    assert first.id == second.id


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("[package\n", "is not a manifest"),
        ('[package]\nname = "p"\n', "does not say what is wanted"),
        ("[dependencies]\n", "holds no cargo project"),
    ],
)
def test_a_folder_that_gives_no_task_is_named_with_the_reason(tmp_path: Path, manifest: str, reason: str) -> None:
    (tmp_path / "Cargo.toml").write_text(manifest)
    with pytest.raises(TaskFormatError, match=reason):
        load_cargo_folder(tmp_path)


def test_a_project_with_too_much_text_is_refused(tmp_path: Path) -> None:
    folder = cargo(tmp_path / "p", description="d")
    for i in range(6):
        (folder / f"data{i}.txt").write_text("x" * (MAX_FILE_BYTES - 1))
    with pytest.raises(TaskFormatError, match="Leave its data files out"):
        load_cargo_folder(tmp_path)
