"""Records to rows and back. What cannot be read back again is not stored."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from sleepy_coder.errors import StoreError
from sleepy_coder.store_database import Parameter
from sleepy_coder.store_lessons import lesson_of
from sleepy_coder.store_spare import SpareEpisodes
from sleepy_coder.tasks.fresh import bucket_of
from sleepy_coder.types import Episode, Example, Message, Outcome, Record

R = TypeVar("R", bound=Record)

_QUARANTINE_CHARACTERS: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Refused:
    """What is no record: where it is from, why it was refused, and what it says."""

    source: str
    reason: str
    payload: str


def encode(record: Record) -> str:
    """The record as JSON. Raises StoreError when it would not read back (NaN, half a surrogate pair)."""
    try:
        payload = record.model_dump_json(round_trip=True)
        type(record).model_validate_json(payload)
    except ValueError as error:  # both of pydantic's errors are ValueErrors
        raise StoreError(f"This {type(record).__name__} cannot be stored ({error})", "Fix or drop it") from error
    return payload


def decode(kind: type[R], payload: str) -> R:
    """The record in `payload`. Raises StoreError when it was written under other rules."""
    try:
        return kind.model_validate_json(payload)
    except ValueError as error:
        remedy = "Restore a backup, or go back to the version that wrote it"
        raise StoreError(f"A stored {kind.__name__} cannot be read ({error})", remedy) from error


def equal(**wanted: Parameter) -> tuple[str, dict[str, Parameter]]:
    """A WHERE clause for the columns that are not None, and its parameters."""
    given: dict[str, Parameter] = {column: value for column, value in wanted.items() if value is not None}
    return " AND ".join(f"{column} = :{column}" for column in given) or "TRUE", given


def episode_filter(unused: bool, outcome: Outcome | None) -> tuple[str, dict[str, Parameter]]:
    where, parameters = equal(outcome=outcome and outcome.value)
    return (f"{where} AND used_in IS NULL" if unused else where), parameters


def episode_row(episode: Episode) -> dict[str, Parameter]:
    lesson = lesson_of(episode)
    return {
        "id": episode.id,
        "session": episode.session,
        "source": episode.source,
        "task_id": episode.task and episode.task.id,
        "family": episode.task and episode.task.family,
        "outcome": episode.outcome.value,
        "created": episode.created.isoformat(),
        "bucket": bucket_of(episode.task) if episode.task and lesson else None,  # others are only claimed
        "first_seen": seen_at(episode.created),
        "tried": lesson and lesson.tried,
        "passed": lesson and lesson.passed,
        "answer": lesson and lesson.answer,
        "dreamable": lesson is not None and lesson.dreamable,
        "mistake": lesson and lesson.mistake,
        "payload": encode(episode),
    }


def seen_at(time: datetime) -> str:
    """A time of `live_tasks`: UTC, so that texts compare as times do."""
    return time.astimezone(UTC).isoformat(timespec="seconds")


def insert_episodes(db: sqlite3.Connection, rows: Sequence[Mapping[str, Parameter]], spare: SpareEpisodes) -> int:
    """Insert the rows whose ids are new, with a copy in `spare`; how many those were."""
    sql = (
        "INSERT INTO episodes"
        " (id, session, source, task_id, family, outcome, created, tried, passed, answer, dreamable, mistake, payload)"
        " VALUES (:id, :session, :source, :task_id, :family, :outcome, :created,"
        " :tried, :passed, :answer, :dreamable, :mistake, :payload)"
        " ON CONFLICT (id) DO NOTHING"
    )
    met = (
        "INSERT INTO live_tasks (task_id, bucket, first_seen, position)"
        " VALUES (:task_id, :bucket, :first_seen, last_insert_rowid())"
        " ON CONFLICT (task_id) DO UPDATE SET first_seen = min(first_seen, excluded.first_seen)"
    )
    new: list[Mapping[str, Parameter]] = []
    for row in rows:
        if db.execute(sql, dict(row)).rowcount:
            new.append(row)
            if row["bucket"] is not None:
                db.execute(met, dict(row))
    if new:
        spare.keep(str(row["payload"]) for row in new)
    return len(new)


def insert_quarantine(db: sqlite3.Connection, bad: Refused) -> None:
    """Keep what was refused once, however often it comes."""
    parts = (bad.source, bad.reason, bad.payload[:_QUARANTINE_CHARACTERS])
    text = [part.encode(errors="backslashreplace").decode() for part in parts]
    db.execute(
        "INSERT INTO quarantine (sha256, source, reason, payload) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [_sha256(*text), *text],
    )


def example_hash(example: Example) -> str:
    """Equal for rows that teach the same: the messages, the completion, and tools and thoughts where there are any."""
    plain = (*(part for m in example.messages for part in (m.role, m.content)), example.completion)
    rest = example.model_dump_json(include={"messages", "reply", "tools", "first_turn", "thoughts"})
    more = example.reply or example.tools or example.first_turn is not None or example.thoughts
    return _sha256(*plain, rest) if more or any(map(_more_than_text, example.messages)) else _sha256(*plain)


def _more_than_text(message: Message) -> bool:
    return bool(message.tool_calls or message.tool_call_id or message.reasoning)


def _sha256(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()
