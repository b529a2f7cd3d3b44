"""Episodes in other tools' files: which format an entry is in, what it says as an episode, and the ways out.

Read are sleepy-episode/1 (ours, for any tool to write), Harbor's ATIF, mini-swe-agent's trajectories, OpenAI chat
and Hugging Face messages, ShareGPT, and our own stored episodes. Whatever a file claims about its outcome is kept as
a claim (`claimed:...`), which does not train; without a claim the outcome is read from the results of tools.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sleepy_coder.collect.atif import as_atif, is_atif, trajectory_in
from sleepy_coder.collect.episodes import attempt_of, last_turn
from sleepy_coder.collect.outcome import Label, label
from sleepy_coder.collect.wire_values import Json, json_or_none, object_of, objects, text_of, tool_text, unreadable
from sleepy_coder.collect.wires import chat_messages, openai_message
from sleepy_coder.errors import EpisodeFormatError, problems
from sleepy_coder.types import Episode, Message, Outcome

_LONGEST_NAME: Final = 200
SCHEMA: Final = "sleepy-episode/1"
FormatName = Literal["sleepy-episode/1", "episode", "atif", "mini-swe-agent", "messages", "sharegpt"]


class ExportFormat(StrEnum):
    """Our own episodes as they are stored, trajectories, or conversations for fine-tuning elsewhere."""

    EPISODES = "episodes"
    OPENAI = "openai"
    HF = "hf"
    ATIF = "atif"


class Section(BaseModel):
    """Base of the parts of a file: fields that are not known are another tool's business."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FileSession(Section):
    """Which session the conversation belongs to."""

    id: str = Field("", max_length=_LONGEST_NAME, description="Any name; conversations of one session share it.")
    source: str = Field("", description="How it was known: path, header, cache_key or prefix.")


class FileAgent(Section):
    """Who held the conversation."""

    name: str = ""
    version: str = ""
    wire_api: str = ""


class FileModel(Section):
    """Who answered."""

    base: str = ""
    adapter: str = ""


class FileTask(Section):
    """What it was about."""

    id: str = ""
    domain: str = ""
    source: str = ""
    repo_commit: str = ""
    family: str = ""


class FileVerification(Section):
    """What became of it, and who says so."""

    status: Literal["passed", "failed", "env_error", "unverified"] = "unverified"
    by: str = ""
    cmd: str = ""
    rc: int | None = None
    at: datetime | None = None


class FileEpisode(Section):
    """One episode in schema sleepy-episode/1. Only `schema` and `messages` have to be there."""

    schema_name: Literal["sleepy-episode/1"] = Field(alias="schema")
    id: str = Field("", max_length=_LONGEST_NAME)
    session: FileSession = FileSession()  # pyright: ignore[reportCallIssue]
    agent: FileAgent = FileAgent()
    model: FileModel = FileModel()
    task: FileTask = FileTask()
    tools: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    messages: list[dict[str, Any]] = Field(min_length=1)
    verification: FileVerification = FileVerification()


_STATUS: Final[Mapping[str, Outcome]] = {"passed": Outcome.PASS, "failed": Outcome.FAIL, "env_error": Outcome.INFRA}
_SHAREGPT_ROLES: Final = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def detect(entry: Json) -> FormatName:
    """The format of an entry. Raises EpisodeFormatError when it is none of those that are known."""
    if entry.get("schema") == SCHEMA:
        return SCHEMA
    if "attempts" in entry and "outcome_source" in entry:
        return "episode"
    if is_atif(entry):
        return "atif"
    if str(entry.get("trajectory_format", "")).startswith("mini-swe-agent"):
        return "mini-swe-agent"
    if isinstance(entry.get("conversations"), list):
        return "sharegpt"
    if isinstance(entry.get("messages"), list):
        return "messages"
    schema = f" (schema {entry['schema']!r})" if "schema" in entry else ""
    raise EpisodeFormatError(
        f"This entry is not an episode in a known format{schema}",
        f"Write {SCHEMA}, ATIF, OpenAI chat, Hugging Face messages, ShareGPT or mini-swe-agent's traj.json",
    )


def episode_in(entry: Json, when: datetime, *, trusted: bool) -> Episode:
    """The entry as an episode; `when` is its time if it tells none. Raises EpisodeFormatError.

    With `trusted`, an episode of our own keeps a verifier's outcome; otherwise that is a claim like any other.
    """
    return _READERS[detect(entry)](entry, when, trusted)


def _is_list(text: str) -> bool:
    return isinstance(json_or_none(text or "[]"), list)


def _own(entry: Json, when: datetime, trusted: bool) -> Episode:
    try:
        episode = Episode.model_validate_json(json.dumps(entry))
    except ValidationError as error:
        raise EpisodeFormatError(f"This episode is not valid: {_problems(error)}", "Fix or drop it") from error
    if not episode.attempts or not all(_is_list(attempt.tools) for attempt in episode.attempts):
        raise EpisodeFormatError("This episode has no attempts, or tools that are not a JSON list", "Fix or drop it")
    if trusted or episode.outcome_source != "verifier":
        return episode
    return episode.model_copy(update={"outcome_source": "claimed:verifier"})


def _sleepy(entry: Json, when: datetime, trusted: bool) -> Episode:
    try:
        file = FileEpisode.model_validate(entry)
    except ValidationError as error:
        raise EpisodeFormatError(f"This is not valid {SCHEMA}: {_problems(error)}", "Fix or drop it") from error
    said = file.verification
    at = when if said.at is None else said.at if said.at.tzinfo else said.at.replace(tzinfo=UTC)
    served_by = file.model.adapter or file.model.base
    made = _episode(entry, SCHEMA, chat_messages(file.messages), tool_text(file.tools), at, served_by)
    changes: dict[str, object] = {"session": file.session.id or made.session, "id": file.id or made.id}
    if outcome := _STATUS.get(said.status):
        changes |= {"outcome": outcome, "outcome_source": f"claimed:{said.by or 'unnamed'}"}
    return made.model_copy(update=changes)


def _atif(entry: Json, when: datetime, trusted: bool) -> Episode:
    read = trajectory_in(entry)
    made = _episode(entry, "atif", read.messages, read.tools, read.when or when, read.served_by, read.first_turn)
    return made.model_copy(update={"session": read.session or made.session})


def _mini_swe_agent(entry: Json, when: datetime, trusted: bool) -> Episode:
    # The last message may be of the role "exit": the agent's own note of how it ended.
    messages = chat_messages([m for m in objects(entry.get("messages")) if m.get("role") != "exit"])
    config = object_of(object_of(entry.get("info")).get("config"))
    model = object_of(config.get("model")).get("model_name")
    return _episode(entry, "mini-swe-agent", messages, "", when, str(model or ""))


def _messages(entry: Json, when: datetime, trusted: bool) -> Episode:
    tools = entry.get("tools")
    if isinstance(tools, str):  # a column of texts in Parquet and its kin
        tools = json_or_none(tools)
    messages = chat_messages(entry.get("messages"))
    return _episode(entry, "messages", messages, tool_text(objects(tools)), when, str(entry.get("model") or ""))


def _sharegpt(entry: Json, when: datetime, trusted: bool) -> Episode:
    messages: list[Json] = []
    system = entry.get("system")
    if isinstance(system, str) and system:
        messages.append({"role": "system", "content": system})
    for number, turn in enumerate(objects(entry.get("conversations"))):
        speaker, value = str(turn.get("from", turn.get("role"))), text_of(turn.get("value", turn.get("content")))
        if speaker == "function_call":
            call = {"id": f"call_{number}", "function": _sharegpt_call(value)}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        elif role := _SHAREGPT_ROLES.get(speaker):
            answers = f"call_{number - 1}" if role == "tool" else ""
            messages.append({"role": role, "content": value, "tool_call_id": answers})
        else:
            raise unreadable(f"it has a turn from {speaker!r}")
    return _episode(entry, "sharegpt", chat_messages(messages), "", when, str(entry.get("model") or ""))


def _sharegpt_call(value: str) -> Json:
    named = object_of(json_or_none(value))
    return named if "name" in named else {"name": "", "arguments": value}


_READERS: Final[Mapping[FormatName, Callable[[Json, datetime, bool], Episode]]] = {
    SCHEMA: _sleepy,
    "episode": _own,
    "atif": _atif,
    "mini-swe-agent": _mini_swe_agent,
    "messages": _messages,
    "sharegpt": _sharegpt,
}


def _episode(
    entry: Json,
    source: str,
    messages: Sequence[Message],
    tools: str,
    when: datetime,
    served_by: str,
    first_turn: int | None = None,
) -> Episode:
    """An episode named by its content, so that a file that comes twice is known the second time.

    `first_turn` is where the first reply stands that is its own, by default the first of all.
    """
    turns = [number for number, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        raise unreadable("it has no reply")
    found: Label = label(messages)
    first = turns[0] if first_turn is None else first_turn
    name = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:32]
    return Episode(
        id=name,
        session=f"import-{name}",
        source=source,
        task=None,
        attempts=(attempt_of(messages[: turns[-1] + 1], first, found, served_by, tools),),
        outcome=found.outcome,
        outcome_source=found.source,
        served_by=served_by,
        created=when,
    )


def _problems(error: ValidationError) -> str:
    """The first few problems, without the values, which may be long or secret."""
    found = problems(error, "all of it")
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


# And out again


def exported(episode: Episode, form: ExportFormat) -> Json | None:
    """A line for other tools: the last attempt as one conversation; None when there is none.

    OPENAI gives calls with their arguments as JSON texts, HF as objects and with the thoughts, ATIF a trajectory.
    """
    if not episode.attempts:
        return None
    if form is ExportFormat.ATIF:
        return as_atif(episode)
    attempt = episode.attempts[-1]
    messages = [_exported(message, form) for message in (*attempt.messages, last_turn(attempt))]
    return {"messages": messages, **({"tools": json.loads(attempt.tools)} if attempt.tools else {})}


def _exported(message: Message, form: ExportFormat) -> Json:
    out = openai_message(message)
    if form is ExportFormat.OPENAI:
        out.pop("reasoning_content", None)
        return out
    for call in objects(out.get("tool_calls")):
        function = object_of(call["function"])
        arguments = json_or_none(function["arguments"])
        if isinstance(arguments, dict):
            function["arguments"] = arguments
    return out
