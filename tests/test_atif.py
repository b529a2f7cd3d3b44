"""Trajectories in Harbor's format say the same before and after, and what the model did not write is not learned."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import assistant, bash, result, system, user

from sleepy_coder.collect.atif import VERSIONS, as_atif
from sleepy_coder.collect.episodes import last_turn
from sleepy_coder.collect.formats import episode_in
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.types import Episode, Message, Outcome, ToolCall

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)
READ = ToolCall(id="c1", name="read", arguments='{"path": "src/lib.rs"}')
TALK = (
    system("You mend code."),
    user("Mend it."),
    Message(role="assistant", content="I look.", tool_calls=(READ, bash("c2", "cargo test")), reasoning="Hm."),
    result("c1", "fn main() {}"),
    result("c2", "test result: ok. 3 passed; 0 failed"),
    assistant("Done."),
)
# The shape of the example in the format's documentation: two calls at once, metrics, a picture, all that may be there.
DOCUMENT: dict[str, Any] = {
    "schema_version": "ATIF-v1.6",
    "session_id": "s-1",
    "agent": {
        "name": "harbor-agent",
        "version": "1.0.0",
        "model_name": "qwen",
        "tool_definitions": [{"type": "function", "function": {"name": "read"}}],
        "extra": {},
    },
    "notes": "A note.",
    "steps": [
        {"step_id": 1, "timestamp": "2026-11-23T10:00:00Z", "source": "system", "message": "You mend code."},
        {"step_id": 2, "source": "user", "message": [{"type": "text", "text": "Mend it."}]},
        {
            "step_id": 3,
            "source": "agent",
            "model_name": "sc-0001-ab12cd34",
            "message": "I look.",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"tool_call_id": "c1", "function_name": "read", "arguments": {"path": "src/lib.rs"}},
                {"tool_call_id": "c2", "function_name": "bash", "arguments": {"command": "cargo test"}},
            ],
            "observation": {
                "results": [
                    {"source_call_id": "c1", "content": "fn main() {}"},
                    {"source_call_id": "c2", "content": [{"type": "text", "text": TALK[4].content}]},
                ]
            },
            "metrics": {"prompt_tokens": 520, "completion_tokens": 80, "cost_usd": 0.0004, "logprobs": [-0.1]},
        },
        {"step_id": 4, "source": "agent", "message": "Done."},
    ],
    "final_metrics": {"total_prompt_tokens": 1120, "total_steps": 4},
}


def read(entry: dict[str, Any]) -> Episode:
    return episode_in(entry, WHEN, trusted=False)


def conversation(episode: Episode) -> tuple[Message, ...]:
    (attempt,) = episode.attempts
    return (*attempt.messages, last_turn(attempt))


def test_a_documented_trajectory_is_read_whole() -> None:
    episode = read(DOCUMENT)
    assert conversation(episode) == TALK
    assert json.loads(episode.attempts[0].tools) == DOCUMENT["agent"]["tool_definitions"]
    assert (episode.session, episode.served_by, episode.source) == ("s-1", "sc-0001-ab12cd34", "atif")
    assert episode.created == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert (episode.outcome, episode.outcome_source) == (Outcome.PASS, "tool-text")


@pytest.mark.parametrize("version", VERSIONS)
def test_all_versions_up_to_1_8_are_read(version: str) -> None:
    assert conversation(read({**DOCUMENT, "schema_version": version})) == TALK


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "ATIF-v2.0"},
        {"steps": []},
        {"steps": DOCUMENT["steps"][:2]},
        {"steps": [{"source": "robot", "message": ""}]},
        {"steps": [DOCUMENT["steps"][1], {**DOCUMENT["steps"][3], "llm_call_count": 0}]},
    ],
)
def test_what_is_of_another_version_or_says_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EpisodeFormatError):
        read({**DOCUMENT, **changes})


def test_steps_that_were_copied_for_context_are_not_learned() -> None:
    steps = [*DOCUMENT["steps"][:2], {**DOCUMENT["steps"][2], "is_copied_context": True}, DOCUMENT["steps"][3]]
    assert read(DOCUMENT).attempts[0].first_turn == 2
    assert read({**DOCUMENT, "steps": steps}).attempts[0].first_turn == 5


def test_turns_that_the_model_is_not_known_to_have_written_go_out_as_context() -> None:
    episode = read(DOCUMENT)
    (attempt,) = episode.attempts
    last = len(attempt.messages)
    sent = episode.model_copy(update={"attempts": (attempt.model_copy(update={"thoughts": {last: ""}}),)})
    assert read(as_atif(sent)).attempts[0].first_turn == last


def test_what_the_environment_says_to_no_call_is_a_message_to_the_model() -> None:
    screen = {**DOCUMENT["steps"][3], "observation": {"results": [{"content": "$ ls"}, {"content": None}]}}
    last = {**DOCUMENT["steps"][3], "step_id": 5}
    found = conversation(read({**DOCUMENT, "steps": [*DOCUMENT["steps"][:2], screen, last]}))
    assert found[2:] == (assistant("Done."), user("$ ls"), user(""), assistant("Done."))


CALLS = st.sampled_from(("{}", '{"a": 1}', '{"a":1}', "no json", "[1]", '{"a": "\u00e9"}'))


@st.composite
def talks(draw: st.DrawFn) -> tuple[Message, ...]:
    found = [user("Mend it.")]
    for turn in range(draw(st.integers(0, 3))):
        calls = tuple(
            ToolCall(id=f"c{turn}-{n}", name="bash", arguments=text) for n, text in enumerate(draw(st.lists(CALLS)))
        )
        found.append(Message(role="assistant", content=draw(st.text()), tool_calls=calls, reasoning=draw(st.text())))
        found += [result(call.id, draw(st.text())) for call in calls]
        found += [user(text) for text in draw(st.lists(st.text(), max_size=1))]
    return (*found, assistant("Done."))


@settings(deadline=None)
@given(talks())
def test_a_trajectory_that_goes_out_and_comes_in_again_is_the_same(talk: tuple[Message, ...]) -> None:
    episode = read(DOCUMENT)
    attempt = episode.attempts[0].model_copy(update={"messages": talk[:-1], "first_turn": first_turn(talk)})
    sent = episode.model_copy(update={"attempts": (attempt,)})
    back = read(json.loads(json.dumps(as_atif(sent))))
    assert back.attempts[0].model_copy(update={"verdict": attempt.verdict}) == attempt
    assert (back.session, back.served_by, back.created) == (sent.session, sent.served_by, sent.created)


def first_turn(talk: tuple[Message, ...]) -> int:
    return next(number for number, message in enumerate(talk) if message.role == "assistant")


def test_harbors_own_model_takes_what_goes_out() -> None:
    harbor = pytest.importorskip("harbor.models.trajectories")
    unnamed = (
        TALK[0],
        result("lost", "x"),
        *TALK[1:3],
        result("c9", "?"),
        assistant("", bash("c", "no json")),
        TALK[5],
    )
    for talk in (TALK, unnamed, TALK[-1:]):
        attempt = read(DOCUMENT).attempts[0].model_copy(update={"messages": talk[:-1], "first_turn": None})
        document = as_atif(read(DOCUMENT).model_copy(update={"attempts": (attempt,)}))
        assert harbor.Trajectory.model_validate(document).to_json_dict() == document
