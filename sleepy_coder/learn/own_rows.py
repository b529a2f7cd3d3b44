"""The user's own fine-tuning file: JSON lines of conversations, in any of the forms that episodes are imported in.

Every line passes the same gates as what is collected: it is redacted before it is read, and one that is too close to a
frozen task is left out. A bad line is named with its reason, and the others are none the worse for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sleepy_coder.collect.intake import BadEntry, entries
from sleepy_coder.errors import ConfigError
from sleepy_coder.ports import Redactor
from sleepy_coder.tasks.leaks import LeakIndex, example_rows
from sleepy_coder.types import OWN, Episode, Example

_UNDATED: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OwnRows:
    """What is in the file: each different row once, and the lines that are not trained on."""

    rows: tuple[Example, ...] = ()
    bad: tuple[BadEntry, ...] = ()


def own_rows(path: Path, redactor: Redactor, frozen: LeakIndex) -> OwnRows:
    """The rows of the file; all of the assistant's turns are learned. Raises ConfigError when it cannot be read."""
    rows: dict[str, Example] = {}
    bad: list[BadEntry] = []
    try:
        with path.open("rb") as file:
            for number, entry in enumerate(entries(file, lines=True, redact=redactor.redact, when=_UNDATED), 1):
                if isinstance(entry, BadEntry):
                    bad.append(entry)
                    continue
                row = _row(entry)
                if task := _close_to(row, frozen):
                    text = entry.model_dump_json(include={"attempts"})
                    bad.append(BadEntry(f"conversation {number}", f"it is too close to frozen task {task}", text))
                else:
                    rows.setdefault(row.provenance, row)
    except OSError as error:
        raise ConfigError(f"mix.sft_file cannot be read: {error}", "correct the path, or unset mix.sft_file") from error
    return OwnRows(tuple(rows.values()), tuple(bad))


def _row(episode: Episode) -> Example:
    """Episodes of a file are named by what they say."""
    last = episode.attempts[-1]
    return Example(
        messages=last.messages,
        completion=last.completion,
        kind="replay",
        task_id=f"{OWN}:{episode.id}",
        family=OWN,
        provenance=f"{OWN}:{episode.id}",
        reply=last.reply,
        tools=last.tools,
        first_turn=last.first_turn,
        thoughts=last.thoughts,
    )


def _close_to(row: Example, frozen: LeakIndex) -> str:
    found = (frozen.find(provenance, text) for provenance, text in example_rows([row]))
    return next((leaks[0].task_id for leaks in found if leaks), "")
