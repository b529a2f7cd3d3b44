"""Compiler feedback for small models, and error signatures: pure functions."""

from __future__ import annotations

import json
import keyword

from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.verify.diagnostics import compact, failed_test, panic_message, signature

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))
MESSAGES = st.sampled_from(
    [
        ("E0382", "borrow of moved value: `{a}`"),
        ("E0308", "expected `&{a}`, found `Vec<{b}>`"),
        ("E0061", "this function takes {n} arguments but {m} arguments were supplied"),
        ("E0425", "cannot find function `{a}` in module `{b}`"),
        ("", 'called `Result::unwrap()` on an `Err` value: "{a}"'),
        ("", "index out of bounds: the len is {n} but the index is {m}"),
        ("", "cannot read src/{a}.rs:{n}:{m}"),
    ]
)


def span(
    line: int, label: str | None, primary: bool = False, file: str = "main.rs", **more: object
) -> dict[str, object]:
    return {
        "file_name": file,
        "line_start": line,
        "is_primary": primary,
        "label": label,
        "line_end": line,
        **more,
    }


def error(message: str, code: str | None, *spans: dict[str, object], level: str = "error") -> str:
    found = {"code": code, "explanation": "long"} if code else None
    return json.dumps({"message": message, "code": found, "level": level, "spans": spans, "children": []})


@given(MESSAGES, NAMES, NAMES, st.integers(2, 10**6), st.integers(2, 10**6), NAMES, NAMES)
def test_a_signature_is_the_same_under_other_names_and_numbers(
    pattern: tuple[str, str], a: str, b: str, n: int, m: int, other_a: str, other_b: str
):
    code, message = pattern
    one = signature(code, message.format(a=a, b=b, n=n, m=m))
    assert one == signature(code, message.format(a=other_a, b=other_b, n=m, m=n + 1))


def test_one_argument_and_two_are_the_same_mistake():
    one = signature("E0061", "this function takes 1 argument but 2 arguments were supplied")
    assert one == signature("E0061", "this function takes 3 arguments but 1 argument was supplied")


def test_different_mistakes_have_different_signatures():
    assert signature("E0382", "borrow of moved value: `a`") != signature("E0382", "use of moved value: `a`")


@given(st.text())
def test_a_signature_is_one_line_and_normal_already(message: str):
    once = signature("", message)
    assert "\n" not in once
    assert "`" not in once or message.count("`") % 2 == 1


def test_an_error_is_one_line_and_its_primary_place_comes_first():
    line = error(
        "borrow of moved value: `page`",
        "E0382",
        span(12, "value moved here"),
        span(13, "borrowed here", True),
    )
    assert compact([line]) == "error[E0382]: borrow of moved value: `page`\n13: borrowed here\n12: value moved here"


def test_a_place_without_a_label_is_its_line_alone():
    assert compact([error("bad", "E0001", span(4, None, True))]) == "error[E0001]: bad\n4:"


def test_labels_are_one_line_each():
    assert compact([error("bad", "E0001", span(4, "one\n  two", True))]).endswith("4: one two")


def test_warnings_and_the_final_count_are_left_out():
    lines = [error("unused", None, level="warning"), error("aborting due to 1 previous error", None)]
    assert compact(lines) == ""


def test_lints_are_shown_without_a_code_as_rustc_does():
    assert compact([error("literal out of range", "overflowing_literals")]) == "error: literal out of range"


def test_a_place_inside_a_macro_is_shown_where_the_macro_is_called():
    inner = span(99, "here", True, file="/rustc/lib/macros.rs", expansion={"span": span(7, None)})
    assert compact([error("bad", "E0001", inner)], files={"main.rs": "\n" * 9}) == "error[E0001]: bad\n7: here"


def test_places_outside_the_own_lines_are_left_out():
    line = error(
        "bad",
        "E0001",
        span(3, "a", True),
        span(30, "b"),
        span(1, "c", file="/lib.rs"),
        span(1, "d", file="x.rs"),
    )
    assert compact([line], files={"main.rs": "\n" * 9}) == "error[E0001]: bad\n3: a"


def test_several_files_are_told_apart():
    line = error("bad", "E0001", span(3, "a", True), span(2, "b", file="x.rs"))
    assert (
        compact([line], files={"main.rs": "\n" * 9, "x.rs": "\n" * 4}) == "error[E0001]: bad\nmain.rs:3: a\nx.rs:2: b"
    )


@given(NAMES, NAMES, st.integers(1, 400))
def test_feedback_changes_with_a_name_only_where_the_name_stands(one: str, other: str, line: int):
    def said(name: str) -> str:
        return compact([error(f"no `{name}`", "E0425", span(line, f"`{name}` is not here", True))])

    assert said(one).replace(f"`{one}`", f"`{other}`") == said(other)


ERRORS = st.builds(
    lambda text, labels: error(text, "E0001", *[span(i, text) for i in range(labels)]),
    st.text(),
    st.integers(0, 9),
)


@given(st.lists(st.text() | ERRORS))
def test_feedback_is_two_errors_with_four_labels_each_at_most(lines: list[str]):
    assert len([line for line in compact(lines).split("\n") if line]) <= 2 * (1 + 4)


def test_a_panic_in_a_test_is_found_with_the_tests_name():
    panic = "thread 'tests::adds' (7) panicked at main.rs:9:5:\nno page\nnote: run with\n\n"
    out = f"---- tests::adds stdout ----\n\n{panic}"
    assert failed_test(out) == ("adds", "no page")
    assert panic_message("all is well") is None
