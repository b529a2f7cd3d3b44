"""Whatever API a conversation was held in, it reads the same afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from talks import WIRES, Talk, assistant, bash, exchanges_of, result, system, thinking, user

from sleepy_coder.collect.wires import openai_message, read, spoken
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.types import Message, ToolCall, WireApi

TALK = (
    system("You mend code."),
    user("Mend main.rs."),
    assistant("I look first.", bash("c1", "cat main.rs")),
    result("c1", "fn main() {"),
    assistant("", bash("c2", "cargo test"), bash("c3", "git status")),
    result("c2", "test result: ok. 1 passed"),
    result("c3", "clean"),
    assistant("Done."),
)


@pytest.mark.parametrize("wire", WIRES)
def test_the_same_talk_reads_the_same_in_every_api(wire: WireApi) -> None:
    said = spoken(exchanges_of(Talk(TALK, wire=wire), "x")[-1])
    assert (*said.messages, said.reply) == TALK
    (tool,) = json.loads(said.tools)
    assert (tool["type"], tool["function"]["name"]) == ("function", "bash")
    assert tool["function"]["parameters"]["properties"] == {"command": {"type": "string"}}


@pytest.mark.parametrize("wire", WIRES)
def test_a_reply_that_calls_tools_keeps_its_calls(wire: WireApi) -> None:
    said = spoken(exchanges_of(Talk(TALK, wire=wire), "x")[1])
    assert said.reply == TALK[4]


def test_what_was_read_can_be_sent_to_a_chat_api_again() -> None:
    again = read("chat", {"messages": [openai_message(message) for message in TALK]}, {})
    assert again.messages == TALK


def test_a_completion_is_a_user_who_asks_and_an_assistant_who_answers() -> None:
    said = read("completions", {"prompt": "fn main"}, {"choices": [{"text": "() {}"}]})
    assert said.messages == (user("fn main"),)
    assert said.reply == assistant("() {}")


def test_texts_in_parts_are_one_text_and_a_picture_leaves_its_place() -> None:
    parts = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:..."}}]
    said = read("chat", {"messages": [{"role": "user", "content": parts}]}, {})
    assert said.messages == (user("See\n[image_url]"),)


def test_instructions_come_first_and_thoughts_are_kept_apart() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
    ]
    said = read("responses", {"instructions": "Be brief.", "input": "Well?"}, {"output": output})
    assert said.messages == (system("Be brief."), user("Well?"))
    assert said.reply == Message(role="assistant", content="Yes.", reasoning="Hm.")


def test_claudes_thoughts_are_kept_apart_and_its_results_come_before_the_next_word() -> None:
    content = [
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "out"}], "is_error": True},
        {"type": "text", "text": "go on"},
    ]
    reply = {"content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, {"type": "text", "text": "Yes."}]}
    said = read("messages", {"messages": [{"role": "user", "content": content}]}, reply)
    assert said.messages == (result("t", "out"), user("go on"))
    assert said.reply == Message(role="assistant", content="Yes.", reasoning="Hm.")


BILL = "x-anthropic-billing-header: cch=1f2e3;"


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


def test_a_system_prompt_in_anthropics_form_has_no_breaks_between_its_blocks_and_no_bill() -> None:
    inline = {"role": "system", "content": [text(BILL), text("Mind "), text("the tests.")]}
    asked = {"system": [text(BILL), text("You are Claude Code."), text("Be brief.")]}
    said = read("messages", {**asked, "messages": [{"role": "user", "content": "Go."}, inline]}, {})
    assert said.messages == (system("You are Claude Code.Be brief."), user("Go."), system("Mind the tests."))


@pytest.mark.parametrize("parts", [f"{BILL}\nYou mend code.", [text(BILL), text("You mend code.")]])
def test_the_bill_at_the_head_of_a_system_prompt_is_left_out_in_chat_too(parts: Any) -> None:
    said = read("chat", {"messages": [{"role": "system", "content": parts}]}, {})
    assert said.messages == (system("You mend code."),)


def test_thoughts_in_blocks_have_no_breaks_between_them() -> None:
    blocks = [{"type": "thinking", "thinking": "Hm, "}, {"type": "thinking", "thinking": "so."}, text("Yes.")]
    assert read("messages", {"messages": []}, {"content": blocks}).reply == thinking("Hm, so.", "Yes.")


def test_a_custom_tool_is_a_function_of_one_text_as_the_model_is_shown_it() -> None:
    call = {"type": "custom_tool_call", "call_id": "c", "name": "apply_patch", "input": "*** Begin Patch"}
    tool = {"type": "custom", "name": "apply_patch", "description": "Patch.", "format": {"type": "text"}}
    said = read("responses", {"input": "Go.", "tools": [tool]}, {"output": [call]})
    written = ToolCall(id="c", name="apply_patch", arguments='{"input": "*** Begin Patch"}')
    assert said.reply == assistant("", written)
    assert json.loads(said.tools)[0]["function"]["parameters"]["required"] == ["input"]


def test_old_style_function_calls_are_tool_calls() -> None:
    messages = [
        {"role": "assistant", "content": None, "function_call": {"name": "ls", "arguments": "{}"}},
        {"role": "function", "name": "ls", "content": "a.rs"},
    ]
    said = read("chat", {"messages": messages}, {})
    assert said.messages == (assistant("", ToolCall(id="ls", name="ls", arguments="{}")), result("ls", "a.rs"))


@pytest.mark.parametrize(
    ("wire", "request_body"),
    [
        ("chat", {"messages": "hello"}),
        ("chat", {"messages": [{"role": "wizard", "content": "x"}]}),
        ("chat", {"messages": ["hello"]}),
        ("completions", {"prompt": [1, 2, 3]}),
        ("responses", {"input": "x", "previous_response_id": "resp_1"}),
        ("responses", {"input": [{"type": "message", "role": "wizard"}]}),
        ("messages", {"messages": [{"role": "wizard", "content": "x"}]}),
        ("other", {}),
    ],
)
def test_what_is_no_conversation_is_refused(wire: WireApi, request_body: dict[str, Any]) -> None:
    with pytest.raises(EpisodeFormatError):
        read(wire, request_body, {})
