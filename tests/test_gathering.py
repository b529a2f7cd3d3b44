"""What passes the gateway becomes episodes: each conversation once, when it has come to rest, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fakes import make_task
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import START, Talk, assistant, bash, exchanges_of, result, system, user

from sleepy_coder.collect.gathering import exchange_name, gather_resting
from sleepy_coder.collect.outcome import Label, label
from sleepy_coder.store import Store
from sleepy_coder.types import Exchange, Message, Outcome, SessionCheck, Verdict

REST = timedelta(minutes=10)
LATER = START + timedelta(hours=1)


def talk(subject: str, turns: int = 2) -> tuple[Message, ...]:
    work = [
        message
        for n in range(turns)
        for message in (
            assistant("", bash(f"{subject}{n}", "cargo test")),
            result(f"{subject}{n}", "test result: ok. 3 passed; 0 failed"),
        )
    ]
    return (system("You are a coding agent."), user(f"Mend {subject}."), *work, assistant("Done."))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as store:
        yield store


def test_a_conversation_at_rest_becomes_one_episode_with_its_outcome(store: Store) -> None:
    store.save_exchanges(exchanges_of(Talk(talk("a")), "x"))
    assert gather_resting(store, LATER, REST) == 1
    (episode,) = store.episodes()
    assert (episode.source, episode.outcome, episode.outcome_source) == ("gateway", Outcome.PASS, "tool-text")
    assert gather_resting(store, LATER, REST) == 0
    assert list(store.uncollected(LATER, LATER)) == []


def test_a_conversation_that_goes_on_waits(store: Store) -> None:
    sent = exchanges_of(Talk(talk("a")), "x")
    store.save_exchanges(sent)
    assert gather_resting(store, START + timedelta(seconds=5), REST) == 0
    assert len(list(store.uncollected(LATER, LATER))) == len(sent)


def test_one_that_goes_on_after_its_rest_becomes_another_episode_of_the_new_turns(store: Store) -> None:
    first, *rest = exchanges_of(Talk(talk("a"), session="s", source="header"), "x")
    store.save_exchanges([first])
    assert gather_resting(store, LATER, REST) == 1
    store.save_exchanges(later(rest, timedelta(hours=2)))
    assert gather_resting(store, LATER + timedelta(hours=2), REST) == 1
    before, after = store.episodes()
    assert before.attempts[0].first_turn == 2
    assert after.attempts[0].first_turn == 4


def later(exchanges: list[Exchange], by: timedelta) -> list[Exchange]:
    return [e.model_copy(update={"started": e.started + by}) for e in exchanges]


@pytest.mark.parametrize("ahead", [timedelta(hours=5), timedelta(days=365)])
def test_what_was_said_while_the_clock_was_ahead_waits_for_a_day_at_most(store: Store, ahead: timedelta) -> None:
    store.save_exchanges(later(exchanges_of(Talk(talk("a")), "x"), ahead))
    assert gather_resting(store, LATER + timedelta(days=1), REST) == 1


def test_a_verifier_that_was_announced_while_the_clock_was_ahead_is_not_waited_for(store: Store) -> None:
    store.save_exchanges(exchanges_of(Talk(talk("a"), session="run-1", source="path"), "x"))
    store.begin_check("run-1", LATER + timedelta(hours=5))
    assert gather_resting(store, LATER, REST) == 0
    store.begin_check("run-2", LATER + timedelta(days=365))
    store.save_exchanges(exchanges_of(Talk(talk("b"), session="run-2", source="path"), "y"))
    assert gather_resting(store, LATER, REST) == 1


def test_a_session_that_passed_nothing_for_there_was_nothing_to_verify_keeps_the_label_of_its_hints(
    store: Store,
) -> None:
    store.save_exchanges(exchanges_of(Talk(talk("a"), session="run-1", source="path"), "x"))
    store.begin_check("run-1", START)
    assert gather_resting(store, LATER, REST) == 0
    assert store.end_unpassed("run-1")
    assert gather_resting(store, LATER, REST) == 1
    assert [episode.outcome_source for episode in store.episodes()] == ["tool-text"]


def test_a_verdict_goes_to_one_conversation_of_its_session_and_waits_for_all_of_them(store: Store) -> None:
    mine = exchanges_of(Talk(talk("main", 4), session="run-1", source="path"), "x")
    helper = exchanges_of(Talk(talk("helper", 1), session="run-1", source="path"), "y")
    store.begin_check("run-1", START)
    store.save_exchanges([*helper, *later(mine, timedelta(minutes=20))])
    task = make_task(1)
    store.save_check(SessionCheck(session="run-1", task=task, verdict=Verdict(outcome=Outcome.PASS, stage="done")))
    assert gather_resting(store, START + timedelta(minutes=22), REST) == 0
    assert gather_resting(store, LATER, REST) == 2
    said = {episode.attempts[0].messages[1].content: episode.outcome_source for episode in store.episodes()}
    assert said == {"Mend main.": "verifier", "Mend helper.": "tool-text"}
    more = exchanges_of(Talk(talk("straggler", 5), session="run-1", source="path"), "z")
    store.save_exchanges(later(more, timedelta(hours=2)))
    assert gather_resting(store, LATER + timedelta(hours=3), REST) == 1
    assert [episode.outcome_source for episode in store.episodes()].count("verifier") == 1


def verified(store: Store, *sent: list[Exchange]) -> dict[str, str]:
    """Who says what came of each conversation of the session `run-1`, by the user's first word in it."""
    store.begin_check("run-1", START)
    store.save_exchanges(exchange for exchanges in sent for exchange in exchanges)
    verdict = Verdict(outcome=Outcome.PASS, stage="done")
    store.save_check(SessionCheck(session="run-1", task=make_task(1), verdict=verdict))
    gather_resting(store, LATER, REST)
    return {episode.attempts[0].messages[1].content: episode.outcome_source for episode in store.episodes()}


def of_run(messages: tuple[Message, ...], name: str, after: float = 0, **changes: object) -> list[Exchange]:
    """The exchanges of a conversation in the session `run-1`, the first one `after` seconds."""
    talk = Talk(messages, session="run-1", source="path")
    return exchanges_of(talk, name, START + timedelta(seconds=after), **changes)


def test_a_verdict_is_not_a_subagents_though_it_says_more_than_who_called_it(store: Store) -> None:
    first, *then = of_run(talk("main", 2), "x")
    helper = of_run(talk("helper", 9), "y", 1)
    said = verified(store, [first, *later(then, timedelta(seconds=20))], helper)
    assert said == {"Mend main.": "verifier", "Mend helper.": "tool-text"}


def test_a_verdict_is_that_of_the_conversation_that_went_on_from_a_summary(store: Store) -> None:
    before = of_run(talk("main", 5)[:-1], "x")
    summary = (system("You are a coding agent."), user("Go on from this summary."), *talk("main", 1)[2:])
    said = verified(store, before, of_run(summary, "y", 60))
    assert said == {"Mend main.": "tool-text", "Go on from this summary.": "verifier"}


def test_a_verdict_is_the_longer_ones_of_two_that_end_at_once(store: Store) -> None:
    said = verified(store, of_run(talk("main", 3), "x"), of_run(talk("helper", 2), "y", 1))
    assert said == {"Mend main.": "verifier", "Mend helper.": "tool-text"}


def test_a_verified_session_of_one_request_that_reads_like_an_errand_is_no_side_call(store: Store) -> None:
    wish = "The report should output all titles in lower case. Mend it."
    talk = Talk((system("Reply with edits."), user(wish), assistant("1|x")), False, "run-1", "path")
    assert verified(store, exchanges_of(talk, "x")) == {wish: "verifier"}


def test_one_conversation_that_cannot_be_read_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(messages: tuple[Message, ...], *others: object) -> Label:
        if "Mend bad." in messages[1].content:
            raise ValueError("no number")
        return label(messages)

    monkeypatch.setattr("sleepy_coder.collect.gathering.label", stumbles)
    for name in ("bad", "good"):
        store.save_exchanges(exchanges_of(Talk(talk(name), session=name, source="header"), name))
    assert gather_resting(store, LATER, REST) == 2
    assert {episode.session: episode.outcome for episode in store.episodes()} == {
        "bad": Outcome.UNKNOWN,
        "good": Outcome.PASS,
    }


def test_half_a_character_puts_one_conversation_in_quarantine_and_keeps_no_other_waiting(store: Store) -> None:
    store.save_exchanges(exchanges_of(Talk(talk("good"), session="good", source="header"), "x"))
    bad = exchanges_of(Talk(talk("bad"), session="bad", source="header"), "y")
    halved = [e.request.replace("Mend bad.", "Mend \\ud83d.") for e in bad]
    store.save_exchanges(e.model_copy(update={"request": text}) for e, text in zip(bad, halved, strict=True))
    assert gather_resting(store, LATER, REST) == 1
    assert [episode.session for episode in store.episodes()] == ["good"]
    assert list(store.uncollected(LATER, LATER)) == []
    (aside,) = store.quarantined(limit=9)
    assert aside.source.startswith("conversation ")
    assert "cannot be stored" in aside.reason
    assert r"Mend \ud83d." in aside.text


def test_what_people_said_of_a_session_is_its_outcome(store: Store) -> None:
    store.save_exchanges(exchanges_of(Talk(talk("a"), session="s", source="path"), "x"))
    store.save_feedback("s", True)
    store.save_feedback("s", False, "it deleted my test")
    gather_resting(store, LATER, REST)
    (episode,) = store.episodes()
    assert (episode.outcome, episode.outcome_source) == (Outcome.FAIL, "feedback")
    assert "it deleted my test" in episode.attempts[0].verdict.detail


def test_a_word_on_one_reply_counts_before_one_on_its_session(store: Store) -> None:
    said = {name: exchanges_of(Talk(talk(name), session="s", source="path"), name) for name in ("a", "b")}
    store.save_exchanges([*said["a"], *later(said["b"], timedelta(minutes=1))])
    store.save_feedback("s", True)
    store.save_feedback(exchange_name(said["b"][0].id), False)
    gather_resting(store, LATER, REST)
    assert {episode.outcome_source for episode in store.episodes()} == {"feedback"}
    assert [episode.outcome for episode in store.episodes()] == [Outcome.PASS, Outcome.FAIL]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_however_often_one_looks_every_conversation_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    talks = [talk(f"task-{n}", data.draw(st.integers(0, 3))) for n in range(data.draw(st.integers(1, 4)))]
    sent = sorted(
        (e for n, messages in enumerate(talks) for e in exchanges_of(Talk(messages), f"t{n}")), key=lambda e: e.started
    )
    with Store(tmp_path_factory.mktemp("gather") / "store.db") as store:
        for exchange in sent:
            store.save_exchanges([exchange])
            if data.draw(st.booleans()):
                gather_resting(store, exchange.started + timedelta(seconds=1), REST)
        gather_resting(store, LATER, REST)
        whole = {
            (*e.attempts[0].messages, e.attempts[0].reply or assistant(e.attempts[0].completion))
            for e in store.episodes()
        }
        assert store.count_episodes() == len(talks)
    assert whole == set(talks)
