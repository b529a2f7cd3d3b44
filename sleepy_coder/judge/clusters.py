"""Clusters: the gate's unit. Tasks that are variants of one program stand or fall together, so they count once.

A cluster is what `links` connect. On the frozen koans this finds the templates from which they were drawn without being
told: 233 clusters for 233 templates, two templates split and two clusters holding two. Template mates that are counted
as independent make the gate err more often than it promises.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import mode

from sleepy_coder.judge.links import Link, Why, links
from sleepy_coder.types import Record, Task


class Cluster(Record):
    """Tasks that count as one. `id` is the smallest of their ids; `group` is what the family guard looks at."""

    id: str
    family: str
    group: str
    tasks: tuple[str, ...]


class Crowd(Record):
    """A cluster that holds many of a set's tasks: how many, two of these, and by what most of its pairs are linked."""

    tasks: int
    two: tuple[str, str]
    why: Why


def form_clusters(tasks: Sequence[Task]) -> tuple[Cluster, ...]:
    """The clusters of a task set, by id; each task is in exactly one, whatever the order of `tasks`."""
    return _connected(sorted(tasks, key=lambda t: t.id))[0]


def form_crowd(tasks: Sequence[Task]) -> tuple[tuple[Cluster, ...], Crowd | None]:
    """The clusters, and of what the largest is made when they are fewer than half as many as the tasks."""
    ordered = sorted(tasks, key=lambda t: t.id)
    clusters, found = _connected(ordered)
    if 2 * len(clusters) >= len(tasks):
        return clusters, None
    largest = max(clusters, key=lambda c: len(c.tasks))
    within = [link for link in found if ordered[link[0]].id in largest.tasks]
    reasons: list[Why] = [link[2] for link in within]
    why = mode(reasons)
    one, other = next(link[:2] for link in within if link[2] == why)
    return clusters, Crowd(tasks=len(largest.tasks), two=(ordered[one].id, ordered[other].id), why=why)


def _connected(ordered: Sequence[Task]) -> tuple[tuple[Cluster, ...], tuple[Link, ...]]:
    """The clusters of tasks that are sorted by id, and the links between these."""
    parent = list(range(len(ordered)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = place = parent[parent[place]]
        return place

    found = tuple(links(ordered))
    for one, other, _ in found:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    members: dict[str, list[Task]] = defaultdict(list)
    for place, task in enumerate(ordered):
        members[ordered[root(place)].id].append(task)
    clusters = tuple(
        Cluster(id=id, family=of[0].family, group=of[0].category or of[0].family, tasks=tuple(t.id for t in of))
        for id, of in sorted(members.items())
    )
    return clusters, found


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
