"""ATIF, Harbor's Agent Trajectory Interchange Format, in and out (harborframework.com/docs/trajectory-format).

A step is a message; what tools answered stands in the step that called them. Steps that the model did not write
in this run (`is_copied_context`, or no call of a model) are context here, and are not learned. Tokens, prices and
logprobs have no place in our records, and embedded trajectories of subagents are conversations of their own: both
are left out.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from sleepy_coder.collect.episodes import last_turn
from sleepy_coder.collect.wire_values import (
    Json,
    canonical,
    json_or_none,
    object_of,
    objects,
    text_of,
    tool_text,
    unreadable,
)
from sleepy_coder.types import Episode, Message, ToolCall

VERSIONS: Final = tuple(f"ATIF-v1.{minor}" for minor in range(9))
WRITTEN: Final = "ATIF-v1.7"
_RAW: Final = "raw_arguments"


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What an ATIF document says. `first_turn` is where the first reply of this run stands; `when` may be unknown."""

    messages: tuple[Message, ...]
    first_turn: int
    tools: str
    session: str
    served_by: str
    when: datetime | None


def is_atif(entry: Json) -> bool:
    return str(entry.get("schema_version", "")).startswith("ATIF-")


def trajectory_in(entry: Json) -> Trajectory:
    """Read a document of versions 1.0 to 1.8. Raises EpisodeFormatError."""
    if entry.get("schema_version") not in VERSIONS:
        raise unreadable(f"it is {entry['schema_version']}, and known are {VERSIONS[0]} to {VERSIONS[-1]}")
    messages: list[Message] = []
    steps = objects(entry.get("steps"))
    own = 0
    for step in steps:
        messages += _messages_of(step)
        if step.get("source") == "agent" and (step.get("is_copied_context") or step.get("llm_call_count") == 0):
            own = len(messages)
    turns = [number for number, message in enumerate(messages) if message.role == "assistant" and number >= own]
    if not turns:
        raise unreadable("it has no reply")
    agent = object_of(entry.get("agent"))
    models = [step.get("model_name") for step in steps if step.get("model_name")]
    return Trajectory(
        messages=tuple(messages),
        first_turn=turns[0],
        tools=tool_text(objects(agent.get("tool_definitions"))),
        session=str(entry.get("session_id") or ""),
        served_by=str(models[-1] if models else agent.get("model_name") or ""),
        when=_time(steps[0].get("timestamp")),
    )


def _messages_of(step: Json) -> Iterator[Message]:
    source, text = step.get("source"), text_of(step.get("message"))
    if source == "agent":
        calls = tuple(_call(call) for call in objects(step.get("tool_calls")))
        reasoning = text_of(step.get("reasoning_content"))
        yield Message(role="assistant", content=text, tool_calls=calls, reasoning=reasoning)
    elif source in ("system", "user"):
        yield Message(role="system" if source == "system" else "user", content=text)
    else:
        raise unreadable(f"it has a step from {source!r}")
    for result in objects(object_of(step.get("observation")).get("results")):
        answers, said = str(result.get("source_call_id") or ""), text_of(result.get("content"))
        # What answers no call was shown to the model as a message, for instance a terminal's screen.
        yield Message(role="tool" if answers else "user", content=said, tool_call_id=answers)


def _call(call: Json) -> ToolCall:
    raw = object_of(call.get("extra")).get(_RAW)
    arguments = raw if isinstance(raw, str) else canonical(object_of(call.get("arguments")))
    return ToolCall(
        id=str(call.get("tool_call_id") or ""), name=str(call.get("function_name") or ""), arguments=arguments
    )


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# And out again


def as_atif(episode: Episode) -> Json:
    """The last attempt as a document. The episode has one; what came of it stands in `extra`."""
    attempt = episode.attempts[-1]
    messages = (*attempt.messages, last_turn(attempt))
    first = len(messages) - 1 if attempt.first_turn is None else attempt.first_turn
    own = range(first, len(messages)) if attempt.thoughts is None else attempt.thoughts
    steps = _steps(messages, own)
    steps[0]["timestamp"] = episode.created.isoformat()
    agent: Json = {"name": episode.source, "version": "unknown"}
    if episode.served_by:
        agent["model_name"] = episode.served_by
    if attempt.tools:
        agent["tool_definitions"] = json.loads(attempt.tools)
    return {
        "schema_version": WRITTEN,
        "session_id": episode.session,
        "trajectory_id": episode.id,
        "agent": agent,
        "steps": steps,
        "final_metrics": {"total_steps": len(steps)},
        "extra": {"outcome": episode.outcome.value, "outcome_source": episode.outcome_source},
    }


def _steps(messages: Sequence[Message], own: Container[int]) -> list[Json]:
    steps: list[Json] = []
    for number, message in enumerate(messages):
        if message.role == "tool":
            _observe(steps, message)
            continue
        source = "agent" if message.role == "assistant" else message.role
        step: Json = {"step_id": len(steps) + 1, "source": source, "message": message.content}
        if message.reasoning:
            step["reasoning_content"] = message.reasoning
        if message.tool_calls:
            step["tool_calls"] = [_called(call) for call in message.tool_calls]
        if message.role == "assistant" and number not in own:
            step["is_copied_context"] = True
        steps.append(step)
    return steps


def _observe(steps: list[Json], message: Message) -> None:
    """Put a tool's answer into the step that called it, or else into the last one, without a name."""
    if not steps:
        steps.append({"step_id": 1, "source": "system", "message": ""})
    called = {call["tool_call_id"] for call in objects(steps[-1].get("tool_calls"))}
    result: Json = {"content": message.content}
    if message.tool_call_id in called:
        result["source_call_id"] = message.tool_call_id
    observation = cast(Json, steps[-1].setdefault("observation", {"results": []}))
    observation["results"].append(result)


def _called(call: ToolCall) -> Json:
    """Arguments are an object there. What the model wrote that is none is kept beside it."""
    out: Json = {"tool_call_id": call.id, "function_name": call.name}
    arguments = json_or_none(call.arguments)
    if isinstance(arguments, dict) and canonical(cast(Json, arguments)) == call.arguments:
        return {**out, "arguments": arguments}
    return {**out, "arguments": object_of(cast(object, arguments)), "extra": {_RAW: call.arguments}}
