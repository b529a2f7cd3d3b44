"""The user's own fine-tuning file: whole, and through the same gates as everything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import FROZEN, make_task

from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.dialogue import first_messages
from sleepy_coder.errors import ConfigError
from sleepy_coder.learn.own_rows import OwnRows, own_rows
from sleepy_coder.tasks.leaks import LeakIndex

ASKED = {"role": "user", "content": "Say hello."}
SAID = {"role": "assistant", "content": "hello"}


def read(folder: Path, *lines: str) -> OwnRows:
    file = folder / "own.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return own_rows(file, SecretRedactor(), LeakIndex([make_task(FROZEN[0])]))


def conversation(*messages: dict[str, str]) -> str:
    return json.dumps({"messages": messages})


def test_each_conversation_is_a_row_and_the_same_one_counts_once(tmp_path: Path) -> None:
    other = conversation(ASKED, {"role": "assistant", "content": "hi"})
    found = read(tmp_path, conversation(ASKED, SAID), "", other, conversation(ASKED, SAID))
    assert [row.completion for row in found.rows] == ["hello", "hi"]
    assert {(row.kind, row.family, row.anchor) for row in found.rows} == {("replay", "own", False)}
    assert [message.content for message in found.rows[0].messages] == ["Say hello."]
    assert found.bad == ()


@pytest.mark.parametrize("line", ['{"messages": [', '{"messages": "none"}', "[]", conversation(ASKED), '{"text": "x"}'])
def test_a_bad_line_is_named_and_the_others_are_kept(tmp_path: Path, line: str) -> None:
    found = read(tmp_path, line, conversation(ASKED, SAID))
    assert [row.completion for row in found.rows] == ["hello"]
    (bad,) = found.bad
    assert bad.place == "line 1"
    assert bad.reason


def test_secrets_are_taken_out_before_anything_is_kept(tmp_path: Path) -> None:
    key = "AKIA" + "Q3EGRIBZ5KMT7XNP"
    found = read(tmp_path, conversation({"role": "user", "content": f"use {key}"}, SAID))
    assert key not in str(found)
    assert "<SECRET:" in found.rows[0].messages[0].content


def test_what_is_close_to_a_frozen_task_is_left_out(tmp_path: Path) -> None:
    prompt = first_messages(make_task(FROZEN[0]), "")[1].content
    found = read(tmp_path, conversation({"role": "user", "content": prompt}, SAID), conversation(ASKED, SAID))
    assert [row.completion for row in found.rows] == ["hello"]
    (bad,) = found.bad
    assert "too close to frozen task" in bad.reason


def test_a_file_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        own_rows(tmp_path / "none.jsonl", SecretRedactor(), LeakIndex([]))
    assert "mix.sft_file" in str(caught.value.remedy)
