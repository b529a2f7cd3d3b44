"""Files of other tools become episodes that say what the files say, and no more than they can vouch for."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import make_episode
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import plant
from talks import assistant, bash, chat_form, result, system, user

from sleepy_coder.collect.episodes import last_turn
from sleepy_coder.collect.formats import SCHEMA, ExportFormat, episode_in, exported
from sleepy_coder.collect.intake import BadEntry, ImportCounts, entries, export_file, import_file
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.store import Store
from sleepy_coder.types import Episode, Message, Outcome

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)
TALK = (
    system("You mend code."),
    user("Mend it."),
    assistant("", bash("c", "cargo test")),
    result("c", "test result: ok. 3 passed; 0 failed"),
    assistant("Done."),
)
TOOLS = [{"type": "function", "function": {"name": "bash"}}]
CHAT: dict[str, Any] = {"messages": chat_form(TALK), "tools": TOOLS}
SLEEPY: dict[str, Any] = {
    **CHAT,
    "schema": SCHEMA,
    "id": "e-1",
    "session": {"id": "s-1", "source": "header"},
    "agent": {"name": "codex", "version": "0.169", "wire_api": "responses"},
    "model": {"base": "qwen", "adapter": "sc-0001-ab12cd34"},
    "verification": {"status": "passed", "by": "verifier", "rc": 0},
    "hashes": {"prompt": "x"},
}
TRAJECTORY: dict[str, Any] = {
    "trajectory_format": "mini-swe-agent-1.1",
    "info": {"exit_status": "Submitted", "config": {"model": {"model_name": "openai/sleepy-coder"}}},
    "messages": [*CHAT["messages"], {"role": "exit", "content": "", "extra": {}}],
}
SHAREGPT: dict[str, Any] = {
    "system": "You mend code.",
    "conversations": [
        {"from": "human", "value": "Mend it."},
        {"from": "function_call", "value": '{"name": "bash", "arguments": {"command": "cargo test"}}'},
        {"from": "observation", "value": "test result: ok. 3 passed; 0 failed"},
        {"from": "gpt", "value": "Done."},
    ],
}


def conversation(episode: Episode) -> tuple[Message, ...]:
    (attempt,) = episode.attempts
    return (*attempt.messages, last_turn(attempt))


def read(entry: dict[str, Any], *, trusted: bool = False) -> Episode:
    return episode_in(entry, WHEN, trusted=trusted)


@pytest.mark.parametrize("entry", [CHAT, SLEEPY, TRAJECTORY], ids=["chat", "sleepy", "mini-swe-agent"])
def test_a_conversation_is_read_whole_with_its_calls_and_results(entry: dict[str, Any]) -> None:
    assert conversation(read(entry)) == TALK


def test_sharegpt_is_read_with_its_calls_and_results() -> None:
    found = conversation(read(SHAREGPT))
    assert [(m.role, m.content) for m in found] == [(m.role, m.content) for m in TALK]
    assert json.loads(found[2].tool_calls[0].arguments) == {"command": "cargo test"}
    assert found[3].tool_call_id == found[2].tool_calls[0].id


def test_hugging_faces_arguments_as_objects_are_the_same_calls() -> None:
    row = exported(read(CHAT), ExportFormat.HF)
    assert row is not None
    assert isinstance(row["messages"][2]["tool_calls"][0]["function"]["arguments"], dict)
    assert conversation(read({**row, "tools": json.dumps(row["tools"])})) == TALK


def test_our_schema_keeps_its_id_session_and_model() -> None:
    episode = read(SLEEPY)
    assert (episode.id, episode.session, episode.served_by) == ("e-1", "s-1", "sc-0001-ab12cd34")
    assert episode.source == SCHEMA


def test_what_a_file_claims_is_a_claim_and_no_verification() -> None:
    assert (read(SLEEPY).outcome, read(SLEEPY).outcome_source) == (Outcome.PASS, "claimed:verifier")
    own = json.loads(make_episode(1, Outcome.PASS).model_dump_json())
    assert read(own).outcome_source == "claimed:verifier"
    assert read(own, trusted=True).outcome_source == "verifier"


def test_without_a_claim_the_results_of_tools_tell_the_outcome() -> None:
    assert (read(CHAT).outcome, read(CHAT).outcome_source) == (Outcome.PASS, "tool-text")
    unverified = {**SLEEPY, "verification": {"status": "unverified"}}
    assert read(unverified).outcome_source == "tool-text"


def test_the_same_conversation_has_the_same_id_and_another_has_another() -> None:
    assert read(CHAT).id == read(json.loads(json.dumps(CHAT))).id
    assert read({**CHAT, "tools": []}).id != read(CHAT).id


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"schema": "sleepy-episode/9", "x": 1}, "sleepy-episode/9"),
        ({"schema": SCHEMA, "messages": []}, "messages"),
        ({"schema": SCHEMA, "messages": [{}], "verification": {"status": "great"}}, "verification.status"),
        ({"text": "hello"}, "not an episode"),
        ({"messages": [{"role": "user", "content": "x"}]}, "it has no reply"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "wizard"),
        ({"conversations": [{"from": "martian", "value": "x"}]}, "martian"),
        ({"attempts": [], "outcome_source": "verifier"}, "id"),
    ],
)
def test_what_is_no_episode_is_refused_with_the_reason(entry: dict[str, Any], why: str) -> None:
    with pytest.raises(EpisodeFormatError, match=why):
        read(entry)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "tool_calls", "function", "id", "type", "text"]), inner
        ),
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["messages", "conversations", "schema", "schema_version", "steps", "attempts", "outcome_source", "tools", "system"]
)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.one_of(JSON, st.just(SCHEMA), st.lists(JSON, max_size=4))))
def test_no_entry_makes_it_stumble(entry: dict[str, Any]) -> None:
    try:
        read(entry)
    except EpisodeFormatError as error:
        assert error.message


def test_openais_export_has_texts_for_arguments_and_no_thoughts() -> None:
    thinking = {**CHAT, "messages": [*CHAT["messages"][:-1], {**CHAT["messages"][-1], "reasoning_content": "Hm."}]}
    row = exported(read(thinking), ExportFormat.OPENAI)
    assert row == {"messages": chat_form(TALK), "tools": TOOLS}
    with_thoughts = exported(read(thinking), ExportFormat.HF)
    assert with_thoughts is not None
    assert with_thoughts["messages"][-1]["reasoning_content"] == "Hm."


# Files


def taken(data: bytes, *, lines: bool) -> list[Episode | BadEntry]:
    return list(entries(io.BytesIO(data), lines=lines, redact=SecretRedactor().redact, when=WHEN))


def test_a_file_is_one_entry_a_list_or_lines() -> None:
    for data, lines in (
        (json.dumps(CHAT, indent=2), False),
        (json.dumps([CHAT]), False),
        (json.dumps(CHAT) + "\n\n", True),
        (json.dumps(CHAT) + "\n" + json.dumps(SLEEPY), False),
    ):
        first = taken(data.encode(), lines=lines)[0]
        assert isinstance(first, Episode)
        assert conversation(first) == TALK


def test_bad_entries_are_named_by_their_place_and_the_others_are_taken() -> None:
    found = taken(
        b"\n".join([json.dumps(CHAT).encode(), b"{", b"\xff\xfe", b'"x"', json.dumps(SLEEPY).encode()]), lines=True
    )
    assert [type(entry) for entry in found] == [Episode, BadEntry, BadEntry, BadEntry, Episode]
    assert [(e.place, e.reason[:12]) for e in found if isinstance(e, BadEntry)] == [
        ("line 2", "it is not JS"),
        ("line 3", "it is not UT"),
        ("line 4", "it is not a "),
    ]


def test_a_secret_in_a_file_is_taken_out_and_a_private_key_drops_the_entry() -> None:
    import random

    token = plant("github-pat", random.Random(1)).shown
    key = "-----BEGIN PRIVATE" + " KEY-----\n" + "Ab1/" * 16
    with_token, with_key = ({"messages": chat_form((user(s), assistant("ok")))} for s in (token, key))
    good, bad = taken(f"{json.dumps(with_token)}\n{json.dumps(with_key)}".encode(), lines=True)
    assert isinstance(good, Episode) and isinstance(bad, BadEntry)
    assert good.attempts[0].messages[0].content == "<SECRET:github-pat:1>"
    assert bad.text == "" and "private key" in bad.reason


def test_an_import_can_be_repeated_and_quarantines_what_is_bad(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(CHAT)}\nno json\n{make_episode(1, Outcome.PASS).model_dump_json()}\n")
    with Store(tmp_path / "store.db") as store:
        for counts in (
            ImportCounts(imported=2, known=0, quarantined=1),
            ImportCounts(imported=0, known=2, quarantined=1),
        ):
            found = import_file(file, store, SecretRedactor().redact)
            assert found.model_copy(update={"reasons": ()}) == counts
            assert [reason.partition(":")[0] for reason in found.reasons] == ["line 2"]
        assert store.count_quarantined() == 1
        assert [e.outcome_source for e in store.episodes()] == ["tool-text", "verifier"]


def test_what_is_exported_can_be_imported(tmp_path: Path) -> None:
    episodes = [read(CHAT), make_episode(1, Outcome.FAIL, Outcome.PASS)]
    for form in ExportFormat:
        assert export_file(tmp_path / form, episodes, form) == 2
        with Store(tmp_path / f"{form}.db") as store:
            assert import_file(tmp_path / form, store, SecretRedactor().redact).imported == 2
            assert conversation(next(iter(store.episodes()))) == TALK


@pytest.mark.parametrize("change", [{"attempts": []}, {"tools": "not json"}, {"tools": "{}"}])
def test_an_episode_of_our_own_that_could_not_be_read_later_is_refused_now(change: dict[str, Any]) -> None:
    entry = json.loads(read(CHAT).model_dump_json())
    if "tools" in change:
        entry["attempts"][0] |= change
    else:
        entry |= change
    with pytest.raises(EpisodeFormatError, match="no attempts, or tools"):
        read(entry)
