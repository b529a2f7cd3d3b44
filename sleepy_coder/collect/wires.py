"""What an exchange says, in OpenAI chat form, whatever API it was said in.

Pure and strict: what cannot be said in chat form without leaving something out that matters raises
EpisodeFormatError. What is read is what vLLM gives to the chat template, so that a row is what the model saw:
texts in parts are joined by a line break, those of a system prompt in Anthropic's form by nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sleepy_coder.collect.wire_responses import items_in, response_tools
from sleepy_coder.collect.wire_values import (
    Json,
    canonical,
    function_tool,
    object_of,
    objects,
    part_texts,
    text_of,
    tool_text,
    unreadable,
)
from sleepy_coder.types import Exchange, Message, Role, ToolCall, WireApi


@dataclass(frozen=True, slots=True)
class Spoken:
    """One exchange: what was asked, what came back, and the JSON text of the tools in chat form ("" for none)."""

    messages: tuple[Message, ...]
    reply: Message | None
    tools: str


def spoken(exchange: Exchange) -> Spoken:
    """Raises EpisodeFormatError."""
    return read(exchange.wire, loads(exchange.request), loads(exchange.response) if exchange.response else {})


def read(wire: WireApi, request: Json, response: Json) -> Spoken:
    """A request and its reply of this API. Raises EpisodeFormatError."""
    if wire == "chat":
        messages = _without_bill(chat_messages(request.get("messages")))
        return Spoken(messages, _chat_reply(response), _chat_tools(request))
    if wire == "messages":
        return _anthropic(request, response)
    if wire == "responses":
        if request.get("previous_response_id"):
            raise unreadable("it continues an answer that only the server knows")
        messages = items_in(request.get("input"))
        if instructions := text_of(request.get("instructions")):
            messages = (Message(role="system", content=instructions), *messages)
        replies = items_in(response.get("output"))
        return Spoken(_without_bill(messages), replies[-1] if replies else None, response_tools(request))
    if wire == "completions":
        prompt = request.get("prompt")
        if not isinstance(prompt, str):
            raise unreadable("its prompt is not text")
        said = [str(choice.get("text") or "") for choice in objects(response.get("choices"))]
        reply = Message(role="assistant", content=said[0]) if said else None
        return Spoken((Message(role="user", content=prompt),), reply, "")
    raise unreadable("its API holds no conversation")


def loads(text: str) -> Json:
    """The JSON object in `text`. Raises EpisodeFormatError."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable("it is not JSON") from error
    if not isinstance(value, dict):
        raise unreadable("it is not a JSON object")
    return cast(Json, value)


_BILL = "x-anthropic-billing-header"


def _without_bill(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages without the line at the head of a system prompt that Claude Code writes anew with each request."""
    return tuple(
        message.model_copy(update={"content": message.content.partition("\n")[2]})
        if message.role == "system" and message.content.startswith(_BILL)
        else message
        for message in messages
    )


# Chat completions

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def chat_messages(value: object) -> tuple[Message, ...]:
    """Messages in OpenAI chat form. Raises EpisodeFormatError."""
    if not isinstance(value, list) or len(objects(cast(object, value))) != len(cast("list[object]", value)):
        raise unreadable("its messages are not a list of objects")
    return tuple(_chat_message(message) for message in objects(cast(object, value)))


def _chat_message(message: Json) -> Message:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise unreadable(f"it has a message with the role {message.get('role')!r}")
    calls = tuple(_chat_call(call) for call in objects(message.get("tool_calls")))
    legacy = object_of(message.get("function_call"))
    thoughts = message.get("reasoning") if message.get("reasoning") is not None else message.get("reasoning_content")
    if legacy and not calls:
        calls = (_chat_call({"id": legacy.get("name"), "function": legacy}),)
    return Message(
        role=role,
        content=text_of(message.get("content") if message.get("content") is not None else message.get("refusal")),
        tool_calls=calls if role == "assistant" else (),
        tool_call_id=str(message.get("tool_call_id") or message.get("name") or "") if role == "tool" else "",
        reasoning=text_of(thoughts) if role == "assistant" else "",
    )


def _chat_call(call: Json) -> ToolCall:
    function = object_of(call.get("function")) or object_of(call.get("custom"))
    arguments = function.get("arguments", function.get("input"))
    text = arguments if isinstance(arguments, str) else canonical(arguments if arguments is not None else {})
    return ToolCall(id=str(call.get("id") or ""), name=str(function.get("name") or ""), arguments=text)


def _chat_reply(response: Json) -> Message | None:
    for choice in objects(response.get("choices")):
        if message := object_of(choice.get("message")):
            return _chat_message({**message, "role": "assistant"})
    return None


def _chat_tools(request: Json) -> str:
    tools = [object_of(tool.get("function")) for tool in objects(request.get("tools"))]
    return tool_text([function_tool(tool) for tool in tools or objects(request.get("functions")) if tool])


# Anthropic's messages


def _anthropic(request: Json, response: Json) -> Spoken:
    system = _anthropic_system(request.get("system"))
    messages = [Message(role="system", content=system)] if system else []
    for message in objects(request.get("messages")):
        messages.extend(_anthropic_message(str(message.get("role")), message.get("content")))
    replies = tuple(_anthropic_message("assistant", response.get("content"))) if response.get("content") else ()
    tools = [
        function_tool({**tool, "parameters": tool["input_schema"]})
        for tool in objects(request.get("tools"))
        if "input_schema" in tool  # the others run on the provider's side
    ]
    return Spoken(_without_bill(messages), replies[0] if replies else None, tool_text(tools))


def _anthropic_system(content: object) -> str:
    """A system prompt. In blocks, Claude Code's bill is one of its own, which vLLM leaves out whole."""
    if isinstance(content, str):
        return content
    texts = [str(block.get("text") or "") for block in objects(content)]
    return "".join(text for text in texts if not text.startswith(_BILL))


def _anthropic_message(role: str, content: object) -> Iterator[Message]:
    """One message, or several: results of tools are messages of their own, and come first."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else objects(content)
    if role == "assistant":
        yield Message(
            role="assistant",
            content="\n".join(filter(None, part_texts(blocks))),
            tool_calls=tuple(_anthropic_call(block) for block in blocks if block.get("type") == "tool_use"),
            reasoning="".join(str(b.get("thinking") or "") for b in blocks if b.get("type") == "thinking"),
        )
        return
    if role not in ("user", "system"):
        raise unreadable(f"it has a message with the role {role!r}")
    if role == "system":
        if text := _anthropic_system(content):
            yield Message(role="system", content=text)
        return
    rest = [block for block in blocks if block.get("type") != "tool_result"]
    for block in blocks:
        if block.get("type") == "tool_result":
            name = str(block.get("tool_use_id") or "")
            yield Message(role="tool", content=text_of(block.get("content")), tool_call_id=name)
    if rest:
        yield Message(role="user", content="\n".join(filter(None, part_texts(rest))))


def _anthropic_call(block: Json) -> ToolCall:
    return ToolCall(
        id=str(block.get("id") or ""),
        name=str(block.get("name") or ""),
        arguments=canonical(block.get("input") or {}),
    )


# And back


def openai_message(message: Message) -> dict[str, Any]:
    """The message as OpenAI's chat API takes it."""
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        out["tool_call_id"] = message.tool_call_id
    return out
