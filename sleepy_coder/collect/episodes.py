"""A conversation and what became of it, as an episode: one attempt that holds all of it."""

from __future__ import annotations

from collections.abc import Sequence

from sleepy_coder.collect.outcome import Label
from sleepy_coder.collect.sessions import Conversation
from sleepy_coder.types import Attempt, Episode, Message, Outcome, Task, Verdict

SOURCE = "gateway"


def as_episode(conversation: Conversation, found: Label, task: Task | None = None) -> Episode:
    """The episode of a conversation that came through the gateway. Its id does not depend on when it is made."""
    attempt = attempt_of(
        conversation.messages, conversation.first_turn, found, conversation.served_by, conversation.tools
    )
    return Episode(
        id=conversation.id,
        session=conversation.session,
        source=SOURCE,
        task=task,
        attempts=(attempt.model_copy(update={"thoughts": conversation.thoughts}),),
        outcome=found.outcome,
        outcome_source=found.source,
        served_by=conversation.served_by,
        created=conversation.started,
    )


def attempt_of(messages: Sequence[Message], first_turn: int, found: Label, served_by: str, tools: str = "") -> Attempt:
    """A conversation that ends with the assistant. Its reply is kept as a message where it is more than a text."""
    *asked, reply = messages
    more = reply.tool_calls or reply.reasoning
    verdict = Verdict(
        outcome=found.outcome,
        stage="infra" if found.outcome is Outcome.INFRA else "test" if found.outcome is Outcome.FAIL else "done",
        detail=f"{found.source}: {found.evidence}" if found.evidence else found.source,
    )
    return Attempt(
        messages=tuple(asked),
        completion=reply.content,
        verdict=verdict,
        served_by=served_by,
        reply=reply if more else None,
        tools=tools,
        first_turn=first_turn,
    )


def last_turn(attempt: Attempt) -> Message:
    """The reply that an attempt ends with, with its thoughts."""
    thought = (attempt.thoughts or {}).get(len(attempt.messages), "")
    return attempt.reply or Message(role="assistant", content=attempt.completion, reasoning=thought)
