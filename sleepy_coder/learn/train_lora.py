"""The training child: one LoRA cycle over one mix. `python -m sleepy_coder.learn.train_lora WORKDIR`.

Loss = NLL of the completion + kl * KL(base || adapter) on the same tokens, with kl_anchor on
anchor rows and kl_verified on the others. The base distribution comes from the same weights with
the adapter switched off, so no second copy is held, and is asked for once per row. Prompts are
rendered with the model's own chat template from the literal messages that were served.

Resumable to the bit: the order of rows and the dropout masks depend on (seed, step) alone, and
every CHECKPOINT_EVERY steps the adapter, its running average and the optimiser are written whole.
A child that lost its parent stops at the next step.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

import fcntl
import json
import math
import os
import pickle
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from sleepy_coder.errors import TrainingError
from sleepy_coder.files import atomic_writer, sha256_file, write_atomic
from sleepy_coder.learn.rows import EncodedRow, encode_all
from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, TrainingJob
from sleepy_coder.types import Recipe

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_EVERY = 10
WINDOW = 8  # steps


def batch_of(step: int, rows: Sequence[EncodedRow], recipe: Recipe) -> list[int]:
    """Indices of the rows of `step`, from (seed, step) alone: fresh shuffles of the data, one after the other.

    Within a window of WINDOW steps rows of similar length go together, so that little is padded.
    """
    window = step // WINDOW
    first, end = window * WINDOW, min((window + 1) * WINDOW, recipe.steps)
    places = range(first * recipe.batch_size, end * recipe.batch_size)
    passes = {place // len(rows): list(range(len(rows))) for place in places}
    for number, order in passes.items():
        random.Random(f"{recipe.seed}/{number}").shuffle(order)
    drawn = [passes[place // len(rows)][place % len(rows)] for place in places]
    drawn.sort(key=lambda index: len(rows[index].ids))
    batches = [drawn[at : at + recipe.batch_size] for at in range(0, len(drawn), recipe.batch_size)]
    random.Random(f"{recipe.seed}/window/{window}").shuffle(batches)
    return batches[step - first]


def learning_rate(step: int, recipe: Recipe) -> float:
    """Constant after a linear warm-up."""
    return recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


def attach_adapter(model: Any, parent: Path | None, recipe: Recipe) -> PeftModel:
    """A fresh LoRA on all linear layers but the head; warm-started from `parent` where there is one."""
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    peft_model = get_peft_model(model, config)
    if parent is not None:
        set_peft_model_state_dict(peft_model, load_file(parent / "adapter_model.safetensors"))
    return peft_model  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows side by side: `ids` [rows, tokens], and for each completion token, the row and position that
    predict it, its own id, and its share of the loss (every row counts as one, whatever its length)."""

    ids: torch.Tensor
    row: torch.Tensor
    position: torch.Tensor
    target: torch.Tensor
    share: torch.Tensor


def pack(rows: Sequence[EncodedRow], pad: int, device: torch.device) -> Packed:
    """Padded on the right. Attention is causal, so that padding needs no mask: no completion token sees it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in rows])
    learned = [row.learned() for row in rows]
    where = [(i, place - 1) for i, places in enumerate(learned) for place in places]
    row, position = torch.tensor(where).T
    share = torch.tensor([1 / len(learned[i]) / len(rows) for i, _ in where])
    target = ids[row, position + 1]
    return Packed(ids.to(device), row.to(device), position.to(device), target.to(device), share.to(device))


def hidden_of(model: PeftModel, packed: Packed) -> torch.Tensor:
    """Last hidden states [completion tokens, channels]; the head is costly and not needed on the prompts."""
    base: Any = model.get_base_model()
    return base.get_decoder()(input_ids=packed.ids, use_cache=False).last_hidden_state[packed.row, packed.position]


def log_probs_of(model: PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [completion tokens, vocabulary] in float32."""
    head: Any = model.get_output_embeddings()
    return functional.log_softmax(head(hidden).float(), dim=-1)


def references_of(model: PeftModel, rows: Sequence[EncodedRow], batch_size: int, pad: int) -> list[torch.Tensor]:
    """The base model's last hidden states on each row's completion [tokens, channels], on the CPU.

    The base does not change while the adapter learns, so it is asked once per row and not once per step. Hidden
    states are kept rather than distributions: those would be as wide as the vocabulary.
    """
    device = next(model.parameters()).device
    kept: dict[int, torch.Tensor] = {}
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    with torch.no_grad(), model.disable_adapter():
        for at in range(0, len(order), batch_size):
            some = order[at : at + batch_size]
            hidden = hidden_of(model, pack([rows[i] for i in some], pad, device)).cpu()
            parts = hidden.split([len(rows[i].learned()) for i in some])
            kept.update(zip(some, parts, strict=True))
    return [kept[i] for i in range(len(rows))]


def losses(
    model: PeftModel, rows: Sequence[EncodedRow], references: Sequence[torch.Tensor], pad: int
) -> tuple[torch.Tensor, float, float]:
    """(loss to minimise, mean NLL, mean KL) over the completions of `rows`, given their `references_of`."""
    packed = pack(rows, pad, next(model.parameters()).device)
    log_probs = log_probs_of(model, hidden_of(model, packed))
    with torch.no_grad():
        base = log_probs_of(model, torch.cat(list(references)).to(packed.ids.device))
    nll = -log_probs.gather(1, packed.target.unsqueeze(1)).squeeze(1)
    kl = (base.exp() * (base - log_probs)).sum(dim=-1)
    strength = torch.tensor([row.kl for row in rows], device=packed.row.device)[packed.row]
    loss = (packed.share * (nll + strength * kl)).sum()
    return loss, float((packed.share * nll).sum().detach()), float((packed.share * kl).sum().detach())


@dataclass(slots=True)
class Run:
    """What changes while training: the model, its optimiser, the running average and the next step."""

    model: PeftModel
    optimizer: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    step: int

    def save(self, path: Path, job_sha: str) -> None:
        """Write a checkpoint whole."""
        state = {
            "job": job_sha,
            "step": self.step,
            "adapter": get_peft_model_state_dict(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with atomic_writer(path) as file:
            torch.save(state, file)

    def restore(self, path: Path, job_sha: str) -> bool:
        """Go on from `path` when it belongs to this job; an unreadable checkpoint is as good as none."""
        if not path.is_file():
            return False
        try:
            state = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
            return False
        if state["job"] != job_sha:
            return False
        set_peft_model_state_dict(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step = state["step"]
        return True

    def update_average(self, decay: float) -> None:
        """EMA of the adapter; the early decay is smaller, so the start is soon forgotten."""
        current = get_peft_model_state_dict(self.model)
        rate = min(decay, (1 + self.step) / (10 + self.step))
        for name, value in current.items():
            self.average[name].mul_(rate).add_(value.detach(), alpha=1 - rate)


def train(job: TrainingJob, workdir: Path) -> None:
    """Run the whole job and leave the adapter in `workdir/adapter`."""
    recipe = job.recipe
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(str(job.model))
    encoded = [encode_all(example, tokenizer, recipe) for example in job.mix.examples]
    rows = [row for one in encoded for row in one.rows]
    say_left_out(reason for one in encoded for reason in one.left_out)
    if not rows:
        raise TrainingError("every row is longer than the model's context", "raise model.max_length")
    base: Any = AutoModelForCausalLM.from_pretrained(str(job.model), dtype=dtype)
    model = attach_adapter(base.to(device), job.parent, recipe)
    weights = [p for p in model.parameters() if p.requires_grad]
    average = {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}
    run = Run(model, torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0), average, 0)
    job_sha = sha256_file(workdir / JOB_FILE)
    if run.restore(workdir / CHECKPOINT, job_sha):
        say("resumed", step=run.step, steps=recipe.steps)
    parent_pid = os.getppid()
    pad = int(tokenizer.pad_token_id or 0)
    references = references_of(model, rows, recipe.batch_size, pad)
    model.train()
    while run.step < recipe.steps:
        one_step(run, rows, references, recipe, pad)
        if run.step % CHECKPOINT_EVERY == 0:
            run.save(workdir / CHECKPOINT, job_sha)
        if os.getppid() != parent_pid:
            run.save(workdir / CHECKPOINT, job_sha)
            raise TrainingError("the parent is gone", "start the night again; it goes on from here")
    write_adapter(run, recipe, job.model.name, workdir / OUTPUT)


def one_step(
    run: Run, rows: Sequence[EncodedRow], references: Sequence[torch.Tensor], recipe: Recipe, pad: int
) -> None:
    """One optimiser step: gradient, clipping at norm 1, AdamW, running average.

    Raises TrainingError when the loss is no number any more: no later step would mend that.
    """
    torch.manual_seed(recipe.seed * 100_003 + run.step)
    rate = learning_rate(run.step, recipe)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    batch = batch_of(run.step, rows, recipe)
    loss, nll, kl = losses(run.model, [rows[i] for i in batch], [references[i] for i in batch], pad)
    if not math.isfinite(nll + kl):
        raise TrainingError(f"training diverged at step {run.step + 1}", "lower recipe.learning_rate")
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in run.model.parameters() if p.requires_grad], 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.step += 1
    run.update_average(recipe.ema)
    say("step", step=run.step, steps=recipe.steps, loss=round(nll, 4), kl=round(kl, 4), learning_rate=rate)


def write_adapter(run: Run, recipe: Recipe, model: str, out: Path) -> None:
    """PEFT layout, float32 safetensors: the running average where there is one, else the last weights."""
    tensors = run.average if recipe.ema else get_peft_model_state_dict(run.model)
    out.mkdir(exist_ok=True)
    save_file(
        {name: value.float().contiguous().cpu() for name, value in tensors.items()},
        out / "adapter_model.safetensors",
    )
    config = run.model.peft_config["default"]
    described = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    described["inference_mode"] = True
    described["base_model_name_or_path"] = model  # a name: the adapter outlives this machine's folders
    write_atomic(out / "adapter_config.json", json.dumps(described, indent=2, sort_keys=True, default=str))


def say_left_out(reasons: Iterable[str]) -> None:
    """Tell the parent what is not trained on: each reason with the number of turns."""
    for reason, turns in Counter(reasons).items():
        say("left_out", reason=reason, turns=turns)


def say(event: str, **fields: object) -> None:
    """One JSON line to the parent."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Hold the work folder's lock, so that a dying child and its successor never both write."""
    workdir = Path(sys.argv[1])
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        train(TrainingJob.model_validate_json((workdir / JOB_FILE).read_text()), workdir)


if __name__ == "__main__":
    main()
