"""Which session a request belongs to, as real agents say it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepy_coder.collect.identify import KEPT_HEADERS, Identity, clean, identify


@pytest.mark.parametrize(
    ("headers", "body", "identity"),
    [
        ({"x-claude-code-session-id": "cc1"}, {"metadata": {"user_id": "u_session_cc2"}}, Identity("cc1", "header")),
        ({"x-session-id": "oc1", "x-session-affinity": "oc2"}, {}, Identity("oc1", "header")),
        ({"session-id": "cx1", "thread-id": "cx2"}, {"prompt_cache_key": "k"}, Identity("cx1", "header")),
        ({"thread-id": "cx2"}, {}, Identity("cx2", "header")),
        ({"helicone-session-id": "h1"}, {}, Identity("h1", "header")),
        ({"litellm_session_id": "l1"}, {}, Identity("l1", "header")),
        ({}, {"litellm_session_id": "l2"}, Identity("l2", "body")),
        ({}, {"metadata": {"user_id": "user_ab_account__session_f00-1"}}, Identity("f00-1", "body")),
        ({}, {"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "f2"})}}, Identity("f2", "body")),
        ({}, {"prompt_cache_key": "oh1"}, Identity("oh1", "cache_key")),
        ({}, {}, Identity("", "prefix")),
    ],
)
def test_a_session_is_found_where_agents_put_it(
    headers: dict[str, str], body: dict[str, Any], identity: Identity
) -> None:
    assert identify("", headers, body) == identity
    assert identify("mine", headers, body) == Identity("mine", "path")


def test_a_person_is_not_a_session() -> None:
    assert identify("", {}, {"metadata": {"user_id": "ada@example.org"}}).source == "prefix"
    assert identify("", {}, {"metadata": {"user_id": "{broken"}}).source == "prefix"


@given(st.text() | st.none() | st.integers() | st.text(st.characters(categories=["Cs"])))
def test_whatever_is_sent_as_a_session_can_be_stored(value: object) -> None:
    cleaned = clean(value)
    assert len(cleaned) <= 200 and cleaned.isprintable()
    cleaned.encode()


def test_no_credential_is_among_the_headers_that_are_looked_at() -> None:
    assert not KEPT_HEADERS & {"authorization", "proxy-authorization", "cookie", "x-api-key"}
