"""Whole files in and out: what an import keeps, puts aside and counts, and that an export loses nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import episode

from sleepy_coder.collect.formats import ExportFormat
from sleepy_coder.collect.intake import ImportCounts, export_file, import_file
from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.types import Attempt, Episode, Message, Outcome, Task, Verdict


def as_it_is(text: str) -> str:
    return text


def test_a_bad_line_is_quarantined_with_its_number_and_the_rest_is_imported(tmp_path: Path) -> None:
    lines = [
        episode("a").model_dump_json().encode(),
        b"",
        b"{not json",
        b'{"id": "no episode"}',
        b"\xff\xfe",
        episode("a").model_dump_json().encode(),
        episode("b").model_dump_json().encode()[:-9],
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    with Store(tmp_path / "store.db") as store:
        counts = import_file(tmp_path / "in.jsonl", store, as_it_is)
    assert counts.model_copy(update={"reasons": ()}) == ImportCounts(imported=1, known=1, quarantined=4)
    assert [reason.partition(":")[0] for reason in counts.reasons] == ["line 3", "line 4", "line 5", "line 7"]
    with closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        sources = [source for (source,) in raw.execute("SELECT source FROM quarantine ORDER BY position")]
    assert sources == [f"in.jsonl, line {number}" for number in (3, 4, 5, 7)]


def test_an_import_file_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store, pytest.raises(StoreError, match="cannot be read"):
        import_file(tmp_path / "missing.jsonl", store, as_it_is)


text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
outcomes = st.sampled_from(Outcome)
verdicts = st.builds(Verdict, outcome=outcomes, stage=st.just("done"), feedback=text, detail=text, seconds=numbers)
messages = st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=text)
tasks = st.builds(
    Task,
    id=text,
    family=text,
    category=text,
    language=text,
    files=st.dictionaries(text, text, max_size=2),
    prompt=text,
    command=st.tuples(text),
    origin=text,
    cluster=text,
    expected_stdout=st.none() | text,
    reference=st.none() | st.dictionaries(text, text, max_size=1),
)
attempts = st.builds(Attempt, messages=st.tuples(messages), completion=text, verdict=verdicts, served_by=text)
episodes = st.builds(
    Episode,
    id=text,
    session=text,
    source=text,
    task=st.none() | tasks,
    attempts=st.lists(attempts, min_size=1, max_size=2).map(tuple),
    outcome=outcomes,
    outcome_source=text,
    served_by=text,
    created=st.datetimes(timezones=st.just(UTC)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(episodes, max_size=4, unique_by=lambda found: found.id))
def test_an_export_imported_into_an_empty_store_gives_equal_episodes(many: list[Episode]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "out.jsonl"
        with Store(Path(folder) / "one.db") as one, Store(Path(folder) / "two.db") as two:
            one.save_episodes(many)
            assert export_file(file, one.episodes(), ExportFormat.EPISODES) == len(many)
            counts = import_file(file, two, as_it_is)
            assert counts == ImportCounts(imported=len(many), known=0, quarantined=0)
            assert list(two.episodes()) == many
