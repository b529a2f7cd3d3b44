"""Several processes that train as one, for real under `accelerate launch` with gloo on the CPU."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bases import base_of

from sleepy_coder.config import ONE_PROCESS, TrainingSettings
from sleepy_coder.errors import ConfigError, ProcessesLost, TrainingError, TrainingKilled, TrainingPaused
from sleepy_coder.learn import trainer
from sleepy_coder.learn.endings import ending
from sleepy_coder.learn.launch import command, command_elsewhere, machines_in, read_launch
from sleepy_coder.learn.trainer import ChildTrainer, Step
from sleepy_coder.serve.process import free_port
from sleepy_coder.types import Example, Message, Recipe, TrainingMix

WEIGHTS = "adapter_model.safetensors"
TWO = TrainingSettings(processes=2)  # pyright: ignore[reportCallIssue]
RECIPE = Recipe(
    name="test",
    learning_rate=5e-3,
    rank=4,
    alpha=8,
    dropout=0.0,
    steps=6,
    batch_size=3,  # an odd number: the two have different shares
    warmup_steps=2,
    ema=0.5,
    kl_anchor=1.0,
    kl_verified=0.05,
    max_length=256,
    seed=3,
)
_UNDISTURBED = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # masks of two processes differ from one's
GPT: dict[str, Any] = {"n_layer": 2, "n_embd": 32, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2} | _UNDISTURBED
ENDLESS = RECIPE.model_copy(update={"steps": 1_000_000})


def row(number: int) -> Example:
    return Example(
        messages=(Message(role="user", content=f"1|let x{number} = {'y' * number};"),),
        completion=f"1|let x{number} = {number};",
        kind="passed",
        task_id=f"k{number}",
        family="f",
        provenance=f"e{number}",
        anchor=number % 2 == 0,
    )


MIX = TrainingMix(
    examples=tuple(row(number) for number in range(5)), shares={}, counts={}, notes=(), seed=1, sha256="m"
)


# One process among several


@settings(deadline=None)  # the first example imports torch
@given(st.lists(st.integers()), st.integers(1, 9))
def test_every_row_of_a_batch_is_taken_by_exactly_one_process(batch: list[int], size: int) -> None:
    from sleepy_coder.learn.ranks import Ranks

    shares = [Ranks(rank, size).share(batch) for rank in range(size)]
    assert sorted(row for share in shares for row in share) == sorted(batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture
def partner(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Stands for another process of two: what it says, meeting after meeting."""
    import torch
    from torch import distributed

    says: list[list[int]] = []

    def all_reduce(told: torch.Tensor, _: object) -> None:
        told.copy_(torch.maximum(told, torch.tensor(says.pop(0))))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(distributed, "init_process_group", lambda *_, **__: None)  # as NCCL's: it waits for nobody
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    return says


def test_a_process_goes_on_only_when_the_first_holds_the_lock_and_has_joined_too(partner: list[list[int]]) -> None:
    from sleepy_coder.learn.ranks import Ranks

    partner.append([1])
    with Ranks(1, 2).joined():
        assert not partner, "they have met"


@pytest.mark.parametrize(("mine", "other", "said"), [(20, 20, ""), (20, 10, "10 and 20"), (0, 20, "0 and 20")])
def test_processes_that_would_go_on_from_different_steps_are_refused(
    partner: list[list[int]], mine: int, other: int, said: str
) -> None:
    from sleepy_coder.learn.ranks import Ranks

    partner.append([other, -other])
    with pytest.raises(TrainingError, match=said) if said else contextlib.nullcontext():
        Ranks(0, 2).refuse_other(mine)


def test_one_process_needs_no_launcher_and_several_are_given_its_arguments() -> None:
    assert "accelerate.commands.launch" not in command("child", Path("work"), 1, ("--debug",))
    several = command("child", Path("work"), 2, ("--debug",))
    assert "accelerate.commands.launch" in several
    assert several[-4:] == ["--debug", "--module", "child", "work"]


def test_what_the_owner_told_accelerate_for_other_work_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.commands.launch import (  # pyright: ignore[reportMissingTypeStubs]
        _validate_launch_command,  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
        launch_command_parser,
    )

    own = tmp_path / "default_config.yaml"
    own.write_text("{distributed_type: MULTI_GPU, gpu_ids: '0', num_processes: 1, mixed_precision: bf16}")
    for place in ("launch", "config.config_args"):
        monkeypatch.setattr(f"accelerate.commands.{place}.default_config_file", str(own))
    arguments = command("child", tmp_path, 2)
    read: Any = _validate_launch_command(
        launch_command_parser().parse_args(arguments[arguments.index("accelerate.commands.launch") + 1 :])
    )[0]
    assert (read.gpu_ids, read.num_processes, read.mixed_precision) == ("all", 2, "no")


PLACE = ("--main_process_ip", "10.0.0.1", "--main_process_port", "29500")
ELSEWHERE = ("--num_machines", "2", "--machine_rank", "0", *PLACE)


def test_what_the_launcher_makes_of_its_arguments_is_known_before_it_starts_anything() -> None:
    found = read_launch(4, ELSEWHERE)
    assert (found.machines, found.rank, found.here, found.met_at) == (2, 0, 2, "10.0.0.1:29500")


@pytest.mark.parametrize(("wrong", "said"), [("--no-such-thing", "unrecognized"), ("stray", "no argument")])
def test_arguments_that_the_launcher_does_not_take_are_refused_in_its_words(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_launch(2, [wrong])


@pytest.mark.parametrize("arguments", [ELSEWHERE, ("--num-machines=2",)])
def test_several_machines_are_seen_in_the_arguments(arguments: tuple[str, ...]) -> None:
    assert machines_in(arguments) == 2
    assert machines_in(("--gpu_ids", "0,2", "--num_machines")) == 1


def test_the_second_machine_is_given_a_command_that_the_launcher_takes_for_its_own_and_waits_half_an_hour() -> None:
    from accelerate.commands.launch import launch_command_parser  # pyright: ignore[reportMissingTypeStubs]

    typed = shlex.split(command_elsewhere("child", Path("/home/a b/train"), 4, ELSEWHERE))
    assert typed[:2] == ["accelerate", "launch"]
    read: Any = launch_command_parser().parse_args(typed[2:])
    assert (read.num_processes, read.num_machines, read.machine_rank) == (4, 2, 1)
    assert (read.main_process_ip, read.training_script_args) == ("10.0.0.1", ["/home/a b/train"])
    here = command("child", Path("work"), 4, ELSEWHERE)
    assert read.rdzv_conf == here[here.index("--rdzv_conf") + 1] == "timeout=1800"


# What is left of several

TRACEBACK = """
    File "ranks.py", line 96, in _highest
      distributed.all_reduce(told, distributed.ReduceOp.MAX)
"""
GLOO = f"{TRACEBACK}  RuntimeError: [gloo/pair.cc:537] Read error [10.0.0.2]:4523: Connection reset by peer. See there."
NCCL = "[rank0]: torch.distributed.DistBackendError: NCCL error in: NCCLUtils.hpp:5\nncclRemoteError: it exited"
WATCHDOG = "[E] [PG ID 0 Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)"
NOBODY_CAME = "torch.distributed.DistStoreError: Timed out after 1801 seconds waiting for clients. 1/2 clients joined."
ORPHANED = "  sleepy_coder.errors.TrainingError: the parent is gone. start the night again; it goes on from here"
LAUNCHER = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:"


@pytest.mark.parametrize(
    ("said", "told"),
    [(GLOO, "reset by peer"), (NCCL, "NCCL error"), (WATCHDOG, "timeout"), (NOBODY_CAME, "1/2"), (ORPHANED, "parent")],
)
def test_processes_that_lost_one_of_them_leave_the_night_open(tmp_path: Path, said: str, told: str) -> None:
    ended = ending(1, f"{said}\n{LAUNCHER}\n{said}", tmp_path, "sft", several=True)
    assert isinstance(ended, ProcessesLost) and told in ended.message


@pytest.mark.parametrize(
    "own",
    [
        "  sleepy_coder.errors.TrainingError: training diverged at step 3",
        "  KeyError: 'labels'",
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "ncclInvalidUsage: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device",
    ],
)
def test_a_process_that_failed_by_itself_is_not_told_as_one_that_the_others_lost(tmp_path: Path, own: str) -> None:
    for said in (f"{GLOO}\n{own}", f"{own}\n{GLOO}", f"{NCCL}\n{own}"):
        assert type(ending(1, f"{said}\n{LAUNCHER}\n", tmp_path, "sft", several=True)) is TrainingError


def test_one_process_alone_has_nobody_to_lose(tmp_path: Path) -> None:
    assert type(ending(1, GLOO, tmp_path, "sft", several=False)) is TrainingError


# Two processes

pytestmark = [
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("ranks") / "model")


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """What one process makes of MIX and RECIPE, and what was heard meanwhile."""
    heard: list[Step] = []
    return ChildTrainer(model, heard.append, threads=1).train(MIX, None, RECIPE, tmp_path_factory.mktemp("one")), heard


def together(model: Path, heard: list[Step], how: TrainingSettings = TWO) -> ChildTrainer:
    return ChildTrainer(model, heard.append, threads=1, together=how)


def apart(one: Path, other: Path) -> float:
    """The largest difference between the weights of two adapters."""
    from safetensors.numpy import load_file

    mine, theirs = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    assert mine.keys() == theirs.keys()
    return max(float(abs(mine[name] - theirs[name]).max()) for name in mine)


@slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_have_the_losses_of_one_and_make_the_same_adapter(
    model: Path, alone: tuple[Path, list[Step]], tmp_path: Path, strategy: str
) -> None:
    heard: list[Step] = []
    spread = TWO.model_copy(update={"strategy": strategy})
    trained = together(model, heard, spread).train(MIX, None, RECIPE, tmp_path)
    assert [step.step for step in heard] == [step.step for step in alone[1]]
    # They are reported with four digits.
    assert [step.loss for step in heard] == pytest.approx([step.loss for step in alone[1]], abs=1.1e-4)
    assert [step.kl for step in heard] == pytest.approx([step.kl for step in alone[1]], abs=1.1e-4)
    assert apart(trained, alone[0]) < 1e-5


@slow
def test_with_fsdp_no_process_holds_the_layers_whole_after_any_pass(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "recipe.json").write_text(RECIPE.model_dump_json())
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command("spread_probe", tmp_path, 2), check=True, env=os.environ | here)
    first, second = (json.loads((tmp_path / f"held-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first.pop("whole") == 2 * first["spread"]
    assert set(first.values()) == {first["spread"]}, first  # no pass leaves a layer whole, with gradients or without


def test_the_layers_that_fsdp_spreads_are_found_by_whatever_name_a_model_has_them(model: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from sleepy_coder.learn.ranks import layers_of

    gpt: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **GPT)).get_decoder()
    assert layers_of(gpt) is gpt.h
    qwen: Any = AutoModelForCausalLM.from_pretrained(model).get_decoder()
    assert layers_of(qwen) is qwen.layers
    gpt.also = torch.nn.ModuleList(gpt.h)
    with pytest.raises(TrainingError, match=r'set training.strategy = "ddp"'):
        layers_of(gpt)


@slow
def test_with_fsdp_a_model_with_layers_of_another_name_makes_the_adapter_of_one_process(
    model: Path, tmp_path: Path
) -> None:
    base = base_of("gpt2", GPT, model, tmp_path / "gpt2")
    short = RECIPE.model_copy(update={"steps": 2})
    one = ChildTrainer(base, threads=1).train(MIX, None, short, tmp_path / "one")
    spread = TWO.model_copy(update={"strategy": "fsdp"})
    assert apart(together(base, [], spread).train(MIX, None, short, tmp_path / "two"), one) < 1e-5


@slow
def test_two_processes_that_were_paused_make_the_same_adapter(
    model: Path, alone: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    heard: list[Step] = []
    with contextlib.suppress(TrainingPaused):  # they may have ended before they hear of the wish
        together(model, heard).train(MIX, None, RECIPE, tmp_path, lambda: len(heard) >= 2)
    trained = together(model, heard).train(MIX, None, RECIPE, tmp_path)
    assert [step.step for step in heard] == [1, 2, 3, 4, 5, 6]
    assert apart(trained, alone[0]) < 1e-5


@slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", ["one", "fsdp"])
def test_a_checkpoint_of_one_process_fits_fsdp_and_other_rows_at_once_and_the_other_way_round(
    model: Path, tmp_path: Path, first: str
) -> None:
    longer = RECIPE.model_copy(update={"steps": 12, "checkpoints": (4, 12)})  # there is a checkpoint after ten
    spread = TWO.model_copy(update={"strategy": "fsdp", "rows_at_once": 1})
    both = {"one": ONE_PROCESS, "fsdp": spread}
    then = next(name for name in both if name != first)
    whole = shutil.copytree(
        together(model, [], both[first]).train(MIX, None, longer, tmp_path / "work"), tmp_path / "whole"
    )
    heard: list[Step] = []
    again = together(model, heard, both[then]).train(MIX, None, longer, tmp_path / "work")
    assert [step.step for step in heard] == [11, 12]
    assert apart(again, whole) < 1e-5


def ranks_in(folder: Path) -> list[int]:
    """The processes that train in `folder`, without their launcher."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if str(folder).encode() in words and b"accelerate.commands.launch" not in words:
                found.append(int(entry.name))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@slow
def test_the_death_of_one_process_ends_all_and_is_told_from_a_failure(model: Path, tmp_path: Path) -> None:
    def kill_one(step: Step) -> None:
        if step.step == 2:
            os.kill(max(ranks_in(tmp_path)), signal.SIGKILL)

    trainer = ChildTrainer(model, kill_one, threads=1, together=TWO)
    with pytest.raises(TrainingKilled, match="killed from outside"):
        trainer.train(MIX, None, ENDLESS, tmp_path)
    assert not ranks_in(tmp_path)


@slow
@pytest.mark.timeout(300)
def test_the_death_of_another_machine_leaves_the_night_open(model: Path, tmp_path: Path) -> None:
    """Two launchers of one process each, as on two machines, of which the second loses its process."""
    machines = ("--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port()))
    argv = command("sleepy_coder.learn.train_lora", tmp_path, 2, (*machines, "--machine_rank", "1"))
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(argv, env=here, stderr=subprocess.DEVNULL, process_group=0) as other:

        def kill_other(step: Step) -> None:
            if step.step == 2:
                (pid,) = (pid for pid in ranks_in(tmp_path) if parent_of(pid) == other.pid)
                os.kill(pid, signal.SIGKILL)

        here_too = TWO.model_copy(update={"accelerate_args": (*machines, "--machine_rank", "0")})
        try:
            with pytest.raises(ProcessesLost, match="by peer"):
                ChildTrainer(model, kill_other, threads=1, together=here_too).train(MIX, None, ENDLESS, tmp_path)
        finally:
            os.killpg(other.pid, signal.SIGKILL)


@slow
def test_a_machine_that_never_comes_is_waited_for_and_leaves_the_night_open(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(trainer._log, "warning", lambda name, **fields: said.append({"event": name, **fields}))  # pyright: ignore
    nobody = (*ELSEWHERE[:5], "127.0.0.1", "--main_process_port", str(free_port()), "--rdzv_conf", "timeout=2")
    with pytest.raises(ProcessesLost, match="1/2 clients"):
        together(model, [], TWO.model_copy(update={"accelerate_args": nobody})).train(MIX, None, RECIPE, tmp_path)
    [waits] = said
    assert (waits["event"], waits["machines"]) == ("train.awaits_machines", 2)
    assert waits["command"].endswith(f"--machine_rank 1 --module sleepy_coder.learn.train_lora {tmp_path}")


@slow
def test_more_processes_than_rows_in_a_batch_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot share 1 rows"):
        together(model, []).train(MIX, None, RECIPE.model_copy(update={"batch_size": 1}), tmp_path)


@slow
def test_with_fsdp_a_process_with_fewer_rows_makes_as_many_passes(
    model: Path, alone: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    one_row = TWO.model_copy(update={"strategy": "fsdp", "rows_at_once": 1})
    trained = together(model, [], one_row).train(MIX, None, RECIPE, tmp_path)  # of 3 rows one has 2, the other 1
    assert apart(trained, alone[0]) < 1e-5
