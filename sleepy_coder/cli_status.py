"""`sleepy-coder status`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sleepy_coder import wiring
from sleepy_coder.canary import CanaryState, last_state
from sleepy_coder.config import Config
from sleepy_coder.config_load import load_config
from sleepy_coder.console import Json, as_json, explained, table
from sleepy_coder.drill import complaint
from sleepy_coder.due import coming, read_diary
from sleepy_coder.errors import ServerError, StoreError
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.pause import Pause, paused
from sleepy_coder.report.canary import sentence
from sleepy_coder.report.standing import (
    NO_NIGHT,
    daemon_line,
    episodes_line,
    next_night,
    pause_line,
    small_set,
    unfinished_line,
    why_it_serves,
)
from sleepy_coder.report.summary import night_summary
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.gateway_client import Running, running
from sleepy_coder.store_practice import Waiting
from sleepy_coder.store_shadow import Drill
from sleepy_coder.types import Adapter, NightReport
from sleepy_coder.window import Opening

_PATIENCE: Final = 10.0
"""Seconds that a model server has to answer."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """How things stand."""

    config: Config
    daemon: Running
    servers: list[dict[str, object]]
    now: datetime
    held: Pause | None
    doubtful: str
    due: Opening | None
    active: Adapter | None
    why: str
    previous: str | None
    nights: int
    last: NightReport | None
    unfinished: int | None
    runs: bool
    openings: tuple[int, int]
    budget: str
    small: str
    episodes: int
    waiting: Waiting
    quarantined: int
    canary: CanaryState | None
    drill: Drill | None
    late: str


def status_command(json: Json = False) -> None:
    """What serves and why, whether the model server answers, when the next night is due and what it has to work with.

    Example: [bold]sleepy-coder status --json | jq -r .serving[/]
    """
    with explained():
        found = _look(load_config())
    if json:
        as_json(_for_scripts(found))
    else:
        table("sleepy-coder", ("", ""), _for_people(found))


def _look(config: Config) -> _Standing:
    servers, daemon = _server_states(config), running(config)
    with wiring.read_store(config) as store, wiring.read_registry(config) as registry:
        active, nights = registry.active(), store.nights(last=1)
        exam = wiring.frozen_sets(config).current()
        now = wiring.SystemClock().now()
        held, doubtful = _pause(config.state, now)
        diary = read_diary(config.state, now)
        unfinished, drilled = store.unfinished_night(), store.last_drill()
        return _Standing(
            config=config,
            daemon=daemon,
            servers=servers,
            now=now,
            held=held,
            doubtful=doubtful,
            due=coming(now, config.night.hours(), diary, held) if daemon.holds_nights else None,
            active=active,
            why=why_it_serves(active, registry.manifest(active.name).verdict if active else None, registry.since()),
            previous=registry.previous(),
            nights=store.count_nights(),
            last=nights[0] if nights else None,
            unfinished=unfinished,
            runs=unfinished is not None and wiring.night_runs(config),
            openings=store.openings_used(),
            budget=wiring.budget(config, store)[0],
            small=small_set(len(form_clusters(exam)), len(exam) * config.eval.samples, config.gate),
            episodes=store.count_episodes(),
            waiting=store.waiting(),
            quarantined=store.count_quarantined(),
            canary=last_state(store, config.canary),
            drill=drilled,
            late=complaint(drilled, len(store.canaries()), now, config.canary.drill_days),
        )


def _for_scripts(found: _Standing) -> dict[str, object]:
    epoch, used = found.openings
    return {
        "daemon": found.daemon.state,
        "other_home": found.daemon.elsewhere,
        "paused": found.held,
        "window": found.config.night.window,
        "next_night": found.due.begins if found.due else None,
        "serving": _serving(found),
        "why": found.why,
        "adapter": found.active,
        "previous": found.previous,
        "server": found.servers[0],
        "replicas": found.servers[1:],
        "nights": found.nights,
        "last_night": night_summary(found.last) if found.last else None,
        "unfinished_night": found.unfinished,
        "night_runs": found.runs,
        "gate": {"epoch": max(epoch, 1), "openings_used": used, "small_set": found.small},
        "episodes": found.episodes,
        "episodes_waiting": found.waiting.trainable + found.waiting.dreamable,
        "waiting": found.waiting,
        "quarantined": found.quarantined,
        "canary": found.canary,
        "drill": found.drill,
        "drill_complaint": found.late,
        "home": str(found.config.home),
    }


def _for_people(found: _Standing) -> list[tuple[str, str]]:
    config, last = found.config, found.last
    begins = next_night(found.due, config.night.hours(), found.held, found.now)
    aside = f"{found.quarantined}: `sleepy-coder episodes quarantine`" if found.quarantined else "nothing"
    return [
        ("serving", _serving(found)),
        ("why", found.why),
        ("daemon", daemon_line(found.daemon)),
        *((("pause", pause),) if (pause := _paused(found)) else ()),
        ("next night", begins if found.daemon.holds_nights else NO_NIGHT),
        ("rollback to", found.previous or config.server.base_name),
        *(("model server", f"{server['url']} {server['state']}") for server in found.servers),
        ("canary", sentence(found.canary) if found.canary else "nothing has been promoted yet"),
        *((("drill", f"{found.late}: `sleepy-coder drill`"),) if found.late else ()),
        ("last night", f"{last.outcome} (night {last.cycle}): {last.reason}" if last else "none yet"),
        ("gate", f"{found.budget}; {found.small}" if found.small else found.budget),
        ("unfinished", unfinished_line(found.unfinished, found.runs)),
        ("episodes", episodes_line(found.episodes, found.waiting)),
        ("quarantined", aside),
        ("home", str(config.home)),
    ]


def _paused(found: _Standing) -> str:
    """What is to be said of a pause beside the line of the next night, which tells of it where there is to be one."""
    if found.doubtful:
        return f"{found.doubtful}: `sleepy-coder resume`"
    return pause_line(found.held) if found.held and not found.daemon.holds_nights else ""


def _serving(found: _Standing) -> str:
    return found.active.name if found.active else found.config.server.base_name


def _pause(state: Path, now: datetime) -> tuple[Pause | None, str]:
    """The pause that holds at `now`, and what is wrong with its file: a doubtful pause is one, without an end."""
    try:
        return paused(state, now), ""
    except StoreError as error:
        return Pause(since=now, reason="its file cannot be read"), error.message


def _server_states(config: Config) -> list[dict[str, object]]:
    """Each model server: its URL, whether it answers, and what it lists."""
    states: list[dict[str, object]] = []
    for url in config.server.urls:
        with VllmClient(url, config.server.api_key, _PATIENCE) as client:
            try:
                models = [model.name for model in client.models()]
                states.append({"url": url, "state": "sleeps" if client.asleep() else "answers", "models": models})
            except ServerError as error:
                states.append({"url": url, "state": f"does not answer ({error.message})", "models": []})
    return states
