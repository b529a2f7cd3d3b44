"""The nano model's card, measured: `python -m sleepy_coder.nano_card` writes docs/model-card.md."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sleepy_coder import wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.console import progress_bar, say
from sleepy_coder.deploy import measure
from sleepy_coder.judge.evaluate import HEAT
from sleepy_coder.judge.metrics import mean_pass_at_k, pass_rate_interval
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.parts import Parts
from sleepy_coder.types import EvalReport, Outcome, Task

SAMPLES = 8


def family_rows(greedy: EvalReport, sampled: EvalReport, marks: Mapping[str, str]) -> list[str]:
    """One table row per family: greedy pass@1, sampled pass@1 and pass@8 on the frozen set.

    `marks` says of a family how its data is special.
    """
    rows: list[str] = []
    for family in sorted({sample.family for sample in greedy.samples}):
        one = greedy.model_copy(update={"samples": tuple(s for s in greedy.samples if s.family == family)})
        many = sampled.model_copy(update={"samples": tuple(s for s in sampled.samples if s.family == family)})
        rows.append(
            f"| {family} | {marks.get(family, '')} | {len(one.samples)} | {one.pass_rate:.0%} | {many.pass_rate:.0%} "
            f"| {mean_pass_at_k(many, SAMPLES):.0%} |"
        )
    return rows


def marks_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Which families are scarce in the data, and which are answered carelessly there, and how often."""
    careless = {name: f"{share:.0%} {habit}" for name, (habit, share) in facts["careless_families"].items()}
    return {**dict.fromkeys(facts["scarce_families"], "scarce"), **careless}


def card(facts: Mapping[str, Any], size: int, greedy: EvalReport, sampled: EvalReport) -> str:
    """The card in markdown."""
    passed = sum(s.outcome is Outcome.PASS for s in greedy.samples)
    low, high = pass_rate_interval(greedy)
    table = "\n".join(family_rows(greedy, sampled, marks_of(facts)))
    return f"""# Model card: the nano model

A Qwen2 of {facts["parameters"]:,} parameters with its own byte-level BPE tokenizer and chat template, trained from
nothing on this project's own koans. It exists so that every part of sleepy-coder can be run for real, on two CPU
cores and offline. It fixes small Rust programs of the kinds listed below and can do nothing else.

| | |
|---|---|
| Weights | {size / 1e6:.1f} MB, bf16 safetensors, HF layout |
| Data | {facts["rows"]:,} conversations about koans of the pretrain split, with rustc's real messages |
| Tokens | {facts["tokens_in_data"]:,} in the data, {facts["steps"]:,} steps of up to 3,072 |
| Training | {facts["minutes"]} minutes on 2 shared CPU cores, seed {facts["seed"]} |
| Build it again | `make nano`, then `make card` for this page |

The data is uneven on purpose, as that of any real base model is. "Scarce" families have 24 conversations in it
instead of 300. In others a share of the first answers is careless: it deletes the line in question (`delete`), repeats
it as it is (`keep`) or puts `todo!()` there (`todo`). A fifth of the conversations are second attempts: a wrong answer,
the verifier's words on it, and then the right fix. So the model's likeliest first answer in those families is a bad
one, though it knows a better one, which it finds when it samples or is told what went wrong. No program of the frozen,
day or dev sets, nor a renamed copy of one, is in the data.

## On the frozen set

{len(greedy.samples)} tasks; a task passes when the edited program compiles, runs and prints what the task asks.

- **pass@1, greedy: {greedy.pass_rate:.1%}** ({passed} of {len(greedy.samples)}; 95% interval {low:.1%} to {high:.1%})
- pass@1 at temperature {HEAT}: {sampled.pass_rate:.1%}
- pass@{SAMPLES} at temperature {HEAT}: {mean_pass_at_k(sampled, SAMPLES):.1%}. The distance from pass@1 is the
  room that a night has.

| family | data | tasks | greedy | pass@1 at {HEAT} | pass@{SAMPLES} |
|---|---|---|---|---|---|
{table}
"""


def _measure(parts: Parts, tasks: Sequence[Task], samples: int, temperature: float) -> EvalReport:
    settings = parts.config.eval.model_copy(update={"samples": samples, "temperature": temperature})
    with progress_bar() as progress:
        bar = progress.add_task(f"{samples} per task", total=len(tasks) * samples, note="")
        return measure(parts, "other", None, tasks, settings, lambda: progress.advance(bar))


def main(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL_DIR,
    to: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("docs/model-card.md"),
) -> None:
    """Measure the nano model on the frozen set and write its card."""
    facts = json.loads((model / "build.json").read_text())
    size = (model / "model.safetensors").stat().st_size
    with tempfile.TemporaryDirectory() as home:
        config = load_config(Path(home))
        config = config.model_copy(update={"model": config.model.model_copy(update={"path": model.resolve()})})
        with wiring.embedded_server(config) as served, wiring.open_parts(served, wiring.Silent()) as parts:
            greedy = _measure(parts, parts.frozen, 1, 0.0)
            sampled = _measure(parts, parts.frozen, SAMPLES, HEAT)
    to.write_text(card(facts, size, greedy, sampled))
    say(f"greedy {greedy.pass_rate:.1%}, pass@{SAMPLES} {mean_pass_at_k(sampled, SAMPLES):.1%}; see {to}")


if __name__ == "__main__":
    typer.run(main)
