"""The model's name is the one thing that changes on the way; every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sleepyd import rename
from sleepyd.rename import Named, StreamRenamer, list_alias, name_model

ALIAS, NOW = "sleepy-coder", "sc-0007-ab12cd34"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just('"model":"x"'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("model"), inner, max_size=3),
    max_leaves=12,
)
MEMBERS = st.dictionaries(st.text().filter(lambda name: name != "model"), JSON, max_size=5)
SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n ")])


def written(members: dict[str, Any], separators: tuple[str, str], ascii_only: bool) -> bytes:
    return json.dumps(members, separators=separators, ensure_ascii=ascii_only).encode(errors="surrogatepass")


def around(before: dict[str, Any], model: str, after: dict[str, Any]) -> dict[str, Any]:
    return {**before, "model": model, **{name: value for name, value in after.items() if name not in before}}


@given(MEMBERS, MEMBERS, SPACES, st.booleans())
def test_asking_for_the_alias_asks_for_the_adapter_and_for_nothing_else(
    before: dict[str, Any], after: dict[str, Any], spaces: tuple[str, str], ascii_only: bool
) -> None:
    asked = written(around(before, ALIAS, after), spaces, ascii_only)
    sent = written(around(before, NOW, after), spaces, ascii_only)
    assert name_model(asked, ALIAS, NOW, needed=True) == Named(sent, ALIAS, NOW)


@given(MEMBERS, MEMBERS, SPACES)
def test_another_model_passes_untouched(before: dict[str, Any], after: dict[str, Any], spaces: tuple[str, str]) -> None:
    asked = written(around(before, "other", after), spaces, True)
    assert name_model(asked, ALIAS, NOW, needed=True) == Named(asked, "other", "other")


@given(MEMBERS, SPACES)
def test_a_request_without_a_model_gets_the_serving_one_where_one_is_needed(
    members: dict[str, Any], spaces: tuple[str, str]
) -> None:
    asked = written(members, spaces, True)
    sent = name_model(asked, ALIAS, NOW, needed=True)
    assert sent.body == b'{"model":"' + NOW.encode() + b'"' + (b"," if members else b"") + asked[1:]
    assert json.loads(sent.body) == {"model": NOW, **members}
    assert name_model(asked, ALIAS, NOW, needed=False) == Named(asked, "", "")


@pytest.mark.parametrize("empty", [b"null", b'""'])
def test_an_empty_model_counts_as_none(empty: bytes) -> None:
    named = name_model(b'{"a": [1], "model" : ' + empty + b"}", ALIAS, NOW, needed=True)
    assert named == Named(b'{"a": [1], "model" : "' + NOW.encode() + b'"}', "", NOW)


BROKEN = [b"[1]", b'{"model":', b'{"a":1 "model":"x"', b"{" * 9999, b'{"a":' * 9999]


@given(st.binary().filter(lambda body: b"model" not in body) | st.sampled_from(BROKEN))
def test_what_is_no_json_object_passes_untouched(body: bytes) -> None:
    assert name_model(body, ALIAS, NOW, needed=True).body == body


def test_of_two_models_the_last_one_counts_as_it_does_for_the_server() -> None:
    body = b'{"model":"other","model":"sleepy-coder"}'
    assert name_model(body, ALIAS, NOW, needed=True).body == b'{"model":"other","model":"sc-0007-ab12cd34"}'
    body = b'{"model":"sleepy-coder","model":"other"}'
    assert name_model(body, ALIAS, NOW, needed=True) == Named(body, "other", "other")


def test_a_name_written_with_escapes_is_the_same_name() -> None:
    assert name_model(rb'{"model":"sleepy\u002dcoder"}', ALIAS, NOW, needed=True).served == NOW


def test_numbers_that_python_refuses_do_not_matter() -> None:
    digits = b"9" * 5000
    body = b'{"seed":' + digits + b',"x":NaN,"model":"sleepy-coder","y":"\xff\x00"}'
    assert name_model(body, ALIAS, NOW, needed=True).body == body.replace(b"sleepy-coder", NOW.encode())


# Replies

SAYING = json.dumps('a "model":"sc-0007-ab12cd34" \n é')
DATAS = (
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"@","choices":[{"delta":{"content":'
    + SAYING
    + "}}]}",
    '{"type":"response.created","response":{"output":[{"model":"sc-0007-ab12cd34"}],"model":"@"}}',
    '{"message":{"model" : "@","content":[]},"type":"message_start"}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"@","choices":[{"delta":{"content":"b"}}]}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"sc-0007-ab12cd34","choices":[],"model":"@"}',
    '{"id":"c","object":"chat.completion.chunk","created":1,"model":"@","choices":[]}',
    '{"type":"delta","item":{"model":"sc-0007-ab12cd34"}}',
    '{"model":"other"}',
    "[DONE]",
)


def events(name: str, end: str) -> bytes:
    """A stream with the name where it counts, and also where it must stay."""
    lines = [": a comment about model", *(f"event: x{end}data: {data.replace('@', name)}{end}" for data in DATAS)]
    return end.join(lines).encode()


@given(st.data(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_stream_is_renamed_alike_however_it_is_cut(data: st.DataObject, end: str) -> None:
    stream = events(NOW, end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    renamer = StreamRenamer(NOW, ALIAS)
    out = b"".join(renamer.feed(piece) for piece in pieces) + renamer.rest()
    assert out == events(ALIAS, end)


def test_a_complete_event_is_never_held_back() -> None:
    renamer = StreamRenamer(NOW, ALIAS)
    first = b'data: {"model":"sc-0007-ab12cd34"}\n\n'
    assert renamer.feed(first + b"data: {") == first.replace(NOW.encode(), ALIAS.encode())
    assert renamer.feed(b"}\n\n") == b"data: {}\n\n"


def test_a_line_without_end_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rename, "LONGEST_LINE", 10)
    renamer = StreamRenamer(NOW, ALIAS)
    pieces = [b"data: " + b"x" * 20, b"more", b'end\ndata: {"model":"sc-0007-ab12cd34"}\n']
    assert [renamer.feed(piece) for piece in pieces] == [
        pieces[0],
        pieces[1],
        pieces[2].replace(NOW.encode(), b"sleepy-coder"),
    ]


@given(MEMBERS, MEMBERS, SPACES)
def test_only_the_top_level_model_of_a_whole_reply_is_renamed(
    before: dict[str, Any], after: dict[str, Any], spaces: tuple[str, str]
) -> None:
    came = written(around(before, NOW, after), spaces, False)
    assert rename.rename(came, NOW, ALIAS) == written(around(before, ALIAS, after), spaces, False)


def test_a_reply_of_another_model_keeps_its_name() -> None:
    assert rename.rename(b'{"model":"other"}', NOW, ALIAS) == b'{"model":"other"}'


# The list of models


def listing(*cards: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": list(cards)}).encode()


def test_the_alias_is_listed_first_with_what_is_known_of_the_model_behind_it() -> None:
    base = {"id": "base", "object": "model", "created": 5, "max_model_len": 4096, "parent": None}
    adapter = {"id": NOW, "object": "model", "created": 9, "max_model_len": None, "parent": "base"}
    cards = json.loads(list_alias(listing(base, adapter), ALIAS, NOW))["data"]
    assert cards[1:] == [base, adapter]
    assert cards[0] == {
        "id": ALIAS,
        "object": "model",
        "created": 9,
        "owned_by": "sleepy-coder",
        "root": NOW,
        "parent": "base",
        "max_model_len": 4096,
    }


def test_the_alias_is_not_listed_twice_and_other_answers_stay() -> None:
    for answer in (listing({"id": ALIAS}), b'{"error":{}}', b"{", b'{"data":{}}', b""):
        assert list_alias(answer, ALIAS, NOW) == answer
    assert [card["id"] for card in json.loads(list_alias(listing(), ALIAS, NOW))["data"]] == [ALIAS]
