"""The packaged nano model is what its builder says it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from sleepy_coder.dialogue import apply_reply
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.nano.build import CARELESS, SCARCE, portions
from sleepy_coder.nano.rows import Author, Habit, Portion, Row, build_rows, careless_edit, diagnose_together
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import generate
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.verify.command import verifier
from sleepy_coder.verify.diagnostics import compact
from sleepy_coder.verify.rust import FLAGS

RUSTC = str(Rustc.find().path)
PROGRAM = '12|    let mut page_x = String::from("snow");\n13|    kettle\nerror[E0382]: borrow of moved value: `page`'


def test_transformers_loads_the_tokenizer_that_was_trained() -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    trained = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    assert loaded(PROGRAM)["input_ids"] == trained.encode(PROGRAM).ids
    assert loaded.decode(loaded(PROGRAM)["input_ids"]) == PROGRAM


def test_the_weights_fit_the_repository() -> None:
    assert (MODEL_DIR / "model.safetensors").stat().st_size <= 8_000_000
    assert json.loads((MODEL_DIR / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]


def test_what_is_scarce_or_done_carelessly_is_of_every_category() -> None:
    uneven = {*SCARCE, *CARELESS}
    assert uneven <= FAMILIES.keys() == portions().keys()
    assert not set(SCARCE) & CARELESS.keys()
    assert {FAMILIES[name].category for name in uneven} == {family.category for family in FAMILIES.values()}


def rows_of(plan: dict[str, Portion], second_share: float) -> list[Row]:
    author = Author(Rustc.find(), verifier(), second_share)
    return list(build_rows(plan, 5, author, load_split("frozen")))


def test_the_same_seed_gives_the_same_rows_and_their_answers_apply() -> None:
    plan = {"use_after_move": Portion(3), "missing_ok": Portion(3, "todo", 0.5)}
    rows = rows_of(plan, 0.5)
    assert rows == rows_of(plan, 0.5)
    assert [row.family for row in rows] == ["missing_ok"] * 3 + ["use_after_move"] * 3
    program = "\n".join(f"line {i}" for i in range(30)) + "\n"
    assert all(apply_reply(row.completion, {"main.rs": program}) for row in rows)


@pytest.mark.parametrize(
    ("habit", "answer"), [("delete", "2-"), ("keep", "2|    let b = a;"), ("todo", "2|    todo!();")]
)
def test_a_careless_answer_drops_repeats_or_postpones_the_line_in_question(habit: Habit, answer: str) -> None:
    assert careless_edit("fn f() {\n    let b = a;\n}\n", "fn f() {\n    let b = &a;\n}\n", habit) == answer


def test_first_answers_follow_the_habit_and_second_ones_mend_what_the_verifier_said_of_it() -> None:
    (first,) = rows_of({"reference_expected": Portion(1, "keep", 1.0)}, 0.0)
    (second,) = rows_of({"reference_expected": Portion(1, "keep", 1.0)}, 1.0)
    asked = second.messages[1].content
    assert first.completion in asked.splitlines()
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "user"]
    assert second.messages[2].content == first.completion
    assert "error[E" in second.messages[3].content
    assert second.completion not in asked.splitlines()


@pytest.mark.parametrize("family", ["missing_use", "borrow_mutable_twice", "missing_trait_impl"])
def test_programs_compiled_together_get_the_messages_they_get_alone(family: str, tmp_path: Path) -> None:
    def diagnose(program: str) -> str:
        (tmp_path / "main.rs").write_text(program)
        argv = [RUSTC, "main.rs", *FLAGS, "--emit=metadata"]
        said = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
        return compact(said.split("\n"), files={"main.rs": program})

    programs = [drawn.draft.buggy for drawn in generate(family, "pretrain", 4, 3)]
    assert diagnose_together(programs, RUSTC) == [diagnose(program) for program in programs]


def test_the_card_and_the_build_agree() -> None:
    facts = json.loads((MODEL_DIR / "build.json").read_text())
    card = (Path(__file__).parent.parent / "docs" / "model-card.md").read_text()
    assert f"{facts['parameters']:,} parameters" in card
    assert facts["scarce_families"] == sorted(SCARCE)
    assert facts["careless_families"] == {name: list(how) for name, how in CARELESS.items()}
