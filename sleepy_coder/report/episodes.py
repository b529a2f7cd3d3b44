"""One episode for people: what was said and how much, how it ended, who says so, and in which words."""

from __future__ import annotations

from typing import Final

from sleepy_coder.collect.episodes import last_turn
from sleepy_coder.types import Attempt, Episode, Outcome, SessionCheck

_SHORT: Final = 100


def verdict_words(episode: Episode, check: SessionCheck | None) -> str:
    """What the check said: that of a watched session, else that of the last attempt, else why there was none."""
    verdict = check.verdict if check else episode.attempts[-1].verdict if episode.attempts else None
    said = (verdict.feedback or verdict.detail) if verdict else ""
    return said.strip() or episode.reason


def short_reason(episode: Episode, check: SessionCheck | None) -> str:
    """The first line of that, where the episode did not pass."""
    return "" if episode.outcome is Outcome.PASS else verdict_words(episode, check).partition("\n")[0][:_SHORT]


def provenance_rows(episode: Episode, check: SessionCheck | None, when: str) -> list[tuple[str, str]]:
    """Where the episode is from, and how it ended."""
    task = check.task if check else episode.task
    return [
        ("id", episode.id),
        ("session", episode.session),
        ("source", episode.source),
        ("when", when),
        ("served by", episode.served_by),
        ("task", f"{task.id} ({task.family})" if task else "none"),
        ("check", " ".join(task.command) if task else "none"),
        ("attempts", str(len(episode.attempts))),
        ("outcome", f"{episode.outcome}, by {episode.outcome_source}"),
    ]


def message_rows(attempt: Attempt) -> list[tuple[str, str, str]]:
    """Each message and the reply: who, characters, and the tools that it calls."""
    return [
        (message.role, f"{len(message.content):,}", ", ".join(call.name for call in message.tool_calls))
        for message in (*attempt.messages, last_turn(attempt))
    ]
