"""A canary in words: one sentence for a line of a report, and a table for who asks."""

from __future__ import annotations

from sleepy_coder.canary import Arm, CanaryState
from sleepy_coder.report.words import counted

_STAGES = {
    "holdback": "has passed its test: {why}; a few sessions stay with {previous}",
    "passed": "has passed its test: {why}",
    "rolled_back": "was rolled back: {why}",
    "superseded": "was superseded: {why}",
    "abandoned": "is not compared any more: {why}",
}


_UNTESTED = {
    "holdback": "was not tested by day: {why}; a few sessions stay with {previous}",
    "passed": "was not tested by day: {why}",
}


def sentence(state: CanaryState) -> str:
    """What became of the promotion that was watched last."""
    trial, found = state.trial, state.evidence
    stages = _STAGES if found.new.sessions + found.old.sessions else _STAGES | _UNTESTED
    stage = stages.get(trial.stage, "is watched; it gets {share:.0%} of the sessions, {previous} the others")
    said = stage.format(previous=trial.previous, why=trial.why, share=trial.share)
    return f"{trial.adapter} {said} ({evidence(state)})"


def evidence(state: CanaryState) -> str:
    """The numbers of the judged sessions."""
    found = state.evidence
    return f"{arm(found.new)}, previous adapter: {arm(found.old)}; E {found.sessions_e:.3g} of {state.threshold:g}"


def rows(state: CanaryState) -> list[tuple[str, str]]:
    """Name and value, for a table."""
    trial, found = state.trial, state.evidence
    return [
        ("adapter", trial.adapter),
        ("against", trial.previous),
        ("stage", f"{trial.stage} since {trial.since.astimezone():%Y-%m-%d %H:%M %Z}: {trial.why}"),
        ("sessions", f"{trial.share:.0%} of new ones get it; {found.drawn} have been given out so far"),
        ("judged", f"{arm(found.new)}, previous adapter: {arm(found.old)}"),
        ("E of sessions", f"{found.sessions_e:.4g}, rolled back at {state.threshold:g}"),
        ("E of replies", f"{found.replies_e:.4g} from {counted(found.replies, 'session')}"),
        ("E of the nights", f"{found.replay_e:.4g} from {counted(found.replayed, 'replayed task')}"),
    ]


def arm(of: Arm) -> str:
    return f"{of.failures} of {counted(of.sessions, 'judged session')} not passed"
