"""How things stand, in a line each: why this model serves, and when the next night is due."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sleepy_coder.config import GatePolicy
from sleepy_coder.idle import Signals
from sleepy_coder.pause import Pause
from sleepy_coder.preview import Preview
from sleepy_coder.report.words import counted
from sleepy_coder.serve.gateway_client import NEEDS_KEY, Running, command_in
from sleepy_coder.store_practice import Waiting
from sleepy_coder.types import Adapter, Decision, GateVerdict
from sleepy_coder.window import Opening, Window

NO_NIGHT: Final = "none: the daemon is not running, so no night starts by itself"
"""The next night where nobody holds any."""
VERIFIED: Final = "`sleepy-coder run -- AGENT`"
"""How a session becomes one that trains."""


def why_it_serves(active: Adapter | None, verdict: GateVerdict | None, since: datetime | None) -> str:
    """Why `active` (None: the base) serves: what the gate said of it, and when the pointer was moved last."""
    if active is None:
        return f"went back to the base {_when(since)}" if since else "no adapter has been promoted yet"
    if verdict is None:
        return f"promoted by hand {_when(since)}, never judged"
    said = f"the gate of night {active.cycle}: {_measured(verdict)}"
    if verdict.decision is Decision.PROMOTE:
        return f"serves since {_when(since)}; {said}"
    return f"promoted by hand {_when(since)}; {said}, {verdict.decision} ({', '.join(verdict.reasons)})"


def next_night(opening: Opening | None, window: Window | None, held: Pause | None, now: datetime) -> str:
    """When the next night is due, and what keeps it away."""
    if held is not None and held.until is None:
        return pause_line(held)
    paused = f"{pause_line(held)}, then " if held else ""
    if opening is None or window is None:
        return f"{paused}whenever nobody is at work, once a day"
    if opening.begins <= now:
        return f"{paused}the window is open until {opening.ends.astimezone(window.zone):%H:%M %Z}"
    return f"{paused}from {opening.begins.astimezone(window.zone):%a %Y-%m-%d %H:%M %Z}, when nobody is at work"


def pause_line(held: Pause) -> str:
    """Until when no night begins, and why."""
    until = _when(held.until) if held.until else "`sleepy-coder resume`"
    return f"paused until {until}{_because(held)}"


def unfinished_line(night: int | None, runs: bool) -> str:
    """What there is of the night that has begun and not ended; `runs` says that somebody is at it."""
    if night is None:
        return "no"
    if runs:
        return f"night {night} runs now"
    return f"night {night}: `sleepy-coder night` goes on with it, `night --abandon` ends it"


def episodes_line(total: int, waiting: Waiting) -> str:
    """How many episodes there are, what of them the next night can learn from, and why not from the others."""
    said = f"{total} in all; for the next night {waiting.trainable} that a verifier passed"
    said += f" and {waiting.dreamable} failed ones to dream about"
    if waiting.unverified:
        said += f"; {waiting.unverified} passed by the word of tools or people, which trains nothing: {VERIFIED}"
    return said


def small_set(clusters: int, pairs: int, gate: GatePolicy) -> str:
    """Why a set of so many clusters, and `pairs` of answers, promotes nothing; empty when it can."""
    nothing = f"below {gate.min_clusters} (gate.min_clusters) nothing is promoted at all"
    if clusters >= gate.autonomous_clusters:
        return f"{clusters} clusters: {nothing}" if clusters < gate.min_clusters else ""
    if gate.small_sets == "hold":
        alone = f"below {gate.autonomous_clusters} (gate.autonomous_clusters) nothing is promoted on its own"
        return f"{clusters} clusters: {alone}, {nothing}; see gate.small_sets"
    return f"{pairs} pairs of answers: {nothing}" if pairs < gate.min_clusters else ""


def daemon_line(found: Running) -> str:
    """Whether the daemon runs, and what its nights wait for."""
    if found.elsewhere is not None:
        return f"the one that runs works in {found.elsewhere}: `{command_in(found.elsewhere, 'status')}`"
    if found.silent:
        return f"runs, but says no more without its key. {NEEDS_KEY}"
    if found.state is None:
        return "does not run: `sleepy-coder service install`, or `sleepyd` in a terminal"
    if found.state.nights is None:
        return "only the gateway runs, so no night starts by itself"
    return f"runs; nights: {found.state.nights.why}"


def signals_seen(seen: Signals) -> list[tuple[str, str]]:
    """What was looked at to tell whether anybody needs the machine."""
    busy = seen.requests, seen.in_flight
    server, gateway = ("unknown" if number is None else counted(number, "request") for number in busy)
    return [
        ("at", _when(seen.at)),
        ("in the window", "yes" if seen.in_window else "no"),
        ("model server", server),
        ("gateway", gateway),
        ("last exchange", _when(seen.exchange) or "none"),
        ("last episode", _when(seen.episode) or "none"),
        ("busiest GPU", "unknown" if seen.gpu_percent is None else f"{seen.gpu_percent}%"),
    ]


def night_to_come(seen: Preview) -> list[tuple[str, str]]:
    """What a night would train on if it began now."""
    shares = {kind: f" ({share:.0%})" for kind, share in seen.shares.items()}
    rows = ", ".join(f"{number} {kind}{shares.get(kind, '')}" for kind, number in seen.rows.items())
    return [
        ("night", str(seen.cycle)),
        ("goes on from", seen.serving),
        ("worth it", f"not enough: {seen.too_little}" if seen.too_little else "yes"),
        ("rows", rows or "none"),
        ("to dream about", f"{counted(seen.failed_tasks, 'failed task')}, which may add rows"),
        ("anchors", str(seen.anchors)),
        ("training", f"{counted(seen.steps, 'step')}, learning rate {seen.learning_rate:g}"),
        *(("note", note) for note in seen.notes),
    ]


def _measured(verdict: GateVerdict) -> str:
    against = next((found for found in verdict.comparisons if found.versus == "current"), None)
    if against is None:
        return "no comparison"
    return f"{len(against.gained)} gained, {len(against.lost)} lost of {against.tasks} tasks"


def _because(held: Pause) -> str:
    return f" ({held.reason})" if held.reason else ""


def _when(moment: datetime | None) -> str:
    return f"{moment.astimezone():%a %Y-%m-%d %H:%M %Z}" if moment else ""
