"""Started by test_ranks under `accelerate launch`: how much of the layers a process holds, before and after `spread`.

Arguments: the work folder. It holds `model`, and gets a file per process with the counts of elements by when they were
taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sleepy_coder.learn.lora_run import attach_adapter, save_memory
from sleepy_coder.learn.ranks import Ranks, spread
from sleepy_coder.types import Recipe


def held(model: Any) -> int:
    """Elements of the frozen weights of the layers that are in this process."""
    layers = model.get_base_model().get_decoder().layers
    frozen = [weight for weight in layers.parameters() if not weight.requires_grad]
    return sum(weight.to_local().numel() if hasattr(weight, "to_local") else weight.numel() for weight in frozen)


def passed_through(model: Any) -> torch.Tensor:
    """The mean square of the last hidden states on a few tokens."""
    decoder = model.get_base_model().get_decoder()
    return decoder(input_ids=torch.arange(8).unsqueeze(0), use_cache=False).last_hidden_state.square().mean()


def counts(model: Any) -> dict[str, int]:
    """What is held whole, spread, after a pass without gradients, and after one with them and with `save_memory`."""
    found: dict[str, int] = {"whole": held(model)}
    spread(model)
    found["spread"] = held(model)
    with torch.no_grad():
        passed_through(model)
    found["asked"] = held(model)
    save_memory(model.train())
    loss = passed_through(model)
    found["learning"] = held(model)
    loss.backward()
    found["learned"] = held(model)
    return found


def main() -> None:
    workdir, ranks = Path(sys.argv[1]), Ranks.of_environment()
    recipe = Recipe.model_validate_json((workdir / "recipe.json").read_bytes())
    with ranks.joined():
        model = attach_adapter(AutoModelForCausalLM.from_pretrained(workdir / "model"), recipe)
        (workdir / f"held-{ranks.rank}.json").write_text(json.dumps(counts(model)))


if __name__ == "__main__":
    main()
