"""Build the nano model: `python -m sleepy_coder.nano.build [--steps N] [--seed S]`.

Data: conversations about koans of the pretrain split, with rustc's real messages. As in the data of any
real base model some things are rare (SCARCE), and some are mostly done badly (CARELESS): there the model
usually gives the wrong answer although it knows the right one. Both are what a night can mend.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress

from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.nano.rows import Author, Habit, Portion, Row, build_rows, load_rows, save_rows
from sleepy_coder.nano.tokenizer import train_tokenizer
from sleepy_coder.nano.train import Schedule, Shape, encode, new_model, pretrain, save
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.koans import FAMILIES
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.verify.command import verifier

SECOND_ATTEMPTS = 0.2
PER_FAMILY = 300
PER_SCARCE_FAMILY = 24
# One or more of each category in the two, so that no kind of error is known well throughout.
SCARCE = (
    "if_else_types",
    "lifetime_mismatch",
    "missing_copy_bound",
    "moved_in_closure",
    "question_mark_on_option",
    "unknown_field",
    "variant_arity",
)
CARELESS: Mapping[str, tuple[Habit, float]] = {
    "assign_while_borrowed": ("delete", 0.6),
    "consumed_by_loop": ("keep", 0.6),
    "missing_ok": ("todo", 0.65),
    "missing_partialeq_derive": ("keep", 0.6),
    "missing_pattern_field": ("delete", 0.6),
    "misspelled_variable": ("delete", 0.6),
    "move_out_of_index": ("delete", 0.65),
    "parse_without_type": ("todo", 0.6),
    "reference_expected": ("keep", 0.65),
    "undeclared_lifetime": ("keep", 0.65),
}


def portions() -> dict[str, Portion]:
    """How many programs of each family the model is shown, and how they are answered."""
    return {
        name: Portion(PER_SCARCE_FAMILY if name in SCARCE else PER_FAMILY, *CARELESS.get(name, (None, 0.0)))
        for name in FAMILIES
    }


def rows_for(cache: Path, seed: int, console: Console) -> list[Row]:
    """The pretraining rows; compiled once and kept in `cache`, as that takes minutes."""
    if cache.is_file():
        return load_rows(cache)
    plan = portions()
    author = Author(Rustc.find(), verifier(), SECOND_ATTEMPTS)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=console) as progress:
        made = build_rows(plan, seed, author, load_split("frozen"))
        total = sum(portion.rows for portion in plan.values())
        save_rows(progress.track(made, total=total, description="compiling"), cache)
    return load_rows(cache)


def main(
    out: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_DIR,
    cache: Annotated[Path, typer.Option(help="Where the compiled rows are kept.")] = Path(".work/nano-rows.jsonl"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 6600,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and order.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Train the nano model from nothing."""
    console = Console()
    torch.set_num_threads(threads)
    rows = rows_for(cache, seed, console)
    random.Random(seed).shuffle(rows)
    shape, plan = Shape(), Schedule()
    tokenizer = train_tokenizer((m.content for row in rows for m in row.messages), shape.vocab, out)
    encoded = [encode(row, tokenizer) for row in rows]
    model = new_model(shape, tokenizer, seed)
    started = time.monotonic()
    with Progress(console=console) as progress:
        bar = progress.add_task("training", total=steps)

        def tell(step: int, loss: float, seconds: float) -> None:
            progress.update(bar, completed=step + 1, description=f"training, loss {loss:.3f}")
            if not console.is_terminal and step % 100 == 0:
                console.print(f"step {step} loss {loss:.3f} {seconds:.0f} s")

        pretrain(model, encoded, plan, steps, seed, tell)
    save(model, tokenizer, out)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "rows": len(rows),
        "tokens_in_data": sum(len(row.ids) for row in encoded),
        "steps": steps,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "seed": seed,
        "scarce_families": sorted(SCARCE),
        "careless_families": {name: list(how) for name, how in sorted(CARELESS.items())},
    }
    (out / "build.json").write_text(json.dumps(facts, indent=2) + "\n")
    console.print(facts)


if __name__ == "__main__":
    typer.run(main)
