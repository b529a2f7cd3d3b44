"""A frozen program is found in a training mix however it is written down; another program never is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sleepy_coder.dialogue import first_messages, number_lines, retry_messages
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import Drawn, generate, to_task
from sleepy_coder.tasks.handwritten import koans
from sleepy_coder.tasks.koans import FAMILIES, draw
from sleepy_coder.tasks.koans.family import cluster_of, tokens
from sleepy_coder.tasks.koans.words import NOUNS, TYPES
from sleepy_coder.tasks.leaks import Leak, LeakIndex, example_rows, find_leaks, leak_error
from sleepy_coder.types import Example, Message, Task, ToolCall

FROZEN = [to_task(drawn, "") for name in sorted(FAMILIES) for drawn in generate(name, "frozen", 2, seed=7)]
INDEX = LeakIndex(FROZEN)

frozen_tasks = st.sampled_from(FROZEN)
fast = settings(max_examples=60, deadline=None)


def program(task: Task) -> str:
    return task.files["main.rs"]


def found(text: str) -> dict[str, Leak]:
    return {leak.task_id: leak for leak in INDEX.find("episode-1", text)}


OWN_NAMES = sorted({*NOUNS, *TYPES} - {"Item", "entry"})


def renamed(text: str) -> str:
    """The program with its variables and types renamed; names that the library has as well are kept."""
    pattern = r'"(?:\\.|[^"\\])*"|\b(?:' + "|".join(OWN_NAMES) + r")s?\b"
    return re.sub(pattern, lambda m: m[0] if m[0].startswith('"') else f"{m[0]}x", text)


@fast
@given(frozen_tasks)
def test_a_verbatim_copy_is_an_exact_leak(task: Task) -> None:
    assert found(program(task))[task.id].kind == "exact"


@fast
@given(frozen_tasks, st.sampled_from([" ", "  ", "\t", "\n"]))
def test_a_reformatted_copy_is_an_exact_leak(task: Task, gap: str) -> None:
    spread = re.sub(r"(?m)^ +", gap, program(task)).replace("\n", "\n\n")
    assert found(spread)[task.id].kind == "exact"


@fast
@given(frozen_tasks)
def test_a_renamed_copy_is_a_leak(task: Task) -> None:
    copy = renamed(program(task))
    assume(copy != program(task))
    assert task.id in found(copy)


@fast
@given(frozen_tasks, st.data())
def test_a_copy_with_one_literal_changed_is_a_leak(task: Task, data: st.DataObject) -> None:
    literals = list(re.finditer(r'(?<=")[a-z]+(?=")|(?<![\w.])\d+(?![\w.])', program(task)))
    assume(literals)
    literal = data.draw(st.sampled_from(literals))
    copy = program(task)[: literal.start()] + "77" + program(task)[literal.end() :]
    assert task.id in found(copy)


@fast
@given(frozen_tasks, st.data())
def test_a_copy_with_one_line_added_is_a_leak(task: Task, data: st.DataObject) -> None:
    lines = program(task).split("\n")
    at = data.draw(st.integers(0, len(lines)))
    new = data.draw(st.sampled_from(["// tidy", "let spare = vec![1, 2, 3];", 'println!("{} {}", 1, 2);']))
    assert task.id in found("\n".join([*lines[:at], new, *lines[at:]]))


@fast
@given(frozen_tasks)
def test_the_reference_solution_is_a_leak_too(task: Task) -> None:
    assert task.reference is not None
    assert task.id in found(task.reference["main.rs"])


@fast
@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 2**32 - 1))
def test_an_unrelated_koan_is_never_a_leak(name: str, seed: int) -> None:
    draft = draw(name, seed)
    others = {task.id for task in FROZEN if task.family != name}
    assert not others & (found(draft.buggy).keys() | found(draft.fixed).keys())


def test_handwritten_koans_are_no_leaks_of_generated_ones_or_of_each_other() -> None:
    tasks = [
        to_task(Drawn("hand", k.category, k.error_code, k.path, k.draft, cluster_of(k.draft.buggy)), "")
        for k in koans()
    ]
    rows = [(task.id, program(task)) for task in tasks]
    assert find_leaks(rows, FROZEN) == ()
    assert {(leak.provenance, leak.task_id) for leak in find_leaks(rows, tasks)} == {(t.id, t.id) for t in tasks}


def example(messages: tuple[Message, ...], completion: str = "3|let a = 1;") -> Example:
    return Example(
        messages=messages,
        completion=completion,
        kind="passed",
        task_id="k0",
        family="f",
        provenance="episode-9",
    )


@pytest.mark.parametrize("task", FROZEN[:5], ids=lambda task: task.family)
def test_numbered_lines_in_a_conversation_are_seen_through(task: Task) -> None:
    messages = first_messages(task, "error[E0382]: borrow of moved value\n 4 | let a = b;\n")
    leaks = find_leaks(example_rows([example(messages)]), FROZEN)
    assert Leak("episode-9", task.id, "exact", 1.0) in leaks


def test_a_renamed_copy_in_numbered_lines_between_prose_is_found() -> None:
    text = f"Look at this:\n{number_lines(renamed(program(FROZEN[0])))}\nerror: it does not compile"
    assert FROZEN[0].id in found(text)


def lines_as(form: str, text: str) -> str:
    return "\n".join(form.format(number=i, line=line) for i, line in enumerate(text.rstrip("\n").split("\n"), 1))


SHOWN = {
    "cat -n": "{number:6}\t{line}",
    "an arrow": "{number:6}→{line}",
    "grep -n": "{number}:{line}",
    "the context of grep": "{number}-{line}",
    "grep in files": "src/my-mod.rs:{number}:{line}",
    "a letter": "L{number}: {line}",
    "bat": "{number:4} │ {line}",
    "what a diff adds": "+{line}",
    "what a diff takes away": "-{line}",
}


@pytest.mark.parametrize("form", SHOWN.values(), ids=SHOWN)
def test_a_program_as_agents_are_shown_it_is_a_leak_and_so_is_its_renamed_copy(form: str) -> None:
    for task in FROZEN[::9]:
        before, after = "Contents of the file:\n@@ -1,9 +1,9 @@\n", "\n\nThat is all of it.\n"
        assert found(f"{before}{lines_as(form, program(task))}{after}")[task.id].kind == "exact"
        assert task.id in found(f"{before}{lines_as(form, renamed(program(task)))}{after}")


def test_both_sides_of_a_diff_are_read() -> None:
    task, other = FROZEN[0], FROZEN[5]
    old, new = (lines_as(form, program(one)) for form, one in (("-{line}", task), ("+{line}", other)))
    pairs = zip(old.split("\n"), new.split("\n"), strict=False)
    mixed = "\n".join(line for pair in pairs for line in pair)
    rest = "\n".join((*old.split("\n")[mixed.count("\n-") + 1 :], *new.split("\n")[mixed.count("\n+") :]))
    leaks = found(f"--- a/main.rs\n+++ b/main.rs\n@@ -1,40 +1,40 @@\n{mixed}\n{rest}")
    assert (leaks[task.id].kind, leaks[other.id].kind) == ("exact", "exact")


def test_another_reading_hides_no_leak() -> None:
    for task in FROZEN[::9]:
        for more in ("3-\n", "+ one\n- two\n", "@@ \n", "12\tx\n", "main.rs:4:5: error\n"):
            assert found(program(task)).keys() <= found(f"{more}{program(task)}\n{more}").keys()


def test_a_leak_in_a_later_message_is_found() -> None:
    clean = first_messages(FROZEN[0].model_copy(update={"files": {"main.rs": "fn main() {}\n"}}), "no error")
    late = retry_messages(clean, "1|fn main() {}", f"the other one is\n{program(FROZEN[3])}")
    assert {leak.task_id for leak in find_leaks(example_rows([example(late)]), FROZEN)} == {FROZEN[3].id}


@pytest.mark.parametrize("place", ["thought", "former thought", "tool", "tool that takes a list"])
def test_a_leak_is_found_in_all_that_is_trained_on_beside_what_is_said(place: str) -> None:
    text = program(FROZEN[3])
    given = {"tool": {"path": "a.rs", "text": text}, "tool that takes a list": {"edits": [{"old": "", "new": text}]}}
    call = ToolCall(id="1", name="edit", arguments=json.dumps(given.get(place, {})))
    asked = Message(role="user", content="Fix it.")
    said = Message(role="assistant", content="", reasoning=text if place == "thought" else "", tool_calls=(call,))
    thoughts = {"1": text} if place == "former thought" else None
    row = example((asked, said)).model_copy(update={"thoughts": thoughts})
    assert {leak.task_id for leak in find_leaks(example_rows([row]), FROZEN)} == {FROZEN[3].id}


def test_a_leak_in_a_fenced_completion_is_found() -> None:
    clean = (Message(role="user", content="Fix it."),)
    fenced = f"Here it is:\n```rust\n{renamed(program(FROZEN[1]))}```\n"
    assert FROZEN[1].id in {leak.task_id for leak in find_leaks(example_rows([example(clean, fenced)]), FROZEN)}


def test_a_frozen_program_inside_a_much_longer_text_is_a_near_duplicate() -> None:
    filler = "\n".join(f"fn filler_{i}(a: u{i}) -> bool {{ a > {i} }}" for i in range(200))
    leak = found(f"{filler}\n{program(FROZEN[2])}\n{filler}")[FROZEN[2].id]
    assert (leak.kind, leak.similarity) == ("near", 1.0)


def test_half_of_a_program_is_below_the_threshold() -> None:
    parts = tokens(program(FROZEN[0]))
    half = " ".join(parts[: len(parts) // 2])
    assert FROZEN[0].id not in found(half)
    assert find_leaks([("half", half)], FROZEN[:1], threshold=0.3)[0].kind == "near"


def test_every_leaking_pair_is_named_in_the_error() -> None:
    rows = [("episode-1", program(FROZEN[0])), ("clean", "fn main() {}"), ("dream:k2", program(FROZEN[1]))]
    error = leak_error(find_leaks(rows, FROZEN))
    assert f"episode-1 ~ {FROZEN[0].id}" in error.message
    assert f"dream:k2 ~ {FROZEN[1].id}" in error.message
    assert "clean" not in error.message


def test_clean_rows_pass() -> None:
    assert find_leaks([("a", "fn main() {}"), ("b", ""), ("c", "Only prose.")], FROZEN) == ()


def test_a_source_file_of_a_project_is_compared_and_its_manifest_is_not() -> None:
    project = FROZEN[0].model_copy(
        update={
            "files": {"src/lib.rs": program(FROZEN[0]), "Cargo.toml": '[package]\nname = "x"\n'},
            "reference": None,
        }
    )
    assert find_leaks([("a", program(FROZEN[0]))], [project])[0].kind == "exact"
    assert find_leaks([("a", '[package]\nname = "x"\n')], [project]) == ()


def project(*sources: str, reference: dict[str, str] | None = None, others: dict[str, str] | None = None) -> Task:
    files = {f"src/m{number}.rs": source for number, source in enumerate(sources)} | (others or {})
    return FROZEN[0].model_copy(update={"files": files, "reference": reference, "id": f"p{hash(sources)}"})


def sources(count: int) -> list[str]:
    return [program(task) for task in FROZEN[0 : 2 * count : 2]]


def test_one_file_of_a_frozen_project_gives_it_away() -> None:
    frozen = project(*sources(3))
    for source in sources(3):
        assert [leak.kind for leak in find_leaks([("a", source)], [frozen])] == ["exact"]


def test_of_a_project_whose_fix_is_known_the_file_that_it_changes_gives_it_away_and_no_other() -> None:
    broken, other, _ = sources(3)
    frozen = project(broken, other, reference={"src/m0.rs": f"{broken}fn more() {{}}\n", "src/m1.rs": other})
    assert find_leaks([("a", broken)], [frozen])
    assert not find_leaks([("a", other)], [frozen])


def test_a_file_that_many_tasks_stand_on_gives_none_of_them_away() -> None:
    common, *others = sources(6)
    assert not find_leaks([("a", common)], [project(common, other, other * 2) for other in others])
    assert len(find_leaks([("a", common)], [project(common, other, other * 2) for other in others[:2]])) == 2


def test_a_list_of_modules_and_a_test_file_give_no_project_away() -> None:
    tests = sources(2)[1]
    frozen = project(sources(1)[0] * 3, others={"src/lib.rs": "mod m0;\nmod m1;\n", "tests/all.rs": tests})
    assert not find_leaks([("a", "mod m0;\nmod m1;\n"), ("b", tests)], [frozen])


def test_a_task_about_settings_alone_is_compared_by_these() -> None:
    settings = '{"name": "shop", "port": 8080, "hosts": ["a", "b"]}\n'
    frozen = FROZEN[0].model_copy(update={"files": {"shop.json": settings}, "reference": None})
    assert [leak.kind for leak in find_leaks([("a", settings)], [frozen])] == ["exact"]


def test_a_task_that_starts_from_nothing_is_not_found_everywhere():
    empty = load_split("frozen")[0].model_copy(update={"files": {"main.py": ""}, "reference": None})
    assert find_leaks([("row", "print(1)")], [empty]) == ()
