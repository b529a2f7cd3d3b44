"""What a training run offers to be served: a few of its weights, each at several scales.

A LoRA adds alpha/r * B A to the base, so that scaling `lora_alpha` in adapter_config.json scales the update exactly,
and the weights are those that were trained.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from sleepy_coder.adapter_manifest import CONFIG, WEIGHTS
from sleepy_coder.files import folder_in_the_making, replace_folder
from sleepy_coder.learn.outputs import AVERAGE, OUTPUT, Probe, Training
from sleepy_coder.types import Contender

SCALES: Final = (1.0, 0.75, 0.5, 0.25)
CHECKPOINTS_TRIED: Final = 2


def contenders(training: Training, kl_limit: float) -> tuple[Contender, ...]:
    """What may be served, the recipe's own output first: it and two checkpoints, at each of the scales.

    They are the last one and that of the lowest held-out NLL, or the one before where nothing was held out. One that is
    further from the base than `kl_limit` (0: no limit) is none of them. An average that is gets the scales at which it
    is about as near, for the KL grows with the square of a small update, or the smallest.
    """
    average = next((one.kl for one in training.probes if one.folder == AVERAGE), None)
    kept = [one for one in training.probes if one.folder != AVERAGE and not _too_far(one, kl_limit)]
    by_loss = sorted(kept, key=lambda one: (one.nll if one.nll is not None else 0.0, -one.step))
    last = max(kept, key=lambda one: one.step, default=None)
    best = [*([last] if last else []), *(one for one in by_loss if one is not last)][:CHECKPOINTS_TRIED]
    if average is None and best and best[0].step == training.steps:
        best = best[1:]  # without an average the output is the last checkpoint
    weights = [(OUTPUT, average), *((one.folder, one.kl) for one in best)]
    return tuple(
        Contender(weights=folder, scale=scale, kl=kl) for folder, kl in weights for scale in _scales(kl, kl_limit)
    )


def _scales(kl: float | None, limit: float) -> tuple[float, ...]:
    if not limit or kl is None:
        return SCALES
    return tuple(scale for scale in SCALES if kl * scale**2 <= limit) or SCALES[-1:]


def _too_far(one: Probe, limit: float) -> bool:
    return bool(limit) and one.kl is not None and one.kl > limit


def scaled(adapter: Path, scale: float, out: Path) -> Path:
    """The adapter in `adapter` with `scale` times its update, as the folder `out`, whole.

    The weights are shared where the file systems allow it. They become as readable as the config beside them: training
    may have written them for its owner alone, and a model server may be another user.
    """
    config = json.loads((adapter / CONFIG).read_bytes())
    alpha = config["lora_alpha"] * scale
    config["lora_alpha"] = int(alpha) if alpha == int(alpha) else alpha
    with folder_in_the_making(out) as made:
        _link_or_copy(adapter / WEIGHTS, made / WEIGHTS)
        (made / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
        (made / WEIGHTS).chmod((made / CONFIG).stat().st_mode)
        replace_folder(made, out)
    return out


def _link_or_copy(file: Path, place: Path) -> None:
    try:
        place.hardlink_to(file)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, place)
