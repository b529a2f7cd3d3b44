"""Clusters hold what stands or falls together, and their order is random, fair and fixed by a seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

from fakes import make_task
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge.clusters import Cluster, form_clusters, in_order
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import choose, full_plan
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.koans.words import Words
from sleepy_coder.tasks.loaders import load_cargo_folder


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


def test_copies_that_go_by_the_names_of_different_families_count_once() -> None:
    assert len(form_clusters([make_task(1000, family="one"), make_task(1500, family="another")])) == 1


def test_near_copies_in_cargo_projects_of_their_own_count_once(tmp_path: Path) -> None:
    apart = {cluster.id for cluster in form_clusters(load_split("frozen"))}
    originals = random.Random(3).sample([task for task in load_split("frozen") if task.id in apart], 4)
    for task in originals:
        for copy in range(3):
            project = tmp_path / f"{task.id}_{copy}"
            (project / "src").mkdir(parents=True)
            (project / "Cargo.toml").write_text(f'[package]\nname = "p{copy}"\n')
            (project / "README.md").write_text(task.prompt)
            (project / "src/main.rs").write_text(task.files["main.rs"].replace("1", str(copy + 2)))
    assert len(form_clusters(load_cargo_folder(tmp_path))) == 4


def test_koans_of_two_families_are_different_programs_however_alike_they_look() -> None:
    one = load_split("frozen")[0]
    assert len(form_clusters([one, one.model_copy(update={"id": "other", "family": "another"})])) == 2


def test_the_clusters_of_the_packaged_set_are_those_of_the_committed_study() -> None:
    found = json.dumps([cluster.model_dump(mode="json") for cluster in form_clusters(load_split("frozen"))])
    assert hashlib.sha256(found.encode()).hexdigest()[:16] == "afe5c0ac2064eaf0"


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
