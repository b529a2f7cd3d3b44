"""OpenAI's responses API in chat form: a flat list of items becomes turns.

An assistant's turn is all that it writes until someone else speaks: its thoughts, its text and its calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sleepy_coder.collect.wire_values import Json, canonical, function_tool, objects, text_of, tool_text, unreadable
from sleepy_coder.types import Message, Role, ToolCall

_CALLS = {"function_call": "arguments", "custom_tool_call": "input", "local_shell_call": "action"}
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(slots=True)
class _Turn:
    """What the assistant has written so far."""

    texts: list[str] = field(default_factory=list[str])
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    thoughts: list[str] = field(default_factory=list[str])

    def end(self) -> tuple[Message, ...]:
        if not (self.texts or self.calls):
            return ()
        said = Message(
            role="assistant",
            content="\n".join(self.texts),
            tool_calls=tuple(self.calls),
            reasoning="\n".join(self.thoughts),
        )
        return (said,)


def items_in(value: object) -> tuple[Message, ...]:
    """The messages of an `input` or an `output`. Raises EpisodeFormatError."""
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    messages: list[Message] = []
    turn = _Turn()
    for item in objects(value):
        if _continues(turn, item):
            continue
        messages.extend(turn.end())
        turn = _Turn()
        messages.append(_answer_or_word(item))
    messages.extend(turn.end())
    return tuple(messages)


def _continues(turn: _Turn, item: Json) -> bool:
    """Whether the item is the assistant's; then it is added to the turn."""
    kind = str(item.get("type") or "message")
    if kind == "reasoning":
        parts = objects(item.get("content")) or objects(item.get("summary"))
        turn.thoughts.extend(str(part.get("text") or "") for part in parts)
    elif kind in _CALLS:
        given = item.get(_CALLS[kind])
        name = str(item.get("name") or ("local_shell" if kind == "local_shell_call" else ""))
        id = str(item.get("call_id") or item.get("id") or "")
        if kind == "custom_tool_call":
            given = {"input": text_of(given)}  # what the model itself wrote: it is shown a function of one text
        turn.calls.append(ToolCall(id=id, name=name, arguments=given if isinstance(given, str) else canonical(given)))
    elif kind == "message" and item.get("role") == "assistant":
        turn.texts.append(text_of(item.get("content")))
    else:
        # Calls of the provider's own tools come with their result inside; no model here could make them.
        return kind.endswith("_call")
    return True


def _answer_or_word(item: Json) -> Message:
    kind = str(item.get("type") or "message")
    if kind.endswith("_output"):
        return Message(role="tool", content=text_of(item.get("output")), tool_call_id=str(item.get("call_id") or ""))
    role = _ROLES.get(str(item.get("role")))
    if kind != "message" or role is None:
        raise unreadable(f"it has an item of the kind {kind!r}")
    return Message(role=role, content=text_of(item.get("content")))


_FREE_TEXT: Json = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The freeform text payload for this tool."}},
    "required": ["input"],
    "additionalProperties": False,
}


def response_tools(request: Json) -> str:
    """The functions in chat form, and as vLLM shows it, custom tools as functions of one text.

    The provider's own tools are left out.
    """
    tools = [
        {**tool, "parameters": _FREE_TEXT} if tool.get("type") == "custom" else tool
        for tool in objects(request.get("tools"))
        if tool.get("type") in ("function", "custom")
    ]
    return tool_text([function_tool(tool) for tool in tools])
