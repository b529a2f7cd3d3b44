"""A million episodes in the store: how fast they come in, and what building a night's mix from them takes.

One JSON line. The episodes are made from the packaged koans: a quarter as many tasks as episodes, one to three
attempts, and some without a verifier or a task; they are streamed in, never held. The mix is built by the functions
of a night in a process of its own, with the same anchors and dreams for all ways. Peers in the same run, on the
first episodes: plain `sqlite3` with `executemany` for the way in, and reading all episodes for the mix, which has
to give the very same rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from sleepy_coder import wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.curfew import Curfew
from sleepy_coder.dialogue import edits_between, first_messages, retry_messages
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.mix import Listed, compose
from sleepy_coder.learn.replay import replay_pool
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.practice import gather, look_back
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split, task_id
from sleepy_coder.types import Attempt, Episode, Example, ExampleKind, Outcome, Task, TrainingMix, Verdict

GOAL_SECONDS, GOAL_MIB = 10, 500
ANCHORS = 160
BATCH = 256
FEEDBACK = "main.rs:3: error[E0382]: borrow of moved value: `item`\n  3| let again = item;\n   | value moved here\n"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Koan:
    """A task with its correct answer, as edits."""

    task: Task
    answer: str


def koans(split: str) -> list[Koan]:
    found: list[Koan] = []
    for task in load_split(split):
        (name,) = task.files
        if task.reference:
            found.append(Koan(task, edits_between(task.files[name], task.reference[name])))
    return found


def variant(koan: Koan, number: int) -> Task:
    """The koan with another note at its end, which makes it another task with the same answer."""
    ((name, text),) = koan.task.files.items()
    files = {name: f"{text.rstrip()}\n// note {number}\n"}
    task = koan.task
    id = task_id(files, task.prompt, task.command, task.expected_stdout, task.hidden_tests)
    return task.model_copy(update={"id": id, "files": files})


def episodes(count: int) -> Iterator[Episode]:
    """The same `count` episodes each time; the first ones are the same whatever `count` is but for their tasks."""
    base = koans("day")
    for number in range(count):
        chance = random.Random(number)
        which = chance.randrange(max(1, count // 4))
        task = variant(base[which % len(base)], which)
        yield episode(number, task, base[which % len(base)].answer, chance)


def episode(number: int, task: Task, answer: str, chance: random.Random) -> Episode:
    skill = random.Random(task.id).random()  # some tasks are easy, some are never solved
    first = messages = first_messages(task, FEEDBACK)
    attempts: list[Attempt] = []
    for _ in range(3):
        outcome = Outcome.INFRA if chance.random() < 0.01 else Outcome.PASS if chance.random() < skill else Outcome.FAIL
        remark = "\nThat is all." if chance.random() < 0.3 else ""
        text = f"{answer}{remark}" if outcome is Outcome.PASS else f"1|let wrong_{number};"
        verdict = Verdict(
            outcome=outcome,
            stage="done" if outcome is Outcome.PASS else "compile",
            feedback="" if outcome is Outcome.PASS else FEEDBACK,
            seconds=0.1,
        )
        attempts.append(Attempt(messages=messages, completion=text, verdict=verdict, served_by="bench"))
        if outcome is not Outcome.FAIL:
            break
        messages = retry_messages(first, text, FEEDBACK)
    said = chance.random()
    return Episode(
        id=f"{number:032x}",
        session=f"bench-{number // 100}",
        source="agent",
        task=None if said < 0.05 else task,
        attempts=tuple(attempts),
        outcome=attempts[-1].verdict.outcome,
        outcome_source="tool-text" if said < 0.1 else "verifier",
        served_by="bench",
        created=START + timedelta(seconds=number),
    )


# The way in


@dataclass(slots=True)
class Ingest:
    """Seconds for all episodes, and for the first ones in our store and in plain SQLite."""

    seconds: float = 0.0
    first: float = 0.0
    plain: float = 0.0
    tasks: set[str] = field(default_factory=set[str])


def ingest(count: int, few: int, large: Path, small: Path, plain: Path) -> Ingest:
    """Fill a store with `count` episodes, and its peers with the first `few`, batch by batch in turn."""
    taken = Ingest()
    with Store(large) as store, Store(small) as little, closing(sqlite3.connect(plain, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("PRAGMA synchronous=FULL")
        other.execute("CREATE TABLE episodes (id TEXT PRIMARY KEY, outcome TEXT, payload TEXT)")
        batch: list[Episode] = []
        for number, made in enumerate(episodes(count), 1):
            batch.append(made)
            if len(batch) < BATCH and number < count:
                continue
            started = time.perf_counter()
            store.save_episodes(batch)
            seconds = time.perf_counter() - started
            taken.seconds += seconds
            if number <= few:
                taken.first += seconds
                taken.plain += plainly(other, batch)
                little.save_episodes(batch)
            batch = []
    return taken


def plainly(db: sqlite3.Connection, batch: Sequence[Episode]) -> float:
    started = time.perf_counter()
    db.execute("BEGIN")
    rows = [(e.id, e.outcome.value, e.model_dump_json()) for e in batch]
    db.executemany("INSERT INTO episodes VALUES (?, ?, ?)", rows)
    db.execute("COMMIT")
    return time.perf_counter() - started


# The mix, in a process of its own


def answered(found: Sequence[Koan], kind: ExampleKind, prefix: str, anchor: bool) -> tuple[Example, ...]:
    return tuple(
        Example(
            messages=first_messages(koan.task, FEEDBACK),
            completion=koan.answer,
            kind=kind,
            task_id=koan.task.id,
            family=koan.task.family,
            provenance=f"{prefix}:{koan.task.id}",
            anchor=anchor,
        )
        for koan in found
    )


def parts_of(store: Store, home: Path) -> Parts:
    """What choosing a mix asks of a night's parts: store, registry, redactor and settings. The rest is not there."""
    config = load_config(home)
    missing = cast(Any, None)
    return Parts(
        config=config,
        base=BaseModel(home, config.server.base_name, "", 0),
        store=store,
        registry=wiring.open_registry(config),
        server=missing,
        prover=missing,
        clusters=missing,
        verifier=missing,
        trainer=missing,
        redactor=wiring.open_redactor(config),
        clock=wiring.SystemClock(),
        watcher=wiring.Silent(),
        policy=config.gate,
        frozen=(),
        rehearsal=(),
        environment="",
        curfew=Curfew(wiring.SystemClock()),
    )


def dreamed(tasks: Sequence[Task]) -> Dreams:
    """The answers are known here; a night samples them."""
    found = [Koan(task, "1|fn main() {}") for task in tasks]
    return Dreams(found=answered(found, "hard", "dream", False), unsolved=())


def chosen(parts: Parts, anchors: tuple[Example, ...]) -> TrainingMix:
    """As a night does it."""
    day = look_back(parts)
    tasks = parts.store.failed_tasks(day.until, 1, parts.config.mix.dream_tasks)
    return gather(parts, 1, day, anchors, dreamed(tasks), None)


def chosen_from_all(parts: Parts, anchors: tuple[Example, ...]) -> TrainingMix:
    """The peer: read all episodes, then choose among them in Python."""
    everything = list(parts.store.episodes(unused=True))
    rates: dict[str, list[bool]] = {}
    rows: dict[tuple[str, str], Episode] = {}
    failed: dict[str, Task] = {}
    for one in everything:
        if one.task is None or one.outcome_source != "verifier":
            continue
        rates.setdefault(one.task.id, []).extend(
            attempt.verdict.passed for attempt in one.attempts if attempt.verdict.outcome is not Outcome.INFRA
        )
        if one.outcome is Outcome.PASS:
            rows.setdefault((one.task.id, one.attempts[-1].completion), one)
        elif one.outcome is Outcome.FAIL:
            failed.setdefault(one.task.id, one.task)
    count: dict[str, int] = {}
    passed: list[Example] = []
    for (id, completion), one in rows.items():
        count[id] = count.get(id, 0) + 1
        if count[id] <= parts.config.mix.per_task and one.task:
            rate = sum(rates[id]) / len(rates[id])
            passed.append(
                Example(
                    messages=one.attempts[0].messages,
                    completion=completion,
                    kind="passed",
                    task_id=id,
                    family=one.task.family,
                    provenance=one.id,
                    weight=max(0.2, math.sqrt(rate * (1 - rate))),
                )
            )
    replay = replay_pool("surprise", (), anchors, (), {}, parts.config.seed + 1)
    dreams = dreamed(list(failed.values())[: parts.config.mix.dream_tasks])
    pools = {"replay": replay, "passed": Listed(passed), "hard": Listed(dreams.found)}
    return compose(cast(Any, pools), parts.config.mix, parts.config.seed + 1)


def resident_mib() -> float:
    """The most memory that this process had at once, in MiB.

    `getrusage` would do, had it not the parent's figure from before exec in it.
    """
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) / 1024


def night(path: Path, way: str) -> None:
    """The child: one mix from the store at `path`, and what it took, as JSON."""
    anchors = answered(koans("rehearsal")[:ANCHORS], "replay", "anchor", True)
    with tempfile.TemporaryDirectory() as home:
        before, started = resident_mib(), time.perf_counter()
        with Store(path) as store:
            mix = (chosen if way == "choosing" else chosen_from_all)(parts_of(store, Path(home)), anchors)
        taken = time.perf_counter() - started
    rows = [(row.provenance, row.weight) for row in mix.examples]
    say({"seconds": taken, "mib": resident_mib() - before, "rows": len(rows), "counts": mix.counts, "sha": mix.sha256})


def in_a_child(path: Path, way: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--night", str(path), "--way", way]
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'daemon'}"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


def measure(count: int, few: int, scratch: Path) -> dict[str, object]:
    large, small, plain = (scratch / f"{name}.db" for name in ("large", "small", "plain"))
    taken = ingest(count, few, large, small, plain)
    mix = in_a_child(large, "choosing")
    ours, theirs = in_a_child(small, "choosing"), in_a_child(small, "reading-all")
    if ours["sha"] != theirs["sha"]:
        sys.exit("choosing in SQL and choosing among all gave different mixes")
    return {
        "benchmark": "day",
        "episodes": count,
        "ingest_per_second": round(count / taken.seconds, 1),
        "file_mib": round(large.stat().st_size / 2**20, 1),
        "mix_rows": mix["rows"],
        "mix_counts": mix["counts"],
        "mix_seconds": round(mix["seconds"], 2),
        "mix_mib": round(mix["mib"], 1),
        "goal_seconds": GOAL_SECONDS,
        "goal_mib": GOAL_MIB,
        "peer_episodes": few,
        "ingest_to_plain_sqlite": round(taken.plain / taken.first, 2),
        "peer_mix_seconds": round(theirs["seconds"], 2),
        "peer_mix_mib": round(theirs["mib"], 1),
        "seconds_to_reading_all": round(ours["seconds"] / theirs["seconds"], 3),
        "mib_to_reading_all": round(ours["mib"] / theirs["mib"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--peer-episodes", type=int, default=50 * 1024)
    parser.add_argument("--night", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", default="choosing", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        night(options.night, options.way)
        return
    # Whole batches, so that each is in both stores or in one.
    few = min(options.peer_episodes, options.episodes) // BATCH * BATCH or options.episodes
    with tempfile.TemporaryDirectory() as scratch:
        say(measure(options.episodes, few, Path(scratch)))


if __name__ == "__main__":
    main()
