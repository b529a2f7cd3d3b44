"""What is said to the model and how its answer is read. The one place that knows the prompt.

Answers are edits: each line of the form `NUMBER|text` replaces that line of the program. Several
lines with the same number replace it in order (that is how lines are inserted), and `NUMBER-`
deletes it. A fenced block replaces the whole file instead. Both keep replies short, and both are
forms that models of any size can follow.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from sleepy_coder.types import Message, Task

SYSTEM = "Fix the program. Answer with the changed lines only: NUMBER|new text, or NUMBER- to delete."

HINTS = "Hints:"
"""The line that divides a prompt from the hints after it. No line of a program reads so: they are numbered."""

_NUMBERED = re.compile(r"^\d{1,5}\|")
_EDIT = re.compile(r"^(\d{1,5})(?:\|(.*)|-)$")
_FENCE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)


class ReplyFormatError(ValueError):
    """The reply holds neither edits nor a fenced file, or edits lines that do not exist."""


def number_lines(text: str) -> str:
    """`text` with `1|`, `2|`, ... before its lines."""
    return "\n".join(f"{i}|{line}" for i, line in enumerate(text.rstrip("\n").split("\n"), 1))


def first_messages(task: Task, feedback: str) -> tuple[Message, ...]:
    """The conversation that opens a task: what is wanted, the numbered files, what the compiler says."""
    files = "\n".join(
        (f"{path}:\n" if len(task.files) > 1 else "") + number_lines(text) for path, text in task.files.items()
    )
    return (
        Message(role="system", content=SYSTEM),
        Message(role="user", content=f"{task.prompt}\n{files}\n{feedback}"),
    )


def retry_messages(before: tuple[Message, ...], completion: str, feedback: str) -> tuple[Message, ...]:
    """The conversation after a failed attempt. Edits go on counting lines as in the first message."""
    return (
        *before,
        Message(role="assistant", content=completion),
        Message(role="user", content=f"Not yet. With that edit:\n{feedback}\nEdit the first program again."),
    )


def with_hints(messages: tuple[Message, ...], hints: str) -> tuple[Message, ...]:
    """The conversation with `hints` at the end of its first prompt; as it is when there are none."""
    if not hints:
        return messages
    at = _first_prompt(messages)
    prompt = messages[at].model_copy(update={"content": f"{messages[at].content}\n{HINTS}\n{hints}"})
    return (*messages[:at], prompt, *messages[at + 1 :])


def without_hints(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The inverse of `with_hints`: hints help to find an answer, and are not there when it is asked for.

    Conversations of other agents are left as they are: what reads like hints there is the user's own.
    """
    if not messages or messages[0] != Message(role="system", content=SYSTEM):
        return messages
    at = _first_prompt(messages)
    plain, mark, _ = messages[at].content.rpartition(f"\n{HINTS}\n")
    if not mark:
        return messages
    return (*messages[:at], messages[at].model_copy(update={"content": plain}), *messages[at + 1 :])


def feedback_in(messages: tuple[Message, ...]) -> str:
    """What the compiler says of the broken program in a first prompt of ours; empty where there is no such thing."""
    if not messages:
        return ""
    content = without_hints(messages)[_first_prompt(messages)].content
    lines = content.split("\n")
    numbered = [number for number, line in enumerate(lines) if _NUMBERED.match(line)]
    return "\n".join(lines[numbered[-1] + 1 :]) if numbered else ""


def _first_prompt(messages: tuple[Message, ...]) -> int:
    return next((at for at, message in enumerate(messages) if message.role == "user"), 0)


def apply_reply(reply: str, files: Mapping[str, str]) -> dict[str, str]:
    """The files after the edits in `reply`.

    Edits that follow a line `path:` go to that file, others to the first one.
    Raises ReplyFormatError when nothing in the reply can be applied.
    """
    first = next(iter(files))
    fence = _FENCE.search(reply)
    if fence:
        return {**files, first: fence.group(1)}
    edits: dict[str, dict[int, list[str]]] = {}
    path = first
    for line in reply.rstrip("\n").split("\n"):
        if line.endswith(":") and line[:-1] in files:
            path = line[:-1]
        elif match := _EDIT.match(line):
            new = edits.setdefault(path, {}).setdefault(int(match.group(1)), [])
            if match.group(2) is not None:
                new.append(match.group(2))
    if not edits:
        raise ReplyFormatError("the reply holds no edit (NUMBER|text) and no fenced file")
    return {path: _edit(text, edits[path]) if path in edits else text for path, text in files.items()}


def _edit(text: str, edits: Mapping[int, list[str]]) -> str:
    lines = text.rstrip("\n").split("\n")
    beyond = [number for number in edits if not 1 <= number <= len(lines)]
    if beyond:
        raise ReplyFormatError(f"the reply edits line {beyond[0]}, but the file has {len(lines)} lines")
    out: list[str] = []
    for number, line in enumerate(lines, 1):
        out.extend(edits.get(number, [line]))
    return "\n".join(out) + "\n"


def reply_between(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The shortest reply that turns the files `before` into those `after`, whose paths are the same."""
    changed = {path: edits_between(text, after[path]) for path, text in before.items() if after[path] != text}
    first = next(iter(before))
    own = [changed.pop(first)] if first in changed else []
    return "\n".join([*own, *(f"{path}:\n{edits}" for path, edits in changed.items())])


def edits_between(before: str, after: str) -> str:
    """The shortest reply that turns `before` into `after`; the inverse of `apply_reply`."""
    old, new = before.rstrip("\n").split("\n"), after.rstrip("\n").split("\n")
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag == "insert":
            anchor = min(i1, len(old) - 1)
            inserted = [f"{anchor + 1}|{line}" for line in new[j1:j2]]
            kept = f"{anchor + 1}|{old[anchor]}"
            out.extend([*inserted, kept] if i1 < len(old) else [kept, *inserted])
        elif tag == "delete":
            out.extend(f"{i + 1}-" for i in range(i1, i2))
        elif tag == "replace":
            count = i2 - i1
            for offset, line in enumerate(new[j1:j2]):
                out.append(f"{i1 + 1 + min(offset, count - 1)}|{line}")
            out.extend(f"{i + 1}-" for i in range(i1 + (j2 - j1), i2))
    return "\n".join(out)
