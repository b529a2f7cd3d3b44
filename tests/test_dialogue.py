"""What the model's answers mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.dialogue import ReplyFormatError, apply_reply, edits_between, number_lines

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


@pytest.mark.parametrize("reply", ["", "I think it is fine.", "99|x", "0|x"])
def test_a_reply_without_an_edit_that_fits_is_refused(reply: str) -> None:
    with pytest.raises(ReplyFormatError):
        apply_reply(reply, {"a": "1\n2\n"})


def test_numbered_lines_count_from_one() -> None:
    assert number_lines("a\nb\n") == "1|a\n2|b"
