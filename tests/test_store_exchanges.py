"""The store keeps what passed the gateway, and older stores learn to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations
from test_store import episode

from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_migrations import initial
from sleepy_coder.types import Exchange


def exchange(id: str, session: str = "s", *, whole: bool = True, wire: str = "chat") -> Exchange:
    return Exchange(
        id=id,
        session=session,
        session_source="header",
        agent="aider",
        wire=wire,
        path="/v1/chat/completions",
        asked_model="sleepy-coder",
        served_by="base",
        request="{}",
        response='{"é": "\\ud83d"}',
        status=200,
        streamed=True,
        whole=whole,
        finish_reason="stop",
        started=datetime(2026, 11, 24, 12, tzinfo=UTC),
        first_byte_seconds=0.1,
        seconds=0.2,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        yield opened


def test_an_exchange_is_read_back_equal_and_its_id_is_kept_once(store: Store) -> None:
    assert store.save_exchange(exchange("a"))
    assert not store.save_exchange(exchange("a", "other"))
    assert list(store.exchanges()) == [exchange("a")]


def test_exchanges_are_streamed_in_order_beyond_one_page_and_found_by_what_they_are(store: Store) -> None:
    ids = [f"x{number:03}" for number in range(150)]
    assert store.save_exchanges(exchange(id) for id in ids) == 150
    position = store.exchange_position()
    store.save_exchanges([exchange("t", "t", whole=False), exchange("u", "t", wire="messages")])
    assert [found.id for found in store.exchanges(limit=100)] == ids[:100]
    assert [found.id for found in store.exchanges(session="s")] == ids
    assert [found.id for found in store.exchanges(after=position)] == ["t", "u"]
    assert [found.id for found in store.exchanges(whole=False)] == ["t"]
    assert [found.id for found in store.exchanges(wire="messages")] == ["u"]
    assert (store.count_exchanges(), store.count_exchanges(session="t", whole=True)) == (152, 1)
    places = [place for place, _ in store.positioned_exchanges()]
    assert places == sorted(places) and places[149] == position


def test_a_batch_with_one_unstorable_exchange_saves_none_of_it(store: Store) -> None:
    bad = exchange("b").model_copy(update={"agent": "\ud800"})
    with pytest.raises(StoreError, match="cannot be stored"):
        store.save_exchanges([exchange("a"), bad])
    assert (store.count_exchanges(), store.exchange_position()) == (0, 0)


def test_a_store_of_before_gets_the_table_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first_only = Migrations("sleepy_coder")
    first_only(name="0001_initial")(initial)
    StoreDatabase(path, first_only).close()
    with Store(path) as store:
        store.save_episode(episode("e"))
        assert store.save_exchange(exchange("a"))
        assert store.count_episodes() == 1
    assert (tmp_path / "store.db.backup-before-0002_exchanges").is_file()
    database = Database(path)
    assert "exchanges" in database.table_names()
    database.close()
