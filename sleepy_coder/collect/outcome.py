"""What became of a conversation, from what is known apart from the model's own words.

Pure. Every label says where it comes from, and only a verifier's trains (store_lessons.py): the others are hints for
whoever picks what to verify again, and for the day's statistics. What the agent claims is worth nothing and is
not read; a user's message counts only where an agent sends it the output of a failed check, as aider does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from sleepy_coder.collect.outcome_text import read_output
from sleepy_coder.collect.wire_values import json_or_none
from sleepy_coder.types import Message, Outcome, ToolCall, Verdict

LabelSource = Literal["verifier", "feedback", "tool-text", "exit-code", "git-commit", "none"]

# Who is believed first. Among the results of tools the last one tells how it ended.
_TRUST: Mapping[LabelSource, int] = {
    "verifier": 4,
    "feedback": 3,
    "tool-text": 2,
    "exit-code": 2,
    "git-commit": 1,
    "none": 0,
}


@dataclass(frozen=True, slots=True)
class Label:
    """An outcome, who says so, and what it was read from."""

    outcome: Outcome
    source: LabelSource
    evidence: str = ""


UNLABELLED = Label(Outcome.UNKNOWN, "none")

_CHECK = re.compile(
    r"(?:^|[\s;&|(/\"'])(?:cargo\s+(?:\+\S+\s+)?(?:test|t|build|b|check|c|run|r|clippy|nextest)\b|rustc\b|pytest\b"
    r"|py\.test\b|python3?\s+-m\s+(?:pytest|unittest)\b|tox\b|nox\b|go\s+(?:test|build|vet|run)\b"
    r"|(?:npm|pnpm|yarn|bun)\s+(?:test|t\b|run\s+\S*(?:test|build|check|lint)|ci\b)|npx\s+(?:jest|vitest|mocha|tsc)\b"
    r"|jest\b|vitest\b|mocha\b|tsc\b|node\s+--test\b|make\s+(?:\S*test|check|build|all)\b|ctest\b|mvn\b|gradlew?\b"
    r"|dotnet\s+(?:test|build)\b|mix\s+test\b|rspec\b|phpunit\b|zig\s+(?:build|test)\b|swift\s+(?:test|build)\b)"
)
# These show what stands somewhere, which may well be the output of a test: of another day, or in a document.
_READS = re.compile(
    r"\s*(?:cd\s+\S+\s*(?:&&|;)\s*)?(?:cat|bat|head|tail|less|more|grep|rg|ag|find|fd|ls|tree|sed|awk|echo|printf|nl|wc|diff"
    r"|git\s+(?:log|show|diff|status|blame|grep|branch))\b"
)
_READING_TOOLS = re.compile(
    r"(?i)^(?:read|view|cat|open|grep|glob|search|list|ls|find|fetch|web|todo|think)|read_file$"
)
_WRITING_TOOLS = re.compile(r"(?i)(?:write|edit|replace|patch|create)")
_EXIT_CODES = re.compile(
    r"(?i)(?:\"returncode\"\s*:\s*|<returncode>|\"exit_?code\"\s*:\s*"
    r"|\bexit(?:ed)?(?:\s+with)?(?:\s+(?:status|code))+\s*:?\s*)(-?\d{1,3})\b"
)
_NO_SUCCESS = re.compile(r"\"success\"\s*:\s*(false|true)")
_COMMITTED = re.compile(r"(?m)^[ \t]*\[[^\]\n]{1,100} [0-9a-f]{7,40}\] ")
_COMMITS = re.compile(r"(?:^|[\s;&|(\"'])git\s+(?:-\S+\s+(?:[^\s-]\S*\s+)?)*commit\b")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_COMMAND_NAMES = ("command", "cmd", "script", "code", "commands", "action")
_CANNOT_RUN = (126, 127)


def label(messages: Sequence[Message], feedback: Label | None = None, verified: Verdict | None = None) -> Label:
    """The label that is to be believed; UNLABELLED when nothing says anything."""
    found = [*labels(messages)]
    if feedback is not None:
        found.append(feedback)
    if verified is not None:
        found.append(Label(verified.outcome, "verifier", verified.stage))
    best = UNLABELLED
    for one in found:
        if _TRUST[one.source] >= _TRUST[best.source]:
            best = one
    return best


def feedback(good: bool, note: str = "") -> Label:
    """What a person says of it."""
    return Label(Outcome.PASS if good else Outcome.FAIL, "feedback", note)


def labels(messages: Sequence[Message]) -> Iterator[Label]:
    """All that the results of tools say, in order."""
    calls = {call.id: call for message in messages for call in message.tool_calls}
    spoke = False
    for message in messages:
        if message.role == "assistant":
            spoke = True
        elif message.role == "tool":
            yield from _of_result(message.content, calls.get(message.tool_call_id))
        elif message.role == "user" and spoke:
            # Whoever sends a failed check wants it mended; one that passed is only ever quoted.
            reading = read_output(message.content)
            if reading is not None and reading[0] is Outcome.FAIL:
                yield Label(Outcome.FAIL, "tool-text", reading[1])


def _of_result(content: str, call: ToolCall | None) -> Iterator[Label]:
    command = command_of(call)
    check = command is not None and bool(_CHECK.search(command))
    if call is not None and not check and _only_reads(call, command):
        return
    text = unwrapped(content)
    code = exit_code(content)
    reading = read_output(text)
    if check and code in _CANNOT_RUN:
        yield Label(Outcome.INFRA, "exit-code", f"exit code {code}")
    elif reading is not None and (reading[0] is not Outcome.INFRA or check):
        yield Label(reading[0], "tool-text", reading[1])
    elif check and code is not None:
        yield Label(Outcome.PASS if code == 0 else Outcome.FAIL, "exit-code", f"exit code {code}")
    if command is not None and _COMMITS.search(command) and _COMMITTED.search(text):
        yield Label(Outcome.PASS, "git-commit", "git commit")


def command_of(call: ToolCall | None) -> str | None:
    """The shell command of a call; None when it is no such call."""
    if call is None:
        return None
    try:
        given: object = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments or None
    if isinstance(given, str):
        return given
    if not isinstance(given, dict):
        return None
    arguments = cast("dict[str, object]", given)
    for name in _COMMAND_NAMES:
        value = arguments.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return " ".join(str(part) for part in cast("list[object]", value))
        if isinstance(value, dict):
            return command_of(ToolCall(id=call.id, name=call.name, arguments=json.dumps(value)))
    return None


def exit_code(content: str) -> int | None:
    """The exit code that a result ends with, in whichever agent's form; 1 or 0 where only success is told."""
    codes = _EXIT_CODES.findall(content)
    if codes:
        return int(codes[-1])
    told = _NO_SUCCESS.findall(content)
    return None if not told else int(told[-1] == "false")


def unwrapped(content: str) -> str:
    """The output inside a result that is a JSON object, one text after the other; else the result itself.

    Without colours, and with line breaks where some other language's quotes have escaped them all.
    """
    texts = list(_texts(json_or_none(content)))
    text = "\n".join(texts) if texts else content
    return _COLOURS.sub("", text if "\n" in text else text.replace("\\n", "\n"))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in cast("dict[str, object]", value).values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _texts(inner)


def _only_reads(call: ToolCall, command: str | None) -> bool:
    if command is not None:
        return bool(_READS.match(command))
    return bool(_READING_TOOLS.search(call.name) or _WRITING_TOOLS.search(call.name))
