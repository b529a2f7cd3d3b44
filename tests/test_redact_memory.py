"""Remembering what was clean changes nothing but the time: each text comes out as it would without a memory."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import KINDS, UNNAMED, escaped, places, plant, unnamed
from test_redact import private_key

from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.collect.redact_memory import RememberingRedactor
from sleepy_coder.collect.redact_tokens import TOKENS
from sleepy_coder.errors import SecretFound
from sleepy_coder.ports import Redactor

PLAIN = "fn main() {\n    let token = tokens.next(); // it's `moved`\n}\n"
# Beginnings and ends of what the rules look for, and the characters that end a message.
PIECES = st.sampled_from(
    [
        *("password", "the token: '", 'api_key = "', "secret=`", "login x", "password hunter2x9", "identified by "),
        *("<password>", "</password>", "hunter2x9", "Authorization", "Bearer ", "cookie: a=", " -u me:", "://u:"),
        *("@host", "'", "`", '"', "\\", "\n", " ", "=", ":", "},{", '"},{"', "}", "]", ",", "İ", "K", "--", "pwd"),
        *("\nDB_PASSWORD=", "SESSION_TOKEN=", "x&(;y|9", "aB3/" * 90, "x" * 500, '"k":"v"', "{"),
        *("Xk92mfQ71pLz", "<SECRET:password:3>", "-----BEGIN RSA PRIVATE" + " KEY-----", "A" * 60, PLAIN),
    ]
)
SAID = st.lists(PIECES, max_size=6).map("".join)
PLANTED = st.builds(
    lambda seed, kind, place, times: escaped(list(places(plant(kind, random.Random(seed))).values())[place], times),
    st.integers(0, 99),
    st.sampled_from(list(KINDS)),
    st.integers(0, 7),
    st.integers(0, 1),
)
BY_SHAPE = st.builds(
    lambda seed, kind, times: escaped(unnamed(kind, random.Random(seed))[1], times),
    st.integers(0, 99),
    st.sampled_from(list(UNNAMED)),
    st.integers(0, 1),
)
CONTENT = st.one_of(st.just(PLAIN * 20), SAID, SAID, PLANTED, BY_SHAPE)
MESSAGES = st.builds(
    lambda name, content, calls, bare: {"role": name, "content": content, **calls, **bare},
    st.sampled_from(["user", "API_KEY", "password", "login"]),
    CONTENT,
    st.sampled_from([{}, {"tool_calls": [{"id": "x", "function": {"name": "f", "arguments": '{"token": "ab1'}}]}]),
    st.sampled_from([{}, {}, {"value": "Xk92mfQ71pLz"}, {"password": 73946105}]),
)
CONVERSATIONS = st.lists(MESSAGES, min_size=1, max_size=8)


def request(messages: Sequence[dict[str, Any]], separators: tuple[str, str] | None) -> str:
    tools = [{"type": "function", "function": {"name": f"tool_{i}"}} for i in range(3)]
    return json.dumps({"model": "m", "messages": list(messages), "tools": tools}, separators=separators)


def outcome(redactor: Redactor, text: str) -> str:
    try:
        return redactor.redact(text)
    except SecretFound as error:
        return f"refused: {error}"


@settings(max_examples=400, deadline=None)
@given(st.lists(CONVERSATIONS, min_size=1, max_size=3), st.sampled_from([None, (",", ":"), (" ,  ", ":")]))
def test_growing_conversations_come_out_as_without_a_memory(
    talks: list[list[dict[str, Any]]], separators: tuple[str, str] | None
) -> None:
    known = ["our-own-key-12345"]
    remembering, plain = RememberingRedactor(SecretRedactor(known), remembered=4), SecretRedactor(known)
    for talk in talks:
        for length in range(1, len(talk) + 1):
            text = request(talk[:length], separators)
            assert outcome(remembering, text) == outcome(plain, text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=30).map("".join), min_size=1, max_size=4))
def test_so_do_texts_that_are_no_json(texts: list[str]) -> None:
    remembering, plain = RememberingRedactor(SecretRedactor()), SecretRedactor()
    for text in (*texts, *texts):
        assert outcome(remembering, text) == outcome(plain, text)


@pytest.mark.parametrize("separators", [None, (",", ":")])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("login x", "y password hunter2x9"),
        ("mysql> identified by ", "x"),
        ("<password>hunter2x9", "more of it</password>"),
        ("token: 'Xk92mf", "Q71pLz'"),
        ("password: `", "hunter2x9`"),
        ("token: '" + "aB3/" * 80, "Q71pLz'"),
        ("token: '" + "aB3/" * 120, "Q71pLz'"),
        ("token: '", "aB3/" * 120 + "'"),
        ("DB_PASSWORD=", "x&9(hunter"),
        ("the id AK" + "IAQX7ZM2NPLRTWVS4K", "aB3/" * 10),
        ("aB3/" * 12, "-----END RSA PRIVATE" + " KEY-----"),
        ("ssh" + "pass -p", "hunter2x9"),
        ("'kty': 'RSA'", "'d': '" + "aB3_" * 10 + "'"),
        ("passwd:", "x"),
        ("our own key ends in ", "what follows"),
        ("-----BEGIN RSA PRIVATE" + " KEY-----", "A" * 64),
    ],
)
def test_what_reaches_from_one_message_into_the_next_is_seen(
    before: str, after: str, separators: tuple[str, str] | None
) -> None:
    talk = [{"role": "user", "content": PLAIN * 20}, {"content": before}, {"content": after}, {"content": PLAIN}]
    text = request(talk, separators)
    key = text[text.index(before) + len(before) - 6 :][:24]
    for known in ([], [key]):
        remembering, plain = RememberingRedactor(SecretRedactor(known)), SecretRedactor(known)
        for length in (1, 2, 3, 4, 4):
            grown = request(talk[:length], separators)
            assert outcome(remembering, grown) == outcome(plain, grown)
        if known:
            assert outcome(plain, text) != text


@pytest.mark.parametrize("kind", list(UNNAMED))
def test_what_has_a_shape_is_found_in_the_message_that_is_new(kind: str) -> None:
    remembering, plain = RememberingRedactor(SecretRedactor()), SecretRedactor()
    talk = [{"role": "user", "content": PLAIN * 20}, {"role": "tool", "content": PLAIN}]
    assert outcome(remembering, request(talk, None)) == request(talk, None)
    secret, shown = unnamed(kind, random.Random(3))
    grown = request([*talk, {"role": "tool", "content": shown}, {"role": "user", "content": PLAIN}], None)
    assert secret not in outcome(remembering, grown)
    assert outcome(remembering, grown) == outcome(plain, grown)


def test_a_private_key_refuses_the_text_each_time() -> None:
    redactor = RememberingRedactor(SecretRedactor())
    text = request([{"role": "user", "content": private_key(random.Random(1))}], None)
    for _ in range(2):
        with pytest.raises(SecretFound):
            redactor.redact(text)


def test_a_conversation_that_was_clean_is_not_looked_at_again() -> None:
    looked: list[int] = []

    class Counting(SecretRedactor):
        def finds_nothing(self, text: str) -> bool:
            looked.append(len(text))
            return super().finds_nothing(text)

    redactor = RememberingRedactor(Counting())
    talk = [{"role": "user", "content": f"{number}: {PLAIN * 20}"} for number in range(30)]
    redactor.redact(request(talk, None))
    looked.clear()
    redactor.redact(request([*talk, {"role": "user", "content": "go on"}], None))
    # The last message is followed by something else than before, so it counts as new.
    assert len(looked) <= 3


def test_no_rule_that_is_not_far_can_match_over_the_end_of_an_object() -> None:
    """The argument of redact_memory.py for each rule: no character class that repeats takes all of `"},`."""
    ends = ('"},', '"}]},', '"}}, ')
    for rule in TOKENS:
        texts = (f"{before}{end}{after}" for end in ends for before in _beginnings(rule.hints) for after in _ENDS)
        crossing = [
            text for text in texts for match in rule.pattern.finditer(text) if any(end in match[0] for end in ends)
        ]
        assert rule.far or not crossing, rule.kind


_FILL = ("", "a", " a ", "a=bcdef012345678", '": "', ":", "='", "a:b@", "://u:pw")
_ENDS = ('{"a": "b c password hunter2x9</password>"', '{"x@y.z/": "Bearer abcdef0123456789abcdef"', "{'a'")


def _beginnings(hints: tuple[str, ...]) -> list[str]:
    return [f" {hint}{fill}" for hint in hints for fill in _FILL]
