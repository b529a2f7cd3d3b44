"""Reading JSON whose shape is up to others: wrong kinds become nothing, texts in parts become one text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from sleepy_coder.errors import EpisodeFormatError

Json = dict[str, Any]

_TEXT_PARTS = frozenset(("text", "input_text", "output_text", "reasoning_text", "summary_text", "refusal", "thinking"))
_SILENT_PARTS = frozenset(("thinking", "redacted_thinking", "tool_use", "tool_call", "toolCall", "reasoning"))


def unreadable(why: str) -> EpisodeFormatError:
    return EpisodeFormatError(f"This conversation cannot be read: {why}", "It is left out")


def objects(value: object) -> list[Json]:
    """The objects of a list; of anything else, none."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast(Json, item) for item in items if isinstance(item, dict)]


def object_of(value: object) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def json_or_none(text: str | bytes) -> object:
    """The JSON value in `text`; None when it is none, as for null."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def canonical(value: object) -> str:
    """JSON as a model would write it; equal values give equal texts."""
    return json.dumps(value, ensure_ascii=False)


def tool_text(tools: Sequence[Json]) -> str:
    """The tools as one JSON text, without marks for a cache; empty when there are none."""
    kept = [{name: value for name, value in tool.items() if name != "cache_control"} for tool in tools]
    return canonical(kept) if kept else ""


def function_tool(function: Json) -> Json:
    """A function as vLLM shows it to the chat template, whatever the client left out or added."""
    shown = {name: function.get(name) for name in ("name", "description", "parameters")}
    strict = function.get("strict")
    return {"type": "function", "function": shown if strict is None else {**shown, "strict": strict}}


def text_of(value: object) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        items = cast("list[object]", value)
        plain: list[Json] = [{"type": "text", "text": item} for item in items if isinstance(item, str)]
        return "\n".join(part_texts(plain or objects(items)))
    return "" if value is None else canonical(value)


def part_texts(parts: Sequence[Json]) -> list[str]:
    """The text of each part. A picture or a file leaves its kind in brackets, so that its place is seen."""
    texts: list[str] = []
    for part in parts:
        kind = str(part.get("type") or "text")
        if kind in _SILENT_PARTS:
            continue
        if kind in _TEXT_PARTS:
            texts.append(str(part.get("text") or part.get("refusal") or ""))
        elif kind == "tool_result":
            texts.append(text_of(part.get("content")))
        else:
            texts.append(f"[{kind}]")
    return texts
