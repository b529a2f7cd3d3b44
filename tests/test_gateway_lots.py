"""While a promotion is watched, each session gets one adapter by lot and keeps it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fakes import BASE, Arrived, says
from gateway_house import GatewayHouse, gateway_house, run
from hypothesis import given
from hypothesis import strategies as st
from sleepyd.lots import Lots
from test_registry import House

from sleepy_coder.collect.identify import Identity, sticky_name
from sleepy_coder.judge.rollback import lot
from sleepy_coder.store_canary import Assigned


async def answers(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
    return web.json_response({"model": arrived.json["model"], "choices": []})


def chat(*words: str, model: str = "sleepy-coder", system: str = "s", **more: Any) -> bytes:
    """A conversation: the user's words and the assistant's in turn."""
    messages = [{"role": "system", "content": system}]
    messages += [{"role": "user" if i % 2 == 0 else "assistant", "content": word} for i, word in enumerate(words)]
    return json.dumps({"model": model, "messages": messages, **more}).encode()


@asynccontextmanager
async def divided(home: Path, share: float = 0.5) -> AsyncGenerator[tuple[GatewayHouse, str, str, Lots]]:
    """A gateway after two promotions; the names of the old adapter and the new one."""
    lots = Lots(share)
    async with gateway_house(home, answers, lots=lots) as house:
        old, new = House(home).serve(1, 2)
        yield house, old, new, lots


async def asked(house: GatewayHouse, path: str, body: bytes, **headers: str) -> str:
    """Which model the server was asked for."""
    status, _ = await house.post(path, body, **headers)
    assert status == 200
    return house.upstream.arrived[-1].json["model"]


def test_sessions_are_divided_by_the_share_and_each_keeps_its_adapter(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, old, new, _):
            first = [await asked(house, f"/s/run-{n}/v1/chat/completions", chat("go")) for n in range(60)]
            again = [await asked(house, f"/s/run-{n}/v1/chat/completions", chat("on")) for n in range(60)]
            assert first == again
            assert set(first) == {old, new}
            assert 8 <= first.count(new) <= 52

    run(story)


def test_the_caller_hears_the_alias_whoever_answers(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, *_):
            for number in range(20):
                _, reply = await house.post(f"/s/{number}/v1/chat/completions", chat("go"))
                assert json.loads(reply)["model"] == "sleepy-coder"

    run(story)


def test_the_first_promotion_is_divided_between_the_adapter_and_the_base(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, answers, lots=Lots(0.5)) as house:
            [new] = House(tmp_path).serve(1)
            found = {await asked(house, f"/s/{n}/v1/chat/completions", chat("go")) for n in range(40)}
            assert found == {BASE, new}

    run(story)


@pytest.mark.parametrize("where", ["header", "body", "cache_key"])
def test_a_session_is_the_same_wherever_it_is_named(tmp_path: Path, where: str) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, *_):
            for number in range(12):
                tagged = await asked(house, f"/s/n{number}/v1/chat/completions", chat("go"))
                headers = {"x_session_id": f"n{number}"} if where == "header" else {}
                more: dict[str, Any] = {
                    "body": {"litellm_session_id": f"n{number}"},
                    "cache_key": {"prompt_cache_key": f"n{number}"},
                }.get(where, {})
                assert await asked(house, "/v1/chat/completions", chat("go", **more), **headers) == tagged

    run(story)


def test_a_conversation_without_a_session_stays_with_one_adapter_as_it_grows(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, *_):
            seen: set[str] = set()
            for number in range(40):
                words = (f"mend {number}", "how?", "like this", "done")
                grown = [
                    await asked(house, "/v1/chat/completions", chat(*words[:length], system=f"it is {length} o'clock"))
                    for length in (1, 3)
                ]
                assert len(set(grown)) == 1
                seen.update(grown)
            assert len(seen) == 2

    run(story)


def test_of_conversations_without_a_session_it_is_remembered_whose_exchange_is_whose(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, _, _, lots):
            for words in (("go",), ("go", "how?", "like this"), ("another",)):
                await asked(house, "/v1/chat/completions", chat(*words))
            first, again, other = [lots.session_of(exchange.id) for exchange in await house.recorded()]
            assert first == again != other and "" not in (first, other)

    run(story)


def test_only_what_asks_for_the_alias_is_divided(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, old, new, lots):
            for number in range(12):
                assert await asked(house, f"/s/{number}/v1/chat/completions", chat("go", model=new)) == new
                assert await asked(house, f"/s/{number}/v1/chat/completions", chat("go", model=old)) == old
            assert not lots.drawn()

    run(story)


def test_an_evaluation_asks_what_serves_and_draws_no_lot(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, _, new, lots):
            for number in range(12):
                path = f"/s/{number}/v1/chat/completions"
                assert await asked(house, path, chat("go"), x_sleepy_purpose="eval") == new
            assert not lots.drawn()

    run(story)


def test_after_a_rollback_everybody_gets_what_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, old, *_):
            for number in range(12):
                await asked(house, f"/s/{number}/v1/chat/completions", chat("go"))
            house.registry.rollback()
            for number in range(24):
                assert await asked(house, f"/s/{number}/v1/chat/completions", chat("go")) == old

    run(story)


def test_a_session_keeps_its_adapter_when_the_share_changes(tmp_path: Path) -> None:
    async def story() -> None:
        async with divided(tmp_path) as (house, old, new, lots):
            before = {n: await asked(house, f"/s/{n}/v1/chat/completions", chat("go")) for n in range(24)}
            lots.set_share(lots.promotion, 1.0)
            after = {n: await asked(house, f"/s/{n}/v1/chat/completions", chat("go")) for n in range(24)}
            assert before == after and old in before.values()
            fresh = {await asked(house, f"/s/new-{n}/v1/chat/completions", chat("go")) for n in range(24)}
            assert fresh == {new}

    run(story)


def test_when_the_old_adapter_is_damaged_the_base_takes_its_place(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_house(tmp_path, says(b"{}"), lots=Lots(0.5)) as house:
            old, new = House(tmp_path).serve(1, 2)
            (tmp_path / "adapters" / old / "manifest.json").write_text("{")
            found = {await asked(house, f"/s/{n}/v1/chat/completions", chat("go")) for n in range(24)}
            assert found == {BASE, new}

    run(story)


# The lot


def test_a_restart_draws_alike() -> None:
    drawn: list[list[bool]] = []
    for _ in range(2):
        lots = Lots(0.5)
        lots.begin("p")
        drawn.append([lots.gives_new(f"session-{n}") for n in range(50)])
    assert drawn[0] == drawn[1]


def test_what_was_drawn_before_a_restart_holds_whatever_the_share_is_now() -> None:
    lots = Lots(0.9)
    lots.begin("p")
    lots.restore("p", [Assigned(session="a", new=False, share=0.5), Assigned(session="b", new=True, share=0.5)])
    assert (lots.gives_new("a"), lots.gives_new("b")) == (False, True)
    assert lots.drawn() == []


def test_what_was_drawn_for_another_promotion_does_not_come_back() -> None:
    lots = Lots(1.0)
    lots.begin("second")
    lots.restore("first", [Assigned(session="a", new=False, share=0.5)])
    assert lots.gives_new("a") and not lots.open


def test_of_too_many_sessions_the_one_that_was_silent_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepyd.lots.REMEMBERED_SESSIONS", 2)
    lots = Lots(0.5)
    lots.begin("p")
    lots.restore("p", [Assigned(session=name, new=False, share=0.5) for name in ("a", "b")])
    lots.gives_new("a")
    lots.gives_new("c")
    lots.set_share("p", 1.0)
    assert (lots.gives_new("a"), lots.gives_new("b")) == (False, True)


def test_each_promotion_draws_anew() -> None:
    alike = sum((lot("one", f"s{n}") < 0.5) == (lot("other", f"s{n}") < 0.5) for n in range(2000))
    assert 900 < alike < 1100


@given(st.text(), st.text())
def test_a_lot_is_a_fraction(promotion: str, session: str) -> None:
    assert 0 <= lot(promotion, session) < 1


def test_lots_are_spread_evenly() -> None:
    drawn = sorted(lot("p", f"session-{n}") for n in range(4000))
    assert max(abs(value - (n + 0.5) / 4000) for n, value in enumerate(drawn)) < 0.03


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
        {"input": "hi"},
    ],
)
def test_the_first_words_are_found_in_every_api(body: dict[str, Any]) -> None:
    nobody = Identity("", "prefix")
    assert sticky_name(nobody, "a", body) == sticky_name(nobody, "a", {"messages": [{"role": "user", "content": "hi"}]})
    assert sticky_name(nobody, "a", body) != sticky_name(nobody, "b", body)


@pytest.mark.parametrize(
    "body", [{}, {"prompt": "hi"}, {"messages": []}, {"messages": "x", "n": 1}, {"prompt": [1, 2]}, {"input": 3}]
)
def test_odd_bodies_are_no_trouble(body: dict[str, Any]) -> None:
    assert isinstance(sticky_name(Identity("", "prefix"), "a", body), str)
