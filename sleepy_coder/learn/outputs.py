"""What a training run leaves in its work folder, and what it says of it; shared by parent and child.

`adapter/` is what the recipe serves by default: the running average where it keeps one, else the last weights. A recipe
with checkpoints leaves `checkpoints/0020/` ... and `average/` beside it, one with two learners `fast/`. All are PEFT
folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from sleepy_coder.types import Recipe, Record, is_empty

OUTPUT: Final = "adapter"
CHECKPOINT: Final = "checkpoint.pt"
"""Where a run that is killed goes on."""
CHECKPOINTS: Final = "checkpoints"
AVERAGE: Final = "average"
TOLD: Final = "training.json"
PROBE: Final = "probe.json"


class Probe(Record):
    """Weights after `step` steps, measured: NLL of the held-out rows and KL to the base on a few anchors.

    In nats per token; None where the mix has no such rows. `folder` is where they are, below the work folder.
    """

    folder: str
    step: int
    nll: float | None
    kl: float | None


class Training(Record):
    """How a run ended: after how many steps, why before its last one (else ""), and what it kept.

    Of the mix's passed examples `too_long` gave no row within the longest one, and `cut_turns` of others lie beyond it.
    """

    steps: int
    stopped: str = ""
    probes: tuple[Probe, ...] = ()
    too_long: int = Field(default=0, exclude_if=is_empty)
    cut_turns: int = Field(default=0, exclude_if=is_empty)


def checkpoint_folder(step: int) -> str:
    """Where the weights after `step` steps are kept, below the work folder."""
    return f"{CHECKPOINTS}/{step:04d}"


def training_of(workdir: Path, recipe: Recipe) -> Training:
    """What the child said of its run; one that says nothing did all steps and kept no checkpoints."""
    path = workdir / TOLD
    return Training.model_validate_json(path.read_bytes()) if path.is_file() else Training(steps=recipe.steps)


def reason_to_stop(probes: Sequence[Probe], limit: float) -> str:
    """Why training should end after these checkpoints, in order; "" when it should not.

    Too far from the base (`limit` nats, 0 for none), which goes with forgetting (RL's Razor, arXiv 2509.04259). A
    rising held-out NLL is no reason: what passes may go on rising (Ouyang et al., arXiv 2203.02155, section 3.5).
    """
    last = probes[-1] if probes else None
    if last and limit and last.kl is not None and last.kl > limit:
        return f"KL to the base is {last.kl:.3g} nats per token, above recipe.kl_limit ({limit:g})"
    return ""
