"""The watch in the gateway's process: lots are kept, and what cannot wait for statistics is rolled back at once."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import BASE, FakeClock, FakeServer, solver
from sleepyd.keeper import Keeper
from sleepyd.lots import Lots
from sleepyd.serving import InFlight, Serving
from sleepyd.watch import CanaryWatch
from test_registry import House

from sleepy_coder.canary import last_state
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import ServerError, StoreError
from sleepy_coder.judge.replies import PATIENCE
from sleepy_coder.judge.rollback import lot
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.store_canary import Kind
from sleepy_coder.types import AdapterState, Exchange

SETTINGS = CanarySettings()  # pyright: ignore[reportCallIssue]
CALL = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls'}}


class Watching:
    """A watch over a real store and a real registry; `replies` are heard as the recorder would tell them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.house = House(home)
        self.store = Store(home / "store.db")
        self._heard, self.clock = 0, FakeClock()
        self.lots, self.serving, self.watch = self.start()

    def start(self) -> tuple[Lots, Serving, CanaryWatch]:
        """As the gateway's process does; call it again for a restart."""
        lots = Lots(SETTINGS.share)
        serving = Serving(self.house.registry, BASE, lots)
        watch = CanaryWatch(self.store, self.house.registry, lots, SETTINGS, BASE, self.clock)
        watch.open()
        self.lots, self.serving, self.watch = lots, serving, watch
        return lots, serving, watch

    def promote(self, *cycles: int) -> list[str]:
        names = self.house.serve(*cycles)
        self.serving.name()
        self.watch.look()
        return names

    def reply(self, session: str, text: str = "sound", tokens: int = 100, **more: Any) -> None:
        """`session` asks the gateway, is given its adapter, and gets this reply."""
        model, self._heard = self.serving.name_for(session), self._heard + 1
        id = f"x{self._heard}"
        self.serving.note(id, session)
        message = {"role": "assistant", "content": text, **more.pop("message", {})}
        exchange = Exchange(
            id=id,
            session=session,
            session_source="path",
            agent="a",
            wire="chat",
            path="/v1/chat/completions",
            asked_model="sleepy-coder",
            served_by=model,
            request=json.dumps({"messages": [{"role": "user", "content": "go"}]}),
            response=json.dumps({"model": model, "choices": [{"index": 0, "message": message}]}),
            status=200,
            streamed=False,
            whole=True,
            finish_reason="stop",
            started=datetime(2026, 11, 24, tzinfo=UTC),
            first_byte_seconds=0.1,
            seconds=1.0,
            tokens_out=tokens,
        )
        self.watch.hear([exchange.model_copy(update=more)])

    def sessions(self, model: str, count: int, prefix: str = "s") -> list[str]:
        """So many sessions whose lot is `model`; they have not drawn it yet."""
        promotion, active = self.house.registry.pointer().promotion, self.active()
        names = (f"{prefix}{number}" for number in range(10_000))
        found = (name for name in names if (lot(promotion, name) < SETTINGS.share) == (model == active))
        return [next(found) for _ in range(count)]

    def active(self) -> str | None:
        found = self.house.registry.active()
        return found.name if found else None


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    found = Watching(tmp_path)
    yield found
    found.store.close()


def usual(watching: Watching, old: str, count: int = 20) -> None:
    """The old adapter answers as it always does."""
    for session in watching.sessions(old, count, "usual"):
        watching.reply(session)


def begin_empty(watching: Watching, adapter: str, count: int, name: str) -> None:
    """So many sessions of this adapter begin with an empty reply."""
    for session in watching.sessions(adapter, count, name):
        watching.reply(session, text="")


@pytest.mark.parametrize(
    ("what", "reply"),
    [
        ("empty", {"text": ""}),
        ("malformed", {"text": "", "message": {"tool_calls": [CALL]}}),
    ],
)
def test_broken_replies_in_a_row_roll_back_at_once(watching: Watching, what: str, reply: dict[str, Any]) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old, 7)  # too few for the test of lengths and times
    for session in watching.sessions(new, 11, what):
        watching.reply(session, **reply)
    watching.watch.look()
    assert watching.active() == old
    assert watching.house.registry.get(new).state is AdapterState.QUARANTINED
    state = last_state(watching.store, SETTINGS)
    assert state is not None and what in state.trial.why


def test_one_session_that_asks_the_same_again_and_again_is_no_reason(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    [stubborn] = watching.sessions(new, 1, "stubborn")
    for _ in range(50):
        watching.reply(stubborn, text="")
    watching.watch.look()
    assert watching.active() == new


def test_broken_replies_are_no_reason_where_the_old_adapter_gives_as_many(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    begin_empty(watching, old, 20, "usual")
    begin_empty(watching, new, 10, "new")
    watching.watch.look()
    assert watching.active() == new


def test_a_prompt_that_breaks_any_adapter_is_no_reason_though_only_the_new_one_drew_it(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old, 6)  # too few for the test of lengths and times
    begin_empty(watching, new, 9, "retry")  # by the lot that is one in 512
    watching.watch.look()
    assert watching.active() == new
    mine, theirs = watching.sessions(old, 1, "retry"), watching.sessions(new, 18, "retry")[9:]
    for session in (*mine, *theirs):
        watching.reply(session, text="")
    watching.watch.look()
    assert watching.active() == new


def test_an_adapter_that_needs_fewer_replies_does_not_look_worse(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    for mine, theirs in zip(watching.sessions(old, 60, "o"), watching.sessions(new, 60, "n"), strict=True):
        for _ in range(4):
            watching.reply(mine)
        watching.reply(theirs)
    watching.watch.look()
    state = last_state(watching.store, SETTINGS)
    assert watching.active() == new
    assert state is not None and state.evidence.replies_e < 2


def counted(watching: Watching, kind: Kind = "form") -> list[str]:
    return [one.session for one in watching.store.counted(watching.house.registry.pointer().promotion, kind)]


def test_first_replies_count_in_the_order_of_the_lots_while_a_slow_one_is_waited_for(watching: Watching) -> None:
    """Or an adapter that is only slower would have its sound replies missing after a burst of sessions."""
    old, new = watching.promote(1, 2)
    usual(watching, old)
    before = counted(watching)
    [slow, lost], [quick, late] = watching.sessions(new, 2, "n"), watching.sessions(old, 2, "o")
    for session in (slow, quick, lost, late):
        watching.serving.name_for(session)
    for session in (quick, late):
        watching.reply(session)
    assert counted(watching) == before
    watching.reply(slow)
    assert counted(watching) == [*before, slow, quick]
    assert counted(watching, "reply")[-2:] == [slow, quick]
    watching.clock.sleep(PATIENCE.total_seconds())
    watching.watch.look()
    assert counted(watching) == [*before, slow, quick, late]


@pytest.mark.parametrize("before", [(), (3,)])
def test_a_reply_in_the_seconds_before_the_first_look_holds_up_no_trigger(
    watching: Watching, before: tuple[int, ...]
) -> None:
    if before:
        watching.promote(*before)  # another promotion is watched meanwhile
    old, new = watching.house.serve(1, 2)
    for session in (*watching.sessions(old, 1, "early"), *watching.sessions(new, 1, "early")):
        watching.reply(session)
    watching.watch.look()
    usual(watching, old, 7)
    assert len(counted(watching)) == 9
    begin_empty(watching, new, 11, "broken")
    watching.watch.look()
    assert watching.active() == old


def test_a_reply_that_was_under_way_at_a_promotion_is_not_the_new_adapter_s(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    [late] = watching.sessions(new, 1, "late")
    watching.serving.name_for(late)
    watching.reply(late, text="", served_by=old)
    assert late not in counted(watching)
    watching.reply(late)
    assert counted(watching)[-1] == late


def test_a_run_of_broken_replies_goes_on_after_a_restart(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old, 7)
    broken = watching.sessions(new, 11, "broken")
    for session in broken[:6]:
        watching.reply(session, text="")
    watching.start()
    for session in broken[6:]:
        assert watching.active() == new
        watching.reply(session, text="")
    watching.watch.look()
    assert watching.active() == old


def test_replies_that_the_store_refused_to_count_are_counted_by_the_next_look(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = watching.promote(1, 2)
    usual(watching, old, 7)
    [session] = watching.sessions(old, 1, "refused")
    with monkeypatch.context() as broken:
        broken.setattr(Store, "count_replies", locked)
        with pytest.raises(StoreError):
            watching.reply(session)
    watching.watch.look()
    assert counted(watching)[7:] == [session]


@pytest.mark.parametrize(
    "more", [{"status": 500}, {"status": 404}, {"whole": False}, {"status": 500, "whole": False, "finish_reason": ""}]
)
def test_errors_of_the_server_and_replies_that_broke_off_are_nobody_s_fault(
    watching: Watching, more: dict[str, Any]
) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    for session in watching.sessions(new, 30, "new"):
        watching.reply(session, text="", **more)
    watching.watch.look()
    assert watching.active() == new


@pytest.mark.parametrize("more", [{"tokens": 5000}, {"seconds": 60.0}])
def test_replies_that_explode_in_length_or_time_roll_back(watching: Watching, more: dict[str, Any]) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    for mine, theirs in zip(watching.sessions(old, 30, "o"), watching.sessions(new, 30, "n"), strict=True):
        for _ in range(3):
            watching.reply(mine)
        watching.reply(theirs, **more)
    watching.watch.look()
    assert watching.active() == old
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.evidence.replies_e >= SETTINGS.explosion_threshold


def test_a_machine_that_gets_slower_for_everybody_rolls_nothing_back(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    usual(watching, old)
    for mine, theirs in zip(watching.sessions(old, 30, "o"), watching.sessions(new, 30, "n"), strict=True):
        watching.reply(theirs, seconds=60.0)
        watching.reply(mine, seconds=60.0)
    watching.watch.look()
    assert watching.active() == new


# Loading


class Refusing(FakeServer):
    """Refuses to load the adapters in `refuses`."""

    refuses: frozenset[str] = frozenset()

    def load(self, name: str, path: Path) -> None:
        if name in self.refuses:
            raise ServerError(f"{name} has a rank that does not fit", status=400)
        super().load(name, path)


def kept(watching: Watching, *servers: FakeServer) -> Keeper:
    return Keeper(
        watching.house.registry,
        Fleet(servers),
        Prover(watching.home / "proofs", BASE, 0.01),
        InFlight(),
        watching.home / "night.lock",
        4,
        watching.watch.loaded,
    )


def look(watching: Watching, keeper: Keeper, times: int) -> None:
    for _ in range(times):
        keeper.look()
        watching.watch.look()


def promote_both(watching: Watching) -> tuple[str, str]:
    """Two adapters that answer, each in its own way."""
    old, new = (watching.house.stage(cycle, solves=[cycle]).name for cycle in (1, 2))
    for name in (old, new):
        watching.house.registry.activate(name)
    watching.serving.name()
    watching.watch.look()
    return old, new


def test_an_adapter_that_no_server_loads_is_rolled_back(watching: Watching) -> None:
    old, new = promote_both(watching)
    server = Refusing(solver(()))
    server.refuses = frozenset((new,))
    look(watching, kept(watching, server), SETTINGS.refusals)
    assert watching.active() == old


def test_several_servers_that_refuse_it_in_one_look_refused_it_once(watching: Watching) -> None:
    old, new = promote_both(watching)
    servers = [Refusing(solver(()), f"http://fake-{number}") for number in range(SETTINGS.refusals)]
    for server in servers:
        server.refuses = frozenset((new,))
    keeper = kept(watching, *servers)
    look(watching, keeper, SETTINGS.refusals - 1)
    assert watching.active() == new
    look(watching, keeper, 1)
    assert watching.active() == old


def test_a_server_that_refuses_both_does_not_hide_one_that_refuses_the_new_adapter_alone(watching: Watching) -> None:
    old, new = promote_both(watching)
    blind, honest = (Refusing(solver(()), f"http://fake-{number}") for number in range(2))
    blind.refuses, honest.refuses = frozenset((old, new)), frozenset((new,))
    look(watching, kept(watching, blind, honest), SETTINGS.refusals)
    assert watching.active() == old


def test_a_first_promotion_that_no_server_loads_gives_way_to_the_base_and_is_not_blamed(watching: Watching) -> None:
    first = watching.house.stage(1, solves=[1]).name
    watching.house.registry.activate(first)
    watching.serving.name()
    watching.watch.look()
    server = Refusing(solver(()))
    server.refuses = frozenset((first,))
    look(watching, kept(watching, server), SETTINGS.refusals)
    assert watching.active() is None
    assert watching.house.registry.activate(first).name == first


def test_a_server_that_loads_nothing_at_all_is_not_the_adapter_s_fault(watching: Watching) -> None:
    old, new = promote_both(watching)
    server = Refusing(solver(()))
    server.refuses = frozenset((old, new))
    look(watching, kept(watching, server), 5)
    assert watching.active() == new


def test_a_server_that_is_gone_rolls_nothing_back(watching: Watching) -> None:
    _, new = promote_both(watching)
    server = Refusing(solver(()))
    server.reachable = False
    look(watching, kept(watching, server), 5)
    assert watching.active() == new


def test_when_the_old_adapter_cannot_be_loaded_everybody_gets_the_new_one(watching: Watching) -> None:
    old, new = promote_both(watching)
    assert watching.sessions(old, 3)
    server = Refusing(solver(()))
    server.refuses = frozenset((old,))
    look(watching, kept(watching, server), SETTINGS.refusals)
    assert watching.active() == new
    assert {watching.serving.name_for(f"s{number}") for number in range(50)} == {new}
    _, serving, _ = watching.start()
    assert {serving.name_for(f"s{number}") for number in range(50)} == {new}


def damaged(watching: Watching, name: str) -> None:
    weights = watching.house.registry.get(name).path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def gone(watching: Watching, name: str) -> None:
    shutil.rmtree(watching.house.registry.get(name).path)


def answering_otherwise(watching: Watching, name: str) -> None:
    """As after a change of dtype or GPU."""
    file = watching.home / "proofs" / f"{name}.json"
    kept = json.loads(file.read_text())
    for proof in kept["proofs"]:
        proof["adapter"]["logprobs"] = [[value - 0.5 for value in row] for row in proof["adapter"]["logprobs"]]
    file.write_text(json.dumps(kept))


@pytest.mark.parametrize("what", [damaged, gone, answering_otherwise])
def test_when_the_old_adapter_fails_its_proof_after_a_restart_everybody_gets_the_new_one(
    watching: Watching, what: Callable[[Watching, str], None]
) -> None:
    old, new = promote_both(watching)
    server = FakeServer(solver(()))
    keeper = kept(watching, server)
    look(watching, keeper, 1)
    assert set(server.roots) == {old, new}
    what(watching, old)
    server.restart()
    look(watching, keeper, SETTINGS.refusals)
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "abandoned"
    assert watching.active() == new
    assert {watching.serving.name_for(f"s{number}") for number in range(50)} == {new} == set(server.roots)


def test_a_server_that_both_answer_otherwise_on_ends_no_watch(watching: Watching) -> None:
    """As one that was started with another dtype, and is put right soon."""
    old, new = promote_both(watching)
    server = FakeServer(solver(()))
    keeper = kept(watching, server)
    look(watching, keeper, 1)
    for name in (old, new):
        answering_otherwise(watching, name)
    server.restart()
    for _ in range(5):
        look(watching, keeper, 1)
        given = {watching.serving.name_for(f"s{number}") for number in range(50)}
        assert given == {old, new} == set(server.roots)  # no session is sent to a model that is not there
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "split"


@pytest.mark.parametrize("what", [damaged, gone])
def test_an_old_adapter_whose_files_are_wrong_is_given_up_also_where_the_new_one_answers_otherwise(
    watching: Watching, what: Callable[[Watching, str], None]
) -> None:
    old, new = promote_both(watching)
    server = FakeServer(solver(()))
    keeper = kept(watching, server)
    look(watching, keeper, 1)
    answering_otherwise(watching, new)
    what(watching, old)
    server.restart()
    look(watching, keeper, SETTINGS.refusals)
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "abandoned"
    assert {watching.serving.name_for(f"s{number}") for number in range(50)} == {new} == set(server.roots)


def test_what_is_put_right_is_not_counted_while_the_old_adapter_is_still_being_loaded(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch looks more often than a load takes: the looks in which both were refused are not the old one's."""
    old, new = promote_both(watching)
    server = FakeServer(solver(()))
    keeper = kept(watching, server)
    look(watching, keeper, 1)
    before = {name: (watching.home / "proofs" / f"{name}.json").read_text() for name in (old, new)}
    for name in (old, new):
        answering_otherwise(watching, name)
    server.restart()
    look(watching, keeper, 5)
    for name, proof in before.items():
        (watching.home / "proofs" / f"{name}.json").write_text(proof)
    server.restart()
    load = server.load

    def slow(name: str, path: Path) -> None:
        watching.watch.look()
        load(name, path)

    monkeypatch.setattr(server, "load", slow)
    look(watching, keeper, 1)
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "split"


def test_what_serves_is_not_blamed_by_the_watch_for_answering_otherwise(watching: Watching) -> None:
    old, new = promote_both(watching)
    server = FakeServer(solver(()))
    keeper = kept(watching, server)
    look(watching, keeper, 1)
    answering_otherwise(watching, new)
    server.restart()
    look(watching, keeper, 5)
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "split"
    assert watching.active() == new
    assert {watching.serving.name_for(f"s{number}") for number in range(50)} == {old, new} == set(server.roots)


def test_a_watch_that_goes_on_sees_that_the_hours_are_over(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepy_coder.canary.SURE_SECONDS", 0.0)
    watching.promote(1)
    watching.clock.sleep(SETTINGS.hours * 3600)
    watching.watch.look()
    state = last_state(watching.store, SETTINGS)
    assert state is not None and state.trial.stage == "holdback"


def test_a_look_that_fails_in_a_way_nobody_foresaw_does_not_end_the_watch(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sleepyd.watch.LOOK_SECONDS", 0.01)
    stop, looks = threading.Event(), list[int]()

    def broken() -> None:
        looks.append(1)
        if len(looks) == 3:
            stop.set()
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(watching.watch, "look", broken)
    watching.watch.run(stop)
    assert len(looks) == 3


# Restarts


def test_after_a_restart_each_session_keeps_its_adapter_also_in_another_stage(watching: Watching) -> None:
    old, new = watching.promote(1, 2)
    before = {f"s{number}": watching.serving.name_for(f"s{number}") for number in range(40)}
    watching.watch.look()
    promotion = watching.house.registry.pointer().promotion
    watching.store.enter_stage(promotion, "holdback", 0.95, datetime(2026, 11, 24, tzinfo=UTC), "test")
    _, serving, _ = watching.start()
    assert {session: serving.name_for(session) for session in before} == before
    later = [serving.name_for(f"later{number}") for number in range(200)]
    assert set(before.values()) == {old, new} and later.count(old) < 30


def test_what_was_drawn_last_is_kept_when_the_gateway_stops(watching: Watching) -> None:
    watching.promote(1)
    watching.serving.name_for("last")
    watching.watch.close()
    promotion = watching.house.registry.pointer().promotion
    assert [one.session for one in watching.store.assigned(promotion)] == ["last"]


def locked(*_: object) -> None:
    raise StoreError("database is locked")


def test_lots_that_the_store_refused_are_saved_by_the_next_look(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.promote(1, 2)
    drawn = [f"s{number}" for number in range(50)]
    with monkeypatch.context() as broken:
        broken.setattr(Store, "save_assigned", locked)
        for session in drawn[:30]:
            watching.serving.name_for(session)
        with pytest.raises(StoreError):
            watching.watch.look()
    for session in drawn:
        watching.serving.name_for(session)
    watching.watch.look()
    promotion = watching.house.registry.pointer().promotion
    assert [one.session for one in watching.store.assigned(promotion)] == drawn


def test_a_restart_on_a_store_that_refuses_takes_up_what_was_drawn_as_soon_as_it_can(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.promote(1, 2)
    before = {f"s{number}": watching.serving.name_for(f"s{number}") for number in range(40)}
    watching.watch.look()
    promotion = watching.house.registry.pointer().promotion
    watching.store.enter_stage(promotion, "holdback", 0.95, datetime(2026, 11, 24, tzinfo=UTC), "test")
    with monkeypatch.context() as broken:
        broken.setattr(Store, "assigned", locked)
        _, serving, watch = watching.start()
    watch.look()
    assert {session: serving.name_for(session) for session in before} == before
