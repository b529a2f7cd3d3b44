"""Clusters hold what stands or falls together, and their order is random, fair and fixed by a seed."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import make_task
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.judge.clusters import Cluster, Crowd, form_clusters, form_crowd, in_order
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import choose, full_plan
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.koans.words import Words
from sleepy_coder.tasks.loaders import load_cargo_folder
from sleepy_coder.types import Task


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


def own(number: int, files: dict[str, str], prompt: str) -> Task:
    """A task of a user's own."""
    task = make_task(number, family="user")
    return task.model_copy(update={"id": f"own{number:03}", "files": files, "prompt": prompt})


def different_programs(count: int, prompt: str) -> list[Task]:
    """One koan of each cluster as a user's own tasks, which all say the same."""
    frozen = {task.id: task for task in load_split("frozen")}
    chosen = random.Random(5).sample([cluster.id for cluster in form_clusters(load_split("frozen"))], count)
    return [own(number, frozen[id].files, prompt) for number, id in enumerate(chosen)]


def test_a_prompt_that_many_different_programs_share_links_nobody() -> None:
    assert len(form_clusters(different_programs(60, "Make the tests pass."))) > 55


def test_a_prompt_that_few_tasks_share_is_taken_at_its_word() -> None:
    assert len(form_clusters(different_programs(5, "Make the tests pass."))) == 1


def test_many_variants_of_one_program_count_once_whatever_their_prompt_says_to_others() -> None:
    tasks = different_programs(30, "Make the tests pass.")
    copies = [
        own(100 + copy, {"main.rs": tasks[0].files["main.rs"].replace("1", str(copy))}, tasks[0].prompt)
        for copy in range(12)
    ]
    assert form_clusters([*tasks, *copies])[0].tasks == ("own000", *(task.id for task in copies))


SUITE = """import pytest
from m import f


def test_f():
    assert f({}) is not None
    assert f(None) == 1
"""


def pytest_task(number: int, program: str, test: str) -> Task:
    return own(number, {"m.py": program, "test_m.py": SUITE.replace("{}", test)}, f"Do {'this' * (number + 1)}.")


LOOP = """def f(xs):
    out = []
    for x in xs:
        if x:
            out.append(x + 1)
    return out[0]
"""
WHILE = """def f(text):
    while text and text[0] == '-':
        text = text[1:]
    return {text: len(text) * 2}
"""


def test_tests_that_are_written_alike_make_no_variants_of_different_programs() -> None:
    shared = """None, 0)
    if f(1) == [2, 3] or not {4: 5}:
        raise ValueError("no") from None
    for x in (6, *[7], -8 % 9):
        while x >= 1 and x != 2 | 3 ^ 4:
            x -= 5 // 6 << 7
            assert x, f'{x}' + "y" * 2
    return lambda z: z[::2] if z else {1, 2} & {3}
    print(~x @ y <= z > w, a.b.c(d=e, **g)"""
    assert len(form_clusters([pytest_task(0, LOOP, shared), pytest_task(1, WHILE, shared)])) == 2


def test_programs_that_are_still_to_be_written_are_told_apart_by_their_tests() -> None:
    one, other = "{1: [2]}, key=lambda x: x[0]", "*[3, 4][::-1] + (5 if 6 else 7)"
    tasks = [pytest_task(number, "def f(*given):\n    pass\n", test) for number, test in enumerate((one, other))]
    assert len(form_clusters(tasks)) == 2


def test_hundreds_of_projects_are_compared_within_seconds() -> None:
    rng, one = random.Random(7), own(0, {}, "Make the tests pass.").model_copy(update={"cluster": ""})
    words = "if else while for in return ( ) [ ] { } + - * / = == < > . , : ; 0 x".split()  # noqa: SIM905
    tasks = [
        one.model_copy(
            update={"id": f"p{n}", "files": {f"m{i}.py": " ".join(rng.choices(words, k=500)) for i in "1234"}}
        )
        for n in range(400)
    ]
    began = time.process_time()
    assert len(form_clusters(tasks)) == 400
    assert time.process_time() - began < 30


def test_of_a_set_that_is_mostly_one_program_it_is_said_what_joins_it() -> None:
    tasks = different_programs(5, "Make the tests pass.")
    clusters, crowd = form_crowd(tasks)
    assert (len(clusters), crowd) == (1, Crowd(tasks=5, two=("own000", "own001"), why="alike prompt"))
    copies = [task.model_copy(update={"files": tasks[0].files, "prompt": f"Mend {task.id * 9}."}) for task in tasks]
    assert (found := form_crowd(copies)[1]) and found.why == "near copy"
    assert form_crowd(load_split("frozen")) == (form_clusters(load_split("frozen")), None)


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
def test_every_beginning_holds_each_family_in_its_share(some: list[Cluster], seed: int) -> None:
    assert keeps_shares(in_order(some, seed))


@pytest.mark.parametrize("seed", range(5))
def test_every_beginning_of_the_frozen_set_holds_each_family_in_its_share_as_no_plain_shuffle_would(seed: int) -> None:
    order = in_order(form_clusters(load_split("frozen")), seed)
    assert keeps_shares(order)
    assert not keeps_shares(random.Random(seed).sample(order, len(order)))


def keeps_shares(order: Sequence[Cluster]) -> bool:
    """Whether each family is in every beginning as often as in the whole, but for one cluster of it, and for one of
    each family in the length of the beginning."""
    sizes = Counter(c.family for c in order)
    return all(
        abs(Counter(c.family for c in order[:end])[family] - size * end / len(order))
        <= 1 + size * len(sizes) / len(order)
        for end in range(len(order) + 1)
        for family, size in sizes.items()
    )


def test_another_seed_gives_another_order_of_the_families_and_within_each_large_one() -> None:
    some = form_clusters(load_split("frozen"))
    orders = [in_order(some, seed) for seed in range(8)]
    assert len({tuple(c.family for c in order) for order in orders}) == len(orders)
    sizes = Counter(c.family for c in some)
    for family in (family for family, size in sizes.items() if size >= 4):
        assert len({tuple(c.id for c in order if c.family == family) for order in orders}) > 1
