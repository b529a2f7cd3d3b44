"""How long a conversation is in tokens, told from its characters: the tokenizer lives with torch, in the trainer."""

from __future__ import annotations

from typing import Final

from sleepy_coder.types import Example, Message

_MOST_PER_TOKEN: Final = 6
"""More than any tokenizer makes of a whole conversation: what is too long by this is too long."""


def surely_beyond(row: Example, max_length: int) -> bool:
    """Whether not even the first turn to learn fits in `max_length` tokens, so that there is nothing to train on."""
    return characters_to_learn(row) > _MOST_PER_TOKEN * max_length


def characters_to_learn(row: Example) -> int:
    """The characters up to the end of the first turn to learn: what a row holds at least."""
    messages = (*row.messages, row.reply or Message(role="assistant", content=row.completion))
    first = min(_turns(row, messages), default=len(row.messages))
    return len(row.tools) + sum(map(_characters, messages[: first + 1]))


def _turns(row: Example, messages: tuple[Message, ...]) -> list[int]:
    if row.thoughts is not None:
        return list(row.thoughts)
    start = len(row.messages) if row.first_turn is None else row.first_turn
    return [place for place in range(start, len(messages)) if messages[place].role == "assistant"]


def _characters(message: Message) -> int:
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.reasoning) + calls
