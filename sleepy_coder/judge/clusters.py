"""Clusters: the gate's unit. Tasks that are variants of one program stand or fall together, so they count once.

Two tasks are linked when they have the same `Task.cluster`, when their prompts differ in one word
at most (names, numbers and quoted texts apart), or when most of the shorter program's runs of 5 tokens, all names
taken as one, occur in the other. A cluster is what links connect. On the frozen koans this finds the templates
from which they were drawn without being told: 233 clusters for 233 templates, two templates split and two clusters
holding two. Template mates that are counted as independent make the gate err more often than it promises.

Koans of two families are never linked: these are different templates by construction, and in programs this short a
common beginning is enough to look alike. Any other family is a name that somebody gave, such as a project's folder,
and copies under two names are copies.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from sleepy_coder.tasks.koans.family import skeleton
from sleepy_coder.tasks.leaks import SHINGLE, program_of
from sleepy_coder.types import Record, Task

NEAR = 0.7
"""Share of the shorter program's runs that a near-duplicate shares; at 0.6 it joins templates of one family."""

SHORT = 6
"""Prompts of fewer words have to be equal: one word is too much of them."""

_QUOTED = re.compile(r'"[^"]*"')
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r"[A-Za-z_]\w*|\d+|\S")
_NUMBERED_NAME = re.compile(r"\bv\d+\b")


class Cluster(Record):
    """Tasks that count as one. `id` is the smallest of their ids; `group` is what the family guard looks at."""

    id: str
    family: str
    group: str
    tasks: tuple[str, ...]


def form_clusters(tasks: Sequence[Task]) -> tuple[Cluster, ...]:
    """The clusters of a task set, by id; each task is in exactly one, whatever the order of `tasks`."""
    parent = {task.id: task.id for task in tasks}

    def root(task: str) -> str:
        while parent[task] != task:
            task = parent[task]
        return task

    ordered = sorted(tasks, key=lambda t: t.id)
    for one, other in _links(ordered):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members: dict[str, list[Task]] = defaultdict(list)
    for task in ordered:
        members[root(task.id)].append(task)
    return tuple(
        Cluster(id=id, family=of[0].family, group=of[0].category or of[0].family, tasks=tuple(t.id for t in of))
        for id, of in sorted(members.items())
    )


def in_order(clusters: Iterable[Cluster], seed: int) -> tuple[Cluster, ...]:
    """A random order in which every beginning holds each family in about its share. Equal for equal seeds."""
    rng = random.Random(seed)
    families: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in sorted(clusters, key=lambda c: c.id):
        families[cluster.family].append(cluster)
    placed: list[tuple[float, str, Cluster]] = []
    for _, members in sorted(families.items()):
        rng.shuffle(members)
        placed += [((i + rng.random()) / len(members), c.id, c) for i, c in enumerate(members)]
    return tuple(cluster for _, _, cluster in sorted(placed, key=lambda p: p[:2]))


def _links(tasks: Sequence[Task]) -> Iterator[tuple[str, str]]:
    """Pairs of task ids that belong together."""
    seen = [(task, _blanked(task), _runs(task)) for task in tasks]
    for i, (one, said, ours) in enumerate(seen):
        for other, heard, theirs in seen[:i]:
            if one.family != other.family and one.origin == other.origin == "koan":
                continue
            same = one.cluster != "" and one.cluster == other.cluster
            near = len(ours & theirs) >= NEAR * min(len(ours), len(theirs))
            if same or near or _alike(said, heard):
                yield one.id, other.id


def _blanked(task: Task) -> Counter[str]:
    """The words of the prompt, with a blank for each name of the program, each number and each quoted text."""
    names = {name for text in task.files.values() for name in _NAME.findall(text)}
    words = _WORD.findall(_QUOTED.sub("_", task.prompt))
    return Counter("_" if word in names or word[0].isdigit() else word for word in words)


def _alike(one: Counter[str], other: Counter[str]) -> bool:
    """Whether two prompts differ in one word at most; short ones have to be equal."""
    allowed = 1 if min(one.total(), other.total()) >= SHORT else 0
    return (one - other).total() <= allowed and (other - one).total() <= allowed


def _runs(task: Task) -> frozenset[tuple[str, ...]]:
    """All runs of SHINGLE tokens of the program, with one word for all names."""
    parts = _NUMBERED_NAME.sub("v", skeleton(program_of(task.files))).split()
    return frozenset(tuple(parts[i : i + SHINGLE]) for i in range(max(1, len(parts) - SHINGLE + 1)))
