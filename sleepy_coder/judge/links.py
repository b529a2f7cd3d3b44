"""What makes two tasks variants of one program; `clusters` counts as one what such links connect.

Two tasks are linked when they have the same `Task.cluster`, when most of the shorter program's runs of 5 tokens, all
names taken as one, occur in the other, or when their prompts differ in one word at most (names, numbers and quoted
texts apart). A prompt that goes with many programs which have little in common, such as "Make the tests pass.", says
nothing of them and links nobody. Tests count only where there is hardly any program yet: they are often written alike.

Koans of two families are never linked: these are different templates by construction, and in programs this short a
common beginning is enough to look alike. Any other family is a name that somebody gave, such as a project's folder,
and copies under two names are copies.
"""

# scipy ships no type information; its one value is made an array of numpy right here.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sleepy_coder.tasks.koans.family import skeleton, tokens
from sleepy_coder.tasks.leaks import LEAST, SHINGLE, program_of
from sleepy_coder.types import Task
from sleepy_coder.verify.cheat import TEST_FILE

NEAR = 0.7
"""Share of the shorter program's runs that a near-duplicate shares; at 0.6 it joins templates of one family."""

SHORT = 6
"""Prompts of fewer words have to be equal: one word is too much of them."""

CROWD = 10
"""A prompt that no more tasks than this share is taken at its word; of the packaged templates at most 5 tasks do."""

STRANGE = 0.4
"""The median of the shares that tasks of one prompt have in common, below which this prompt says nothing.

In 171 functions of Python's library it is below 0.1. It is asked of crowds only: two tasks of one template may
share as little.
"""

Why = Literal["same program", "near copy", "alike prompt"]
Link = tuple[int, int, Why]
Bools = NDArray[np.bool_]

_QUOTED = re.compile(r'"[^"]*"')
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r"[A-Za-z_]\w*|\d+|\S")
_NUMBERED_NAME = re.compile(r"\bv\d+\b")


def links(tasks: Sequence[Task]) -> Iterator[Link]:
    """Places in `tasks` of each two that belong together, and by what; the most certain reason counts."""
    if not tasks:
        return
    similar, alike, may = _similarities(tasks), _alike_prompts(tasks), _may_link(tasks)
    near, alike = may & (similar >= NEAR), may & alike
    telling = np.array([not _says_nothing(row[who]) for row, who in zip(similar, alike, strict=True)], dtype=np.bool_)
    alike &= np.logical_and.outer(telling, telling)
    of = np.array([task.cluster or f"none {place}" for place, task in enumerate(tasks)])
    same = may & (of[:, None] == of)
    for one, other in np.argwhere(np.triu(same | near | alike)).tolist():
        yield one, other, "same program" if same[one, other] else "near copy" if near[one, other] else "alike prompt"


def _says_nothing(shares: NDArray[np.float64]) -> bool:
    """Whether a task's prompt tells nothing of its program, by what it shares with each task of an alike prompt."""
    return len(shares) >= CROWD and float(np.median(shares)) < STRANGE


def _may_link(tasks: Sequence[Task]) -> Bools:
    koan = np.array([task.origin == "koan" for task in tasks], dtype=np.bool_)
    family = np.array([task.family for task in tasks])
    may = (family[:, None] == family) | ~np.logical_and.outer(koan, koan)
    np.fill_diagonal(may, False)
    return may


def _similarities(tasks: Sequence[Task]) -> NDArray[np.float64]:
    """For each two tasks the share of the shorter program's runs that occur in the other.

    A product of sparse matrices: comparing the sets pair by pair takes minutes for 500 projects.
    """
    runs, places = [_runs(task) for task in tasks], dict[tuple[str, ...], int]()
    columns = [places.setdefault(run, len(places)) for of in runs for run in of]
    sizes = np.array([len(of) for of in runs])
    rows = np.repeat(np.arange(len(runs)), sizes)
    held = csr_array((np.ones(len(columns), np.int32), (rows, columns)), shape=(len(runs), len(places)))
    shared: NDArray[np.int32] = (held @ held.T).toarray()
    return shared / np.minimum.outer(sizes, sizes)


def _runs(task: Task) -> frozenset[tuple[str, ...]]:
    """All runs of SHINGLE tokens of the program, with one word for all names."""
    parts = [_shape(token) for token in tokens(_own_program(task.files))]
    return frozenset(zip(*(parts[start:] for start in range(SHINGLE)), strict=False)) or frozenset({tuple(parts)})


@lru_cache(maxsize=1 << 16)
def _shape(token: str) -> str:
    return _NUMBERED_NAME.sub("v", skeleton(token))


def _own_program(files: Mapping[str, str]) -> str:
    """The program without its tests, unless hardly anything is left: the beginnings of programs are all alike."""
    own = program_of({path: text for path, text in files.items() if not TEST_FILE.search(path)})
    return own if len(tokens(own)) >= LEAST else program_of(files)


def _alike_prompts(tasks: Sequence[Task]) -> Bools:
    said = [_blanked(task) for task in tasks]
    words = [one.total() for one in said]
    alike = np.zeros((len(tasks), len(tasks)), dtype=np.bool_)
    for i, one in enumerate(said):
        for j, other in enumerate(said[:i]):
            if abs(words[i] - words[j]) <= 1 and _alike(one, other):
                alike[i, j] = alike[j, i] = True
    return alike


def _blanked(task: Task) -> Counter[str]:
    """The words of the prompt, with a blank for each name of the program, each number and each quoted text."""
    names = {name for text in task.files.values() for name in _NAME.findall(text)}
    words = _WORD.findall(_QUOTED.sub("_", task.prompt))
    return Counter("_" if word in names or word[0].isdigit() else word for word in words)


def _alike(one: Counter[str], other: Counter[str]) -> bool:
    """Whether two prompts differ in one word at most; short ones have to be equal."""
    allowed = 1 if min(one.total(), other.total()) >= SHORT else 0
    return (one - other).total() <= allowed and (other - one).total() <= allowed
