"""The catalogue of log events: a stable name, a sentence and typed fields each; docs/reference/events.md shows it.

Names are `part.what_happened`. Whoever filters the journal may rely on names, fields and their types; every line also
has the fields of COMMON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final

Kind = type | UnionType
Words: Final = list | tuple  # pyright: ignore[reportMissingTypeArgument]
"""A list of texts."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a line with this name says, and the Python type of each of its fields, which some lines lack."""

    sentence: str
    fields: Mapping[str, Kind]


def _event(sentence: str, **fields: Kind) -> Event:
    return Event(sentence, fields)


COMMON: Final[Mapping[str, tuple[Kind, str]]] = {
    "event": (str, "Name of the event."),
    "timestamp": (str, "ISO 8601, UTC."),
    "level": (str, "`info`, `warning` or `error`."),
    "part": (str, "The part of the program that speaks."),
    "night_id": (str, "`night-0007`: on every line of that night."),
    "exception": (str, "A traceback, if there is one."),
    "shortened": (dict, "Fields that were cut to keep the line below 4 KiB, with the length that each had."),
    "unlisted": (Words, "Fields that the catalogue does not know: a mistake in the program."),
}

_NIGHTS: Final = {
    "night.started": _event("A night began or was resumed.", cycle=int, resumed=bool),
    "night.phase": _event(
        "A step of the night finished, or was found done.", cycle=int, phase=str, seconds=float, resumed=bool
    ),
    "night.skipped": _event("There was too little to learn from.", cycle=int, reason=str),
    "night.failed": _event("A night ended in an error; everything is as it was.", cycle=int, reason=str),
    "night.step_failed": _event(
        "A step of the night failed; how often by now, and how often until the night ends as failed.",
        cycle=int,
        phase=str,
        tries=int,
        of=int,
        reason=str,
    ),
    "night.paused": _event("A night stopped before its end and keeps its work; why.", cycle=int, reason=str),
    "night.broke_off": _event(
        "The machine failed in the middle of a night, which stays open; why, and what to do.", reason=str, remedy=str
    ),
    "night.summary": _event(
        "A night ended: all of it in one line. Pass rates are fractions; tasks are gained and lost against what served "
        "before; rows are counted by kind; KL to the base is that of the last step.",
        cycle=int,
        outcome=str,
        reasons=Words,
        serving=str,
        candidate=str | None,
        seconds=float,
        phases=dict,
        pass_rates=dict,
        gained=int,
        lost=int,
        rows=dict,
        left_out=dict,
        steps=int,
        kl=float | None,
    ),
    "night.idle": _event(
        "Whether a night may begin now; what it waits for, and every signal.",
        idle=bool,
        waits_for=str,
        at=str,
        in_window=bool,
        requests=int | None,
        in_flight=int | None,
        exchange=str | None,
        episode=str | None,
        gpu_percent=int | None,
    ),
    "night.tidied": _event(
        "What failed nights left, old adapters and exchanges were cleared away after a night.",
        adapters=Words,
        exchanges=int,
        freed_bytes=int,
    ),
    "night.not_tidied": _event(
        "A night is over, but what comes after it (clearing away, the drill) did not come to its end; why.", reason=str
    ),
    "dream.finished": _event(
        "Failed tasks were dreamed about; answers found by each stage, and tasks that are parked.",
        cycle=int,
        tasks=int,
        stages=dict,
        parked=int,
    ),
    "mix.own_rows_read": _event("The user's own rows were read; how many, and lines left out.", rows=int, left_out=int),
    "mix.surprise_unknown": _event(
        "The model server does not tell how likely an answer is: replay is chosen at random.", cycle=int, reason=str
    ),
    "mix.shortcut_left_out": _event(
        "An answer that passed is a shortcut by today's rules and is not trained on.",
        cycle=int,
        provenance=str,
        reason=str,
    ),
    "mix.built": _event("The training mix is built; its shares and rows by kind.", cycle=int, shares=dict, counts=dict),
    "mix.secret_left_out": _event(
        "A row of the mix holds a secret by today's rules and is not trained on; what kind.",
        cycle=int,
        provenance=str,
        reason=str,
    ),
    "mix.leak_left_out": _event(
        "An episode is too close to a frozen task: it is put aside, and the night goes on without it.",
        cycle=int,
        provenance=str,
        task=str,
    ),
    "train.step": _event(
        "An optimiser step; loss, in nats per token, and where they are measured KL to the base and the mean reward.",
        step=int,
        steps=int,
        loss=float,
        kl=float,
        learning_rate=float,
        reward=float,
    ),
    "train.resumed": _event("Training goes on from a checkpoint.", step=int, steps=int),
    "train.not_resumed": _event("Training begins anew although there is a checkpoint; why.", reason=str),
    "train.left_out": _event("Answers that are not trained on; the reason, and how many turns.", reason=str, turns=int),
    "train.awaits_machines": _event(
        "Training on several machines waits for the others, half an hour unless --rdzv_conf says otherwise; the "
        "command for the second of them (a third has machine_rank 2).",
        machines=int,
        command=str,
    ),
    "train.starts_afresh": _event(
        "Training does not go on from what would be its start; why.", adapter=str, reason=str
    ),
    "choose.finished": _event(
        "The best of the contenders on tonight's dev tasks, what it and the served model pass, and whether it goes to "
        "the gate (`go`) or not (`no gain`, `harm`).",
        cycle=int,
        weights=str,
        scale=float,
        ruling=str,
        pass_rates=dict,
        contenders=int,
        tasks=int,
        seconds=float,
    ),
    "train.stopped_early": _event(
        "Training ended before its last step, at a checkpoint; why.", step=int, steps=int, reason=str
    ),
    "train.paused": _event("Training stopped at a checkpoint because it was asked to.", workdir=str),
    "train.finished": _event(
        "Training made an adapter; steps done in this process, and the last loss.",
        steps=int,
        loss=float | None,
        seconds=float,
    ),
    "eval.finished": _event(
        "An arm was measured; tasks that the machine failed are `infra`.",
        arm=str,
        model=str,
        pass_rate=float,
        tasks=int,
        infra=int,
        seconds=float,
    ),
    "eval.block": _event(
        "Served and candidate answered a block of the frozen set; in which order.",
        cycle=int,
        block=int,
        tasks=int,
        order=Words,
    ),
    "eval.remembered": _event(
        "The last baseline holds: a random tenth of it came out the same again.", model=str, pass_rate=float, tasks=int
    ),
    "eval.drifted": _event(
        "The base answers differently than before: the baseline is measured anew.", cycle=int, tasks=int
    ),
    "gate.decided": _event("The gate decided; why, worst first.", cycle=int, decision=str, reasons=Words),
}

_ADAPTERS: Final = {
    "adapter.promoted": _event(
        "The pointer names this adapter from now on. After a crash it may be said twice.",
        adapter=str,
        before=str | None,
    ),
    "adapter.rejected": _event("A candidate is never to be served; why.", adapter=str, reasons=Words),
    "adapter.rolled_back": _event(
        "The pointer went back; None for `now` is the bare base. Why, the numbers of the canary when it was the one, "
        "and whether the bytes of `adapter` are in quarantine.",
        adapter=str | None,
        now=str | None,
        reason=str,
        statistics=dict,
        quarantined=bool,
    ),
    "adapter.damaged": _event(
        "The files of the serving adapter have changed, or cannot be read: what served before it serves again.",
        adapter=str,
    ),
    "adapter.state_not_noted": _event(
        "Manifest or model card of an adapter that stops serving cannot be written; the switch is made all the same.",
        adapter=str,
        state=str,
        reason=str,
    ),
    "adapter.leftovers_stay": _event(
        "What a killed process left half done, or a pruned adapter, cannot be deleted, and is in nobody's way.",
        folder=str,
        names=Words,
    ),
    "adapter.pointer_restored": _event(
        "The pointer to what serves was damaged and is restored from its twin.", serving=str | None
    ),
    "train.killed": _event(
        "The training child was killed from outside, or its processes lost each other; how often by now, and how often "
        "at most.",
        cycle=int,
        tries=int,
        of=int,
        reason=str,
    ),
    "server.adapter_loaded": _event("The model server loaded an adapter.", adapter=str, server=str),
    "server.adapter_unloaded": _event("The model server unloaded an adapter.", adapter=str, server=str),
    "server.fingerprint_differs": _event(
        "An adapter answers differently than before, or as the base: it must not serve. By how much, in a logprob.",
        adapter=str,
        server=str,
        what=str,
        apart=float,
    ),
    "server.restarted": _event("The model server did not wake and was restarted.", reason=str),
    "keeper.waiting": _event(
        "A model server cannot be kept as it should be now; it is tried again. Once per reason.",
        server=str,
        reason=str,
        remedy=str,
    ),
    "keeper.restored": _event("A model server holds again what serves.", server=str),
}

_CANARIES: Final = {
    "canary.began": _event(
        "A promotion is watched from now on; the chance of a session to be given to it.",
        adapter=str,
        previous=str,
        share=float,
    ),
    "canary.counted": _event(
        "Sessions that a verifier judged were counted; all that is known by now.", adapter=str, statistics=dict
    ),
    "canary.entered": _event(
        "A canary went on to another stage; the share of sessions of the new adapter from now on, and why.",
        adapter=str,
        stage=str,
        share=float,
        why=str,
        statistics=dict,
    ),
    "canary.replayed": _event(
        "A night replayed tasks of the day with what serves and with what served before.",
        cycle=int,
        adapter=str,
        previous=str,
        tasks=int,
        statistics=dict,
    ),
    "canary.drill": _event(
        "A drill: a broken adapter was replayed as if it served; whether it was caught, and by what.",
        caught=bool,
        tasks=int,
        replay=float,
        sessions=float,
        reason=str,
    ),
    "canary.watch_failed": _event("The canary could not be looked at this time; it is tried again.", reason=str),
}

_NAPS: Final = {
    "nap.began": _event("The model server sleeps; why, and how long its requests took to end.", why=str, drained=float),
    "nap.postponed": _event("The model server is in use: the nap waits until it is quiet.", wanted=bool),
    "nap.wanted": _event("A request wants the sleeping model server: training pauses."),
    "nap.ended": _event("The model server is awake again; seconds of the nap.", seconds=float),
    "nap.recovered": _event("A nap that a killed night left behind was ended."),
    "nap.recovery_failed": _event("A nap that a killed night left behind could not be ended yet.", reason=str),
}

_DAYS: Final = {
    "gateway.started": _event(
        "The gateway takes requests; address, alias, model server, and whether it records.",
        url=str,
        alias=str,
        server=str,
        recording=bool,
    ),
    "gateway.stopped": _event(
        "The gateway has ended; requests still in flight and exchanges still unsaved.", in_flight=int, unsaved=int
    ),
    "gateway.switched": _event("New requests for the alias go to another adapter from now on.", before=str, now=str),
    "gateway.pointer_unreadable": _event(
        "The registry does not say what serves; the last known adapter goes on serving.", reason=str, serving=str
    ),
    "gateway.feedback_lost": _event(
        "The store refused what somebody said of a session; they were told so.", reason=str
    ),
    "gateway.check_lost": _event(
        "The store refused a verifier's word on a session; whoever ran the agent was told so.", session=str, reason=str
    ),
    "gateway.upstream_failed": _event(
        "The model server did not answer, or broke off in the middle of a reply.", path=str, reason=str
    ),
    "gateway.server_aside": _event(
        "One of several model servers refuses connections, or lacks an adapter and cannot load it: it is asked last "
        "for 15 seconds at a time, if it lacks one for that alone; why. Once until it answers, or with that one.",
        server=str,
        reason=str,
    ),
    "gateway.held": _event(
        "The model server sleeps: from now on requests are held or refused; once per nap.", policy=str
    ),
    "gateway.figures_unreadable": _event("The store did not tell its figures; the page is without them.", reason=str),
    "exchange.recorded": _event(
        "A request and its reply were saved.", id=str, wire=str, session_source=str, served_by=str, whole=bool
    ),
    "exchange.dropped": _event(
        "Requests and replies were passed on, but not kept; reason and how many.", reason=str, count=int, why=str
    ),
    "recorder.failed": _event(
        "The recorder met what it did not expect, and goes on; what it was at may be lost.", reason=str
    ),
    "collect.failed": _event("Collecting failed this time; what is there waits.", reason=str),
    "episode.not_labelled": _event(
        "What became of a conversation could not be told: its episode is stored without an outcome; why.",
        conversation=str,
        reason=str,
    ),
    "episode.not_stored": _event(
        "A conversation cannot be stored as an episode and was put in quarantine; why.", conversation=str, reason=str
    ),
    "episode.gathered": _event(
        "Conversations that came to rest were stored as episodes; how many are new.",
        new=int,
        exchanges=int,
        side_calls=int,
    ),
    "episode.recorded": _event(
        "The episodes of a file in the inbox were stored; how many are new.", file=str, recorded=int, known=int
    ),
    "episode.quarantined": _event(
        "A file in the inbox has bad entries and was put aside; the first reason.",
        file=str,
        bad=int,
        recorded=int,
        reason=str,
    ),
    "inbox.waiting": _event("A file in the inbox cannot be stored now; it stays and is tried again.", reason=str),
    "store.backed_up": _event("The nightly copy of the store was made.", file=str),
    "store.not_backed_up": _event(
        "There is no nightly copy of the store this time; the older ones stay. Why, and what to do.",
        reason=str,
        remedy=str,
    ),
    "store.rescued": _event(
        "A damaged store was replaced by a backup (null: there was none) and each episode saved since; where the "
        "damaged file is.",
        backup=str | None,
        episodes=int,
        damaged=str,
    ),
    "store.quarantined": _event("Bad input was put aside with its reason.", source=str, lines=int),
}

_DAEMON: Final = {
    "daemon.started": _event(
        "The daemon is ready; address, model server, and the window of the nights.", url=str, server=str, window=str
    ),
    "daemon.failed": _event(
        "The daemon could not start or had to give up; why, and what to do.", reason=str, remedy=str
    ),
    "daemon.stopped": _event("The daemon has ended; how long it took.", seconds=float),
    "daemon.reloaded": _event(
        "The settings were read anew; sections that hold now, and those that wait for a restart.",
        applied=Words,
        restart=Words,
    ),
    "daemon.reload_failed": _event("The new settings are wrong; the old ones hold.", reason=str, remedy=str),
    "daemon.unhealthy": _event(
        "A part of the daemon does not work any more; the service manager is left to restart it.", missing=Words
    ),
    "schedule.waits": _event("No night begins now; what it waits for.", why=str, running=bool),
    "schedule.night_due": _event(
        "A night begins; which, and whether it makes up for a missed one.", why=str, caught_up=bool
    ),
    "schedule.night_began": _event("The process of a night was started.", pid=int),
    "schedule.night_ended": _event("The process of a night ended; its exit status (75: paused).", status=int, why=str),
    "schedule.night_killed": _event(
        "A night did not pause in time and was ended; the next one goes on with it.", pid=int, seconds=float
    ),
    "schedule.sleep_not_inhibited": _event(
        "The machine may suspend in the middle of a night: why, and what to do.", reason=str, remedy=str
    ),
    "schedule.diary_unreadable": _event("What the schedule remembers is damaged and begun anew.", reason=str),
    "schedule.failed": _event("The schedule could not look this time; it looks again in a minute.", reason=str),
    "schedule.clock_set_back": _event(
        "The clock was set back; the schedule looks now and every minute as before. By how much, about.", seconds=int
    ),
}

GROUPS: Final[Mapping[str, Mapping[str, Event]]] = {
    "Nights": _NIGHTS,
    "Adapters and model servers": _ADAPTERS,
    "Canaries": _CANARIES,
    "Naps": _NAPS,
    "Days": _DAYS,
    "The daemon": _DAEMON,
}

EVENTS: Final[Mapping[str, Event]] = {name: event for group in GROUPS.values() for name, event in group.items()}


def mistakes(name: str, said: Mapping[str, Any]) -> dict[str, str]:
    """What of `said` the catalogue does not allow for event `name`: field to reason. `name` itself must be known."""
    fields = {**{field: kind for field, (kind, _) in COMMON.items()}, **EVENTS[name].fields}
    wrong: dict[str, str] = {}
    for field, value in said.items():
        kind = fields.get(field)
        if kind is None:
            wrong[field] = "is not in the catalogue"
        elif not isinstance(value, kind) and not (isinstance(value, int) and issubclass(float, _plain(kind))):
            wrong[field] = f"is {value!r}, not {kind_name(kind)}"
    return wrong


def kind_name(kind: Kind) -> str:
    """How the reference and the errors call a type."""
    if kind == Words:
        return "list of texts"
    if isinstance(kind, UnionType):
        return " or ".join(kind_name(part) for part in kind.__args__)
    return {str: "text", int: "integer", float: "number", bool: "true or false", dict: "object", type(None): "null"}[
        kind
    ]


def _plain(kind: Kind) -> tuple[type, ...]:
    return kind.__args__ if isinstance(kind, UnionType) else (kind,)
