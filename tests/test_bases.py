"""Base models that are more, or less, than one dense text model: what of them is trained, and which are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_trainer import MIX, RECIPE, WEIGHTS

from sleepy_coder.adapter_check import base_shapes, check_adapter
from sleepy_coder.adapter_manifest import quantised_by
from sleepy_coder.errors import AdapterError, ConfigError, TrainingError
from sleepy_coder.learn.trainer import JOB_FILE, OUTPUT, ChildTrainer, TrainingJob
from sleepy_coder.serve.throwaway import throwaway_adapters

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ONE_STEP = RECIPE.model_copy(update={"steps": 1, "warmup_steps": 0, "ema": 0.0, "dropout": 0.0})
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
QWEN3_MOE = TEXT | EXPERTS | {"decoder_sparse_step": 1}
DEEPSEEK = (  # a dense layer, then one with experts and a shared one
    TEXT
    | EXPERTS
    | {"num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1}
    | {"kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    | {"n_group": 1, "topk_group": 1}
)
QWEN3_5 = {
    "text_config": TEXT
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16}
    | {"linear_value_head_dim": 16, "layer_types": ["linear_attention", "full_attention"]},
    "vision_config": {"hidden_size": 32, "intermediate_size": 48, "depth": 2, "num_heads": 2, "out_hidden_size": 64},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("bases") / "plain")


def base_of(kind: str, settings: dict[str, Any], tokens: Path, folder: Path) -> Path:
    """A random model of a kind of transformers', with the tokenizer of another."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokens)
    words = {"vocab_size": len(tokenizer)}
    whole = settings | ({"text_config": settings["text_config"] | words} if "text_config" in settings else words)
    torch.manual_seed(0)
    loader: Any = AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    loader.from_config(AutoConfig.for_model(kind, **whole)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(base: Path, workdir: Path) -> Path:
    """The adapter of one step, made in this process."""
    from sleepy_coder.learn.child import Pause
    from sleepy_coder.learn.train_lora import train

    workdir.mkdir()
    job = TrainingJob(model=base, parent=None, mix=MIX, recipe=ONE_STEP)
    (workdir / JOB_FILE).write_text(job.model_dump_json())
    train(job, workdir, Pause())
    return workdir / OUTPUT


def layers_of(adapter: Path) -> set[str]:
    """The layers that an adapter changes, by their names in the model."""
    from safetensors.numpy import load_file

    return {name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name in load_file(adapter / WEIGHTS)}


@pytest.mark.parametrize(
    ("kind", "settings"), [("qwen3_moe", QWEN3_MOE), ("deepseek_v2", DEEPSEEK)], ids=["qwen3_moe", "deepseek_v2"]
)
def test_the_adapter_of_a_mixture_of_experts_is_a_plain_one_on_its_attention(
    plain: Path, tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    base = base_of(kind, settings, plain, tmp_path / "base")
    adapter = trained(base, tmp_path / "work")
    check_adapter(adapter, ONE_STEP, base)
    layers = layers_of(adapter)
    assert len([layer for layer in layers if layer.endswith("self_attn.o_proj")]) == 2
    assert all(".self_attn." in layer for layer in layers)


def test_a_dense_model_learns_in_every_linear_layer_but_the_head(plain: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from sleepy_coder.learn.lora_run import layers_to_learn

    model = AutoModelForCausalLM.from_pretrained(plain)
    every = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(layers_to_learn(model)) == every - {"lm_head"}


@pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys:RuntimeWarning")
def test_an_adapter_that_is_no_plain_lora_is_refused_before_the_first_step(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sleepy_coder.learn import lora_run

    base = base_of("qwen3_moe", QWEN3_MOE, plain, tmp_path / "base")
    monkeypatch.setattr(lora_run, "layers_to_learn", lambda _: "all-linear")
    with pytest.raises(TrainingError, match="no plain LoRA"):
        lora_run.attach_adapter(lora_run.load_base(base), ONE_STEP)


def test_of_a_model_that_sees_images_the_text_layers_are_trained_by_the_names_of_its_checkpoint(
    plain: Path, tmp_path: Path
) -> None:
    base = base_of("qwen3_5", QWEN3_5, plain, tmp_path / "base")
    adapter = trained(base, tmp_path / "work")
    check_adapter(adapter, ONE_STEP, base)
    layers, shapes = layers_of(adapter), base_shapes(base)
    assert len(layers) == 15
    assert all(f"{layer}.weight" in shapes and ".language_model." in layer for layer in layers)


def test_an_adapter_for_the_text_part_of_a_larger_model_is_refused(plain: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter, base = trained(plain, tmp_path / "work"), tmp_path / "base"
    base.mkdir()
    tensors = load_file(plain / "model.safetensors")
    for name, accepted in (
        ("model.language_model.{}", False),
        ("language_model.model.{}", False),
        ("{}", True),  # without the prefix that transformers adds
        ("transformer.{}", True),
    ):
        named = {name.format(key.removeprefix("model.")): value for key, value in tensors.items()}
        save_file(named, base / "model.safetensors")
        if accepted:
            check_adapter(adapter, ONE_STEP, base)
        else:
            with pytest.raises(AdapterError, match="no server would apply it"):
                check_adapter(adapter, ONE_STEP, base)


# Quantised weights


def quantised(plain: Path, folder: Path, method: str) -> Path:
    """A copy of the model whose layers lie packed in bytes, as bitsandbytes and GPTQ keep them."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(plain, folder)
    config = json.loads((plain / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    tensors = load_file(plain / "model.safetensors")
    ending = {"bitsandbytes": "weight", "gptq": "qweight"}[method]
    packed = {
        name.removesuffix("weight") + ending: torch.zeros(value.numel() // 2, 1, dtype=torch.uint8)
        for name, value in tensors.items()
        if "proj.weight" in name
    }
    rest = {name: value for name, value in tensors.items() if "proj.weight" not in name}
    save_file(packed | rest, folder / "model.safetensors")
    return folder


def test_a_models_config_tells_how_its_weights_are_quantised(plain: Path, tmp_path: Path) -> None:
    assert quantised_by(plain) == ""
    assert quantised_by(quantised(plain, tmp_path / "gptq", "gptq")) == "gptq"
    config = tmp_path / "config.json"
    config.write_text('{"text_config": {"quantization_config": {"quant_method": "fp8"}}}')
    assert quantised_by(tmp_path) == "fp8"
    config.write_text('{"quantization_config": {}}')
    assert quantised_by(tmp_path) == "an unknown method"
    config.write_text("no JSON")
    with pytest.raises(ConfigError, match="cannot be read"):
        quantised_by(tmp_path)


def test_a_quantised_base_is_refused_before_anything_is_loaded(plain: Path, tmp_path: Path) -> None:
    base = quantised(plain, tmp_path / "base", "gptq")
    with pytest.raises(TrainingError, match="gptq") as caught:
        ChildTrainer(base).train(MIX, None, ONE_STEP, tmp_path / "work")
    assert "full-precision weights" in caught.value.remedy
    assert not (tmp_path / "work").exists()


def test_a_base_that_lets_no_gradient_through_is_refused_once_it_is_loaded(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from sleepy_coder.learn import lora_run

    loaded = lora_run.load_base(plain)
    loaded.hf_quantizer = SimpleNamespace(is_trainable=False, quantization_config=SimpleNamespace(quant_method="mxfp4"))
    monkeypatch.setattr(lora_run, "open_model", lambda *_: loaded)
    with pytest.raises(TrainingError, match="mxfp4"):
        lora_run.load_base(plain)


def test_packed_layers_are_not_held_against_the_adapters_shapes(plain: Path, tmp_path: Path) -> None:
    adapter = trained(plain, tmp_path / "work")
    check_adapter(adapter, ONE_STEP, quantised(plain, tmp_path / "base", "bitsandbytes"))


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes"])
def test_no_adapter_can_be_made_up_for_packed_layers_and_the_error_says_why(
    plain: Path, tmp_path: Path, method: str
) -> None:
    base = quantised(plain, tmp_path / "base", method)
    with (
        pytest.raises(AdapterError, match=f"quantised \\({method}\\)"),
        throwaway_adapters(base, tmp_path / "adapters", rank=4),
    ):
        pass
