"""The merging child: base and adapter become one model. `python -m sleepy_coder.learn.merge_lora JOB`.

W' = W + (alpha / r) B A in float32, rounded to the precision of the base at the end. Rounding may swallow a small
update, so the written files are loaded again and held against the base with its adapter, on the same texts.
Everything is computed in float32 on the CPU: 4 bytes per parameter, and no noise that hides what rounding does.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

import gc
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import AutoConfig, AutoTokenizer

from sleepy_coder.adapter_manifest import PROCESSOR_FILES, TOKENIZER_FILES
from sleepy_coder.errors import SleepyError, TrainingError
from sleepy_coder.learn.child import end_with_parent, say
from sleepy_coder.learn.lora_run import open_model
from sleepy_coder.learn.merge import STEPS, MergeJob, MergeProof
from sleepy_coder.serve.prover import PROMPTS

TOLERANCE = 0.05  # of the update
NOISE = 1e-6  # nats: two float32 runs of the same weights are closer


def merge(job: MergeJob) -> MergeProof:
    """Write the merged model to `job.out`. Raises TrainingError when it says something else than base and adapter."""
    step("load")
    tokenizer = AutoTokenizer.from_pretrained(str(job.model))
    texts = [torch.tensor([tokenizer(text)["input_ids"]]) for text in PROMPTS]
    model = PeftModel.from_pretrained(load(job.model), str(job.adapter))
    step("ask")
    adapted = log_probs(model, texts)
    with model.disable_adapter():
        bare = log_probs(model, texts)
    step("merge")
    merged: Any = model.merge_and_unload()
    step("write")
    write(merged, job)
    del model, merged  # the files are read back into the memory that this frees
    gc.collect()
    step("prove")
    proof = MergeProof(update=divergence(bare, adapted), error=divergence(adapted, log_probs(load(job.out), texts)))
    if proof.error > max(NOISE, TOLERANCE * proof.update):
        raise TrainingError(
            f"the merged model differs from base and adapter by {proof.error:.2g} nats, of {proof.update:.2g} that the"
            " adapter changes",
            "its update is too small for the base's precision: --dtype float32 keeps it",
        )
    return proof


def load(folder: Path) -> Any:
    """The model in float32, ready to be asked."""
    return open_model(folder, torch.float32).eval()


@torch.no_grad()
def log_probs(model: Any, texts: list[torch.Tensor]) -> torch.Tensor:
    """Log-probabilities [tokens of all texts, vocabulary]."""
    return torch.cat([functional.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1) for ids in texts])


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """Mean KL(p || q) in nats per token, of log-probabilities."""
    return float((p.exp() * (p - q)).sum(dim=-1).mean())


def write(merged: Any, job: MergeJob) -> None:
    """Weights in the wanted precision; what else the base has as it has it, so that what reads it reads this."""
    config_of_base = AutoConfig.from_pretrained(str(job.model))
    of_base = config_of_base.dtype or config_of_base.get_text_config().dtype or torch.float32
    dtype = torch.float32 if job.dtype == "float32" else of_base
    merged.to(dtype).save_pretrained(str(job.out))
    config = json.loads((job.model / "config.json").read_text())
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(dtype).removeprefix("torch.")
    (job.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for weights in job.out.glob("*.safetensors"):  # written for their owner alone
        shutil.copymode(job.out / "config.json", weights)
    for name in ("generation_config.json", *PROCESSOR_FILES, *TOKENIZER_FILES):
        if (job.model / name).is_file():
            shutil.copyfile(job.model / name, job.out / name)


def step(name: str) -> None:
    """Tell the parent what begins."""
    say("step", step=STEPS.index(name) + 1)


def main() -> None:
    """Merge, and say the proof; an error of ours is said in one line instead of a traceback."""
    end_with_parent()
    try:
        proof = merge(MergeJob.model_validate_json(sys.argv[1]))
    except SleepyError as error:
        sys.exit(str(error))
    say("proof", **proof.model_dump())


if __name__ == "__main__":
    main()
