"""Task ids, task sets and how the packaged ones are built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepy_coder.errors import SleepyError, TaskFormatError
from sleepy_coder.tasks import SPLITS, set_id, task_id
from sleepy_coder.tasks.build import Drawn, Plan, build_sets, choose, generate, prove_all, to_task
from sleepy_coder.tasks.handwritten import koans, parse
from sleepy_coder.tasks.koans import FAMILIES, Draft, draw
from sleepy_coder.tasks.koans.family import cluster_of, split_of
from sleepy_coder.tasks.proof import ProofError, Rustc, prove
from sleepy_coder.types import Task

FAMILY = "use_after_move"
RUNS = Draft("Say hello.", "fn main() {\n    let x: i32 = 1.5;\n}\n", 'fn main() {\n    println!("hi");\n}\n')
PLAN = Plan({"frozen": 2, "day": 2, "dev": 1, "rehearsal": 1}, (FAMILY, "assign_immutable"), koans()[:3])

texts = st.text(max_size=20)
contents = st.tuples(
    st.dictionaries(texts, texts, min_size=1, max_size=3),
    texts,
    st.lists(texts, max_size=3),
    st.none() | texts,
    texts,
)


@pytest.fixture(scope="module")
def rustc() -> Rustc:
    return Rustc.find()


def drawn(draft: Draft = RUNS, code: str = "E0308") -> Drawn:
    return Drawn("some_family", "type_mismatch", code, "seed 99", draft, cluster_of(draft.buggy))


def tasks(count: int = 3) -> list[Task]:
    return [to_task(each, "out\n") for each in generate(FAMILY, "day", count, seed=3)]


@given(contents, contents)
def test_ids_are_equal_exactly_when_the_contents_are(one: tuple, other: tuple) -> None:
    same = (list(one[0].items()), *one[1:]) == (list(other[0].items()), *other[1:])
    assert (task_id(*one) == task_id(*other)) == same


def test_an_id_is_a_k_and_twelve_hex_digits_and_never_changes() -> None:
    assert task_id({"main.rs": "fn main() {}\n"}, "Do it.", ("rust-run",), "hi\n", "") == "k3fc0672533b9"


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"main.rs": "fn main() { }\n"}},
        {"prompt": "Do that."},
        {"command": ("rust-check",)},
        {"expected_stdout": None},
        {"expected_stdout": ""},
        {"hidden_tests": "#[test]"},
    ],
    ids=str,
)
def test_everything_that_decides_about_an_answer_is_in_the_id(change: dict) -> None:
    content = {
        "files": {"main.rs": "fn main() {}\n"},
        "prompt": "Do it.",
        "command": ("rust-run",),
        "expected_stdout": "hi\n",
        "hidden_tests": "",
    }
    assert task_id(**content) != task_id(**{**content, **change})


def test_a_set_id_does_not_depend_on_the_order_of_the_tasks() -> None:
    some = tasks()
    assert set_id(some) == set_id(reversed(some))


def test_a_set_id_changes_with_any_field_of_any_task() -> None:
    some = tasks()
    other = [*some[:-1], some[-1].model_copy(update={"reference": None})]
    assert len({set_id(some), set_id(some[:-1]), set_id(other), set_id([])}) == 4


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(["pretrain", "day", "dev", "frozen"]),
    st.integers(0, 99),
)
def test_generated_programs_belong_to_their_split_and_come_again(name: str, split: str, seed: int) -> None:
    found = list(generate(name, split, 3, seed))
    assert found == list(generate(name, split, 3, seed))
    assert {split_of(each.cluster) for each in found} == {split}
    assert [each.cluster for each in found] == [cluster_of(each.draft.buggy) for each in found]
    assert split == "pretrain" or len({each.cluster for each in found}) == 3


def test_the_seed_of_a_generated_program_leads_back_to_it() -> None:
    for each in generate(FAMILY, "dev", 3, seed=1):
        assert draw(FAMILY, int(each.source.removeprefix("seed "))) == each.draft


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    assert list(generate(FAMILY, "day", 6, seed=1))[:2] == list(generate(FAMILY, "day", 2, seed=1))


def test_a_family_that_cannot_give_enough_is_named() -> None:
    with pytest.raises(SleepyError, match="use_after_move gives only 0 of 1 programs for dev"):
        list(generate(FAMILY, "dev", 1, seed=1, keep=lambda _: False))


def test_a_task_holds_the_buggy_program_and_its_reference() -> None:
    task = to_task(drawn(), "hi\n")
    assert task.files == {"main.rs": RUNS.buggy}
    assert task.reference == {"main.rs": RUNS.fixed}
    assert (task.command, task.expected_stdout, task.origin) == (("rust-run",), "hi\n", "koan")
    assert task.id == task_id(task.files, task.prompt, task.command, "hi\n", "")


def test_a_draft_with_tests_becomes_a_task_that_is_tested() -> None:
    task = to_task(drawn(replace(RUNS, tests="#[test]\nfn t() {}\n")), None)
    assert (task.command, task.hidden_tests, task.expected_stdout) == (
        ("rust-test",),
        "#[test]\nfn t() {}\n",
        None,
    )


def test_what_the_reference_really_prints_is_expected(rustc: Rustc) -> None:
    assert prove(rustc, RUNS, "E0308") == "hi\n"


def test_a_draft_with_tests_is_proved_by_them(rustc: Rustc) -> None:
    good = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {\n        assert!(true);\n    }\n}\n"
    assert prove(rustc, replace(RUNS, tests=good), "E0308") is None
    with pytest.raises(ProofError, match="the fixed form fails: it ends with status 101"):
        prove(rustc, replace(RUNS, tests=good.replace("true", "false")), "E0308")


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (replace(RUNS, buggy=RUNS.fixed), r"fails with \[\] instead of E0308"),
        (replace(RUNS, buggy="fn main() {\n    let x: i32 = 1.5;\n    y();\n}\n"), r"\['E0308', 'E0425'\]"),
        (replace(RUNS, buggy="fn main() {\n    let x = ;\n}\n"), r"fails with \[''\]"),
        (replace(RUNS, fixed=RUNS.buggy), "the fixed form fails: it does not compile"),
        (replace(RUNS, fixed="fn main() {\n    panic!();\n}\n"), "it ends with status 101"),
        (replace(RUNS, fixed="fn main() {}\n"), "prints nothing"),
        (
            replace(RUNS, fixed='fn main() {\n    println!("{:?}", std::process::id());\n}\n'),
            "something else each time",
        ),
    ],
    ids=["no error", "two errors", "no code", "still broken", "panics", "silent", "unstable"],
)
def test_a_draft_that_is_not_what_it_claims_is_refused(rustc: Rustc, draft: Draft, reason: str) -> None:
    with pytest.raises(ProofError, match=reason):
        prove(rustc, draft, "E0308")


def test_a_draft_may_hold_a_line_separator(rustc: Rustc) -> None:
    assert rustc.error_codes('fn main() {\n    let _x: i32 = "q\u2028w";\n}\n') == frozenset({"E0308"})


def test_a_failed_proof_names_family_and_seed(rustc: Rustc) -> None:
    with pytest.raises(ProofError, match="some_family, seed 99: the buggy form fails with"):
        prove_all([drawn(code="E0001")], rustc)


def test_a_handwritten_koan_goes_to_the_split_of_its_cluster_and_never_to_pretraining() -> None:
    plan = replace(PLAN, families=(), handwritten=koans())
    homes = {each.source: (split, split_of(each.cluster)) for split in SPLITS for each in choose(plan, split, ())}
    assert homes.keys() == {koan.path for koan in koans()}
    assert {home for home in homes.values()} <= {
        ("day", "pretrain"),
        ("day", "day"),
        ("dev", "dev"),
        ("frozen", "frozen"),
    }


def test_what_is_too_close_to_a_frozen_task_is_not_chosen() -> None:
    first, *others = choose(PLAN, "day", ())
    again = choose(PLAN, "day", [to_task(first, "")])
    assert first not in again
    assert [each for each in others if each in again] == others


def test_the_same_plan_gives_the_same_bytes(rustc: Rustc, tmp_path: Path) -> None:
    sets = build_sets(tmp_path / "a", rustc, PLAN)
    build_sets(tmp_path / "b", rustc, PLAN)
    for split, built in sets.items():
        data = (tmp_path / "a" / f"{split}.jsonl").read_bytes()
        assert data == (tmp_path / "b" / f"{split}.jsonl").read_bytes()
        assert tuple(Task.model_validate_json(line) for line in data.splitlines()) == built
    assert {split: len(built) for split, built in sets.items()}["frozen"] >= 4
    assert sorted(path.stem for path in (tmp_path / "a").iterdir()) == sorted(SPLITS)


KOAN = "# E0308\n\nSay `{}`.\n\n```diff\n fn main() {\n-    a\n+    b\n\n }\n```\n"


def test_a_handwritten_koan_holds_both_forms_in_one_text() -> None:
    koan = parse("names/x.md", KOAN)
    assert koan.draft == Draft("Say `{}`.", "fn main() {\n    a\n\n}\n", "fn main() {\n    b\n\n}\n")
    assert (koan.category, koan.error_code) == ("names", "E0308")


def test_a_handwritten_koan_may_hold_tests() -> None:
    assert parse("names/x.md", KOAN + "\n```rust\n#[test]\nfn t() {}\n```\n").draft.tests == "#[test]\nfn t() {}\n"


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("music/x.md", KOAN, "music is not a category"),
        ("names/x.md", KOAN.replace("# E0308", "# moved"), "names/x.md: not a koan"),
        ("names/x.md", KOAN.replace("```diff", "```rust"), "names/x.md: not a koan"),
        ("names/x.md", KOAN.replace("-    a", "a"), "'a' is not a diff line"),
    ],
)
def test_a_damaged_handwritten_koan_is_named_with_the_reason(path: str, text: str, reason: str) -> None:
    with pytest.raises(TaskFormatError, match=reason):
        parse(path, text)
