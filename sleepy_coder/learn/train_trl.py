"""The training child of the recipes that learn from their own answers, through TRL: GRPO and SDFT.

`python -m sleepy_coder.learn.train_trl WORKDIR` keeps the protocol of train_lora: a job in, JSON lines out, the same
LoRA in the same form, a pause at a checkpoint.

GRPO (arXiv 2402.03300): eight answers to each task's opening message, rewarded by the real verifier (`reward`). The KL
term, KL(adapter || base) estimated on the answers, holds the policy near the base.

SDFT (arXiv 2601.19897): the student answers a row's messages; the teacher is the base with that row's verified answer
in its prompt; the loss is KL(student || teacher) on the student's own tokens. The paper's teacher is a running average
of the student; the base needs no second copy of the adapter, and holds the student near itself.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers, peft, datasets and trl are only partly typed.

from __future__ import annotations

import hashlib
import json
import math
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]
from transformers import AutoTokenizer, PrinterCallback, TrainerCallback
from trl.experimental.sdft import SDFTConfig, SDFTTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from sleepy_coder.errors import InfraError, TrainingError
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.child import Parent, Pause, only_child, say
from sleepy_coder.learn.endings import NOT_JUDGED, ORPHANED
from sleepy_coder.learn.lora_run import Run, attach_adapter, device, load_base, weights_of, write_folder
from sleepy_coder.learn.outputs import OUTPUT, TOLD, Training
from sleepy_coder.learn.recipes import GENERATIONS
from sleepy_coder.learn.reward import Reward
from sleepy_coder.learn.train_lora import learning_rate, rows_at_once
from sleepy_coder.learn.trainer import JOB_FILE, PAUSED, TrainingJob
from sleepy_coder.learn.trl_checkpoints import last_checkpoint, mark_whole, step_of
from sleepy_coder.learn.trl_rows import TEACHER_PROMPT, Rows, openings, opens_a_thought, questions
from sleepy_coder.ports import Verifier
from sleepy_coder.types import Recipe
from sleepy_coder.verify.command import verifier

_CHECKPOINTS = "trl"
_TOP_TOKENS = 100


class Reporter(TrainerCallback):
    """Says each step, marks whole checkpoints, and stops at one when asked to or when the parent is gone."""

    def __init__(self, pause: Pause, recipe: Recipe) -> None:
        self._pause = pause
        self._recipe = recipe
        self.parent = Parent()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: object) -> None:
        self._pause.stepping = True

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Raises TrainingError when a weight is no number any more, before a checkpoint is made of it."""
        if not all(weight.isfinite().all() for weight in given["model"].parameters() if weight.requires_grad):
            raise _diverged(state.global_step)
        if self._pause.asked or self.parent.gone:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, **told: Any) -> None:
        """Raises TrainingError when the loss is no number any more."""
        logs: Mapping[str, Any] = told["logs"]
        if "loss" not in logs:  # the summary at the end
            return
        loss, kl, reward = float(logs["loss"]), logs.get("kl"), logs.get("reward")
        if not math.isfinite(loss + (kl or 0.0)):
            raise _diverged(state.global_step)
        say(
            "step",
            step=state.global_step,
            steps=state.max_steps,
            loss=round(loss, 4),
            learning_rate=learning_rate(state.global_step - 1, self._recipe),
            **({} if kl is None else {"kl": round(kl, 4)}),
            **({} if reward is None else {"reward": round(reward, 4)}),
        )

    def on_save(self, args: Any, state: Any, control: Any, **_: object) -> None:
        mark_whole(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def _diverged(step: int) -> TrainingError:
    return TrainingError(f"training diverged at step {step}", "lower recipe.learning_rate")


@dataclass(frozen=True, slots=True)
class Child:
    """What both objectives share: the job, its folder for checkpoints, the model with its adapter and optimiser."""

    job: TrainingJob
    folder: Path
    run: Run
    tokenizer: Any

    def settings(self, batch_size: int) -> dict[str, Any]:
        """What TRL's two configurations have in common, of `batch_size` answers a step.

        As many at once as the job allows and as divide them. A step generates a whole batch, so each is kept: a pause
        waits for no more of them, and a kill costs one.
        """
        recipe, cuda = self.job.recipe, torch.cuda.is_available()
        most = rows_at_once(self.job, batch_size)
        at_once = next(count for count in range(most, 0, -1) if batch_size % count == 0)
        return {
            "output_dir": str(self.folder),
            "max_steps": recipe.steps,
            "per_device_train_batch_size": at_once,
            "gradient_accumulation_steps": batch_size // at_once,
            "learning_rate": recipe.learning_rate,
            "max_grad_norm": 1.0,
            "disable_dropout": True,  # the policy that answers is the one that learns
            "max_completion_length": self.job.max_tokens,
            "temperature": 1.0,
            "seed": recipe.seed,
            "shuffle_dataset": False,
            "use_cpu": not cuda,
            "bf16": cuda,
            "gradient_checkpointing": cuda,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
            "dataloader_pin_memory": cuda,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "save_strategy": "steps",
            "save_steps": 1,
            "save_total_limit": 2,
            "report_to": "none",
            "disable_tqdm": True,
        }

    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        """AdamW and the warm-up of train_lora."""
        recipe, adam = self.job.recipe, self.run.optimizer
        full = recipe.learning_rate
        return adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda step: learning_rate(step, recipe) / full)


def grpo(child: Child, rows: Rows, judge: Verifier) -> GRPOTrainer:
    """The trainer of `mix.tasks`; the batch is rounded to whole groups of GENERATIONS answers to one task."""
    recipe = child.job.recipe
    groups = max(1, recipe.batch_size // GENERATIONS)
    trainer = GRPOTrainer(
        model=child.run.model,
        reward_funcs=Reward(judge, child.job.mix.tasks, opens_a_thought(child.tokenizer)),
        args=GRPOConfig(
            **child.settings(groups * GENERATIONS),
            num_generations=GENERATIONS,
            beta=recipe.kl_verified,
            loss_type="grpo",
            use_bias_correction_kl=True,  # the estimate's gradient is the KL's own
            router_aux_loss_coef=0.0,  # routers are not trained
        ),
        train_dataset=dataset(rows.asked, groups, recipe),
        processing_class=child.tokenizer,
        optimizers=child.optimizers(),
    )
    if recipe.kl_verified:
        child.run.model.delete_adapter("ref")  # TRL's copy of the parent: without it the reference is the base
    return trainer


def sdft(child: Child, rows: Rows) -> SDFTTrainer:
    """The trainer of the mix's questions, with a teacher that is shown their answers."""
    recipe = child.job.recipe
    return SDFTTrainer(
        model=child.run.model,
        args=SDFTConfig(
            **child.settings(recipe.batch_size),
            num_generations=1,
            teacher_model_kind="base",
            teacher_prompt_template=TEACHER_PROMPT,
            distillation_alpha=1.0,  # KL(student || teacher)
            distillation_topk=min(_TOP_TOKENS, child.run.model.config.get_text_config().vocab_size),
            distillation_add_tail=True,
            max_prompt_length=None,
        ),
        train_dataset=dataset(rows.asked, recipe.batch_size, recipe),
        processing_class=child.tokenizer,
        optimizers=child.optimizers(),
    )


def trainer_of(child: Child) -> tuple[Any, Rows]:
    """The trainer of the job's objective, and the rows that it answers anew."""
    job, folder = child.job, child.folder
    if job.recipe.objective == "sdft":
        rows = questions(job, child.tokenizer)
        return sdft(child, rows), rows
    judge = verifier(folder.parent / "verdicts.db")
    rows = openings(job, child.tokenizer, judge, folder)
    return grpo(child, rows, judge), rows


def dataset(rows: Sequence[dict[str, Any]], at_once: int, recipe: Recipe) -> Dataset:
    """`at_once` rows for each step: fresh shuffles of `rows`, one after the other, from the seed alone.

    One pass of TRL's over this is the whole run. Its own shuffles start over in a resumed run.
    Raises TrainingError when there are no rows.
    """
    if not rows:
        raise TrainingError("no row of the mix can be answered anew", "see `train.left_out` in the log for the reasons")
    count = recipe.steps * at_once
    drawn: list[dict[str, Any]] = []
    for number in range(math.ceil(count / len(rows))):
        drawn += random.Random(f"{recipe.seed}/{number}").sample(rows, len(rows))
    return Dataset.from_list(drawn[:count])


def _identity(job: TrainingJob) -> str:
    """What its checkpoints are known by: TRL goes on in the middle of an epoch, which so many rows at once make."""
    decides = {**job.identity(), "max_tokens": job.max_tokens, "rows_at_once": job.rows_at_once}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def train(job: TrainingJob, workdir: Path, pause: Pause) -> None:
    """Run the whole job and leave the adapter in `workdir/adapter`.

    Ends the process with status PAUSED, after a checkpoint, when `pause` is asked for.
    """
    recipe = job.recipe
    tokenizer = AutoTokenizer.from_pretrained(str(job.model), padding_side="left")
    run = Run.begin(attach_adapter(load_base(job.model).to(device()), recipe), recipe, job.parent)
    found = last_checkpoint(workdir / _CHECKPOINTS, _identity(job), lambda reason: say("not_resumed", reason=reason))
    reporter = Reporter(pause, recipe)
    trainer, rows = trainer_of(Child(job, workdir / _CHECKPOINTS, run, tokenizer))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(reporter)
    if found:
        say("resumed", step=step_of(found), steps=recipe.steps)
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    if trainer.state.global_step < recipe.steps:
        if reporter.parent.gone:
            raise TrainingError(ORPHANED, "start the night again; it goes on from here")
        raise SystemExit(PAUSED)
    told = Training(steps=recipe.steps, too_long=rows.too_long)
    write_atomic(workdir / TOLD, told.model_dump_json())
    write_folder(run.model, weights_of(run.model), job.model.name, workdir / OUTPUT)


def main() -> None:
    """Train with the work folder's lock held. Ends with status NOT_JUDGED when the machine cannot judge answers."""
    workdir = Path(sys.argv[1])
    pause = Pause()
    signal.signal(signal.SIGTERM, pause)
    with only_child(workdir):
        try:
            train(TrainingJob.model_validate_json((workdir / JOB_FILE).read_text()), workdir, pause)
        except InfraError as error:
            sys.stdout.write(f"{error.message}\n")
            raise SystemExit(NOT_JUDGED) from error


if __name__ == "__main__":
    main()
