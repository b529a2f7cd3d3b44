"""Old exchanges are dropped in small transactions, and never a message that an exchange still needs."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import episode
from test_store_exchanges import asking, exchange

from sleepy_coder import store_prune
from sleepy_coder.store import Store
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_messages import named_in
from sleepy_coder.store_prune import Pruned
from sleepy_coder.types import Exchange

DAY = timedelta(days=1)
START = exchange("start").started
PIECES = [letter * 200 for letter in "abc"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        yield opened


def test_pruning_drops_what_has_become_episodes_and_is_old_with_the_messages_that_nothing_else_needs(
    store: Store,
) -> None:
    day = timedelta(days=1)
    texts = {"old": asking(100, 200), "waits": asking(200, 300), "new": asking(300, 400)}
    made = {name: exchange(name).model_copy(update={"request": text}) for name, text in texts.items()}
    new = made["new"].model_copy(update={"started": made["new"].started + 2 * day})
    store.save_exchanges([made["old"], made["waits"], new])
    store.save_collected([episode("e")], ["old", "new"])
    planned = store.prune_exchanges(made["old"].started + day, only_count=True)
    assert (planned.exchanges, planned.messages) == (1, 1)
    assert len(list(store.exchanges())) == 3
    assert store.prune_exchanges(made["old"].started + day) == planned
    assert list(store.exchanges()) == [made["waits"], new]
    assert store.count_episodes() == 1
    assert store.prune_exchanges(made["old"].started + day) == Pruned(exchanges=0, messages=0, bytes=0)


def sends(id: str, pieces: list[str], *, old: bool = True) -> Exchange:
    """An exchange whose request holds these messages."""
    request = json.dumps({"messages": pieces})
    return exchange(id).model_copy(update={"request": request, "started": START if old else START + 2 * DAY})


@contextmanager
def before_each_write(store: Store, do: Callable[[], object]) -> Generator[None]:
    """Somebody else does this before each transaction of `store`."""
    write = StoreDatabase.write

    def writing(self: StoreDatabase) -> AbstractContextManager[sqlite3.Connection]:
        if self is store._db:
            do()
        return write(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreDatabase, "write", writing)
        yield


def test_where_nothing_is_old_nobody_waits(store: Store, tmp_path: Path) -> None:
    store.save_exchanges(sends(f"e{n}", PIECES, old=False) for n in range(5))
    store.save_collected([], [f"e{n}" for n in range(5)])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.prune_exchanges(START + DAY) == Pruned(exchanges=0, messages=0, bytes=0)
        other.execute("ROLLBACK")


def test_what_would_be_dropped_is_counted_without_a_wait(store: Store, tmp_path: Path) -> None:
    store.save_exchanges([sends("a", PIECES)])
    store.save_collected([], ["a"])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.prune_exchanges(START + DAY, only_count=True).messages == len(PIECES)
        other.execute("ROLLBACK")


def test_no_transaction_deletes_more_than_a_batch(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_prune, "AT_ONCE", 4)
    store.save_exchanges(sends(f"e{n}", [f"{n} " * 200]) for n in range(20))
    store.save_collected([], [f"e{n}" for n in range(20)])
    rows: list[int] = []
    with closing(sqlite3.connect(f"file:{tmp_path / 'store.db'}?mode=ro", uri=True)) as raw:

        def count() -> None:
            counts = "SELECT (SELECT count(*) FROM exchanges) + (SELECT count(*) FROM messages)"
            rows.append(raw.execute(counts).fetchone()[0])

        with before_each_write(store, count):
            done = store.prune_exchanges(START + DAY)
        count()
    assert (done.exchanges, done.messages) == (20, 20)
    assert [before - after for before, after in zip(rows, rows[1:], strict=False)] == [4] * 10


def test_a_prune_that_was_killed_leaves_nothing_that_the_next_one_does_not_find(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(_: float) -> None:
        raise Killed

    monkeypatch.setattr(store_prune, "AT_ONCE", 1)
    store.save_exchanges(sends(f"e{n}", PIECES[: n + 1]) for n in range(4))
    store.save_collected([], [f"e{n}" for n in range(4)])
    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(store_prune.time, "sleep", kill)
        store.prune_exchanges(START + DAY)
    assert store.prune_exchanges(START + DAY).exchanges == 3
    assert messages(tmp_path / "store.db") == (set(), set())


def messages(path: Path) -> tuple[set[int], set[int]]:
    """The ids of those that are stored, and of those that exchanges need."""
    with closing(sqlite3.connect(path)) as raw:
        stored = {id for (id,) in raw.execute("SELECT id FROM messages")}
        skeletons = [skeleton for (skeleton,) in raw.execute("SELECT skeleton FROM exchanges")]
    return stored, set[int]().union(*map(named_in, skeletons))


# Which messages each exchange holds, and whether it is old.
SENT = st.lists(
    st.tuples(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), st.booleans()), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None)
@given(SENT, SENT, st.integers(1, 6))
def test_whoever_saves_while_old_ones_go_every_exchange_that_stays_is_whole(
    before: list[tuple[list[str], bool]], meanwhile: list[tuple[list[str], bool]], at_once: int
) -> None:
    with TemporaryDirectory() as folder, Store(path := Path(folder) / "store.db") as store, Store(path) as other:
        sent = [sends(f"e{n}", pieces, old=old) for n, (pieces, old) in enumerate(before)]
        store.save_exchanges(sent)
        store.save_collected([], [one.id for one in sent])
        left = [sends(f"m{n}", pieces, old=old) for n, (pieces, old) in enumerate(meanwhile)]
        saved: list[Exchange] = []

        def save_one() -> None:
            if left:
                saved.append(left.pop())
                other.save_exchanges([saved[-1]])

        with pytest.MonkeyPatch.context() as patch, before_each_write(store, save_one):
            patch.setattr(store_prune, "AT_ONCE", at_once)
            done = store.prune_exchanges(START + DAY)
        stay = [one for one in sent if one.started > START]
        assert list(store.exchanges()) == [*stay, *saved]
        assert done.exchanges == len(sent) - len(stay)
        stored, needed = messages(path)
        assert stored == needed


@settings(max_examples=60, deadline=None)
@given(SENT, st.integers(1, 3), st.integers(1, 4))
def test_two_that_drop_at_the_same_time_drop_nothing_that_is_saved_meanwhile(
    before: list[tuple[list[str], bool]], at_once: int, when: int
) -> None:
    with TemporaryDirectory() as folder, Store(path := Path(folder) / "store.db") as store, Store(path) as other:
        sent = [sends(f"e{n}", pieces, old=old) for n, (pieces, old) in enumerate(before)]
        store.save_exchanges(sent)
        store.save_collected([], [one.id for one in sent])
        writes, saved = itertools.count(1), list[Exchange]()

        def drop_all_and_save() -> None:
            if next(writes) == when:
                other.prune_exchanges(START + 3 * DAY)
                saved.extend(sends(f"m{n}", [piece]) for n, piece in enumerate(PIECES))
                other.save_exchanges(saved)

        with pytest.MonkeyPatch.context() as patch, before_each_write(store, drop_all_and_save):
            patch.setattr(store_prune, "AT_ONCE", at_once)
            store.prune_exchanges(START + DAY)
        assert [one for one in store.exchanges() if one not in sent] == saved
        stored, needed = messages(path)
        assert needed <= stored
