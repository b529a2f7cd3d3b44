"""What each recipe promises of the one training loop, for real: a few steps on a tiny random model."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from dying import killed_at
from test_trainer import MIX, RECIPE, WEIGHTS, losses, mix_of, row

from sleepy_coder.adapter_check import check_adapter
from sleepy_coder.adapter_manifest import FAST
from sleepy_coder.learn.contenders import scaled
from sleepy_coder.learn.outputs import AVERAGE, TOLD, Probe, Training, checkpoint_folder, training_of
from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, ChildTrainer, TrainingJob
from sleepy_coder.types import Recipe

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

SHORT = RECIPE.model_copy(update={"steps": 4, "ema": 0.0})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("recipes") / "model")


def trained(model: Path, workdir: Path, **update: Any) -> Path:
    """Train in this process; the work folder."""
    return train_job(model, workdir, SHORT.model_copy(update=update))


def train_job(model: Path, workdir: Path, recipe: Recipe, parent: Path | None = None, fast: Path | None = None) -> Path:
    from sleepy_coder.learn.train_lora import Pause, train

    workdir.mkdir(exist_ok=True)
    job = TrainingJob(model=model, parent=parent, fast=fast, mix=MIX, recipe=recipe)
    (workdir / JOB_FILE).write_text(job.model_dump_json())
    train(job, workdir, Pause())
    return workdir


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def same(one: Path, other: Path) -> bool:
    return (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def plain(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of SHORT."""
    return trained(model, tmp_path_factory.mktemp("plain"))


# SAM


def test_sam_learns_otherwise_than_plain_training_and_with_no_radius_the_same(
    model: Path, plain: Path, tmp_path: Path
) -> None:
    assert same(trained(model, tmp_path / "flat", sam_rho=0.0) / OUTPUT, plain / OUTPUT)
    assert not same(trained(model, tmp_path / "sam", sam_rho=0.05) / OUTPUT, plain / OUTPUT)


def test_sam_climbs_by_its_radius_along_the_gradient_and_comes_back() -> None:
    import torch

    from sleepy_coder.learn.train_lora import climb

    weight, idle = torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor([5.0]))
    weight.grad = torch.tensor([3.0, 4.0])
    before = climb([weight, idle], 0.5)
    assert torch.allclose(weight.data, torch.tensor([1.3, 2.4]))
    assert torch.equal(before[0], torch.tensor([1.0, 2.0]))
    assert torch.equal(idle.data, torch.tensor([5.0]))


def test_a_step_of_sam_that_learns_nothing_leaves_the_weights_where_they_were(model: Path, tmp_path: Path) -> None:
    done = weights(trained(model, tmp_path / "sam", sam_rho=0.05, learning_rate=0.0, steps=1) / OUTPUT)
    assert not any(value.any() for name, value in done.items() if ".lora_B." in name)


# The step


def test_however_steep_the_loss_a_step_goes_along_a_gradient_of_length_one(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from fakes import encode
    from transformers import AutoTokenizer

    from sleepy_coder.learn import train_lora
    from sleepy_coder.learn.lora_run import Run, attach_adapter, load_base, weights_of

    recipe = SHORT.model_copy(update={"learning_rate": 0.5, "warmup_steps": 0})
    one = encode(row(3), AutoTokenizer.from_pretrained(model), recipe)
    assert one is not None
    run = Run.begin(attach_adapter(load_base(model), recipe), recipe)
    learned = [weight for weight in run.model.parameters() if weight.requires_grad]
    run.optimizer = torch.optim.SGD(learned)

    def steep(*_: Any) -> tuple[float, float]:
        for weight in learned:
            weight.grad = torch.full_like(weight, 1000.0)
        return 0.0, 0.0

    monkeypatch.setattr(train_lora, "backward", steep)
    before = weights_of(run.model)
    train_lora.one_step(run, [one] * 2, [torch.zeros(1)] * 2, recipe, 0, 2)
    moved = [(value - before[name]).norm() for name, value in weights_of(run.model).items()]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.5, rel=1e-3)


def test_the_average_forgets_a_fresh_start_sooner_than_its_decay_would(model: Path) -> None:
    from sleepy_coder.learn.lora_run import Run, attach_adapter, load_base

    run = Run.begin(attach_adapter(load_base(model), SHORT), SHORT)
    name = next(name for name in run.average if ".lora_B." in name)
    for parameter, weight in run.model.named_parameters():
        if ".lora_B." in parameter:
            weight.data.fill_(1.0)
    for step, expected in ((1, 9 / 11), (10_000, 0.99 * 9 / 11 + 0.01)):
        run.step = step
        run.update_average(0.99)
        assert run.average[name].unique().tolist() == pytest.approx([expected])


# Loss on the prompt


def test_the_naive_loss_covers_every_token_but_the_first(model: Path) -> None:
    import torch
    from fakes import encode
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sleepy_coder.learn.lora_run import attach_adapter

    naive = RECIPE.model_copy(update={"prompt_loss": True})
    found = encode(row(3), AutoTokenizer.from_pretrained(model), naive)
    assert found is not None
    assert found.learned() == list(range(1, len(found.ids)))
    attached = attach_adapter(AutoModelForCausalLM.from_pretrained(model), naive).eval()
    tokens = torch.tensor([found.ids])
    with torch.no_grad():
        expected = float(attached(input_ids=tokens, labels=tokens).loss)
    assert losses(attached, [found])[1] == pytest.approx(expected, rel=1e-4)


# Checkpoints


def test_a_checkpoint_is_what_a_shorter_run_writes(model: Path, tmp_path: Path) -> None:
    # 8 and 16 steps: whole windows, in which rows of similar length go together.
    long = trained(model, tmp_path / "long", steps=16, checkpoints=(8, 16))
    short = trained(model, tmp_path / "short", steps=8)
    assert same(long / checkpoint_folder(8), short / OUTPUT)
    assert same(long / checkpoint_folder(16), long / OUTPUT)
    check_adapter(long / checkpoint_folder(8), SHORT, model)


def test_checkpoints_are_measured_on_rows_that_are_not_trained_on(model: Path, tmp_path: Path) -> None:
    work = trained(model, tmp_path / "work", ema=0.9, checkpoints=(2, 4), held_out=0.9)
    told = training_of(work, SHORT)
    assert [(one.folder, one.step) for one in told.probes] == [
        (checkpoint_folder(2), 2),
        (checkpoint_folder(4), 4),
        (AVERAGE, 4),
    ]
    assert all(one.nll is not None and one.nll > 0 for one in told.probes)
    assert all(one.kl is not None and one.kl > 0 for one in told.probes)
    assert same(work / AVERAGE, work / OUTPUT)
    assert not same(work / OUTPUT, work / checkpoint_folder(4))


def test_a_killed_run_goes_on_to_the_same_checkpoints_and_the_same_words(model: Path, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"checkpoints": (4, 11, 14), "held_out": 0.9})
    whole = train_job(model, tmp_path / "whole", recipe)
    work = tmp_path / "work"
    work.mkdir()
    (work / JOB_FILE).write_text(TrainingJob(model=model, parent=None, mix=MIX, recipe=recipe).model_dump_json())
    assert killed_at(12, work) == -signal.SIGKILL
    ChildTrainer(model, threads=1).train(MIX, None, recipe, work)
    again = ChildTrainer(model, threads=1).train(MIX, None, recipe, tmp_path / "again")
    for folder in (checkpoint_folder(4), checkpoint_folder(11), checkpoint_folder(14), AVERAGE, OUTPUT):
        assert same(work / folder, again.parent / folder)
    assert (work / TOLD).read_bytes() == (again.parent / TOLD).read_bytes()
    assert {path.name for path in (work / "checkpoints").iterdir()} == {
        path.name for path in (whole / "checkpoints").iterdir()
    }


def test_what_an_earlier_job_kept_in_the_folder_is_not_taken_for_this_ones(model: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    stale = work / checkpoint_folder(3)
    stale.mkdir(parents=True)
    (stale / "probe.json").write_text(Probe(folder=checkpoint_folder(3), step=3, nll=1, kl=1).model_dump_json())
    told = training_of(trained(model, work, checkpoints=(4,)), SHORT)
    assert [one.step for one in told.probes] == [4]
    assert not stale.exists()


def test_training_stops_at_the_checkpoint_that_is_too_far_from_the_base_and_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = trained(model, tmp_path / "work", checkpoints=(2, 4), kl_limit=1e-9)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = training_of(work, SHORT)
    assert told == Training(steps=2, stopped=told.stopped, probes=told.probes)
    assert said[-1] == {"event": "stopped_early", "step": 2, "steps": 4, "reason": told.stopped}
    assert "recipe.kl_limit" in told.stopped
    assert same(work / OUTPUT, work / checkpoint_folder(2))


# Scale


def test_half_the_scale_is_exactly_half_the_update(model: Path, plain: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    half = scaled(plain / OUTPUT, 0.5, tmp_path / "half")
    assert same(half, plain / OUTPUT)
    deltas: list[list[Any]] = []
    for folder in (plain / OUTPUT, half):
        loaded: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), folder)
        deltas.append([m.get_delta_weight("default") for m in loaded.modules() if hasattr(m, "get_delta_weight")])
    assert deltas[0]
    assert all(torch.equal(one, 2 * other) for one, other in zip(*deltas, strict=True))


def test_a_night_goes_on_from_a_scaled_adapter_as_what_it_was(model: Path, plain: Path, tmp_path: Path) -> None:
    import torch

    from sleepy_coder.learn.lora_run import Run, attach_adapter, load_base

    half = scaled(plain / OUTPUT, 0.5, tmp_path / "half")
    begun = Run.begin(attach_adapter(load_base(model), SHORT), SHORT, half).average
    whole = weights(plain / OUTPUT)
    for name, value in whole.items():
        assert torch.equal(begun[name], value / 2 if ".lora_B." in name else value)


# Two learners


def test_the_slow_learner_serves_and_both_go_on_in_the_next_night(model: Path, tmp_path: Path) -> None:
    import torch

    dual = {"dual": True, "ema": 0.9, "learning_rate": 1e-9}
    first = trained(model, tmp_path / "first", dual=True, ema=0.9)
    assert not same(first / OUTPUT, first / FAST)
    check_adapter(first / FAST, SHORT, model)
    # With a learning rate of nothing the fast one stays and the slow one comes closer by a tenth each step.
    recipe = SHORT.model_copy(update={**dual, "steps": 1, "warmup_steps": 0, "dropout": 0.0})
    second = train_job(model, tmp_path / "second", recipe, first / OUTPUT, first / FAST)
    slow, fast = weights(first / OUTPUT), weights(first / FAST)
    for name, value in weights(second / OUTPUT).items():
        assert torch.allclose(value, 0.9 * slow[name] + 0.1 * fast[name], atol=1e-6)
    assert all(torch.allclose(value, fast[name], atol=1e-6) for name, value in weights(second / FAST).items())


def test_without_kept_fast_weights_both_learners_go_on_from_the_adapter(
    model: Path, plain: Path, tmp_path: Path
) -> None:
    import torch

    update = {"dual": True, "ema": 0.9, "learning_rate": 1e-9, "steps": 1}
    work = train_job(model, tmp_path, SHORT.model_copy(update=update), plain / OUTPUT)
    served = weights(plain / OUTPUT)
    assert all(torch.allclose(value, served[name], atol=1e-6) for name, value in weights(work / OUTPUT).items())


def test_held_out_rows_teach_nothing(model: Path, tmp_path: Path) -> None:
    from sleepy_coder.learn.held_out import held_out

    mix = mix_of(*(row(number) for number in range(1, 6)))
    out = set(held_out(mix.examples, 0.5))
    assert out
    without = mix_of(*(one for i, one in enumerate(mix.examples) if i not in out))
    recipe = SHORT.model_copy(update={"steps": 2})
    trainer = ChildTrainer(model, threads=1)
    some = trainer.train(mix, None, recipe.model_copy(update={"held_out": 0.5}), tmp_path / "some")
    few = trainer.train(without, None, recipe, tmp_path / "few")
    assert same(some, few)
