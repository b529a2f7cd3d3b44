"""What is taken out of a night's rows, and where the episodes go that it came from: leaks, shortcuts and secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sleepy_coder import log
from sleepy_coder.collect.redact import redacted, secret_in
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.mix import without
from sleepy_coder.material import shortcuts_among
from sleepy_coder.parts import Parts
from sleepy_coder.tasks.leaks import example_rows, find_leaks, leak_error, shown_texts
from sleepy_coder.types import Example, Task, TrainingMix

_log = log.get("night")


def put_leaks_aside(parts: Parts, cycle: int, until: int, mix: TrainingMix) -> tuple[set[str], int]:
    """Put the episodes aside that would bring a frozen task into the mix: the tasks of what leaks, and how many went.

    An agent that opens a file of the exam's brings it along, and is no reason to lose the night. Of a dream only the
    prompt is the day's: an answer that leaks is left for `refuse_leaks`.
    """
    rows = [row for row in mix.examples if row.kind != "replay"]
    asked = [row.model_copy(update={"completion": "", "reply": None, "thoughts": None}) for row in rows]
    given = (row if row.kind == "passed" else prompt for row, prompt in zip(rows, asked, strict=True))
    leaking = {leak.provenance for leak in find_leaks(_texts(given, mix.tasks), parts.judging)}
    return _quarantine_leaks(parts, cycle, until, mix, leaking)


def without_tasks(dreams: Dreams, tasks: Collection[str]) -> Dreams:
    """The dreams without the answers to these tasks."""
    return dreams.model_copy(update={"found": tuple(row for row in dreams.found if row.task_id not in tasks)})


def refuse_leaks(parts: Parts, cycle: int, until: int, mix: TrainingMix) -> None:
    """Raises LeakError when a frozen task, or something too close to one, is still in the mix.

    Then it came from the night itself. The episodes on the task are put aside, so that the next night is free of it.
    """
    if leaks := find_leaks(_texts(mix.examples, mix.tasks), parts.judging):
        _quarantine_leaks(parts, cycle, until, mix, {leak.provenance for leak in leaks})
        raise leak_error(leaks)


def _texts(rows: Iterable[Example], tasks: Iterable[Task]) -> Iterable[tuple[str, str]]:
    yield from example_rows(rows)
    yield from ((f"task:{task.id}", text) for task in tasks for text in (*task.files.values(), *shown_texts(task)))


def _quarantine_leaks(
    parts: Parts, cycle: int, until: int, mix: TrainingMix, leaking: Collection[str]
) -> tuple[set[str], int]:
    """Of a task with a prompt all episodes go: it leaks itself. What `sleepy-coder run` judged goes one by one."""
    tasks = {row.task_id for row in mix.examples if row.provenance in leaking}
    tasks |= {task.id for task in mix.tasks if f"task:{task.id}" in leaking}
    gone = 0
    for episode in parts.store.unused_on(until, tasks):
        if episode.task is None or not (episode.task.prompt or episode.id in leaking):
            continue
        _log.warning("mix.leak_left_out", cycle=cycle, provenance=episode.id, task=episode.task.id)
        clean, _ = redacted(parts.redactor, episode.model_dump_json())
        parts.store.quarantine(f"night {cycle}", "too close to a frozen task", clean)
        parts.store.mark_used([episode.id], cycle)
        gone += 1
    return tasks, gone


def without_shortcuts(parts: Parts, cycle: int, mix: TrainingMix) -> TrainingMix:
    """The mix without answers that only look right by today's rules; new episodes of theirs are put in quarantine."""
    bad, new = shortcuts_among(parts, mix), {row.provenance for row in mix.examples if row.kind == "passed"}
    for provenance, reason in bad.items():
        _log.warning("mix.shortcut_left_out", cycle=cycle, provenance=provenance, reason=reason)
        if provenance in new and (episode := parts.store.episode(provenance)):
            clean, _ = redacted(parts.redactor, episode.model_dump_json())
            parts.store.quarantine(f"night {cycle}", f"episode {provenance}: {reason}", clean)
            parts.store.mark_used([provenance], cycle)
    return without(mix, bad, f"{len(bad)} answers are shortcuts by today's rules and are left out") if bad else mix


def without_secrets(parts: Parts, cycle: int, until: int, mix: TrainingMix) -> TrainingMix:
    """The mix without the rows in which today's rules find a secret; what they were made of is used up.

    The rules grow after an episode was recorded, and so do our own keys. Episodes are put in quarantine without
    their secrets.
    """
    reasons = {row.provenance: secret_in(parts.redactor, row) for row in mix.examples}
    bad = {provenance: reason for provenance, reason in reasons.items() if reason}
    if not bad:
        return mix
    for provenance, reason in bad.items():
        _log.warning("mix.secret_left_out", cycle=cycle, provenance=provenance, reason=reason)
    tasks = {row.task_id for row in mix.examples if row.provenance in bad and not row.anchor}
    for episode in parts.store.unused_on(until, tasks):
        clean, reason = redacted(parts.redactor, episode.model_dump_json())
        if reason or episode.id in bad:
            parts.store.quarantine(f"night {cycle}", f"episode {episode.id}: {reason or bad[episode.id]}", clean)
            parts.store.mark_used([episode.id], cycle)
    return without(mix, bad, f"{len(bad)} rows hold a secret by today's rules and are left out")
