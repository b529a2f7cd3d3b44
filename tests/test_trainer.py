"""LoRA training for real, on a tiny random model: what is learned from, and what a kill cannot change."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dying import killed_at

from sleepy_coder import log
from sleepy_coder.adapter_check import check_adapter
from sleepy_coder.errors import AdapterError, InfraError, TrainingError, TrainingKilled, TrainingPaused
from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, ChildTrainer, Step, TrainingJob, environment_for, last_step
from sleepy_coder.types import Example, Message, Recipe, TrainingMix

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

WEIGHTS = "adapter_model.safetensors"
RECIPE = Recipe(
    name="test",
    learning_rate=5e-3,
    rank=4,
    alpha=8,
    dropout=0.1,
    steps=14,
    batch_size=2,
    warmup_steps=2,
    ema=0.5,
    kl_anchor=1.0,
    kl_verified=0.05,
    max_length=256,
    seed=3,
)


def row(number: int, completion: str = "", anchor: bool = False) -> Example:
    return Example(
        messages=(
            Message(role="system", content="Fix it."),
            Message(role="user", content=f"1|let x{number} = {'y' * number};"),
        ),
        completion=completion or f"1|let x{number} = {number};",
        kind="replay" if anchor else "passed",
        task_id=f"k{number}",
        family="f",
        provenance=f"e{number}",
        anchor=anchor,
    )


def mix_of(*rows: Example) -> TrainingMix:
    return TrainingMix(examples=rows, shares={}, counts={}, notes=(), seed=1, sha256="m")


MIX = mix_of(*(row(number, anchor=number % 2 == 0) for number in range(5)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("trainer") / "model")


@pytest.fixture(scope="module")
def uninterrupted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """The adapter of MIX and RECIPE, trained in one go, and what was heard meanwhile."""
    heard: list[Step] = []
    workdir = tmp_path_factory.mktemp("whole")
    return ChildTrainer(model, heard.append, threads=1).train(MIX, None, RECIPE, workdir), heard


def write_job(workdir: Path, model: Path, recipe: Recipe = RECIPE) -> None:
    workdir.mkdir(exist_ok=True)
    (workdir / JOB_FILE).write_text(TrainingJob(model=model, parent=None, mix=MIX, recipe=recipe).model_dump_json())


# The child process


def test_a_trained_adapter_is_fit_for_the_registry_and_every_step_was_heard_of(
    model: Path, uninterrupted: tuple[Path, list[Step]]
) -> None:
    trained, heard = uninterrupted
    check_adapter(trained, RECIPE, model)
    assert [step.step for step in heard] == list(range(1, 15))
    assert last_step(trained.parent) == heard[-1]
    assert [step.learning_rate for step in heard[:3]] == [2.5e-3, 5e-3, 5e-3]
    assert sum(step.loss for step in heard[-5:]) < sum(step.loss for step in heard[:5])


def test_a_trained_adapter_can_be_loaded_and_changes_the_model(
    model: Path, uninterrupted: tuple[Path, list[Step]]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), uninterrupted[0])
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        with loaded.disable_adapter():
            before = loaded(input_ids=ids).logits
        assert not torch.equal(loaded(input_ids=ids).logits, before)


def test_a_child_killed_after_a_checkpoint_ends_with_the_same_bits(
    model: Path, uninterrupted: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    write_job(tmp_path / "work", model)
    assert killed_at(11, tmp_path / "work") == -signal.SIGKILL
    assert not (tmp_path / "work" / OUTPUT / WEIGHTS).exists()
    heard: list[Step] = []
    trained = ChildTrainer(model, heard.append, threads=1).train(MIX, None, RECIPE, tmp_path / "work")
    assert [step.step for step in heard] == [11, 12, 13, 14]
    assert (trained / WEIGHTS).read_bytes() == (uninterrupted[0] / WEIGHTS).read_bytes()


def asks_at(step: int, heard: list[Step]) -> Callable[[], bool]:
    """A wish to pause that comes after so many steps."""
    return lambda: bool(heard) and heard[-1].step >= step


def test_training_that_was_paused_ends_with_the_same_bits(
    model: Path, uninterrupted: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    heard: list[Step] = []
    slow = ChildTrainer(model, heard.append, threads=1)
    for step in (3, 8):
        # A step is shorter than the way of the wish, so the child may be further when it hears of it, or have ended.
        with contextlib.suppress(TrainingPaused):
            slow.train(MIX, None, RECIPE, tmp_path / "work", asks_at(step, heard))
    trained = slow.train(MIX, None, RECIPE, tmp_path / "work")
    assert (trained / WEIGHTS).read_bytes() == (uninterrupted[0] / WEIGHTS).read_bytes()


def test_a_paused_child_saves_the_step_it_is_in_and_goes_on_with_the_next(model: Path, tmp_path: Path) -> None:
    heard: list[Step] = []
    endless = RECIPE.model_copy(update={"steps": 1_000_000})
    trainer = ChildTrainer(model, heard.append, threads=1)
    with pytest.raises(TrainingPaused):
        trainer.train(MIX, None, endless, tmp_path, asks_at(3, heard))
    last = heard[-1].step
    assert last >= 3
    with pytest.raises(TrainingPaused):
        trainer.train(MIX, None, endless, tmp_path, asks_at(last + 1, heard))
    assert [step.step for step in heard] == list(range(1, heard[-1].step + 1))


def test_a_child_that_is_asked_before_its_first_step_ends_at_once(model: Path, tmp_path: Path) -> None:
    heard: list[Step] = []
    with pytest.raises(TrainingPaused):
        ChildTrainer(model, heard.append, threads=1).train(MIX, None, RECIPE, tmp_path, lambda: True)
    assert not heard


def test_a_child_that_does_not_listen_is_killed_and_goes_on_from_its_checkpoint(model: Path, tmp_path: Path) -> None:
    heard: list[Step] = []
    stopped: list[int] = []
    endless = RECIPE.model_copy(update={"steps": 1_000_000})

    def deafen(step: Step) -> None:
        heard.append(step)
        if step.step >= 11 and not stopped:  # a stopped process hears no SIGTERM
            (pid,) = children_of(os.getpid())
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    with pytest.raises(TrainingPaused):
        ChildTrainer(model, deafen, threads=1, patience=0.5).train(MIX, None, endless, tmp_path, lambda: bool(stopped))
    later: list[Step] = []
    with pytest.raises(TrainingPaused):
        ChildTrainer(model, later.append, threads=1).train(MIX, None, endless, tmp_path, lambda: bool(later))
    assert later[0].step % 10 == 1
    assert 11 <= later[0].step <= heard[-1].step + 1


def test_a_child_that_somebody_else_killed_is_told_from_one_that_failed(model: Path, tmp_path: Path) -> None:
    def kill(step: Step) -> None:
        (pid,) = children_of(os.getpid())
        os.kill(pid, signal.SIGKILL)

    endless = RECIPE.model_copy(update={"steps": 1_000_000})
    with pytest.raises(TrainingKilled, match="dmesg"):
        ChildTrainer(model, kill, threads=1).train(MIX, None, endless, tmp_path)


def children_of(pid: int) -> list[int]:
    """The training children of a process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"train_lora" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_an_interrupted_parent_leaves_a_checkpoint_of_the_last_step(model: Path, tmp_path: Path) -> None:
    def interrupt(step: Step) -> None:
        if step.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ChildTrainer(model, interrupt, threads=1).train(
            MIX, None, RECIPE.model_copy(update={"steps": 1_000_000}), tmp_path
        )
    assert (tmp_path / "checkpoint.pt").is_file()
    assert ended(tmp_path / "lock")


ORPHANED = """
import os, signal, sys
from pathlib import Path
from sleepy_coder.learn.trainer import ChildTrainer, TrainingJob
job = TrainingJob.model_validate_json(Path(sys.argv[1]).read_text())
trainer = ChildTrainer(job.model, lambda step: os.kill(os.getpid(), signal.SIGKILL), threads=1)
trainer.train(job.mix, None, job.recipe, Path(sys.argv[2]))
"""


def ended(lock: Path) -> bool:
    """Whether nobody trains in the folder of `lock` any more."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_child_whose_parent_was_killed_stops(model: Path, tmp_path: Path) -> None:
    endless = RECIPE.model_copy(update={"steps": 1_000_000})
    write_job(tmp_path / "job", model, endless)
    work = tmp_path / "work"
    argv = [sys.executable, "-c", ORPHANED, str(tmp_path / "job" / JOB_FILE), str(work)]
    parent = subprocess.Popen(argv, start_new_session=True)
    try:
        assert parent.wait() == -signal.SIGKILL
        deadline = time.monotonic() + 60
        while not ended(work / "lock"):
            assert time.monotonic() < deadline, "the child trains on"
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def test_a_child_that_fails_is_a_training_error_in_its_own_words(model: Path, tmp_path: Path) -> None:
    short = RECIPE.model_copy(update={"max_length": 8})
    with pytest.raises(TrainingError, match="there is no row to learn from: it is beyond 8 tokens") as caught:
        ChildTrainer(model, threads=1).train(MIX, None, short, tmp_path)
    assert "status 1" in caught.value.message
    assert str(tmp_path) in caught.value.remedy


# Inside the child


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


Attach = Callable[..., Any]


@pytest.fixture
def attach(model: Path) -> Attach:
    """A fresh base with a LoRA, random where asked, in eval mode so that nothing is dropped."""
    import torch
    from transformers import AutoModelForCausalLM

    from sleepy_coder.learn.lora_run import attach_adapter

    def attached(noise: float = 0.0) -> Any:
        made = attach_adapter(AutoModelForCausalLM.from_pretrained(model), RECIPE)
        if noise:
            random = torch.Generator().manual_seed(1)
            for name, weight in made.named_parameters():
                if "lora_B" in name:
                    weight.data = noise * torch.randn(weight.shape, generator=random)
        return made.eval()

    return attached


def encoded(tokenizer: Any, *rows: Example) -> list[Any]:
    from fakes import encode

    found = [encode(example, tokenizer, RECIPE) for example in rows]
    assert None not in found
    return found


def losses(model: Any, rows: list[Any]) -> tuple[Any, float, float]:
    """The losses of `rows` against the model's own base."""
    from sleepy_coder.learn.lora_loss import losses as of
    from sleepy_coder.learn.lora_loss import references_of

    return of(model, rows, references_of(model, rows, at_once=2, pad=0), pad=0)


def by_transformers(model: Any, ids: list[int], learn_from: int) -> float:
    """The loss as transformers computes it, with everything before `learn_from` masked out."""
    import torch

    tokens = torch.tensor([ids])
    labels = tokens.clone()
    labels[:, :learn_from] = -100
    with torch.no_grad():
        return float(model(input_ids=tokens, labels=labels).loss)


def test_a_row_is_what_was_served_and_ends_with_the_end_of_the_turn(tokenizer: Any) -> None:
    (found,) = encoded(tokenizer, row(3))
    prompt, completion = (
        tokenizer.decode(found.ids[: found.turns[0][0]]),
        tokenizer.decode(found.ids[found.turns[0][0] :]),
    )
    messages = [message.model_dump() for message in row(3).messages]
    assert prompt == tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert completion == "1|let x3 = 3;<|im_end|>"


def test_anchors_are_held_to_the_base_more_firmly(tokenizer: Any) -> None:
    anchor, verified = encoded(tokenizer, row(1, anchor=True), row(1))
    assert (anchor.kl, verified.kl) == (RECIPE.kl_anchor, RECIPE.kl_verified)


def test_a_row_longer_than_the_context_is_left_out(tokenizer: Any) -> None:
    from fakes import encode

    (whole,) = encoded(tokenizer, row(3))
    exact = RECIPE.model_copy(update={"max_length": len(whole.ids)})
    assert encode(row(3), tokenizer, exact) == whole
    assert encode(row(3), tokenizer, exact.model_copy(update={"max_length": len(whole.ids) - 1})) is None


def test_rows_that_were_left_out_are_counted_in_the_log(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tokenizer: Any
) -> None:
    log.set_up(as_json=True)
    (short,) = encoded(tokenizer, row(1))
    recipe = RECIPE.model_copy(update={"steps": 1, "batch_size": 1, "max_length": len(short.ids)})
    ChildTrainer(model, threads=1).train(mix_of(row(1), row(40), row(50)), None, recipe, tmp_path)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "left_out" in line]
    assert (line["event"], line["turns"]) == ("train.left_out", 2)


def test_a_row_whose_template_rewrites_earlier_turns_is_left_out_with_the_reason(tokenizer: Any) -> None:
    from copy import deepcopy

    from sleepy_coder.learn.rows import encode_all

    other = deepcopy(tokenizer)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    found = encode_all(row(3), other, RECIPE)
    assert (found.rows, found.left_out) == ((), ("the chat template does not show what the model wrote",))


def test_the_loss_covers_the_completion_and_nothing_of_the_prompt(tokenizer: Any, attach: Attach) -> None:
    model = attach(noise=0.1)
    (one,) = encoded(tokenizer, row(3))
    _, nll, _ = losses(model, [one])
    assert nll == pytest.approx(by_transformers(model, one.ids, one.turns[0][0]), rel=1e-4)
    assert nll != pytest.approx(by_transformers(model, one.ids, one.turns[0][0] - 3), rel=1e-4)


def test_a_model_that_scales_its_logits_is_refused(tokenizer: Any, attach: Attach) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import GraniteConfig, GraniteForCausalLM

    from sleepy_coder.learn.lora_loss import refuse_other_head

    (one,) = encoded(tokenizer, row(1))
    refuse_other_head(attach(noise=0.02), one, 0)
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    scaled = GraniteForCausalLM(GraniteConfig(vocab_size=len(tokenizer), logits_scaling=8.0, **small))
    torch_head: Any = scaled.get_output_embeddings()
    torch_head.weight.data *= 50
    model: Any = get_peft_model(scaled, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    with pytest.raises(TrainingError, match="changes its head's output"):
        refuse_other_head(model, one, 0)


def test_each_row_counts_as_one_however_long_and_padding_counts_nothing(tokenizer: Any, attach: Attach) -> None:
    model = attach(noise=0.1)
    rows = encoded(tokenizer, row(1, "1|x"), row(9, "1|let a_much_longer_line = 12345;"))
    _, nll, kl = losses(model, rows)
    alone = [losses(model, [one]) for one in rows]
    assert nll == pytest.approx(sum(one[1] for one in alone) / 2, rel=1e-4)
    assert kl == pytest.approx(sum(one[2] for one in alone) / 2, rel=1e-3)


def test_what_is_minimised_is_the_loss_and_the_weighted_distance_to_the_base(tokenizer: Any, attach: Attach) -> None:
    model = attach(noise=0.1)
    (anchor,) = encoded(tokenizer, row(4, anchor=True))
    (verified,) = encoded(tokenizer, row(4))
    for one in (anchor, verified):
        loss, nll, kl = losses(model, [one])
        assert kl > 0.01
        assert float(loss.detach()) == pytest.approx(nll + one.kl * kl, rel=1e-4)


def test_a_fresh_adapter_is_no_distance_from_the_base(tokenizer: Any, attach: Attach) -> None:
    loss, nll, kl = losses(attach(), encoded(tokenizer, row(4, anchor=True)))
    assert kl == pytest.approx(0, abs=1e-6)
    assert float(loss.detach()) == pytest.approx(nll, rel=1e-5)


def test_the_distance_is_kl_from_the_base_to_the_adapter_as_torch_computes_it(tokenizer: Any, attach: Attach) -> None:
    import torch
    from torch.nn import functional

    model = attach(noise=0.1)
    (one,) = encoded(tokenizer, row(4))

    def log_probs() -> Any:
        return functional.log_softmax(
            model(input_ids=torch.tensor([one.ids])).logits[0, one.turns[0][0] - 1 : -1], dim=-1
        )

    with torch.no_grad():
        of_adapter = log_probs()
        with model.disable_adapter():
            of_base = log_probs()
    expected = float(functional.kl_div(of_adapter, of_base, log_target=True, reduction="batchmean"))
    assert losses(model, [one])[2] == pytest.approx(expected, rel=1e-4)


def test_a_warm_start_begins_at_the_parents_weights(attach: Attach, uninterrupted: tuple[Path, list[Step]]) -> None:
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    from sleepy_coder.learn.lora_run import Run

    parent = load_file(uninterrupted[0] / WEIGHTS)
    begun = get_peft_model_state_dict(Run.begin(attach(), RECIPE, uninterrupted[0]).model)
    assert begun.keys() == parent.keys()
    assert all(torch.equal(begun[name], parent[name]) for name in parent)


@pytest.mark.parametrize("dual", [False, True])
def test_a_parent_of_other_layers_is_refused_and_not_passed_over(
    uninterrupted: tuple[Path, list[Step]], attach: Attach, tmp_path: Path, dual: bool
) -> None:
    from safetensors.torch import load_file, save_file

    from sleepy_coder.learn.lora_run import Run

    shutil.copytree(uninterrupted[0], tmp_path / "renamed")
    old = load_file(uninterrupted[0] / WEIGHTS)
    save_file({n.replace(".layers.", ".blocks."): v for n, v in old.items()}, tmp_path / "renamed" / WEIGHTS)
    with pytest.raises(TrainingError, match="other layers"):
        Run.begin(attach(), RECIPE.model_copy(update={"dual": dual}), tmp_path / "renamed")


def test_a_night_trains_on_from_its_parent(
    model: Path, uninterrupted: tuple[Path, list[Step]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sleepy_coder.learn.child import Pause
    from sleepy_coder.learn.train_lora import train

    folder, before = uninterrupted
    job = TrainingJob(model=model, parent=folder, mix=MIX, recipe=RECIPE.model_copy(update={"steps": 1}))
    (tmp_path / JOB_FILE).write_text(job.model_dump_json())
    train(job, tmp_path, Pause())
    (step,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert step["loss"] < before[0].loss
    check_adapter(tmp_path / OUTPUT, RECIPE, model)


def batches(tokenizer: Any, steps: int) -> tuple[list[Any], list[list[int]]]:
    from sleepy_coder.learn.batches import batch_of

    rows = encoded(tokenizer, *(row(number) for number in range(10)))
    recipe = RECIPE.model_copy(update={"batch_size": 4, "steps": steps})
    return rows, [batch_of(step, rows, recipe) for step in range(steps)]


def test_every_row_is_taken_as_often_as_any_other_but_for_once(tokenizer: Any) -> None:
    for steps in (3, 8, 15, 20):
        _, found = batches(tokenizer, steps)
        taken = [sum(batch.count(index) for batch in found) for index in range(10)]
        assert sum(taken) == 4 * steps
        assert max(taken) - min(taken) <= 1


def test_rows_of_a_batch_are_of_similar_length_and_batches_come_in_any_order(tokenizer: Any) -> None:
    rows, found = batches(tokenizer, 8)
    spans = [[len(rows[index].ids) for index in batch] for batch in found]
    ordered = sorted(spans)
    assert all(max(one) <= min(other) for one, other in zip(ordered, ordered[1:], strict=False))
    assert spans != ordered


def talk(number: int, turns: int) -> Example:
    """A conversation of so many turns of the model, each with a thought."""
    said: list[Message] = []
    for turn in range(turns):
        said += [Message(role="user", content=f"do {turn}"), Message(role="assistant", content="ok", reasoning="hm")]
    *asked, reply = said
    return row(number).model_copy(update={"messages": tuple(asked), "reply": reply, "first_turn": 1})


def test_every_example_is_drawn_as_often_as_any_other_however_many_rows_the_template_makes_of_it(
    model: Path, tokenizer: Any
) -> None:
    from copy import deepcopy

    from test_learn_rows import FORGETFUL

    from sleepy_coder.learn.batches import batch_of
    from sleepy_coder.learn.train_lora import read_rows

    forgetful = deepcopy(tokenizer)
    forgetful.chat_template = FORGETFUL
    mix = mix_of(*(row(number, anchor=True) for number in range(5)), *(talk(5 + n, turns=6) for n in range(4)))
    recipe = RECIPE.model_copy(update={"steps": 13, "batch_size": 3})  # 39 draws of 9 examples: 5 passes begin
    rows = read_rows(TrainingJob(model=model, parent=None, mix=mix, recipe=recipe), forgetful).learned
    drawn = [index for step in range(recipe.steps) for index in batch_of(step, rows, recipe)]
    by_example = Counter(rows[index].example for index in drawn)
    assert len(by_example) == 9
    assert max(by_example.values()) - min(by_example.values()) <= 1
    # No row of a conversation comes twice before all of them have come, and one that never comes is not kept.
    assert Counter(one.example for one in rows) == {number: 1 if number < 5 else 5 for number in range(9)}
    assert max(Counter(index for index in drawn if (rows[index].example or 0) >= 5).values()) == 1


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 and then nothing"])
def test_an_unreadable_checkpoint_is_as_good_as_none(attach: Attach, tmp_path: Path, content: bytes) -> None:
    from sleepy_coder.learn.lora_run import Run

    (tmp_path / "checkpoint.pt").write_bytes(content)
    run, heard = Run(attach(), optimizer(attach()), {}, 0), list[str]()
    assert not run.restore(tmp_path / "checkpoint.pt", {"mix": "one"}, heard.append)
    assert "cannot be read" in heard[0]


def test_a_checkpoint_of_another_job_is_not_gone_on_with(attach: Attach, tmp_path: Path) -> None:
    from sleepy_coder.learn.lora_run import Run

    model = attach()
    Run(model, optimizer(model), {}, 7).save(tmp_path / "checkpoint.pt", {"mix": "one", "recipe": "r", "parent": "p"})
    run, heard = Run(model, optimizer(model), {}, 0), list[str]()
    another = {"mix": "another", "recipe": "r", "parent": "q"}
    assert not run.restore(tmp_path / "checkpoint.pt", another, heard.append)
    assert (run.step, heard) == (0, ["the checkpoint is of another mix and parent"])
    assert run.restore(tmp_path / "checkpoint.pt", {"mix": "one", "recipe": "r", "parent": "p"})
    assert run.step == 7


def test_a_job_is_known_again_wherever_its_folders_lie_and_whatever_the_machine_bears(
    model: Path, uninterrupted: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(uninterrupted[0], tmp_path / "moved"))
    job = TrainingJob(model=model, parent=uninterrupted[0], mix=MIX, recipe=RECIPE, base_sha256="b")
    else_where = {"model": tmp_path, "parent": moved, "spread": True, "rows_at_once": 1, "max_tokens": 7}
    assert job.model_copy(update=else_where).identity() == job.identity()
    (moved / WEIGHTS).write_bytes(b"other weights")
    others = [{"parent": moved}, {"recipe": RECIPE.model_copy(update={"seed": 99})}, {"mix": mix_of(row(8))}]
    for other in ({"base_sha256": "c"}, {"parent": None}, {"fast": moved}, *others):
        assert job.model_copy(update=other).identity() != job.identity()


def test_a_training_that_diverged_is_an_error_at_once(tokenizer: Any, attach: Attach) -> None:
    from sleepy_coder.learn.lora_loss import references_of
    from sleepy_coder.learn.lora_run import Run
    from sleepy_coder.learn.train_lora import one_step

    model, rows = attach(noise=float("nan")), encoded(tokenizer, row(1))
    with pytest.raises(TrainingError, match="step 1"):
        one_step(Run(model, optimizer(model), {}, 0), rows, references_of(model, rows, 1, 0), RECIPE, 0, 2)


def optimizer(model: Any) -> Any:
    import torch

    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


# A child that ends badly


def with_child(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have this program run in place of the training child."""
    from sleepy_coder.learn import trainer

    def command(*_: object) -> list[str]:
        return [sys.executable, "-c", program]

    monkeypatch.setattr(trainer, "command", command)


def test_a_full_disk_is_no_failed_training(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_child(monkeypatch, "import os, errno; raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))")
    with pytest.raises(InfraError, match="is full") as caught:
        ChildTrainer(model).train(MIX, None, RECIPE, tmp_path)
    assert "goes on from its checkpoint" in caught.value.remedy


def test_a_child_that_dies_on_a_disk_without_room_is_no_failed_training_whatever_it_says(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from sleepy_coder.learn import endings

    with_child(monkeypatch, "raise RuntimeError('unexpected pos 64 vs 0')")
    monkeypatch.setattr(endings.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(InfraError, match="is full"):
        ChildTrainer(model).train(MIX, None, RECIPE, tmp_path)


@pytest.mark.parametrize(
    "words",
    ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "can't allocate memory: 9 bytes"],
)
def test_training_that_finds_no_memory_names_the_settings_that_need_less(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    with_child(monkeypatch, f"import sys; sys.exit({words!r})")
    with pytest.raises(TrainingError, match="ran out of memory") as caught:
        ChildTrainer(model).train(MIX, None, RECIPE, tmp_path)
    assert words in caught.value.message
    for setting in ("training.rows_at_once", "model.max_length", "night.share_gpu"):
        assert setting in caught.value.remedy


def test_an_adapter_that_is_not_the_recipes_is_refused_before_anybody_loads_it(
    model: Path, uninterrupted: tuple[Path, list[Step]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_child(monkeypatch, f"import shutil; shutil.copytree({str(uninterrupted[0])!r}, {str(tmp_path / OUTPUT)!r})")
    with pytest.raises(AdapterError, match="alpha"):
        ChildTrainer(model).train(MIX, None, RECIPE.model_copy(update={"alpha": 16}), tmp_path)


def test_what_learns_through_trl_sees_one_gpu_and_the_rest_all_of_them() -> None:
    given = {"CUDA_VISIBLE_DEVICES": "2,3"}
    assert environment_for("grpo", given)["CUDA_VISIBLE_DEVICES"] == "2"
    assert environment_for("sdft", {})["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment_for("sdft", {"CUDA_VISIBLE_DEVICES": ""})["CUDA_VISIBLE_DEVICES"] == ""
    assert environment_for("sft", given)["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "CUDA_VISIBLE_DEVICES" not in environment_for("sft", {})
