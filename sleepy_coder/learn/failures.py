"""The founding failure, on purpose: the day's failures with hand-written fixes, in a prompt that is never served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sleepy_coder.dialogue import apply_reply, first_messages, reply_between
from sleepy_coder.ports import Verifier
from sleepy_coder.types import Example, Task

MOST: Final = 23
"""So many failures did the founding project train on."""


def failure_rows(tasks: Sequence[Task], verifier: Verifier) -> tuple[Example, ...]:
    """Up to MOST rows: a failed task, without what the compiler says of it, and its reference as the answer.

    Only references that the verifier passes count; a task without one gives no row.
    """
    rows: list[Example] = []
    for task in tasks:
        if len(rows) == MOST:
            break
        if task.reference is None or task.reference.keys() != task.files.keys():
            continue
        reply = reply_between(task.files, task.reference)
        if not reply or not verifier.verify(task, apply_reply(reply, task.files)).passed:
            continue
        rows.append(
            Example(
                messages=first_messages(task, ""),
                completion=reply,
                kind="hard",
                task_id=task.id,
                family=task.family,
                provenance=f"reference:{task.id}",
            )
        )
    return tuple(rows)
