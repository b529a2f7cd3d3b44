"""What a training run carries from step to step, and how it is begun, kept and written.

Every 10 steps adapter, running average and optimiser are written whole, so that a killed run goes on to the same bytes.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch and peft are only partly typed.

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
)
from transformers.pytorch_utils import Conv1D

from sleepy_coder.adapter_manifest import CONFIG, FULL_PRECISION, WEIGHTS
from sleepy_coder.errors import TrainingError
from sleepy_coder.files import atomic_writer, folder_in_the_making, replace_folder
from sleepy_coder.learn.outputs import PROBE, Probe
from sleepy_coder.types import Recipe

Tensors = Mapping[str, torch.Tensor]


def device() -> str:
    """Where training computes."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_base(folder: Path) -> Any:
    """The base model in the precision of training: as it is served, bfloat16 on a GPU and float32 on a CPU.

    Raises TrainingError when its weights are quantised in a way that lets no gradient through.
    """
    model = open_model(folder, torch.bfloat16 if device() == "cuda" else torch.float32)
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_trainable:
        raise TrainingError(
            f"{folder} is quantised ({quantizer.quantization_config.quant_method}) and cannot be trained",
            FULL_PRECISION,
        )
    return model


def open_model(folder: Path, dtype: torch.dtype) -> Any:
    """The model in `folder`; one that sees images whole, because its text part alone has its layers by other names."""
    config = AutoConfig.from_pretrained(str(folder))
    text = any(name.endswith("ForCausalLM") for name in config.architectures or ())
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not text
    loader: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    return loader.from_pretrained(str(folder), dtype=dtype)


def attach_adapter(model: Any, recipe: Recipe) -> PeftModel:
    """A fresh LoRA on `layers_to_learn`. Raises TrainingError when PEFT makes something else of it."""
    torch.manual_seed(recipe.seed)
    made = get_peft_model(model, _lora(recipe, layers_to_learn(model)))
    given: Any = made.peft_config["default"]
    if getattr(given, "target_parameters", None) or given.rank_pattern:
        raise TrainingError(
            f"PEFT gives this {model.config.model_type} model an adapter that is no plain LoRA", "install another PEFT"
        )
    return made  # pyright: ignore[reportReturnType]


def layers_to_learn(model: Any) -> list[str]:
    """Full names of the linear layers of the text decoder, but for the head.

    Experts are no such layers: a layer's are all in one tensor. Where the names of a mixture's other MLPs (a dense
    layer's, a shared expert's) make PEFT turn to the experts instead, these are left out too.
    """
    head, inside = model.get_output_embeddings(), {id(module) for module in model.get_decoder().modules()}
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and id(module) in inside and module is not head
    ]
    return [name for name in names if not _means_experts(name, model)]


def _means_experts(name: str, model: Any) -> bool:
    """Whether PEFT takes this layer's name for one that experts had before transformers 5."""
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers as convert
    except ImportError:  # PEFT 0.18 takes every name as it is
        return False
    trial = LoraConfig(target_modules=[name])
    try:
        convert(trial, model, None)
    except ValueError:  # it wants the other half of a fused pair as well
        return True
    return bool(trial.target_parameters)


def _lora(recipe: Recipe, layers: list[str]) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=layers,
        task_type="CAUSAL_LM",
    )


def save_memory(model: PeftModel) -> None:
    """Have each layer keep only its input, and compute the rest again for the gradient, which stays the same.

    It costs half as much work again, since the frozen weights need no gradient of their own.
    """
    base: Any = model.get_base_model()
    # transformers 5 renames it on the way to 6.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    base.enable_input_require_grads()


def weights_in(folder: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The weights of the adapter in `folder`, such that `recipe`'s alpha makes the same model of them.

    An adapter that was chosen at half its scale says half the alpha: that half goes into B.
    """
    scale = json.loads((folder / CONFIG).read_bytes())["lora_alpha"] / recipe.alpha
    tensors = load_file(folder / WEIGHTS)
    return {name: value * scale if ".lora_B." in name else value for name, value in tensors.items()}


@dataclass(slots=True)
class Run:
    """What changes while training: the model, its optimiser, the running average and the next step.

    `slow`: the average goes on from an earlier night, and has no start that it should forget.
    """

    model: PeftModel
    optimizer: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    step: int
    slow: bool = False

    @classmethod
    def begin(cls, model: PeftModel, recipe: Recipe, parent: Path | None = None, fast: Path | None = None) -> Run:
        """Before the first step, warm-started from the adapter in `parent` where there is one.

        Of two learners the slow one, the average, goes on from `parent` and the fast one from `fast`, or from `parent`
        too where there is none (SuRe, arXiv 2511.22367). Raises TrainingError when they are of other layers.
        """
        slow: dict[str, torch.Tensor] = {}
        if parent is not None:
            slow = weights_in(parent, recipe)
            _take(model, slow, parent)
            if fast is not None:
                _take(model, weights_in(fast, recipe), fast)
        average = weights_of(model)
        if slow and recipe.dual:
            average = {name: slow[name].to(value) for name, value in average.items()}
        learned = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=recipe.learning_rate, weight_decay=0.0)
        return cls(model, optimizer, average, 0, bool(slow) and recipe.dual)

    def save(self, path: Path, job: Mapping[str, str]) -> None:
        """Write a checkpoint of `job`, which is described by its parts, whole."""
        state = {
            "job": dict(job),
            "step": self.step,
            "adapter": get_peft_model_state_dict(self.model),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with atomic_writer(path) as file:
            torch.save(state, file)

    def restore(self, path: Path, job: Mapping[str, str], tell: Callable[[str], None] = lambda _: None) -> bool:
        """Go on from `path` when it belongs to this job; an unreadable checkpoint is as good as none.

        `tell` hears why one that is there is not gone on with. Raises TrainingError when its adapter is of other layers
        than the model's.
        """
        if not path.is_file():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)  # it may be another rank's
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            tell(f"the checkpoint cannot be read ({type(error).__name__})")
            return False
        if other := _differing(state["job"], job):
            tell(f"the checkpoint is of another {other}")
            return False
        _take(self.model, state["adapter"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: state["average"][name].to(value.device) for name, value in self.average.items()}
        self.step = state["step"]
        return True

    def update_average(self, decay: float) -> None:
        """EMA of A and of B, each by itself; the early decay is smaller, so that a fresh start is soon forgotten.

        The average of the products would be of a higher rank; along one run A and B move little, and theirs is close.
        """
        rate = decay if self.slow else min(decay, (1 + self.step) / (10 + self.step))
        for name, value in get_peft_model_state_dict(self.model).items():
            self.average[name].mul_(rate).add_(value.detach(), alpha=1 - rate)


def _differing(one: Mapping[str, str] | str, other: Mapping[str, str]) -> str:
    """The parts in which two jobs differ, in words; "" when they are the same. Earlier releases wrote one hash."""
    if isinstance(one, str):
        return "release"
    return " and ".join(part for part in other if one.get(part) != other[part])


def _take(model: PeftModel, tensors: Tensors, place: Path) -> None:
    """Go on from these weights. PEFT passes over names that it does not know, and would start from nothing.

    A fresh start instead would be told as a training that went on from `place`.
    """
    if tensors.keys() != get_peft_model_state_dict(model).keys():
        raise TrainingError(
            f"{place} is an adapter of other layers than this model's: another release of transformers or PEFT made it",
            "install that release again, or have the next night start afresh: set recipe.rebase_after = 1",
        )
    set_peft_model_state_dict(model, dict(tensors))


def weights_of(model: PeftModel) -> dict[str, torch.Tensor]:
    """A copy of the adapter's present weights."""
    return {name: value.detach().clone() for name, value in get_peft_model_state_dict(model).items()}


def write_folder(model: PeftModel, tensors: Tensors, base: str, out: Path, probe: Probe | None = None) -> None:
    """`tensors` in PEFT's layout (float32 safetensors) as the folder `out`, whole, with what was measured of them.

    `base` is the base model's name and no path: the adapter outlives this machine's folders.
    """
    config = model.peft_config["default"]
    described = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    described |= {"inference_mode": True, "base_model_name_or_path": base}
    with folder_in_the_making(out) as made:
        save_file({name: value.float().contiguous().cpu() for name, value in tensors.items()}, made / WEIGHTS)
        (made / CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True, default=str))
        if probe is not None:
            (made / PROBE).write_text(probe.model_dump_json())
        replace_folder(made, out)
