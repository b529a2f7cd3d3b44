"""A conversation becomes an episode that can be stored, and teaches only what a verifier vouches for."""

from __future__ import annotations

from dataclasses import replace

from fakes import make_task, passed_examples
from talks import Talk, assistant, bash, exchanges_of, result, system, user

from sleepy_coder.collect.episodes import as_episode, last_turn
from sleepy_coder.collect.outcome import UNLABELLED, Label, label
from sleepy_coder.collect.sessions import group
from sleepy_coder.store_rows import encode
from sleepy_coder.types import Episode, Outcome

TALK = (
    system("You mend code."),
    user("Mend it."),
    assistant("", bash("c", "cargo test")),
    result("c", "test result: ok. 3 passed; 0 failed"),
    assistant("Done."),
)
(CONVERSATION,) = group(exchanges_of(Talk(TALK), "x")).conversations


def test_an_episode_holds_all_of_the_conversation_and_its_label() -> None:
    episode = as_episode(CONVERSATION, label(CONVERSATION.messages))
    (attempt,) = episode.attempts
    assert (*attempt.messages, last_turn(attempt)) == TALK
    assert (episode.outcome, episode.outcome_source) == (Outcome.PASS, "tool-text")
    assert Episode.model_validate_json(encode(episode)) == episode


def test_a_last_word_that_calls_a_tool_is_kept_whole() -> None:
    (cut,) = group(exchanges_of(Talk(TALK[:3]), "x")).conversations
    assert last_turn(as_episode(cut, UNLABELLED).attempts[0]) == TALK[2]


def test_no_label_but_a_verifiers_trains() -> None:
    task = make_task(1)
    for source in ("tool-text", "exit-code", "git-commit", "feedback", "none"):
        assert not passed_examples([as_episode(CONVERSATION, Label(Outcome.PASS, source), task)], 4)
    assert len(passed_examples([as_episode(CONVERSATION, Label(Outcome.PASS, "verifier"), task)], 4)) == 1


def test_what_trains_of_a_conversation_is_what_the_model_wrote_of_it() -> None:
    label = Label(Outcome.PASS, "verifier")
    (row,) = passed_examples([as_episode(CONVERSATION, label, make_task(1))], 4)
    assert row.thoughts == {2: "", 4: ""}
    assert not passed_examples([as_episode(replace(CONVERSATION, thoughts={}), label, make_task(1))], 4)
