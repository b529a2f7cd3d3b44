"""The training child: one LoRA cycle over one mix. `python -m sleepy_coder.learn.train_lora WORKDIR`.

The one loop of all recipes that learn from rows (`lora_loss` has the loss, `lora_run` what is carried from step to
step). Prompts are rendered with the model's own chat template from the literal messages that were served.

Resumable to the bit: the order of rows and the dropout masks depend on (seed, step) alone, and
every CHECKPOINT_EVERY steps the adapter, its running average and the optimiser are written whole.
A child that lost its parent, or that gets SIGTERM, stops at a checkpoint after the step it is in.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from torch.distributed.elastic.multiprocessing.errors import record
from transformers import AutoTokenizer

from sleepy_coder.adapter_manifest import FAST
from sleepy_coder.errors import TrainingError
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.batches import batch_of, passes
from sleepy_coder.learn.child import Parent, Pause, only_child, say, say_left_out
from sleepy_coder.learn.endings import ORPHANED
from sleepy_coder.learn.held_out import held_out, probe
from sleepy_coder.learn.lora_loss import losses, measure, references_of, refuse_other_head
from sleepy_coder.learn.lora_run import Run, attach_adapter, device, load_base, save_memory, weights_of, write_folder
from sleepy_coder.learn.outputs import (
    AVERAGE,
    CHECKPOINT,
    CHECKPOINTS,
    PROBE,
    TOLD,
    Probe,
    Training,
    checkpoint_folder,
    reason_to_stop,
)
from sleepy_coder.learn.ranks import Ranks, spread
from sleepy_coder.learn.rows import EncodedRow, encode_all, turn_ends
from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, PAUSED, TrainingJob
from sleepy_coder.types import Recipe

CHECKPOINT_EVERY = 10
ALONE = Ranks()


def learning_rate(step: int, recipe: Recipe) -> float:
    """Constant after a linear warm-up."""
    return recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a mix: those that are learned, those that are held out, and the anchors of the probe.

    `too_long` and `cut_turns` are those of `Training`.
    """

    learned: list[EncodedRow]
    held_out: list[EncodedRow]
    anchors: list[EncodedRow]
    too_long: int = 0
    cut_turns: int = 0


def read_rows(job: TrainingJob, tokenizer: Any) -> Rows:
    """The mix as tokens. Raises TrainingError when there is nothing to learn from."""
    examples, recipe = job.mix.examples, job.recipe
    ends = turn_ends(job.model, tokenizer)
    encoded = [encode_all(example, tokenizer, recipe, ends) for example in examples]
    both = list(zip(examples, encoded, strict=True))
    say_left_out(reason for one in encoded for reason in one.left_out)
    out = set(held_out(examples, recipe.held_out))
    left = {i: one.rows for i, one in enumerate(encoded) if i not in out and one.rows}
    if not left:
        reasons = Counter(reason for one in encoded for reason in one.left_out)
        reason = max(reasons, key=reasons.__getitem__, default="all of them are held out")
        remedy = "raise model.max_length, or have the model folder hold the chat template that the server uses"
        raise TrainingError(f"there is no row to learn from: {reason}", remedy)
    drawn = passes(len(left), recipe)
    return Rows(
        [replace(row, example=i) for i, several in left.items() for row in several[:drawn]],
        [row for i in sorted(out) for row in encoded[i].rows],
        [row for i in probe(examples) for row in encoded[i].rows],
        sum(example.kind == "passed" and one.beyond > 0 and not one.rows for example, one in both),
        sum(one.beyond for example, one in both if example.kind == "passed" and one.rows),
    )


def train(job: TrainingJob, workdir: Path, pause: Pause, ranks: Ranks = ALONE) -> None:
    """Run the whole job and leave the adapter in `workdir/adapter` (`outputs` tells what else).

    Of several processes the first alone writes. Ends the process with status PAUSED, after a checkpoint, when `pause`
    is asked for.
    """
    recipe = job.recipe
    if recipe.batch_size < ranks.size:
        remedy = "raise recipe.batch_size or lower training.processes"
        raise TrainingError(f"{ranks.size} processes cannot share {recipe.batch_size} rows", remedy)
    tokenizer = AutoTokenizer.from_pretrained(str(job.model))
    pad = int(tokenizer.pad_token_id or 0)
    rows = read_rows(job, tokenizer)
    model = attach_adapter(load_base(job.model), recipe)
    if job.spread and ranks.size > 1:
        spread(model)
    run = Run.begin(model.to(device()), recipe, job.parent, job.fast)
    identity = job.identity()
    if run.restore(workdir / CHECKPOINT, identity, lambda reason: say("not_resumed", reason=reason)):
        say("resumed", step=run.step, steps=recipe.steps)
    ranks.refuse_other(run.step)
    probes = kept_probes(workdir, run.step) if ranks.first else []  # it also clears up
    parent = Parent()
    at_once = rows_at_once(job, recipe.batch_size)
    refuse_other_head(run.model, min(rows.learned, key=lambda row: len(row.ids)), pad)
    references = references_of(run.model, rows.learned, at_once, pad)
    run.model.train()
    if device() == "cuda":
        save_memory(run.model)
    pause.stepping = True
    while run.step < recipe.steps and not any(ranks.any(bool(reason_to_stop(probes, recipe.kl_limit)))):
        one_step(run, rows.learned, references, recipe, pad, at_once, ranks)
        if run.step in recipe.checkpoints:
            found = probe_of(run, rows, checkpoint_folder(run.step), at_once, pad)
            if ranks.first:
                write_folder(run.model, weights_of(run.model), job.model.name, workdir / found.folder, found)
            probes.append(found)
        gone, asked = ranks.any(parent.gone, pause.asked)
        paused = asked and run.step < recipe.steps
        if ranks.first and (run.step % CHECKPOINT_EVERY == 0 or gone or paused):
            run.save(workdir / CHECKPOINT, identity)
        if gone:
            raise TrainingError(ORPHANED, "start the night again; it goes on from here")
        if paused:
            raise SystemExit(PAUSED)
    finish(run, rows, probes, job, workdir, pad, ranks)


def rows_at_once(job: TrainingJob, batch_size: int) -> int:
    """How many rows of a batch go through the model together: as the job says, else all of them, or one on a GPU."""
    return min(batch_size, job.rows_at_once or (1 if device() == "cuda" else batch_size))


def kept_probes(workdir: Path, step: int) -> list[Probe]:
    """What was measured up to `step`; what a run that was killed, or an earlier job, kept of later steps is removed."""
    found = [Probe.model_validate_json(path.read_bytes()) for path in (workdir / CHECKPOINTS).glob(f"[0-9]*/{PROBE}")]
    for later in (one for one in found if one.step > step):
        shutil.rmtree(workdir / later.folder)
    return sorted((one for one in found if one.step <= step), key=lambda one: one.step)


def probe_of(run: Run, rows: Rows, folder: str, at_once: int, pad: int) -> Probe:
    """The present weights, measured."""
    held = measure(run.model, rows.held_out, at_once, pad)
    anchors = measure(run.model, rows.anchors, at_once, pad)
    return Probe(folder=folder, step=run.step, nll=held[0] if held else None, kl=anchors[1] if anchors else None)


def finish(
    run: Run, rows: Rows, probes: Sequence[Probe], job: TrainingJob, workdir: Path, pad: int, ranks: Ranks
) -> None:
    """Write what the recipe serves by default, what it may choose from, and how the run ended.

    All processes measure, since with FSDP each pass is a meeting of all; the first writes.
    """
    recipe, base = job.recipe, job.model.name
    stopped = reason_to_stop(probes, recipe.kl_limit) if run.step < recipe.steps else ""
    if stopped:
        say("stopped_early", step=run.step, steps=recipe.steps, reason=stopped)
    last = weights_of(run.model)
    found = list(probes)
    if recipe.checkpoints and recipe.ema:
        set_peft_model_state_dict(run.model, run.average)
        found.append(probe_of(run, rows, AVERAGE, rows_at_once(job, recipe.batch_size), pad))
    if not ranks.first:
        return
    if recipe.checkpoints and recipe.ema:
        write_folder(run.model, run.average, base, workdir / AVERAGE, found[-1])
    if recipe.dual:
        write_folder(run.model, last, base, workdir / FAST)
    lost = {"too_long": rows.too_long, "cut_turns": rows.cut_turns}
    told = Training(steps=run.step, stopped=stopped, probes=tuple(found), **lost)
    write_atomic(workdir / TOLD, told.model_dump_json())
    write_folder(run.model, run.average if recipe.ema else last, base, workdir / OUTPUT)


def one_step(
    run: Run,
    rows: Sequence[EncodedRow],
    references: Sequence[torch.Tensor],
    recipe: Recipe,
    pad: int,
    at_once: int,
    ranks: Ranks = ALONE,
) -> None:
    """One optimiser step: gradient, clipping at norm 1, AdamW, running average.

    With `sam_rho` the gradient is that at the steepest point around (SAM, arXiv 2010.01412, equations 2 and 3).
    Raises TrainingError when the loss is no number any more: no later step would mend that.
    """
    rate = learning_rate(run.step, recipe)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    batch = ranks.share(batch_of(run.step, rows, recipe))
    some = [rows[i] for i in batch], [references[i] for i in batch]
    learned = [p for p in run.model.parameters() if p.requires_grad]
    nll, kl = backward(run, *some, recipe, pad, at_once, ranks)
    if recipe.sam_rho:
        before = climb(learned, recipe.sam_rho)
        backward(run, *some, recipe, pad, at_once, ranks)
        for weight, value in zip(learned, before, strict=True):
            weight.data.copy_(value)
    torch.nn.utils.clip_grad_norm_(learned, 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.update_average(recipe.ema)
    say("step", step=run.step, steps=recipe.steps, loss=round(nll, 4), kl=round(kl, 4), learning_rate=rate)


def backward(
    run: Run,
    rows: Sequence[EncodedRow],
    references: Sequence[torch.Tensor],
    recipe: Recipe,
    pad: int,
    at_once: int,
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Fresh gradients on `rows`, this process's share of the batch; the batch's (mean NLL, mean KL).

    `at_once` of them go through the model together, and their gradients add up to those of all. Every process makes as
    many passes: with FSDP each is a meeting of all. Each draws dropout masks of its own for this step.
    """
    run.optimizer.zero_grad(set_to_none=True)
    torch.manual_seed(recipe.seed * 100_003 + run.step + 1_000_000_007 * ranks.rank)
    nll = kl = 0.0
    for at in range(0, math.ceil(recipe.batch_size / ranks.size), at_once):
        some = slice(at, at + at_once) if at < len(rows) else slice(0, 1)  # none left: one that counts nothing
        loss, one_nll, one_kl = losses(run.model, rows[some], references[some], pad)
        part = len(rows[at : at + at_once]) / recipe.batch_size  # every row of the batch counts as one, wherever it is
        (loss * part).backward()
        nll, kl = nll + one_nll * part, kl + one_kl * part
    nll, kl = ranks.add_up((p for p in run.model.parameters() if p.requires_grad), nll, kl)
    if not math.isfinite(nll + kl):
        raise TrainingError(f"training diverged at step {run.step + 1}", "lower recipe.learning_rate")
    return nll, kl


def climb(learned: Sequence[torch.nn.Parameter], rho: float) -> list[torch.Tensor]:
    """Move the weights by `rho` along their gradient, to where the loss is about the highest; where they were."""
    before = [weight.detach().clone() for weight in learned]
    slopes = [weight.grad if weight.grad is not None else torch.zeros_like(weight) for weight in learned]
    steepness = torch.nn.utils.get_total_norm(slopes) + 1e-12
    for weight, slope in zip(learned, slopes, strict=True):
        weight.data.add_(slope * (rho / steepness))
    return before


@record  # behind the launcher: its report of a failure then holds our own words
def main() -> None:
    """Train with the work folder's lock held.

    Of several processes the first holds it, speaks and writes; what the others would say goes where nobody looks.
    """
    workdir, ranks = Path(sys.argv[1]), Ranks.of_environment()
    pause = Pause()
    signal.signal(signal.SIGTERM, pause)
    if not ranks.first:  # the first joins once it holds the lock
        with Path(os.devnull).open("w") as nobody, redirect_stdout(nobody), ranks.joined():
            start(workdir, pause, ranks)
        return
    with only_child(workdir), ranks.joined():
        start(workdir, pause, ranks)


def start(workdir: Path, pause: Pause, ranks: Ranks) -> None:
    """Train the job that lies in `workdir`."""
    train(TrainingJob.model_validate_json((workdir / JOB_FILE).read_bytes()), workdir, pause, ranks)


if __name__ == "__main__":
    main()
