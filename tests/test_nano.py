"""The packaged nano model is what its builder says it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sleepy_coder.dialogue import apply_reply
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.nano.build import SCARCE, row_counts
from sleepy_coder.nano.rows import FILE, build_rows, diagnose, diagnose_together
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.build import generate
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.verify.rust import Toolchain

RUSTC = str(Toolchain.find().rustc)
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


def test_scarce_families_are_families_of_every_category() -> None:
    assert set(SCARCE) <= FAMILIES.keys() == row_counts().keys()
    assert {FAMILIES[name].category for name in SCARCE} == {family.category for family in FAMILIES.values()}


def test_the_same_seed_gives_the_same_rows_and_their_answers_apply() -> None:
    counts = {"use_after_move": 3, "missing_ok": 3}
    rows = list(build_rows(counts, 5, RUSTC, 0.5, load_split("frozen")))
    assert rows == list(build_rows(counts, 5, RUSTC, 0.5, load_split("frozen")))
    assert [row.family for row in rows] == ["missing_ok"] * 3 + ["use_after_move"] * 3
    program = "\n".join(f"line {i}" for i in range(30)) + "\n"
    assert all(apply_reply(row.completion, {FILE: program}) for row in rows)


@pytest.mark.parametrize("family", ["missing_use", "borrow_mutable_twice", "missing_trait_impl"])
def test_programs_compiled_together_get_the_messages_they_get_alone(family: str) -> None:
    programs = [drawn.draft.buggy for drawn in generate(family, "pretrain", 4, 3)]
    assert diagnose_together(programs, RUSTC) == [diagnose(program, RUSTC) for program in programs]


def test_the_card_and_the_build_agree() -> None:
    facts = json.loads((MODEL_DIR / "build.json").read_text())
    card = (Path(__file__).parent.parent / "docs" / "model-card.md").read_text()
    assert f"{facts['parameters']:,} parameters" in card
    assert facts["scarce_families"] == sorted(SCARCE)
