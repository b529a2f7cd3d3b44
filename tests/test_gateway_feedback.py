"""What people say of a session through the gateway is kept, without secrets, and goes no further."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import FakeRedactor, says
from gateway_house import gateway_house, run

from sleepy_coder.collect.gathering import exchange_name
from sleepy_coder.errors import SecretFound, StoreError

ID = "0123456789abcdef0123456789abcdef"
REPLY = b'{"id":"c1","model":"sleepy-base","choices":[]}'


@pytest.mark.parametrize(
    ("path", "said", "about"),
    [
        ("/v1/feedback", {"session": "s1", "good": True}, "s1"),
        ("/s/tagged%20one/v1/feedback", {"good": True}, "tagged one"),
        ("/s/tagged/v1/feedback", {"good": True, "session": "s1"}, "s1"),
        ("/v1/feedback", {"id": ID, "good": True}, exchange_name(ID)),
        ("/v1/feedback", {"id": f"chatcmpl-{ID}", "good": True}, exchange_name(ID)),
        ("/v1/feedback", {"id": f"cmpl-{ID}-0", "good": True}, exchange_name(ID)),
    ],
)
def test_a_session_or_a_reply_can_be_spoken_of(tmp_path: Path, path: str, said: dict[str, object], about: str) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            body = json.dumps({**said, "note": "my password is hunter2"}).encode()
            assert (await house.post(path, body))[0] == 200
            assert house.store.feedback() == {about: (True, "my password is <SECRET:password:1>")}
            assert house.upstream.arrived == []

    run(story)


def test_the_last_word_counts(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            for good in (True, False):
                await house.post("/v1/feedback", json.dumps({"session": "s", "good": good}).encode())
            assert house.store.feedback() == {"s": (False, "")}

    run(story)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"good":true}',
        b'{"session":" ","good":true}',
        b'{"session":"s"}',
        b'{"session":"s","good":"yes"}',
        b'{"session":"s","good":1}',
        b'{"session":"s","good":true,"stars":5}',
        b'{"id":"chatcmpl-7","good":true}',
        b'{"id":"resp_%s","good":true}' % ID.encode(),
        b'{"session":"%s","good":true}' % (b"x" * 201),
        b'{"session":"s","good":true,"note":"-----BEGIN PRIVATE KEY-----"}',
    ],
)
def test_what_says_nothing_is_refused_with_the_reason(tmp_path: Path, body: bytes) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY)) as house:
            status, reply = await house.post("/v1/feedback", body)
            answer = json.loads(reply)
            assert (status, answer["type"], answer["error"]["type"]) == (400, "error", "invalid_request_error")
            assert house.store.feedback() == {} and house.upstream.arrived == []

    run(story)


def test_only_who_may_ask_may_speak(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY), api_key="s3cret-key") as house:
            body = b'{"session":"s","good":true}'
            assert (await house.post("/v1/feedback", body))[0] == 401
            assert house.store.feedback() == {}
            assert (await house.post("/v1/feedback", body, x_api_key="s3cret-key"))[0] == 200

    run(story)


@pytest.mark.parametrize(("error", "status"), [(StoreError("disk full"), 503), (SecretFound("a key"), 400)])
def test_what_cannot_be_kept_is_said_to_be_lost(tmp_path: Path, error: Exception, status: int) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(REPLY), redactor=FakeRedactor(fails=error)) as house:
            assert (await house.post("/v1/feedback", b'{"session":"s","good":true}'))[0] == status

    run(story)
