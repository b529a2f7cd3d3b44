"""The processes that train together under `accelerate launch`: who is who, what each takes, and how they agree.

Every process holds the whole adapter and takes its share of each batch; gradients are added up, so that all of them
make the same step. torch.distributed averages them with nccl between GPUs, with gloo between CPU processes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch.distributed is only partly typed.

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard

from sleepy_coder.errors import TrainingError
from sleepy_coder.learn.launch import MEETING_SECONDS

Item = TypeVar("Item")
_PATIENCE: Final = timedelta(seconds=MEETING_SECONDS)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together: `rank` of `size`, from 0. Alone it is 0 of 1."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """As the launcher told this process."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the one that holds the lock, speaks and writes."""
        return self.rank == 0

    @contextmanager
    def joined(self) -> Generator[None]:
        """Wait for the others, each on a GPU of its own where there are GPUs, and stay in touch while this is open.

        Raises torch's RuntimeError when they have not all come after half an hour.
        """
        if self.size > 1:
            cuda = torch.cuda.is_available()
            if cuda:
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
            self.any(True)  # NCCL connects only when there is something to say, and nobody would have waited
        yield
        if self.size > 1:  # not after an error: the others may be gone, and would be waited for
            distributed.destroy_process_group()

    def share(self, batch: Sequence[Item]) -> list[Item]:
        """What this process takes of a batch."""
        return list(batch[self.rank :: self.size])

    def add_up(self, weights: Iterable[torch.nn.Parameter], *figures: float) -> tuple[float, ...]:
        """Replace each gradient by its sum over all processes; the sums of `figures`."""
        if self.size == 1:
            return figures
        grown = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([*(grad.flatten().float() for grad in grown), grown[0].new_tensor(figures).float()])
        distributed.all_reduce(flat)
        *sums, told = flat.split([*(grad.numel() for grad in grown), len(figures)])
        for grad, total in zip(grown, sums, strict=True):
            grad.copy_(total.view_as(grad))
        return tuple(told.tolist())

    def any(self, *wishes: bool) -> tuple[bool, ...]:
        """For each wish, whether one of the processes has it; all hear the same."""
        return tuple(bool(wish) for wish in self._highest(*wishes))

    def refuse_other(self, step: int) -> None:
        """Raises TrainingError, in all processes, when they would not go on from the same step."""
        highest, lowest = self._highest(step, -step)
        if highest != -lowest:
            raise TrainingError(
                f"the processes would go on from different steps, between {-lowest} and {highest}",
                "have all of them see the same work folder, then start the night again",
            )

    def _highest(self, *numbers: int) -> tuple[int, ...]:
        """The greatest of all processes' numbers, for each place."""
        if self.size == 1:
            return numbers
        told = torch.tensor(numbers, dtype=torch.int64, device="cuda" if torch.cuda.is_available() else "cpu")
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return tuple(told.tolist())


def spread(model: Any) -> None:
    """Spread the frozen weights of the decoder's layers over the processes (FSDP2); a layer is whole while it works.

    The adapter, the embeddings and the head stay whole on each. Raises TrainingError when the layers cannot be told.
    """
    layers = layers_of(model.get_base_model().get_decoder())
    learned = {weight for weight in model.parameters() if weight.requires_grad}
    for layer in layers:
        # Each is a root of its own, which torch would by default leave whole after its forward pass.
        fully_shard(layer, ignored_params=learned, reshard_after_forward=True)


def layers_of(decoder: Any) -> torch.nn.ModuleList:
    """The decoder's layers: `layers` in most models, and else its only list of as many modules (GPT-2 has them in `h`).

    Raises TrainingError when there is no such list.
    """
    named = getattr(decoder, "layers", None)
    if isinstance(named, torch.nn.ModuleList):
        return named
    count = decoder.config.get_text_config().num_hidden_layers
    lists = [part for part in decoder.children() if isinstance(part, torch.nn.ModuleList) and len(part) == count]
    if len(lists) != 1:
        raise TrainingError(
            f"fsdp does not know the layers of {type(decoder).__name__}", 'set training.strategy = "ddp"'
        )
    return lists[0]
