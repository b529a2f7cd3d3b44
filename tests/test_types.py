"""Records keep the form in which they were stored before they could hold tools."""

from __future__ import annotations

import hashlib

import pytest
from test_store import episode, example

from sleepy_coder.store_rows import encode, example_hash
from sleepy_coder.tasks.leaks import example_rows
from sleepy_coder.types import (
    HARM_ALPHA,
    Comparison,
    Decision,
    Episode,
    Example,
    FamilyChange,
    GateVerdict,
    Message,
    ToolCall,
)

CALL = ToolCall(id="c1", name="write_file", arguments='{"path": "main.rs", "content": "fn main() {\\n}"}')


def test_plain_records_have_the_json_and_the_hashes_that_they_always_had() -> None:
    row = example("c")
    assert example_hash(row) == "c581c5d8968b5073d9ead99c5b7501e8347b0726a2e952231f76c3e684130875"
    assert row.model_dump_json() == (
        '{"messages":[{"role":"user","content":"m"}],"completion":"c","kind":"hard","task_id":"t1",'
        '"family":"f","provenance":"e1","weight":1.0,"anchor":false}'
    )
    stored = encode(episode("e"))
    assert (
        hashlib.sha256(stored.encode()).hexdigest()
        == "51be7b4a6c51e5ce6434d8ddd1c03755be87c4b8d114f642584c82f3a4ad4a23"
    )


def test_what_a_template_is_given_of_a_plain_message_is_role_and_content() -> None:
    assert Message(role="user", content="x").model_dump() == {"role": "user", "content": "x"}


def test_tools_survive_being_stored() -> None:
    turn = Message(role="assistant", content="", tool_calls=(CALL,), reasoning="Hm.")
    answer = Message(role="tool", content="written", tool_call_id="c1")
    attempt = episode("e").attempts[0].model_copy(update={"messages": (turn, answer), "reply": turn, "tools": "[]"})
    kept = episode("e").model_copy(update={"attempts": (attempt,)})
    assert Episode.model_validate_json(encode(kept)) == kept
    row = example("c").model_copy(
        update={"messages": (turn, answer), "reply": turn, "first_turn": 0, "thoughts": {0: "Hm."}}
    )
    assert Example.model_validate_json(encode(row)) == row


def test_rows_that_differ_in_their_tools_alone_are_two_rows() -> None:
    plain = example("c")
    called = plain.model_copy(update={"reply": Message(role="assistant", content="c", tool_calls=(CALL,))})
    tooled = plain.model_copy(update={"tools": '[{"type": "function"}]'})
    assert len({example_hash(row) for row in (plain, called, tooled)}) == 3


def test_rows_that_differ_in_what_is_learned_of_them_are_two_rows() -> None:
    talk = example("c").model_copy(update={"first_turn": 0})
    rows = [talk.model_copy(update={"thoughts": thoughts}) for thoughts in (None, {}, {0: ""}, {0: "Hm."})]
    assert len({example_hash(row) for row in rows}) == 4


def test_the_search_for_leaks_reads_what_a_tool_was_given() -> None:
    turn = Message(role="assistant", content="", tool_calls=(CALL,))
    row = example("c").model_copy(update={"messages": (turn,), "reply": turn})
    assert [text for _, text in example_rows([row])].count("fn main() {\n}") == 2


def test_the_search_for_leaks_reads_thoughts_that_are_learned() -> None:
    row = example("c").model_copy(update={"thoughts": {1: "fn main() {}"}})
    assert ("e1", "fn main() {}") in example_rows([row])


def verdict(decision: Decision, delta: float, p_harm: float) -> GateVerdict:
    comparison = Comparison(
        versus="current",
        tasks=100,
        delta=delta,
        interval=(delta - 0.1, delta + 0.1),
        confidence=0.95,
        gained=(),
        lost=(),
        p_value=0.5,
        p_harm=p_harm,
    )
    return GateVerdict(
        decision=decision,
        reasons=(),
        alpha=0.05,
        comparisons=(comparison,),
        families=(),
        infra_tasks=(),
        minimum_detectable_effect=0.05,
    )


def test_a_candidate_that_is_rejected_did_harm_if_it_lost_more_than_chance_explains() -> None:
    assert verdict(Decision.REJECT, -0.2, HARM_ALPHA).harmful
    assert not verdict(Decision.REJECT, -0.2, 0.02).harmful
    assert not verdict(Decision.INCONCLUSIVE, -0.2, HARM_ALPHA).harmful


@pytest.mark.parametrize(
    ("p_harm", "families", "harmful"), [(0.01, 1, True), (0.002, 5, True), (0.02, 1, False), (0.004, 5, False)]
)
def test_a_candidate_that_is_rejected_for_one_family_did_harm_at_one_percent_over_all_families(
    p_harm: float, families: int, harmful: bool
) -> None:
    lost = FamilyChange(family="f", tasks=20, gained=0, lost=9, p_harm=p_harm, blocked=True)
    others = [lost.model_copy(update={"p_harm": 1.0, "blocked": False})] * (families - 1)
    found = verdict(Decision.REJECT, 0.1, 1.0).model_copy(update={"families": (lost, *others)})
    assert found.harmful == harmful
