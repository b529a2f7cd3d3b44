"""Is a frozen task, or something too close to one, in the rows to be trained on?

Three questions are asked of every program in every message: is it a frozen program (same tokens), a
renamed copy (same skeleton), or a near-duplicate? The last is Broder's containment (On the resemblance
and containment of documents, 1997) of 5-token shingles: the share of a frozen program's shingles found in
the row. It is never below their Jaccard similarity, so the usual bound of 0.8 for near-duplicates in
training data (Lee et al., Deduplicating training data makes language models better, 2022, section 4.2)
holds, and a frozen program inside a longer text is found as well. An inverted index makes it exact and fast.

A project is compared as a whole and file by file, since an agent's row shows one file at a time.

A text is read as it stands and, where lines look so, also as agents are shown programs: without the numbers of
`cat -n`, `grep -n` and reading tools, and as either side of a diff. Another reading finds leaks and hides none.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Literal, cast

from sleepy_coder.errors import LeakError
from sleepy_coder.tasks.koans.family import skeleton, tokens
from sleepy_coder.types import Example, Task
from sleepy_coder.verify.cheat import TEST_FILE

SHINGLE = 5
THRESHOLD = 0.8

LEAST = 30
"""Tokens that a file needs to be compared by itself: shorter ones, such as a list of modules, look alike by chance."""

SHARED = 3
"""A file that more tasks than this have is what they stand on, and gives none of them away."""

_PROSE_SUFFIXES = frozenset({".toml", ".md", ".txt", ".lock", ".json", ".yaml", ".yml"})
_NUMBERED = re.compile(r"^\s*\d{1,5}\|", re.MULTILINE)
_NUMBERED_RUN = re.compile(r"(?:^[ \t]*\d{1,5}\|.*(?:\n|\Z))+", re.MULTILINE)
_LISTED = re.compile(r"^(?:[^\s:]{1,200}[:-])?[ \t]*L?\d{1,6}(?:[\t→:-]| │)", re.MULTILINE)
"""A line of `cat -n` and most agents' reading tools, of `grep -n` (with the file, and of the context), or of bat."""
_LISTED_RUN = re.compile(rf"(?:{_LISTED.pattern}.*(?:\n|\Z))+", re.MULTILINE)
_PATCHES = re.compile(r"^(?:\+|@@ )", re.MULTILINE)
_HUNK = re.compile(r"(?:^(?:[ +-].*)?\n|^[ +-].*\Z)+", re.MULTILINE)
_ADDED = re.compile(r"^\+.*(?:\n|\Z)", re.MULTILINE)
_REMOVED = re.compile(r"^-.*(?:\n|\Z)", re.MULTILINE)
_MARK = re.compile(r"^[+-]", re.MULTILINE)
_FENCE = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_BARE_PROGRAM = re.compile(
    r"^(?:(?:use|mod|pub|fn|struct|enum|trait|impl|const|static|type|async|unsafe|extern)\b|macro_rules!|#!?\[)"
    r".*[;}]$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Leak:
    """One row that gives a frozen task away. `similarity` is a fraction; 1.0 for the first two kinds."""

    provenance: str
    task_id: str
    kind: Literal["exact", "renamed", "near"]
    similarity: float


class LeakIndex:
    """Frozen tasks, prepared for many look-ups. Their broken and their correct form both count."""

    def __init__(self, frozen: Sequence[Task], threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._exact: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._renamed: dict[str, list[str]] = defaultdict(list)
        self._programs: list[tuple[str, int]] = []
        self._postings: dict[tuple[str, ...], list[int]] = defaultdict(list)
        files = {task.id: _single_files(task) for task in frozen}
        holders = Counter(text for texts in files.values() for text in texts)
        for task in frozen:
            whole = [program_of(form) for form in (task.files, task.reference) if form]
            single = [text for text in files[task.id] if holders[text] <= SHARED]
            for program in dict.fromkeys((*whole, *single)):
                self._add(task.id, program)

    def _add(self, task: str, program: str) -> None:
        parts = tokens(program)
        if not parts:
            return  # it would be found in every text
        self._exact[tuple(parts)].append(task)
        self._renamed[skeleton(program)].append(task)
        shingles = _shingles(parts)
        for shingle in shingles:
            self._postings[shingle].append(len(self._programs))
        self._programs.append((task, len(shingles)))

    def find(self, provenance: str, text: str) -> tuple[Leak, ...]:
        """The leaks in one text, at most one per frozen task: the most certain kind."""
        found: dict[str, Leak] = {}
        readings = [(_programs_in(text), _NUMBERED.sub("", text)), *_as_shown(text)]
        for program in chain.from_iterable(programs for programs, _ in readings):
            for task in self._exact.get(tuple(tokens(program)), ()):
                found[task] = Leak(provenance, task, "exact", 1.0)
            for task in self._renamed.get(skeleton(program), ()):
                found.setdefault(task, Leak(provenance, task, "renamed", 1.0))
        for _, reading in readings:
            for task, share in self._shares(reading):
                found.setdefault(task, Leak(provenance, task, "near", share))
        return tuple(sorted(found.values(), key=lambda leak: leak.task_id))

    def _shares(self, text: str) -> Iterator[tuple[str, float]]:
        """The tasks of which enough is in the text, and how much: for each of their programs that is."""
        shared = Counter[int]()
        for shingle in _shingles(tokens(text)):
            shared.update(self._postings.get(shingle, ()))
        for program, count in shared.items():
            task, size = self._programs[program]
            if count >= self._threshold * size:
                yield task, count / size


def find_leaks(
    rows: Iterable[tuple[str, str]], frozen: Sequence[Task], threshold: float = THRESHOLD
) -> tuple[Leak, ...]:
    """Every (row, frozen task) pair that is too close; `rows` are (provenance, text).

    Texts may hold numbered lines (`N|...`), fenced blocks, prose and compiler messages around programs.
    Not found: a copy that is renamed and has other lines as well.
    """
    index = LeakIndex(frozen, threshold)
    return tuple(dict.fromkeys(leak for provenance, text in rows for leak in index.find(provenance, text)))


def leak_error(leaks: Sequence[Leak]) -> LeakError:
    """The error that names each pair."""
    pairs = "; ".join(f"{k.provenance} ~ {k.task_id} ({k.kind}, {k.similarity:.2f})" for k in leaks)
    return LeakError(
        f"{len(leaks)} training rows are too close to frozen tasks: {pairs}",
        "Drop these rows; nothing was trained",
    )


def example_rows(examples: Iterable[Example]) -> Iterator[tuple[str, str]]:
    """The (provenance, text) rows of training examples: messages, thoughts, what tools were given, the completion."""
    for example in examples:
        for message in (*example.messages, *((example.reply,) if example.reply else ())):
            yield example.provenance, message.content
            yield example.provenance, message.reasoning
            for call in message.tool_calls:
                yield from ((example.provenance, text) for text in _texts_in(call.arguments))
        yield example.provenance, example.completion
        yield from ((example.provenance, thought) for thought in (example.thoughts or {}).values())


def task_texts(task: Task) -> tuple[str, ...]:
    """The task as it stands and, where it has a reference, as it should be: all files of each as one text."""
    return tuple("\n".join(files.values()) for files in (task.files, task.reference) if files)


def shown_texts(task: Task) -> tuple[str, ...]:
    """All that a model may be shown of the task: its two forms, and its prompt, which may hold programs of its own."""
    return (*task_texts(task), task.prompt)


def _texts_in(arguments: str) -> Iterator[str]:
    """The texts in a tool's arguments as the tool reads them: a program written to a file is not escaped there."""
    try:
        values: list[object] = [json.loads(arguments)]
    except (ValueError, RecursionError):
        yield arguments
        return
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            values.extend(cast("dict[str, object]", value).values())
        elif isinstance(value, list):
            values.extend(cast("list[object]", value))


def program_of(files: Mapping[str, str]) -> str:
    """The source files as one text, in the order in which they are shown to the model; all files if none is source."""
    return "\n".join(files[path] for path in filter(_is_source, files)) or "\n".join(files.values())


def _is_source(path: str) -> bool:
    return PurePosixPath(path).suffix not in _PROSE_SUFFIXES


def _single_files(task: Task) -> dict[str, None]:
    """The texts, in order, of the source files that may hold the error or the fix: without a reference, all of them.

    Test files are not the program, and those of different tasks are often written alike.
    """
    fixed = task.reference or {}
    asked = [path for path, text in fixed.items() if text != task.files.get(path)] or task.files
    paths = [path for path in asked if _is_source(path) and not TEST_FILE.search(path)]
    texts = (form[path] for path in paths for form in (task.files, fixed) if path in form)
    return {text: None for text in texts if len(tokens(text)) >= LEAST}


def _programs_in(text: str) -> list[str]:
    """The programs of a text: runs of numbered lines (each, and all as one), fenced blocks, or bare items."""
    runs = [_NUMBERED.sub("", run) for run in _NUMBERED_RUN.findall(text)]
    found = _each_and_all(runs)
    found.extend(_FENCE.findall(text))
    if not found:
        bare = _BARE_PROGRAM.search(text)
        found.extend([text, bare.group()] if bare else [text])
    return found


def _as_shown(text: str) -> Iterator[tuple[list[str], str]]:
    """The programs that an agent was shown in the text, and all of it, as `LeakIndex.find` compares both."""
    shown = [[_LISTED.sub("", run) for run in _LISTED_RUN.findall(text)]]
    if _PATCHES.search(text):
        hunks: list[str] = [hunk for hunk in _HUNK.findall(text) if _MARK.search(hunk)]
        shown += ([_MARK.sub("", other.sub("", hunk)) for hunk in hunks] for other in (_REMOVED, _ADDED))
    yield from ((_each_and_all(parts), "".join(parts)) for parts in shown if parts)


def _each_and_all(parts: list[str]) -> list[str]:
    return [*parts, "".join(parts)] if len(parts) > 1 else parts


def _shingles(parts: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """All runs of SHINGLE tokens; a shorter text is one shingle."""
    return frozenset(tuple(parts[i : i + SHINGLE]) for i in range(max(1, len(parts) - SHINGLE + 1)))
