"""Every family of koans is what it says, and so are the task sets that are made of them."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import get_args

import pytest

from sleepy_coder.tasks import SPLITS, TaskSplit, load_split, task_id
from sleepy_coder.tasks.build import generate
from sleepy_coder.tasks.handwritten import Koan, koans
from sleepy_coder.tasks.koans import FAMILIES, Draft, draw
from sleepy_coder.tasks.koans.family import Category, cluster_of, split_of
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.tasks.proof import ProofError, Rustc, prove

NAMES = sorted(FAMILIES)
# Building the sets proves all of theirs; what is proved here are the koans that no set holds.
CASES: dict[str, tuple[Draft, str]] = {
    **{
        f"{name} {drawn.source}": (drawn.draft, drawn.error_code)
        for name in NAMES
        for drawn in generate(name, "pretrain", 1, seed=11)
    },
    **{koan.path: (koan.draft, koan.error_code) for koan in koans()},
}


@pytest.fixture(scope="module")
def proofs() -> dict[str, str]:
    """Per case why its proof failed; empty when it held. Compiled together, two at a time."""
    rustc = Rustc.find()

    def why(case: tuple[Draft, str]) -> str:
        try:
            prove(rustc, *case)
        except ProofError as error:
            return error.message
        return ""

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CASES, pool.map(why, CASES.values()), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_real_compiler_refuses_the_buggy_form_and_runs_the_fixed_one(case: str, proofs: dict[str, str]) -> None:
    assert proofs[case] == ""


@pytest.mark.parametrize("case", CASES)
def test_the_statement_is_short_and_does_not_give_the_fix_away(case: str) -> None:
    draft, _ = CASES[case]
    assert draft.buggy != draft.fixed
    assert 10 <= len(draft.statement) <= 200
    before = {line.strip() for line in draft.buggy.split("\n")}
    changed = {line.strip() for line in draft.fixed.split("\n")} - before
    # A bare value ("cedar", a + b) may have to be told; anything with syntax in it is the answer.
    code = {line for line in changed if re.search(r"[;{}()&?:=.]", line)}
    assert not [line for line in code if line in draft.statement]


def test_there_are_at_least_thirty_families_in_every_category() -> None:
    assert len(FAMILIES) >= 30
    assert {family.category for family in FAMILIES.values()} == set(get_args(Category))


@pytest.mark.parametrize("name", NAMES)
def test_a_family_has_four_templates_and_a_hundred_programs(name: str) -> None:
    assert len(FAMILIES[name].templates) >= 4
    clusters: set[str] = set()
    for seed in range(600):
        clusters.add(cluster_of(draw(name, seed).buggy))
        if len(clusters) == 100:
            break
    assert len(clusters) == 100


@pytest.mark.parametrize("name", NAMES)
def test_a_draft_depends_on_nothing_but_its_seed(name: str) -> None:
    assert draw(name, 5) == draw(name, 5)
    assert draw(name, 5) != draw(name, 6)


def test_there_are_many_handwritten_koans_of_every_category() -> None:
    found = koans()
    assert len(found) >= 42
    assert {koan.category for koan in found} == set(get_args(Category))
    assert len(found) / 3 <= sum(bool(koan.draft.tests) for koan in found) <= 2 * len(found) / 3


@pytest.mark.parametrize("koan", koans(), ids=lambda koan: koan.path)
def test_a_handwritten_koan_is_of_a_real_size(koan: Koan) -> None:
    assert 12 <= koan.draft.buggy.count("\n") <= 40


def test_no_two_handwritten_koans_are_the_same_program() -> None:
    assert len({cluster_of(koan.draft.buggy) for koan in koans()}) == len(koans())


def test_the_packaged_splits_share_no_program() -> None:
    for one, other in combinations(SPLITS, 2):
        assert not {t.cluster for t in load_split(one)} & {t.cluster for t in load_split(other)}
        assert not {t.id for t in load_split(one)} & {t.id for t in load_split(other)}


@pytest.mark.parametrize("split", SPLITS)
def test_packaged_ids_are_content_hashes_and_clusters_are_true(split: TaskSplit) -> None:
    tasks = load_split(split)
    assert len({t.id for t in tasks}) == len({t.cluster for t in tasks}) == len(tasks)
    for t in tasks:
        assert t.id == task_id(t.files, t.prompt, t.command, t.expected_stdout, t.hidden_tests)
        assert t.cluster == cluster_of(t.files["main.rs"])
        home = split_of(t.cluster)
        assert home == split or (home, split) in [("pretrain", "day"), ("pretrain", "rehearsal")]


@pytest.mark.parametrize("split", SPLITS)
def test_every_packaged_task_says_what_is_wanted_and_how_it_is_checked(split: TaskSplit) -> None:
    for t in load_split(split):
        assert t.origin == "koan" and t.prompt and t.reference and t.reference != t.files
        assert (t.command, bool(t.expected_stdout), bool(t.hidden_tests)) in [
            (("rust-run",), True, False),
            (("rust-test",), False, True),
        ]


def test_the_frozen_set_has_at_least_three_hundred_tasks_of_every_family() -> None:
    frozen = load_split("frozen")
    assert len(frozen) >= 300
    per_family = Counter(t.family for t in frozen)
    assert [name for name in NAMES if per_family[name] != 6] == []


@pytest.mark.parametrize("split", ["day", "dev", "rehearsal"])
def test_no_packaged_task_gives_a_frozen_one_away(split: TaskSplit) -> None:
    index = LeakIndex(load_split("frozen"))
    programs = [(t.id, text) for t in load_split(split) for f in (t.files, t.reference or {}) for text in f.values()]
    assert [leak for name, text in programs for leak in index.find(name, text)] == []
