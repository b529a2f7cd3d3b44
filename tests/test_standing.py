"""How things stand, in a line each: why this model serves, and when the next night is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from report_data import report_data

from sleepy_coder.config import GatePolicy
from sleepy_coder.pause import Pause
from sleepy_coder.report.standing import episodes_line, next_night, small_set, why_it_serves
from sleepy_coder.store_practice import Waiting
from sleepy_coder.types import Adapter, AdapterState, Decision, GateVerdict
from sleepy_coder.window import Window

WINDOW = Window.parse("01:00-06:00", UTC)
NOON = datetime(2026, 7, 2, 12, tzinfo=UTC)
MOVED = NOON - timedelta(days=1)
VERDICTS = [night.verdict for night in report_data(10).nights if night.verdict]


def judged(decision: Decision) -> GateVerdict:
    return next(verdict for verdict in VERDICTS if verdict.decision is decision)


def adapter(cycle: int = 3) -> Adapter:
    return Adapter.model_validate(
        {
            "name": f"sc-{cycle:04d}-12345678",
            "cycle": cycle,
            "parent": None,
            "path": "/adapters/x",
            "sha256": "0" * 64,
            "state": AdapterState.ACTIVE,
        }
    )


def test_a_promoted_adapter_serves_for_what_the_gate_measured() -> None:
    verdict = judged(Decision.PROMOTE)
    against = next(found for found in verdict.comparisons if found.versus == "current")
    why = why_it_serves(adapter(), verdict, MOVED)
    assert f"the gate of night 3: {len(against.gained)} gained, {len(against.lost)} lost" in why
    assert "by hand" not in why


def test_an_adapter_that_the_gate_did_not_promote_serves_by_somebodys_hand() -> None:
    why = why_it_serves(adapter(), judged(Decision.REJECT), MOVED)
    assert why.startswith("promoted by hand")
    assert "reject" in why
    assert "never judged" in why_it_serves(adapter(), None, MOVED)


def test_the_base_serves_because_nothing_was_promoted_or_something_was_taken_back() -> None:
    assert why_it_serves(None, None, None) == "no adapter has been promoted yet"
    assert why_it_serves(None, None, MOVED).startswith("went back to the base")


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (None, "from Fri 2026-07-03 01:00 UTC, when nobody is at work"),
        (Pause(since=NOON, until=NOON + timedelta(hours=2)), "then from Fri 2026-07-03 01:00 UTC"),
        (Pause(since=NOON, reason="holidays"), "paused until `sleepy-coder resume` (holidays)"),
    ],
)
def test_the_next_night_is_told_with_what_keeps_it_away(held: Pause | None, says: str) -> None:
    assert says in next_night(WINDOW.coming(NOON), WINDOW, held, NOON)


def test_a_window_that_is_open_is_told_with_its_end_and_none_at_all_as_any_time() -> None:
    night = NOON.replace(hour=2)
    assert next_night(WINDOW.coming(night), WINDOW, None, night) == "the window is open until 06:00 UTC"
    assert "once a day" in next_night(None, None, None, NOON)


def test_episodes_that_passed_unverified_are_not_told_as_some_that_the_next_night_learns_from() -> None:
    told = episodes_line(40, Waiting(unused=37, passed=34, verified=0, trainable=0, dreamable=2))
    assert told.startswith("40 in all; for the next night 0 that a verifier passed and 2 failed ones")
    assert "34 passed by the word of tools or people, which trains nothing: `sleepy-coder run -- AGENT`" in told


def test_where_a_verifier_passed_everything_nothing_is_said_of_other_words() -> None:
    assert episodes_line(3, Waiting(unused=3, passed=3, verified=3, trainable=3, dreamable=0)).endswith("dream about")


@pytest.mark.parametrize(
    ("clusters", "policy", "says"),
    [
        (99, {}, "nothing is promoted on its own, below 60 (gate.min_clusters) nothing is promoted at all"),
        (100, {}, ""),
        (100, {"min_clusters": 120}, "100 clusters: below 120 (gate.min_clusters) nothing is promoted at all"),
        (15, {"small_sets": "frozen-set-only"}, ""),
        (14, {"small_sets": "frozen-set-only"}, "56 pairs of answers: below 60"),
    ],
)
def test_a_small_exam_is_told_with_what_it_keeps_from_happening(
    clusters: int, policy: dict[str, Any], says: str
) -> None:
    told = small_set(clusters, 4 * clusters, GatePolicy(**policy))
    assert says in told and bool(told) == bool(says)
