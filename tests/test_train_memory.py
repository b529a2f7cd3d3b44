"""What training keeps in memory, and that keeping less changes nothing of what is learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_trainer import RECIPE, WEIGHTS, mix_of, row

from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, TrainingJob
from sleepy_coder.types import Recipe

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

MIX = mix_of(*(row(number, anchor=number % 3 == 0) for number in range(1, 31)))
WHOLE = RECIPE.model_copy(update={"learning_rate": 1e-3, "steps": 3, "batch_size": 16, "dropout": 0.0, "ema": 0.0})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("memory") / "model")


def trained(model: Path, workdir: Path, recipe: Recipe = WHOLE, rows_at_once: int | None = None) -> dict[str, Any]:
    """The weights of an adapter trained on MIX in this process."""
    from safetensors.torch import load_file

    from sleepy_coder.learn.child import Pause
    from sleepy_coder.learn.train_lora import train

    workdir.mkdir()
    job = TrainingJob(model=model, parent=None, mix=MIX, recipe=recipe, rows_at_once=rows_at_once)
    (workdir / JOB_FILE).write_text(job.model_dump_json())
    train(job, workdir, Pause())
    return load_file(workdir / OUTPUT / WEIGHTS)


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("update", [{}, {"sam_rho": 0.05}, {"dual": True, "ema": 0.9}], ids=["plain", "sam", "dual"])
def test_few_rows_at_once_make_the_adapter_of_all_rows_at_once(
    model: Path, tmp_path: Path, update: dict[str, Any]
) -> None:
    recipe = WHOLE.model_copy(update=update)
    whole = trained(model, tmp_path / "whole", recipe, 16)
    assert apart(trained(model, tmp_path / "three", recipe, 3), whole) < 1e-6


def test_on_a_cpu_all_rows_of_a_batch_go_through_the_model_together(model: Path, tmp_path: Path) -> None:
    assert apart(trained(model, tmp_path / "unset"), trained(model, tmp_path / "all", rows_at_once=16)) == 0


Step = Callable[..., tuple[dict[str, Any], int]]


@pytest.fixture(scope="module")
def step(model: Path) -> Step:
    """One step of a random adapter: its weights afterwards, and the most bytes that were kept for a gradient."""
    import torch
    from fakes import encode
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sleepy_coder.learn.lora_loss import references_of
    from sleepy_coder.learn.lora_run import Run, attach_adapter, save_memory, weights_of
    from sleepy_coder.learn.train_lora import one_step

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = [encode(row(20, "1|" + "let x = 20; " * 20), tokenizer, RECIPE) for _ in range(16)]

    def stepped(batch_size: int, rows_at_once: int, thrifty: bool = False) -> tuple[dict[str, Any], int]:
        recipe = WHOLE.model_copy(update={"batch_size": batch_size})
        attached: Any = attach_adapter(AutoModelForCausalLM.from_pretrained(model), recipe)
        for name, weight in attached.named_parameters():
            if "lora_B" in name:
                weight.data = 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        run = Run.begin(attached, recipe)
        references = references_of(attached, tokens, 16, 0)
        attached.train()
        if thrifty:
            save_memory(attached)
        kept, most = 0, 0

        def keep(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
            nonlocal kept, most
            size = 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
            kept += size
            most = max(most, kept)
            return tensor, size

        def take(packed: tuple[torch.Tensor, int]) -> torch.Tensor:
            nonlocal kept
            kept -= packed[1]
            return packed[0]

        with torch.autograd.graph.saved_tensors_hooks(keep, take):
            one_step(run, tokens, references, recipe, 0, rows_at_once)
        return weights_of(attached), most

    return stepped


def test_what_is_kept_for_the_gradient_does_not_grow_with_the_batch(step: Step) -> None:
    _, of_two = step(2, 1)
    _, of_sixteen = step(16, 1)
    _, at_once = step(16, 16)
    assert of_sixteen <= 1.01 * of_two
    assert at_once > 10 * of_sixteen


def test_layers_that_are_computed_again_keep_far_less_and_teach_the_same(step: Step) -> None:
    plain, most = step(16, 16)
    again, least = step(16, 16, thrifty=True)
    assert apart(plain, again) == 0
    assert least < most / 2


def test_a_head_that_takes_few_tokens_at_once_gives_the_same_losses_and_gradients(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from sleepy_coder.learn.lora_loss import by_token
    from sleepy_coder.learn.lora_run import attach_adapter

    attached = attach_adapter(AutoModelForCausalLM.from_pretrained(model), WHOLE)
    random = torch.Generator().manual_seed(1)
    hidden, base = (torch.randn(20, 64, generator=random) for _ in range(2))
    target = torch.arange(20)
    found: list[tuple[torch.Tensor, ...]] = []
    for at_once in (0, 7):
        asked = hidden.clone().requires_grad_()
        nll, kl = by_token(attached, asked, base, target, at_once)
        (nll + kl).sum().backward()
        assert asked.grad is not None
        found.append((nll, kl, asked.grad))
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*found, strict=True))
