"""GRPO and SDFT for real: a reward that rises, a teacher that is followed, a pause that leaves no trace."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import make_task

from sleepy_coder.adapter_check import check_adapter
from sleepy_coder.config import TrainingSettings
from sleepy_coder.errors import InfraError, TrainingError, TrainingPaused
from sleepy_coder.learn.outputs import Training, training_of
from sleepy_coder.learn.trainer import ChildTrainer, Step, TrainingJob
from sleepy_coder.types import Adapter, AdapterState, Example, Message, Recipe, Task, TrainingMix

pytest.importorskip("trl", reason="the extra `trl` is not installed")
pytestmark = pytest.mark.slow

WEIGHTS = "adapter_model.safetensors"
RECIPE = Recipe(
    name="sdft",
    learning_rate=1e-3,
    rank=4,
    alpha=8,
    dropout=0.0,
    steps=12,
    batch_size=2,
    warmup_steps=2,
    ema=0.0,
    kl_anchor=0.0,
    kl_verified=0.0,
    max_length=256,
    seed=3,
    objective="sdft",
)


ENDLESS = RECIPE.model_copy(update={"steps": 2000})
GRPO = RECIPE.model_copy(
    update={"objective": "grpo", "name": "grpo", "batch_size": 8, "kl_verified": 0.05, "max_length": 1024}
)


def row(number: int, **others: object) -> Example:
    return Example(
        messages=(
            Message(role="system", content="Fix it."),
            Message(role="user", content=f"1|let x{number} = {'y' * number};"),
        ),
        completion=f"1|let x{number} = {number};",
        kind="passed",
        task_id=f"k{number}",
        family="f",
        provenance=f"e{number}",
    ).model_copy(update=others)


def mix_of(*rows: Example, tasks: tuple[Task, ...] = ()) -> TrainingMix:
    return TrainingMix(examples=rows, shares={}, counts={}, notes=(), seed=1, sha256="m", tasks=tasks)


LONG = "1|let x = " + "z" * 900 + ";"
MIX = mix_of(*(row(number) for number in range(4)), row(4, completion=LONG), row(5, completion=LONG, kind="replay"))


def trainer(model: Path, heard: list[Step], max_tokens: int = 8) -> ChildTrainer:
    return ChildTrainer(model, heard.append, threads=1, max_tokens=max_tokens)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("trl") / "model")


@pytest.fixture(scope="module")
def distilled(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """The adapter of MIX and RECIPE, trained in one go, and what was heard meanwhile."""
    heard: list[Step] = []
    return trainer(model, heard).train(MIX, None, RECIPE, tmp_path_factory.mktemp("whole")), heard


def test_a_student_comes_closer_to_the_teacher_that_sees_the_answer(
    model: Path, distilled: tuple[Path, list[Step]]
) -> None:
    trained, heard = distilled
    check_adapter(trained, RECIPE, model)
    assert [step.step for step in heard] == list(range(1, 13))
    assert [step.learning_rate for step in heard[:3]] == [5e-4, 1e-3, 1e-3]
    assert sum(step.loss for step in heard[-4:]) < sum(step.loss for step in heard[:4])


def test_a_kl_that_sdft_does_not_measure_is_not_told_as_none_at_all(distilled: tuple[Path, list[Step]]) -> None:
    assert [step.kl for step in distilled[1]] == [None] * RECIPE.steps


def test_passed_answers_too_long_to_be_shown_to_the_teacher_are_counted_for_the_report(
    distilled: tuple[Path, list[Step]],
) -> None:
    assert training_of(distilled[0].parent, RECIPE) == Training(steps=RECIPE.steps, too_long=1)


def asks_at(step: int, heard: list[Step]) -> Callable[[], bool]:
    """A wish to pause that comes after so many steps."""
    return lambda: bool(heard) and heard[-1].step >= step


def test_training_that_was_paused_ends_with_the_same_bits(
    model: Path, distilled: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    heard: list[Step] = []
    with contextlib.suppress(TrainingPaused):  # it may have ended before it hears of the wish
        trainer(model, heard).train(MIX, None, RECIPE, tmp_path, asks_at(3, heard))
    trained = trainer(model, heard).train(MIX, None, RECIPE, tmp_path)
    assert (trained / WEIGHTS).read_bytes() == (distilled[0] / WEIGHTS).read_bytes()


def test_a_paused_child_saves_the_step_it_is_in_and_goes_on_with_the_next(model: Path, tmp_path: Path) -> None:
    heard: list[Step] = []
    with pytest.raises(TrainingPaused):
        trainer(model, heard).train(MIX, None, ENDLESS, tmp_path, asks_at(3, heard))
    last = heard[-1].step
    with pytest.raises(TrainingPaused):
        trainer(model, heard).train(MIX, None, ENDLESS, tmp_path, asks_at(last + 1, heard))
    assert [step.step for step in heard] == list(range(1, heard[-1].step + 1))


def warm(distilled: tuple[Path, list[Step]], steps: int) -> tuple[Adapter, Recipe]:
    """Practice that goes on from the distilled adapter: of a model whose answers all fail it learns the KL alone."""
    name, sha256 = "sc-0001-00000000", "0" * 64
    parent = Adapter(name=name, cycle=1, parent=None, path=distilled[0], sha256=sha256, state=AdapterState.ACTIVE)
    return parent, GRPO.model_copy(update={"steps": steps})


def test_practice_that_was_paused_ends_with_the_same_bits_and_is_held_to_the_base_from_its_first_step(
    model: Path, distilled: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    mix = mix_of(tasks=(make_task(1), make_task(2)))
    parent, recipe = warm(distilled, 16)
    whole: list[Step] = []
    wanted = trainer(model, whole).train(mix, parent, recipe, tmp_path / "whole")
    assert whole[0].kl is not None and whole[0].kl > 0  # held to its own start it would be 0
    heard: list[Step] = []
    with pytest.raises(TrainingPaused):
        trainer(model, heard).train(mix, parent, recipe, tmp_path / "paused", asks_at(2, heard))
    trained = trainer(model, heard).train(mix, parent, recipe, tmp_path / "paused")
    assert [step.step for step in heard] == list(range(1, 17))
    assert (trained / WEIGHTS).read_bytes() == (wanted / WEIGHTS).read_bytes()
    assert (trained / WEIGHTS).read_bytes() != (distilled[0] / WEIGHTS).read_bytes()


def test_without_a_machine_that_judges_practice_ends_as_the_machines_failure(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rustc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "rustc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(InfraError, match="no task to answer: .*rustc is missing"):
        trainer(model, []).train(mix_of(tasks=(make_task(1),)), None, GRPO, tmp_path / "work")


# In a process of its own: beside tests/vllm TRL takes that folder for vLLM.
DIVERGED = """
import sys, torch
from types import SimpleNamespace
from sleepy_coder.learn.child import Pause
from sleepy_coder.learn.train_trl import Reporter
from sleepy_coder.types import Recipe
reporter, state = Reporter(Pause(), Recipe.model_validate_json(sys.argv[1])), SimpleNamespace(global_step=7)
weights = torch.nn.Linear(2, 2)
reporter.on_step_end(None, state, SimpleNamespace(), model=weights)
weights.weight.data[1, 1] = float("nan")
print("whole so far")
reporter.on_step_end(None, state, SimpleNamespace(), model=weights)
"""


def test_training_whose_weights_are_no_numbers_ends_before_a_checkpoint_is_made_of_them() -> None:
    argv = [sys.executable, "-c", DIVERGED, RECIPE.model_dump_json()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "whole so far\n"
    assert "TrainingError: training diverged at step 7. lower recipe.learning_rate" in done.stderr


def test_few_answers_at_once_teach_what_all_at_once_do(
    model: Path, distilled: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    one = TrainingSettings(rows_at_once=1)  # pyright: ignore[reportCallIssue]
    trained = ChildTrainer(model, threads=1, max_tokens=8, together=one).train(MIX, None, RECIPE, tmp_path)
    mine, theirs = load_file(trained / WEIGHTS), load_file(distilled[0] / WEIGHTS)
    assert max(float(abs(mine[name] - theirs[name]).max()) for name in theirs) < 1e-4


@pytest.mark.parametrize("torn", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_that_cannot_be_read_is_passed_over_for_the_one_before(tmp_path: Path, torn: str) -> None:
    import torch
    from safetensors.torch import save_file

    from sleepy_coder.learn.trl_checkpoints import last_checkpoint

    (tmp_path / "job").write_text("job")
    for step in (10, 20, 30):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"a": torch.ones(1000)}, folder / "adapter_model.safetensors")
        torch.save({"a": torch.ones(1000)}, folder / "optimizer.pt")
        (folder / "trainer_state.json").write_text("{}")
        if step < 30:
            (folder / "whole").touch()
    assert last_checkpoint(tmp_path, "job") == tmp_path / "checkpoint-20"
    whole = (tmp_path / "checkpoint-20" / torn).read_bytes()
    for content in (whole[: len(whole) // 2], b"\0" * len(whole)):
        (tmp_path / "checkpoint-20" / torn).write_bytes(content)
        assert last_checkpoint(tmp_path, "job") == tmp_path / "checkpoint-10"


def test_a_checkpoint_is_on_the_disk_before_it_is_called_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sleepy_coder.learn import trl_checkpoints

    done: list[str] = []
    monkeypatch.setattr(trl_checkpoints, "fsync_tree", lambda folder: done.append(f"synced {folder.name}"))
    monkeypatch.setattr(trl_checkpoints, "write_atomic", lambda path, _: done.append(f"wrote {path.name}"))
    trl_checkpoints.mark_whole(tmp_path / "checkpoint-10")
    assert done == ["synced checkpoint-10", "wrote whole"]


def test_another_job_in_the_same_folder_begins_anew(model: Path, tmp_path: Path) -> None:
    heard: list[Step] = []
    short = RECIPE.model_copy(update={"steps": 2})
    trainer(model, heard).train(MIX, None, short, tmp_path)
    trainer(model, heard).train(MIX, None, short.model_copy(update={"seed": 4}), tmp_path)
    assert [step.step for step in heard] == [1, 2, 1, 2]


def test_conversations_that_a_teacher_cannot_be_shown_are_no_rows(model: Path, tmp_path: Path) -> None:
    with_tools = row(1, tools='[{"type": "function"}]')
    with pytest.raises(TrainingError, match="can be answered anew"):
        trainer(model, []).train(mix_of(with_tools), None, RECIPE, tmp_path)


BUILT = """
import json, sys
from pathlib import Path
from transformers import AutoTokenizer
from sleepy_coder.learn.lora_run import Run, attach_adapter, load_base
from sleepy_coder.learn.train_trl import Child, trainer_of
from sleepy_coder.learn.trainer import TrainingJob

job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())
run = Run.begin(attach_adapter(load_base(job.model), job.recipe), job.recipe)
folder = Path(sys.argv[1]).parent / "checkpoints"
folder.mkdir()
child = Child(job, folder, run, AutoTokenizer.from_pretrained(job.model))
args = trainer_of(child)[0].args
print(json.dumps({name: getattr(args, name, None) for name in sys.argv[2:]}))
"""


def told(model: Path, folder: Path, recipe: Recipe, mix: TrainingMix, *names: str) -> dict[str, Any]:
    """These arguments of TRL's trainer; asked in another process, since TRL takes the folder tests/vllm for vLLM."""
    job = TrainingJob(model=model, parent=None, mix=mix, recipe=recipe, max_tokens=8)
    (folder / "job.json").write_text(job.model_dump_json())
    asked = [sys.executable, "-c", BUILT, str(folder / "job.json"), *names]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
    return json.loads(done.stdout.splitlines()[-1])


def test_grpos_kl_is_the_recipes_and_its_gradient_the_kls_own(model: Path, tmp_path: Path) -> None:
    found = told(model, tmp_path, GRPO, mix_of(tasks=(sometimes_solved(),)), "beta", "use_bias_correction_kl")
    assert found == {"beta": GRPO.kl_verified, "use_bias_correction_kl": True}


def test_sdfts_teacher_is_the_base_and_the_student_comes_to_it(model: Path, tmp_path: Path) -> None:
    found = told(model, tmp_path, RECIPE, MIX, "teacher_model_kind", "distillation_alpha")
    assert found == {"teacher_model_kind": "base", "distillation_alpha": 1.0}


def sometimes_solved() -> Task:
    """A real task which the nano model solves now and then at temperature 1."""
    from sleepy_coder.tasks import load_split

    (task,) = (task for task in load_split("rehearsal") if task.id == "k69e7e386e58e")
    return task


@pytest.mark.timeout(1200)
def test_practice_with_the_compiler_as_reward_raises_it(tmp_path: Path) -> None:
    from sleepy_coder.nano import MODEL_DIR

    heard: list[Step] = []
    recipe = GRPO.model_copy(update={"rank": 8, "alpha": 64, "kl_verified": 0.01})
    trained = trainer(MODEL_DIR, heard, max_tokens=48).train(
        mix_of(tasks=(sometimes_solved(),)), None, recipe, tmp_path
    )
    check_adapter(trained, recipe, MODEL_DIR)
    rewards = [step.reward for step in heard if step.reward is not None]
    assert len(rewards) == recipe.steps
    assert sum(rewards[-4:]) > sum(rewards[:4])
    assert heard[-1].kl is not None and heard[-1].kl > 0
