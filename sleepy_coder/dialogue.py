"""What is said to the model and how its answer is read. The one place that knows the prompt.

Answers are edits: each line of the form `NUMBER|text` replaces that line of the program. Several
lines with the same number replace it in order (that is how lines are inserted), and `NUMBER-`
deletes it. A fenced block replaces the whole file instead. Both keep replies short, and both are
forms that models of any size can follow.

Of a task of several files the prompt says how to name one. Names are read as models write them, above edits and
fences, in a fence's first line or beside its language; what has no name belongs to the first program.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from sleepy_coder.types import Message, Task
from sleepy_coder.verify.test_files import TEST_FILE

SYSTEM = "Fix the program. Answer with the changed lines only: NUMBER|new text, or NUMBER- to delete."

HINTS = "Hints:"
"""The line that divides a prompt from the hints after it. No other line of the prompt reads so."""

_OTHERS_HINTS = re.compile(rf"^{HINTS}$", re.MULTILINE)
_NUMBERED = re.compile(r"^\d{1,5}\|")
_EDIT = re.compile(r"^(\d{1,5})(?:\|(.*)|-)$")
_FENCED = re.compile(r"^[ \t]*```([^\n`]*)\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_NO_PROGRAM = re.compile(
    r"(?:^|/)(?:(?:GNU)?[Mm]akefile|CMakeLists\.txt|[^/]*\.(?:toml|json|lock|md|txt|ya?ml|cfg|ini|mk|xml|gradle))$"
)
_COMMENT = re.compile(r"\s*(?://|/\*|#|--|<!--|;)[\s*/#-]*([^\s*/#-]\S{0,300}?):?[ \t]*(?:\*/|-->)?[ \t]*(?:\n|\Z)")
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
    how = f"Write a file's name above its edits, as in `{_main(task.files)}:`.\n" if len(task.files) > 1 else ""
    asked = f"{task.prompt}\n{how}{files}\n{feedback}"
    return (
        Message(role="system", content=SYSTEM),
        # What a user or a test says may hold such a line: with a space behind it nothing is cut off there.
        Message(role="user", content=_OTHERS_HINTS.sub(f"{HINTS} ", asked)),
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
    plain, mark, _ = messages[at].content.partition(f"\n{HINTS}\n")
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

    Edits and fences that name no file go to the first program (see `_main`).
    Raises ReplyFormatError when nothing in the reply can be applied.
    """
    if len(files) > 1:
        return _apply_to_several(reply, files)
    fence = _FENCE.search(reply)
    if fence:
        return {**files, _main(files): fence.group(1)}
    edits = _edits_in(reply, files)
    if not edits:
        raise ReplyFormatError("the reply holds no edit (NUMBER|text) and no fenced file")
    return {path: _edit(text, edits[path]) if path in edits else text for path, text in files.items()}


def _apply_to_several(reply: str, files: Mapping[str, str]) -> dict[str, str]:
    """All fences that name their file, and all edits; a fence without a name only where there is nothing else."""
    whole: dict[str, str] = {}
    unnamed: list[str] = []

    def taken(fence: re.Match[str]) -> str:
        body = fence.group(2)
        above = reply[: fence.start()].rstrip().rpartition("\n")[2]
        path = _path_of(fence.group(1), above, body, files)
        if body.strip() and all(_EDIT.match(line) for line in body.split("\n") if line.strip()):
            return f"{path}:\n{body}" if path else body
        if path:
            whole[path] = body
        else:
            unnamed.append(body)
        return ""

    edits = _edits_in(_FENCED.sub(taken, reply), files)
    if unnamed and not whole and not edits:
        whole[_main(files)] = unnamed[0]
    if not whole and not edits:
        raise ReplyFormatError("the reply holds no edit (NUMBER|text) and no fenced file")
    edited = {path: _edit(text, edits[path]) if path in edits else text for path, text in files.items()}
    return {**edited, **whole}


def _edits_in(reply: str, files: Mapping[str, str]) -> dict[str, dict[int, list[str]]]:
    """Path to line number to the lines that take its place."""
    edits: dict[str, dict[int, list[str]]] = {}
    path = _main(files)
    for line in reply.rstrip("\n").split("\n"):
        if match := _EDIT.match(line):
            new = edits.setdefault(path, {}).setdefault(int(match.group(1)), [])
            if match.group(2) is not None:
                new.append(match.group(2))
        elif named := _named(line, files):
            path = named
    return edits


def _main(files: Mapping[str, str]) -> str:
    """The first file that is a program and no test; the first of all where there is none."""
    programs = (path for path in files if not TEST_FILE.search(path) and not _NO_PROGRAM.search(path))
    return next(programs, next(iter(files)))


def _path_of(info: str, above: str, body: str, files: Mapping[str, str]) -> str | None:
    """The file that a fence is: by what stands beside its language, in the line above, or in its first comment."""
    beside = next((word for word in re.split(r"[\s:=\"'{}]+", info) if word in files), None)
    comment = _COMMENT.match(body)
    within = comment[1] if comment and comment[1] in files else None
    return beside or _named(above, files) or within


def _named(line: str, files: Mapping[str, str]) -> str | None:
    """The file that a line names for what is below it: nothing but its path, or the only path in `...:`."""
    bare = line.strip(" \t#*`:>")
    if bare in files:
        return bare
    if len(files) == 1 or not line.rstrip(" \t*`").endswith(":"):
        return None
    found = [path for path in files if re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w/-]|\.\w)", line)]
    return found[0] if len(found) == 1 else None


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
    """The shortest reply that turns the files `before` into those `after`, whose paths are the same.

    It names its file where there are several, as the prompt asks for.
    """
    changed = {path: edits_between(text, after[path]) for path, text in before.items() if after[path] != text}
    if len(before) == 1:
        return "".join(changed.values())
    return "\n".join(f"{path}:\n{edits}" for path, edits in changed.items())


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
