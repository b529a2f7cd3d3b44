"""The embedded server's own forward pass, held against transformers and PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from serve_model import tiny_adapter, tiny_model
from transformers import Qwen2ForCausalLM

from sleepy_coder.errors import AdapterError, ConfigError
from sleepy_coder.serve.embedded_lora import merge, read_lora
from sleepy_coder.serve.embedded_model import KvCache, Weights, decode, load_weights, prefill, score

PROMPTS = ([5, 9, 100, 7], [3, 4], [50] * 9)

# peft 0.21 reads a transformers property that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(model, tmp_path_factory.mktemp("adapter"), seed=1)


def assert_same_logits(weights: Weights, reference: torch.nn.Module) -> None:
    """Prefill and four decode steps of a ragged batch agree with full forward passes."""
    cache = KvCache(weights.shape, max_rows=4, max_length=64)
    rows = [list(prompt) for prompt in PROMPTS]
    with torch.inference_mode():
        logits = prefill(weights, cache, 0, rows)
        for _ in range(4):
            for row, mine in zip(rows, logits, strict=True):
                theirs = reference(torch.tensor([row])).logits[0, -1]
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
            lengths = [len(row) for row in rows]
            for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
                row.append(token)
            logits = decode(weights, cache, [row[-1] for row in rows], lengths)


def test_the_base_computes_what_transformers_computes(model: Path) -> None:
    assert_same_logits(load_weights(model), Qwen2ForCausalLM.from_pretrained(model))


def test_a_merged_adapter_computes_what_peft_computes(model: Path, adapter: Path) -> None:
    weights = load_weights(model)
    merged = merge(weights, read_lora(adapter, weights.shape, max_rank=16))
    assert_same_logits(merged, PeftModel.from_pretrained(Qwen2ForCausalLM.from_pretrained(model), adapter).eval())


def test_the_tokens_of_a_prompt_are_as_likely_as_transformers_says(model: Path) -> None:
    weights, reference = load_weights(model), Qwen2ForCausalLM.from_pretrained(model)
    with torch.inference_mode():
        for prompt in ([5, 9, 100, 7], [3, 4]):
            table = reference(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
            theirs = [float(table[place, token]) for place, token in enumerate(prompt[1:])]
            mine, ranks = score(weights, prompt)
            assert mine == pytest.approx(theirs, abs=1e-4)
            assert ranks == [int((table[i] > theirs[i] + 1e-6).sum()) + 1 for i in range(len(theirs))]
        assert score(weights, [7]) == ([], [])


def test_merging_leaves_the_base_as_it_was(model: Path, adapter: Path) -> None:
    weights = load_weights(model)
    before = weights.layers[0].qkv.clone()
    merge(weights, read_lora(adapter, weights.shape, max_rank=16))
    assert torch.equal(weights.layers[0].qkv, before)


def test_a_row_moved_into_a_gap_goes_on_as_before(model: Path) -> None:
    weights = load_weights(model)
    cache = KvCache(weights.shape, max_rows=4, max_length=64)
    prefill(weights, cache, 0, PROMPTS)
    expected = decode(weights, cache, [1, 2, 3], [4, 2, 9])[2]
    cache.move(2, 0, 9)
    torch.testing.assert_close(decode(weights, cache, [3], [9])[0], expected, rtol=1e-4, atol=1e-4)


def test_a_growing_cache_keeps_what_it_holds(model: Path) -> None:
    weights = load_weights(model)
    small, large = KvCache(weights.shape, 2, 400), KvCache(weights.shape, 2, 400)
    large.reserve(2, 400)
    for cache in (small, large):
        prefill(weights, cache, 0, [[7] * 127])
    small.reserve(2, 300)
    for length in (127, 128):
        torch.testing.assert_close(
            decode(weights, small, [9], [length]), decode(weights, large, [9], [length]), rtol=1e-4, atol=1e-4
        )


def changed(adapter: Path, folder: Path, **config: object) -> Path:
    """A copy of `adapter` with some of its configuration changed."""
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    before = json.loads((adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(before | config))
    return folder


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 32}, "LoRA rank 32 is greater than max_lora_rank 16"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_an_adapter_that_vllm_refuses_is_refused(
    model: Path, adapter: Path, tmp_path: Path, config: dict[str, object], message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        read_lora(changed(adapter, tmp_path / "bad", **config), load_weights(model).shape, max_rank=16)


def test_a_truncated_adapter_is_refused(model: Path, adapter: Path, tmp_path: Path) -> None:
    folder = changed(adapter, tmp_path / "bad")
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(AdapterError, match="cannot be read"):
        read_lora(folder, load_weights(model).shape, max_rank=16)


def test_an_adapter_of_a_wider_model_is_refused(model: Path, tmp_path: Path) -> None:
    wide = tiny_adapter(tiny_model(tmp_path / "wide", hidden=128), tmp_path / "adapter", seed=1)
    with pytest.raises(AdapterError, match="does not fit"):
        read_lora(wide, load_weights(model).shape, max_rank=16)


def test_another_architecture_is_refused_with_what_to_do(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        (model / "config.json").read_text().replace('"model_type": "qwen2"', '"model_type": "llama"')
    )
    with pytest.raises(ConfigError, match="vLLM"):
        load_weights(tmp_path)
