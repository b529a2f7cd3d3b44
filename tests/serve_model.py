"""A tiny random Qwen2 with a trained byte-level BPE tokenizer, and random LoRA adapters for it.

Nothing here was trained: answers are noise, but deterministic noise that differs per adapter.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = (
    'fn main() { let s = String::from("hi"); let t = s.clone(); println!("{s} {t}"); }',
    "error[E0382]: borrow of moved value: `s`; value borrowed here after move",
    "Fix the program. Answer with the changed lines only: NUMBER|new text, or NUMBER- to delete.",
    "Grüße, naïve café, 日本語, emoji 🙂",
)


def tiny_model(folder: Path, hidden: int = 64, layers: int = 2) -> Path:
    """Write a random Qwen2 (seed 0, float32, 4 heads, 2 KV heads, 512 positions) to `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=512
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def tiny_adapter(model: Path, folder: Path, seed: int, rank: int = 8) -> Path:
    """Write a random LoRA of `rank` for the model in `model` to `folder`; each seed answers differently."""
    config = Qwen2Config.from_pretrained(model)
    head = config.hidden_size // config.num_attention_heads
    wide, narrow = config.hidden_size, head * config.num_key_value_heads
    sizes = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (narrow, wide),
        "self_attn.v_proj": (narrow, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (config.intermediate_size, wide),
        "mlp.up_proj": (config.intermediate_size, wide),
        "mlp.down_proj": (wide, config.intermediate_size),
    }
    random = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(config.num_hidden_layers):
        for module, (out, into) in sizes.items():
            stem = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{stem}.lora_A.weight"] = 0.2 * torch.randn(rank, into, generator=random)
            tensors[f"{stem}.lora_B.weight"] = 0.2 * torch.randn(out, rank, generator=random)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = sorted(module.split(".")[1] for module in sizes)
    adapter = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank}
    adapter |= {"target_modules": modules, "lora_dropout": 0.0, "bias": "none", "inference_mode": True}
    adapter |= {"base_model_name_or_path": str(model)}
    (folder / "adapter_config.json").write_text(json.dumps(adapter, indent=2))
    return folder
