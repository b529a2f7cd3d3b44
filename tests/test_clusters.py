"""Clusters hold what stands or falls together, and their order is random, fair and fixed by a seed."""

from __future__ import annotations

import random
from collections import Counter

from fakes import make_task
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge.clusters import Cluster, form_clusters, in_order
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import choose, full_plan
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.koans.words import Words


def templates() -> dict[str, tuple[str, object]]:
    """`Task.cluster` of each frozen koan to the template that it was drawn from."""
    drawn = choose(full_plan(), "frozen", [])
    return {
        d.cluster: (d.family, Words(int(d.source[5:])).pick(*range(len(FAMILIES[d.family].templates))))
        if d.source.startswith("seed ")
        else (d.family, d.source)
        for d in drawn
    }


def test_the_clusters_of_the_frozen_koans_are_their_templates_without_being_told() -> None:
    frozen = {task.id: task for task in load_split("frozen")}
    known = templates()
    found = form_clusters(tuple(frozen.values()))
    truth = {task.id: known[task.cluster] for task in frozen.values()}
    joined = sum(len({truth[task] for task in cluster.tasks}) > 1 for cluster in found)
    places = Counter(template for cluster in found for template in {truth[task] for task in cluster.tasks})
    assert (len(found), len(set(truth.values()))) == (233, 233)
    assert joined == 2
    assert sum(count > 1 for count in places.values()) == 2


def test_every_task_is_in_one_cluster_whatever_their_order() -> None:
    frozen = list(load_split("frozen"))
    clusters = form_clusters(frozen)
    assert sorted(task for cluster in clusters for task in cluster.tasks) == sorted(task.id for task in frozen)
    random.Random(1).shuffle(frozen)
    assert form_clusters(frozen) == clusters


def test_a_renamed_copy_is_in_the_cluster_of_its_original() -> None:
    one = make_task(1000)
    copy = make_task(1500, family=one.family)
    assert len(form_clusters([one, copy])) == 1
    assert len(form_clusters([one, make_task(1500, family="another")])) == 2


clusters = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(
    lambda families: [Cluster(id=f"c{i:02}", family=f"f{f}", group="g", tasks=()) for i, f in enumerate(families)]
)


@given(clusters, st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_an_order_follows_from_the_seed_alone(some: list[Cluster], seed: int, rng: random.Random) -> None:
    shuffled = rng.sample(some, len(some))
    assert in_order(some, seed) == in_order(shuffled, seed)
    assert sorted(c.id for c in in_order(some, seed)) == [c.id for c in some]


@given(clusters, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_beginning_holds_each_family_in_its_share_within_one_cluster_of_each(
    some: list[Cluster], seed: int
) -> None:
    order, sizes = in_order(some, seed), Counter(c.family for c in some)
    for end in range(len(order) + 1):
        seen = Counter(c.family for c in order[:end])
        for family, size in sizes.items():
            assert abs(seen[family] - size * end / len(order)) <= len(sizes)


def test_another_seed_gives_another_order() -> None:
    some = form_clusters(load_split("frozen"))
    assert in_order(some, 1) != in_order(some, 2)
