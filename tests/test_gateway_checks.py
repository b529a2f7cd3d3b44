"""What `sleepy-coder run` says of a session's verifier is kept by the gateway, without secrets, wherever `run` was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fakes import FakeRedactor, says, tasks_of
from gateway_house import GatewayHouse, gateway_house, run
from planted import plant

from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.errors import StoreError
from sleepy_coder.serve.gateway_client import VerifierWord
from sleepy_coder.types import Outcome, SessionCheck, Verdict

(TASK,) = tasks_of([1])
PASSED = SessionCheck(session="run-1", task=TASK, verdict=Verdict(outcome=Outcome.PASS, stage="done"))
AWAITED = VerifierWord(session="run-1", nonce="drawn", state="awaited")
SPOKEN = VerifierWord(session="run-1", nonce="drawn", state="spoken", check=PASSED)
NOT_PASSED = VerifierWord(session="run-1", nonce="drawn", state="not_passed")


async def tell(house: GatewayHouse, word: VerifierWord, **headers: str) -> int:
    status, _ = await house.post("/admin/check", word.model_dump_json().encode(), **headers)
    return status


def test_a_verifiers_word_is_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            assert [await tell(house, AWAITED), await tell(house, SPOKEN)] == [200, 200]
            assert house.store.checks(["run-1"])["run-1"].verdict.passed
            assert house.upstream.arrived == []

    run(story)


def test_the_last_word_counts(tmp_path: Path) -> None:
    failed = PASSED.model_copy(update={"verdict": Verdict(outcome=Outcome.FAIL, stage="test", detail="1 failed")})

    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            for word in (AWAITED, SPOKEN, SPOKEN.model_copy(update={"check": failed})):
                assert await tell(house, word) == 200
            assert not house.store.checks(["run-1"])["run-1"].verdict.passed

    run(story)


def test_a_verifier_with_nothing_to_speak_of_is_awaited_no_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            for word in (AWAITED, SPOKEN, NOT_PASSED):
                assert await tell(house, word) == 200
            assert house.store.checks(["run-1"]) == {}

    run(story)


@pytest.mark.parametrize("word", [SPOKEN, NOT_PASSED, AWAITED])
def test_an_agent_that_speaks_for_its_verifier_is_not_heard(tmp_path: Path, word: VerifierWord) -> None:
    failed = PASSED.model_copy(update={"verdict": Verdict(outcome=Outcome.FAIL, stage="test", detail="1 failed")})
    forged = word.model_copy(update={"nonce": "guessed"})

    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            await tell(house, AWAITED)
            assert await tell(house, forged) == (200 if word is AWAITED else 409)
            assert await tell(house, SPOKEN.model_copy(update={"check": failed})) == 200
            await tell(house, forged)
            assert not house.store.checks(["run-1"])["run-1"].verdict.passed

    run(story)


def test_the_gateway_keeps_no_secret_of_a_project(tmp_path: Path) -> None:
    planted = plant("github-pat", random.Random(1))
    files = {**TASK.files, ".env": f"{planted.name}={planted.secret}\n"}
    said = PASSED.verdict.model_copy(update={"feedback": f"{planted.name}={planted.secret}"})
    check = PASSED.model_copy(update={"task": TASK.model_copy(update={"files": files}), "verdict": said})

    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), redactor=SecretRedactor(())) as house:
            await tell(house, AWAITED)
            await tell(house, SPOKEN.model_copy(update={"check": check}))
            kept = house.store.checks(["run-1"])["run-1"].model_dump_json()
            assert planted.secret not in kept and "<SECRET:" in kept

    run(story)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b'{"session":"run-1","nonce":"drawn","state":"over"}',
        b'{"session":"run-1","nonce":"drawn","state":"spoken"}',
        b'{"session":"run-1","state":"awaited"}',
        SPOKEN.model_dump_json().replace("spoken", "not_passed").encode(),
        SPOKEN.model_dump_json().replace("run-1", "run-2", 1).encode(),
    ],
)
def test_what_is_no_verifiers_word_is_refused_and_nothing_kept(tmp_path: Path, body: bytes) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"")) as house:
            await tell(house, AWAITED)
            status, reply = await house.post("/admin/check", body)
            assert status == 400 and b"not a valid check" in reply
            assert house.store.checks(["run-1", "run-2"]) == {}

    run(story)


def test_only_who_has_the_key_says_what_a_verifier_said(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), api_key="s3cret-key") as house:
            assert await tell(house, AWAITED) == 401
            assert await tell(house, AWAITED, Authorization="Bearer s3cret-key") == 200

    run(story)


def test_a_word_that_cannot_be_kept_is_said_to_be_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), redactor=FakeRedactor(fails=StoreError("disk full"))) as house:
            assert await tell(house, AWAITED) == 200
            assert await tell(house, SPOKEN) == 503

    run(story)


def test_a_check_above_the_limit_of_bodies_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b""), max_body_mib=1) as house:
            length = (1 << 20) + 1
            head = f"POST /admin/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
            assert (await house.raw(head.encode())).startswith(b"HTTP/1.1 413 ")

    run(story)
