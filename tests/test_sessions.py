"""Every conversation is found again, whoever talks at the same time, and nothing else becomes one."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from talks import START, WIRES, Talk, assistant, bash, exchanges_of, result, system, thinking, user

from sleepy_coder.collect.sessions import group
from sleepy_coder.types import Exchange, Message, ToolCall, WireApi

AGENT = system("You are a coding agent.")


def talk_about(subject: str, turns: int) -> tuple[Message, ...]:
    """A task, `turns` commands with their results, and a last word."""
    work = [
        message
        for turn in range(turns)
        for message in (assistant("", bash(f"{subject}{turn}", f"cargo test {turn}")), result(f"{subject}{turn}", "ok"))
    ]
    return (AGENT, user(f"Mend {subject}."), *work, assistant(f"{subject} is mended."))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(WIRES), st.integers(1, 3)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_conversations_at_the_same_time_are_told_apart_without_any_header(
    shapes: list[tuple[int, WireApi, int]], chooser: random.Random
) -> None:
    """Twins too, that say the same word for word a moment later."""
    talks = [
        Talk(talk_about(f"task-{n}", turns), wire=wire)
        for n, (turns, wire, twins) in enumerate(shapes)
        for _ in range(twins)
    ]
    begins = [START + timedelta(milliseconds=chooser.randrange(5000)) for _ in talks]
    sent = [e for n, talk in enumerate(talks) for e in exchanges_of(talk, f"t{n}", begins[n])]
    chooser.shuffle(sent)
    found = group(sent)
    assert Counter(c.messages for c in found.conversations) == Counter(talk.messages for talk in talks)
    assert sorted(id for c in found.conversations for id in c.exchanges) == sorted(e.id for e in sent)
    assert not found.side_calls and not found.left_out


@pytest.mark.parametrize("wire", WIRES)
def test_a_known_session_holds_its_conversation_under_its_name(wire: WireApi) -> None:
    sent = exchanges_of(Talk(talk_about("a", 2), wire=wire, session="s1", source="header"), "x")
    (found,) = group(sent).conversations
    assert (found.session, found.exchanges) == ("s1", ("x-0", "x-1", "x-2"))
    assert found.messages == talk_about("a", 2)
    assert json.loads(found.tools)[0]["function"]["name"] == "bash"


def test_equal_requests_of_two_sessions_stay_two_conversations() -> None:
    sent = [
        e for name in ("s1", "s2") for e in exchanges_of(Talk(talk_about("a", 1), session=name, source="path"), name)
    ]
    assert [c.session for c in group(sent).conversations] == ["s1", "s2"]


def test_equal_requests_without_a_session_go_on_where_their_own_reply_was_given() -> None:
    left = (AGENT, user("Go."), assistant("left"), user("on"), assistant("left end"))
    right = (AGENT, user("Go."), assistant("right"), user("on"), assistant("right end"))
    sent = [*exchanges_of(Talk(left), "l"), *exchanges_of(Talk(right), "r")]
    assert {c.exchanges: c.messages for c in group(sent).conversations} == {("l-0", "l-1"): left, ("r-0", "r-1"): right}


def test_calls_whose_arguments_the_agent_writes_anew_are_still_its_models() -> None:
    """opencode sends them again without white space."""
    sent: list[Exchange] = []
    for name in ("l", "r"):
        call = bash("c", name)
        anew = call.model_copy(update={"arguments": call.arguments.replace(" ", "")})
        said, later = assistant("", call), (result("c", "ok"), assistant(name))
        first = exchanges_of(Talk((AGENT, user("Go."), said)), f"{name}-first")
        sent += [*first, exchanges_of(Talk((AGENT, user("Go."), assistant("", anew), *later)), f"{name}-then")[1]]
    # Both have asked before either goes on.
    sent.sort(key=lambda exchange: exchange.id.endswith("then-1"))
    assert {c.exchanges for c in group(sent).conversations} == {
        ("l-first-0", "l-then-1"),
        ("r-first-0", "r-then-1"),
    }


def test_a_system_prompt_with_the_time_in_it_does_not_break_a_known_session() -> None:
    sent = exchanges_of(Talk(talk_about("a", 2), session="s1", source="header"), "x")
    for number, exchange in enumerate(sent):
        moved = exchange.request.replace("You are a coding agent.", f"You are a coding agent. Bill {number}.")
        sent[number] = exchange.model_copy(update={"request": moved})
    (found,) = group(sent).conversations
    assert len(found.exchanges) == 3


def test_the_number_in_a_placeholder_does_not_matter() -> None:
    first, second = exchanges_of(
        Talk((AGENT, user("Key <SECRET:github-pat:1>."), assistant("So?"), user("Go."), assistant("Done."))), "x"
    )
    second = second.model_copy(update={"request": second.request.replace("pat:1>", "pat:7>")})
    assert len(group([first, second]).conversations) == 1


def titled(session: str = "s1") -> Exchange:
    messages = (
        system("You are a title generator. You output ONLY a thread title."),
        user("Mend a."),
        assistant("Mending a"),
    )
    talk = Talk(messages, tools=False, session=session, source="header" if session else "prefix")
    return exchanges_of(talk, "title")[0]


@pytest.mark.parametrize("session", ["", "s1"])
def test_a_title_is_a_side_call(session: str) -> None:
    talk = Talk(talk_about("a", 1), session=session, source="header" if session else "prefix")
    found = group([titled(session), *exchanges_of(talk, "x")])
    assert found.side_calls == ("title-0",)
    assert len(found.conversations) == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "You are an expert software engineer that generates concise, one-line Git commit messages.",
        "Summarize this partial conversation about programming.",
        "Analyze if this message indicates a new topic. If so, extract a 2-3 word title.",
    ],
)
def test_commit_messages_and_summaries_are_side_calls(prompt: str) -> None:
    talk = Talk((system(prompt), user("diff --git a/x"), assistant("mend x")), tools=False)
    assert group(exchanges_of(talk, "x")).side_calls == ("x-0",)


def test_what_the_user_asks_sets_a_request_of_a_known_session_apart_only_from_something_that_remains() -> None:
    wish = Talk((AGENT, user("Write the title in lower case."), assistant("1|x")), False, "s1", "header")
    alone = exchanges_of(wish, "x")
    assert not group(alone).side_calls
    assert group([titled(), *alone]).side_calls == ("title-0",)
    main = exchanges_of(Talk(talk_about("a", 1), session="s1", source="header"), "y")
    assert group([*alone, *main]).side_calls == ("x-0",)


def test_a_short_answer_under_another_system_prompt_of_the_same_session_is_a_side_call() -> None:
    odd = Talk((system("Is this a question?"), user("Mend a."), assistant("no")), False, "s1", "header")
    main = Talk(talk_about("a", 1), session="s1", source="header")
    assert group([*exchanges_of(odd, "odd"), *exchanges_of(main, "x")]).side_calls == ("odd-0",)


def test_a_short_answer_is_a_conversation_when_nothing_speaks_against_it() -> None:
    talk = Talk((AGENT, user("Why does this not compile?"), assistant("A semicolon is missing.")), tools=False)
    assert len(group(exchanges_of(talk, "x")).conversations) == 1


def test_a_task_about_titles_is_no_side_call_when_it_is_worked_on() -> None:
    talk = Talk((AGENT, user("Write a function that gives a page its title."), assistant("x" * 500)), tools=False)
    assert len(group(exchanges_of(talk, "x")).conversations) == 1


ASKED = (AGENT, user("Mend a."), assistant("", bash("c", "cargo test")), result("c", "1 failed"))
CUT = assistant("I will now del")


def learned(sent: list[Exchange]) -> list[int]:
    (found,) = group(sent).conversations
    return list(found.thoughts)


def test_of_what_nobody_disturbed_all_turns_are_the_models() -> None:
    assert learned(exchanges_of(Talk(talk_about("a", 2)), "x")) == [2, 4, 6]


@pytest.mark.parametrize("stands", [CUT, assistant("I will now del\n\n[Response interrupted by user]")])
def test_a_reply_that_was_interrupted_is_not_the_models_though_the_agent_sends_it_again(stands: Message) -> None:
    first, cut = exchanges_of(Talk((*ASKED, CUT)), "x")
    then = exchanges_of(Talk((*ASKED, stands, user("No, mend it."), assistant("Done."))), "y")[-1]
    assert learned([first, cut.model_copy(update={"whole": False}), then]) == [2, 6]


def test_a_turn_of_another_model_or_of_the_agent_itself_is_not_the_models() -> None:
    other = (assistant("Another model answers."), user("And now?"), assistant("No response requested."), user("Go on."))
    first, *_, last = exchanges_of(Talk((*ASKED, *other, assistant("Done."))), "x")
    assert learned([first, last]) == [2, 8]


def test_a_reply_that_the_agent_rewrote_is_not_the_models() -> None:
    first = exchanges_of(Talk((AGENT, user("Go."), assistant("as it was"))), "x")
    then = exchanges_of(Talk((AGENT, user("Go."), assistant("as it is"), user("on"), assistant("Done."))), "y")[1:]
    assert learned([*first, *then]) == [4]


def test_a_call_that_the_agent_sends_again_with_its_defaults_written_in_is_still_the_models() -> None:
    called, again = (ToolCall(id="c", name="Edit", arguments=given) for given in ('{"a": 1}', '{"a": 1, "all": false}'))
    first = exchanges_of(Talk((AGENT, user("Go."), assistant("", called))), "x")
    then = exchanges_of(Talk((AGENT, user("Go."), assistant("", again), result("c", "ok"), assistant("Done."))), "y")
    assert learned([*first, then[-1]]) == [2, 4]
    other = assistant("", again.model_copy(update={"id": "another"}))
    then = exchanges_of(Talk((AGENT, user("Go."), other, result("another", "ok"), assistant("Done."))), "y")
    assert learned([*first, then[-1]]) == [4]


@pytest.mark.parametrize("reason", ["length", "max_tokens", "max_output_tokens", "content_filter", "stop_sequence"])
def test_a_reply_that_was_cut_is_no_turn_to_learn(reason: str) -> None:
    first, second = exchanges_of(Talk((AGENT, user("Go."), CUT, user("Continue."), assistant("Done."))), "x")
    cut = first.model_copy(update={"finish_reason": reason})
    assert learned([cut, second]) == [4]
    assert learned([cut]) == []


def test_what_the_model_thought_is_kept_where_the_agent_does_not_send_it_again() -> None:
    talk = (AGENT, user("Go."), thinking("A", "one"), user("on"), thinking("B", "two"))
    (found,) = group(exchanges_of(Talk(talk), "x")).conversations
    assert found.thoughts == {2: "A", 4: "B"}
    assert [message.reasoning for message in found.messages] == ["", "", "", "", "B"]


def test_thoughts_that_are_sent_again_are_kept_as_they_were_sent() -> None:
    first, second = exchanges_of(
        Talk((AGENT, user("Go."), thinking("\nA\n", "one"), user("on"), assistant("two"))), "x"
    )
    request = json.loads(second.request)
    request["messages"][2]["reasoning_content"] = "A"
    (found,) = group([first, second.model_copy(update={"request": json.dumps(request)})]).conversations
    assert found.thoughts == {2: "A", 4: ""}


def test_an_evaluation_never_becomes_a_conversation() -> None:
    found = group(exchanges_of(Talk(talk_about("a", 1)), "x", purpose="eval"))
    assert not found.conversations
    assert set(found.left_out) == {"x-0", "x-1"}


def test_a_reply_that_broke_off_is_left_out_and_the_rest_is_kept() -> None:
    first, second = exchanges_of(Talk(talk_about("a", 1)), "x")
    found = group([first, second.model_copy(update={"whole": False})])
    assert [c.exchanges for c in found.conversations] == [("x-0",)]
    assert found.left_out == {"x-1": "its reply is not whole"}


def test_an_error_of_the_server_is_left_out() -> None:
    found = group(exchanges_of(Talk(talk_about("a", 0)), "x", status=500))
    assert not found.conversations and found.left_out == {"x-0": "it was answered with status 500"}


def test_a_request_that_was_repeated_counts_once() -> None:
    talk = Talk(talk_about("a", 1), session="s1", source="header")
    early = exchanges_of(Talk((*talk.messages[:2], assistant("Hm.")), session="s1", source="header"), "early")
    found = group([*early, *exchanges_of(talk, "x", START + timedelta(seconds=5))])
    assert [c.exchanges for c in found.conversations] == [("x-0", "x-1")]
    assert found.left_out == {"early-0": "the same was asked again"}


def test_what_cannot_be_read_is_left_out_with_the_reason() -> None:
    found = group(exchanges_of(Talk(talk_about("a", 0)), "x", request="no json"))
    assert "not JSON" in found.left_out["x-0"]


def test_a_conversation_has_the_same_id_whenever_it_is_found() -> None:
    sent = exchanges_of(Talk(talk_about("a", 3)), "x")
    assert group(sent).conversations[0].id == group(reversed(sent)).conversations[0].id
    assert group(sent[:2]).conversations[0].id != group(sent).conversations[0].id
