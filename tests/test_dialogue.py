"""What the model's answers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.dialogue import (
    ReplyFormatError,
    apply_reply,
    edits_between,
    first_messages,
    number_lines,
    reply_between,
)
from sleepy_coder.tasks import SPLITS, load_split
from sleepy_coder.types import Task

LINE = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
PROGRAM = st.lists(LINE, min_size=1, max_size=12).map(lambda lines: "\n".join(["fn main() {", *lines, "}"]) + "\n")


@given(PROGRAM, PROGRAM)
def test_applying_the_edits_between_two_programs_gives_the_second(before: str, after: str) -> None:
    edits = edits_between(before, after)
    assert before == after if not edits else apply_reply(edits, {"main.rs": before})["main.rs"] == after


def test_lines_with_one_number_replace_that_line_in_order() -> None:
    assert apply_reply("2|x\n2|y", {"a": "1\n2\n3\n"}) == {"a": "1\nx\ny\n3\n"}


def test_a_number_with_a_dash_deletes_the_line() -> None:
    assert apply_reply("2-", {"a": "1\n2\n3\n"}) == {"a": "1\n3\n"}


def test_a_fenced_block_replaces_the_whole_file() -> None:
    assert apply_reply("Here:\n```rust\nfn main() {}\n```\nDone.", {"a": "old\n"}) == {"a": "fn main() {}\n"}


def test_edits_go_to_the_file_named_above_them() -> None:
    files = {"a.rs": "1\n", "b.rs": "1\n"}
    assert apply_reply("b.rs:\n1|two", files) == {"a.rs": "1\n", "b.rs": "two\n"}


C = {
    "Makefile": "test:\n",
    "add.c": "int add(int a, int b)\n{\n    return a - b;\n}\n",
    "src/add.c": "static\nint x;\n",
    "test_add.c": "a\nb\nc\n",
}
SUM = C["add.c"].replace("-", "+")


def task_of(files: dict[str, str]) -> Task:
    return load_split("day")[0].model_copy(update={"files": files})


def test_of_several_files_the_prompt_says_how_one_is_named_and_of_one_it_says_nothing() -> None:
    told = first_messages(task_of(C), "red")[1].content
    assert "Write a file's name above its edits, as in `add.c:`.\nMakefile:\n1|test:\n" in told
    assert "name" not in first_messages(task_of({"main.rs": "x\n"}), "red")[1].content.split("\n", 1)[1]


@pytest.mark.parametrize(
    "reply",
    [
        "3|    return a + b;",
        "add.c:\n3|    return a + b;",
        "**add.c**\n3|    return a + b;",
        "The sign is wrong in `add.c`:\n\n3|    return a + b;\n",
        "### `add.c`\n```\n3|    return a + b;\n```",
        f"```c\n{SUM}```",
        f"add.c\n```c\n{SUM}```",
        f"Here is the mended `add.c`:\n\n```c\n{SUM}```\nIt adds now.",
        f"```c add.c\n{SUM}```",
        f"```c:add.c\n{SUM}```",
        f'```c title="add.c"\n{SUM}```',
        f"Run this:\n```sh\nmake test\n```\n**add.c:**\n```c\n{SUM}```",
        "add.c:\n3|    return a + b;\n\nThen run:\n```sh\nmake test\n```",
    ],
)
def test_an_answer_to_several_files_is_read_as_models_write_them(reply: str) -> None:
    assert apply_reply(reply, C) == {**C, "add.c": SUM}


def test_a_comment_in_the_first_line_of_a_fence_names_its_file() -> None:
    body = "// src/add.c\nint y;\n"
    assert apply_reply(f"Two files:\n```c\n{body}```", C) == {**C, "src/add.c": body}


def test_each_fence_replaces_the_file_that_it_names_and_edits_of_others_count_beside_it() -> None:
    reply = f"add.c\n```c\n{SUM}```\nsrc/add.c\n```c\nint y;\n```\nMakefile:\n1|all:\n"
    assert apply_reply(reply, C) == {**C, "add.c": SUM, "src/add.c": "int y;\n", "Makefile": "all:\n"}


def test_a_sentence_about_another_file_does_not_lead_edits_there() -> None:
    for said in ("test_add.c is right.", "Unlike src/add.c, add.c is wrong:", "See test_add.c."):
        assert apply_reply(f"{said}\n3|    return a + b;", C) == {**C, "add.c": SUM}


def test_without_a_program_the_first_file_is_meant() -> None:
    assert apply_reply("1|x", {"a.toml": "1\n", "b.md": "2\n"}) == {"a.toml": "x\n", "b.md": "2\n"}


@pytest.mark.parametrize("files", [C, {"main.rs": "a\nb\n"}])
def test_the_reply_between_two_states_of_files_is_read_as_it_is_meant(files: dict[str, str]) -> None:
    after = {path: f"new\n{text}" for path, text in files.items()}
    assert apply_reply(reply_between(files, after), files) == after


# Packaged koans are one file each; what they are asked, and how answers to them are read, is as studies knew it.
def test_packaged_koans_are_asked_and_read_as_one_file_is() -> None:
    fence, names = "```rust\nfn main() {}\n```", "other.rs\n1|a\nmain.rs\n2|b"
    for split in SPLITS:
        for task in load_split(split):
            ((path, text),) = task.files.items()
            said = first_messages(task, "error: red")[1].content
            assert said == f"{task.prompt}\n{number_lines(text)}\nerror: red"
            assert apply_reply(f"3|x\nmain.rs:\n{fence}\n```rust\ny\n```", task.files) == {path: "fn main() {}\n"}
            assert apply_reply(names, task.files) == {path: "\n".join(["a", "b", *text.split("\n")[2:]])}


@pytest.mark.parametrize("reply", ["", "I think it is fine.", "99|x", "0|x"])
def test_a_reply_without_an_edit_that_fits_is_refused(reply: str) -> None:
    with pytest.raises(ReplyFormatError):
        apply_reply(reply, {"a": "1\n2\n"})


def test_numbered_lines_count_from_one() -> None:
    assert number_lines("a\nb\n") == "1|a\n2|b"
