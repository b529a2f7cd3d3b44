"""Tokens per second and peak memory of one night's training, and of TRL's SFTTrainer on the same rows. One JSON line.

Both train the nano model (or `--model`) on the same questions and verified answers: LoRA of the same rank and alpha on
all linear layers, the same batch, steps, learning rate and AdamW, loss on the completion only, float32 on the CPU and
bfloat16 on a GPU. Each side runs in a process of its own, in turns, and is timed from loading the model to the written
adapter, imports aside. A token is one of a row, prompt included; padding is none. Every row is taken equally often.

Ours is measured twice: as the default recipe trains (with its KL to the base and its running average, which the peer
does not have; the `ratio` is this one's), and without them, which is like for like.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("ours", "plain", "peer")
BATCH, EPOCHS = 16, 3
LEARNING_RATE, RANK = 1e-4, 8


def job_of(model: Path, count: int, kl: bool) -> Any:
    """The training job of `count` rehearsal tasks with their reference answers."""
    from sleepy_coder.adapter_manifest import model_width
    from sleepy_coder.dialogue import edits_between, first_messages
    from sleepy_coder.learn.recipes import alpha_for
    from sleepy_coder.learn.trainer import TrainingJob
    from sleepy_coder.tasks import load_split
    from sleepy_coder.types import Example, Recipe, TrainingMix

    def row(number: int, task: Any) -> Example:
        name, broken = next(iter(task.files.items()))
        return Example(
            messages=first_messages(task, f"error[{task.error_code}]: see the first line"),
            completion=edits_between(broken, task.reference[name]),
            kind="passed",
            task_id=task.id,
            family=task.family,
            provenance="benchmark",
            anchor=number % 2 == 0,  # as in the mix, about half of the rows
        )

    rows = tuple(row(number, task) for number, task in enumerate(load_split("rehearsal")[:count]))
    recipe = Recipe(
        name="benchmark",
        learning_rate=LEARNING_RATE,
        rank=RANK,
        alpha=alpha_for(model_width(model)),
        dropout=0.0,
        steps=EPOCHS * len(rows) // BATCH,
        batch_size=BATCH,
        warmup_steps=0,
        ema=0.97 if kl else 0.0,
        kl_anchor=1.0 if kl else 0.0,
        kl_verified=0.05 if kl else 0.0,
        max_length=1024,
        seed=1,
    )
    mix = TrainingMix(examples=rows, shares={}, counts={}, notes=(), seed=1, sha256="benchmark")
    return TrainingJob(model=model, parent=None, mix=mix, recipe=recipe)


def train_ours(job: Any, workdir: Path) -> float:
    """Seconds of our own loop."""
    from sleepy_coder.learn.child import Pause
    from sleepy_coder.learn.train_lora import train
    from sleepy_coder.learn.trainer import JOB_FILE

    (workdir / JOB_FILE).write_text(job.model_dump_json())
    began = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):  # its steps
        train(job, workdir, Pause())
    return time.perf_counter() - began


def train_peer(job: Any, workdir: Path) -> float:
    """Seconds of SFTTrainer. Without checkpoints on the way, which ours writes."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    recipe, cuda = job.recipe, torch.cuda.is_available()
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(str(job.model))
    base = AutoModelForCausalLM.from_pretrained(str(job.model), dtype=torch.bfloat16 if cuda else torch.float32)
    rows = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in row.messages],
            "completion": [{"role": "assistant", "content": row.completion}],
        }
        for row in job.mix.examples
    ]
    trainer = SFTTrainer(
        model=base,
        args=SFTConfig(
            output_dir=str(workdir),
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="constant",
            max_length=recipe.max_length,
            completion_only_loss=True,
            use_cpu=not cuda,
            bf16=cuda,
            gradient_checkpointing=False,
            dataloader_pin_memory=cuda,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=recipe.seed,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    trainer.save_model(str(workdir / "adapter"))
    return time.perf_counter() - began


def tokens_of(job: Any) -> int:
    """Tokens of all rows, each as often as it is trained on."""
    from transformers import AutoTokenizer

    from sleepy_coder.learn.rows import encode_all

    tokenizer = AutoTokenizer.from_pretrained(str(job.model))
    encoded = [encode_all(example, tokenizer, job.recipe) for example in job.mix.examples]
    once = sum(len(row.ids) for one in encoded for row in one.rows)
    return once * job.recipe.steps * job.recipe.batch_size // len(encoded)


def child(side: str, model: Path, count: int) -> None:
    """One run in this process; prints seconds, tokens and peak memory."""
    import torch

    if side == "peer":
        import trl.trainer.sft_trainer  # noqa: F401  (imports are not timed)
    else:
        import sleepy_coder.learn.train_lora  # noqa: F401
    job = job_of(model, count, kl=side == "ours")
    with tempfile.TemporaryDirectory() as folder:
        seconds = (train_peer if side == "peer" else train_ours)(job, Path(folder))
    cuda = torch.cuda.is_available()
    # Linux counts resident memory in KiB; on a GPU its own memory is what is scarce.
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    device = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    said = {"seconds": seconds, "tokens": tokens_of(job), "peak_mib": peak, "device": device, "steps": job.recipe.steps}
    sys.stdout.write(json.dumps(said) + "\n")


def measure(side: str, model: Path, count: int) -> dict[str, Any]:
    """What a child process says of one run of `side`."""
    argv = [sys.executable, __file__, "--model", str(model), "--rows", str(count), "--child", side]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    from sleepy_coder.nano import MODEL_DIR

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=160, help="a multiple of 16")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.model.resolve(), asked.rows)
        return
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(asked.rounds):
        for side in SIDES:
            runs[side].append(measure(side, asked.model.resolve(), asked.rows))
    rate = {side: statistics.median(run["tokens"] / run["seconds"] for run in runs[side]) for side in SIDES}
    peak = {side: round(max(run["peak_mib"] for run in runs[side])) for side in SIDES}
    result = {
        "benchmark": "train",
        "device": runs["ours"][0]["device"],
        "model": asked.model.name,
        "steps": runs["ours"][0]["steps"],
        "batch": BATCH,
        "rounds": asked.rounds,
        "tokens_per_second": round(rate["ours"]),
        "tokens_per_second_without_kl": round(rate["plain"]),
        "peer": "trl SFTTrainer",
        "peer_tokens_per_second": round(rate["peer"]),
        "ratio": round(rate["ours"] / rate["peer"], 2),
        "ratio_without_kl": round(rate["plain"] / rate["peer"], 2),
        "goal": 1.5,
        "peak_mib": peak["ours"],
        "peak_mib_without_kl": peak["plain"],
        "peer_peak_mib": peak["peer"],
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
