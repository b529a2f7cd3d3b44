"""Started by test_ranks under `accelerate launch`: how much of the layers a process holds, before and after `spread`.

Arguments: the work folder. It holds `model`, and gets a file per process with the two counts of elements.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from sleepy_coder.learn.lora_run import attach_adapter
from sleepy_coder.learn.ranks import Ranks, spread
from sleepy_coder.types import Recipe


def held(model: Any) -> int:
    """Elements of the frozen weights of the layers that are in this process."""
    layers = model.get_base_model().get_decoder().layers
    frozen = [weight for weight in layers.parameters() if not weight.requires_grad]
    return sum(weight.to_local().numel() if hasattr(weight, "to_local") else weight.numel() for weight in frozen)


def main() -> None:
    workdir, ranks = Path(sys.argv[1]), Ranks.of_environment()
    recipe = Recipe.model_validate_json((workdir / "recipe.json").read_bytes())
    with ranks.joined():
        model = attach_adapter(AutoModelForCausalLM.from_pretrained(workdir / "model"), recipe)
        whole = held(model)
        spread(model)
        (workdir / f"held-{ranks.rank}.json").write_text(json.dumps([whole, held(model)]))


if __name__ == "__main__":
    main()
