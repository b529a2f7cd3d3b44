"""The store keeps what passed the gateway, and older stores learn to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations
from test_store import episode

from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_database import StoreDatabase
from sleepy_coder.store_migrations import collected, exchanges, initial
from sleepy_coder.types import Episode, Exchange


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


# What agents send, what looks like it, and what does not.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300), lambda inner: st.lists(inner, max_size=4)
)
BODIES = st.dictionaries(st.text(max_size=8), VALUES | st.dictionaries(st.text(max_size=8), VALUES, max_size=3))
REQUESTS = st.one_of(
    st.builds(json.dumps, BODIES, ensure_ascii=st.booleans(), indent=st.none() | st.integers(0, 3)),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text('{}[]",: 1a\\\0', max_size=40),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as opened:
        yield opened


def test_an_exchange_is_read_back_equal_and_its_id_is_kept_once(store: Store) -> None:
    assert store.save_exchanges([exchange("a")])
    assert not store.save_exchanges([exchange("a", session="other")])
    assert list(store.exchanges()) == [exchange("a")]


def test_exchanges_are_streamed_in_the_order_they_came_beyond_one_page(store: Store) -> None:
    many = [exchange(f"e{number}") for number in range(150)]
    assert store.save_exchanges(many) == 150
    assert list(store.exchanges()) == many


@pytest.mark.parametrize("field", ["agent", "request"])
def test_a_batch_with_one_unstorable_exchange_saves_none_of_it(store: Store, field: str) -> None:
    bad = exchange("b").model_copy(update={field: "\ud800"})
    with pytest.raises(StoreError, match="cannot be stored"):
        store.save_exchanges([exchange("a"), bad])
    assert list(store.exchanges()) == []


def asking(*lengths: int) -> str:
    """A request with messages of these lengths."""
    return json.dumps({"messages": [{"role": "user", "content": f"{n} " * n} for n in lengths], "stream": True})


@settings(max_examples=25, deadline=None)
@given(st.lists(REQUESTS, max_size=4))
def test_every_request_comes_back_byte_for_byte(requests: list[str]) -> None:
    sent = [exchange(f"e{n}").model_copy(update={"request": request}) for n, request in enumerate(requests)]
    with TemporaryDirectory() as folder, Store(Path(folder) / "store.db") as store:
        store.save_exchanges(sent)
        assert list(store.exchanges()) == sent


def test_a_conversation_that_is_sent_again_with_every_turn_is_stored_about_once(store: Store, tmp_path: Path) -> None:
    requests = [asking(*range(1000, 1000 + 2 * turn)) for turn in range(1, 41)]
    store.save_exchanges(exchange(f"e{n}").model_copy(update={"request": text}) for n, text in enumerate(requests))
    with closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        pieces, rest = (
            raw.execute(f"SELECT sum(length({column})) FROM {table}").fetchone()[0]
            for column, table in (("text", "messages"), ("payload) + length(skeleton", "exchanges"))
        )
    assert pieces < 1.01 * len(requests[-1])
    assert pieces + rest < sum(map(len, requests)) / 15


def test_a_store_of_before_gets_the_table_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    first_only = Migrations("sleepy_coder")
    first_only(name="0001_initial")(initial)
    StoreDatabase(path, first_only).close()
    with Store(path) as store:
        store.save_episode(episode("e"))
        assert store.save_exchanges([exchange("a")])
        assert store.count_episodes() == 1
    assert (tmp_path / "store.db.backup-before-0002_exchanges").is_file()
    database = Database(path)
    assert "exchanges" in database.table_names()
    database.close()


def test_exchanges_and_episodes_of_before_are_read_and_chosen_like_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    before = Migrations("sleepy_coder")
    for name, step in (("0001_initial", initial), ("0002_exchanges", exchanges), ("0003_collected", collected)):
        before(name=name)(step)
    with closing(StoreDatabase(path, before)) as old, old.write() as db:
        for table, record in (("exchanges", exchange("a")), ("episodes", episode("e")), ("episodes", talk("f"))):
            row = {"id": record.id, "session": record.session, "payload": record.model_dump_json()}
            kind = {"session_source": "", "wire": "", "whole": 1, "started": ""}
            task = {"source": "", "task_id": "t1", "outcome": "pass", "created": ""}
            row |= kind if table == "exchanges" else task
            db.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values()))
    with Store(path) as store:
        assert list(store.exchanges()) == [exchange("a")]
        store.save_episode(episode("e2"))  # the same answer again
        found = store.answers(store.position(), per_task=4)
        assert (list(found.positions), list(found.passed), list(found.tried)) == ([1], [2], [2])


def talk(id: str) -> Episode:
    return episode(id).model_copy(update={"outcome_source": "tool-text"})


def test_the_store_tells_when_the_exchange_that_was_saved_last_began(store: Store) -> None:
    assert store.latest_exchange() is None
    store.save_exchanges([exchange("one")])
    later = exchange("two").model_copy(update={"started": datetime(2026, 11, 24, 13, tzinfo=UTC)})
    store.save_exchanges([later])
    assert store.latest_exchange() == later.started
