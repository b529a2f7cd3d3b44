"""Incremental detokenisation: text comes out whole, in order, and never past a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.serve.embedded_rows import Detokenizer


def decode(tokens: Sequence[int]) -> str:
    """A byte-level vocabulary: each token is one byte."""
    return bytes(tokens).decode("utf-8", errors="replace")


def run(data: bytes, stop: Sequence[str] = ()) -> tuple[list[str], str | None]:
    """The pieces that a stream would show, and the stop string that ended it."""
    text, pieces = Detokenizer(decode, stop), list[str]()
    for token in data:
        text.add(token)
        pieces.append(text.take(final=False))
        if text.stopped is not None:
            break
    return [*pieces, text.take(final=True)], text.stopped


@given(st.text())
def test_the_pieces_of_a_text_are_that_text(text: str) -> None:
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "".join(run(text.encode())[0]) == text


@given(st.text(alphabet="ab日🙂", min_size=1))
def test_no_piece_holds_part_of_a_character(text: str) -> None:
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in run(text.encode())[0])


def test_a_character_that_never_completes_is_dropped() -> None:
    assert run("a🙂".encode()[:-1])[0][-1] == ""


@given(st.text(alphabet="abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    pieces, stopped = run(text.encode(), stops)
    if not ends:
        assert ("".join(pieces), stopped) == (text, None)
    else:
        found = min(text[: ends[0]].find(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert "".join(pieces) == text[:found]
        assert stopped in stops


@given(st.binary(max_size=60), st.lists(st.text("abc", min_size=1, max_size=4), max_size=2))
def test_any_bytes_at_all_can_be_streamed(data: bytes, stops: list[str]) -> None:
    pieces, stopped = run(data, stops)
    assert stopped is None or stopped not in "".join(pieces)
