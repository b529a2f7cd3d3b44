"""llama.cpp (xllamacpp) beside transformers and peft: the same model, the same LoRA, the same questions.

The base is written as GGUF here, as llama.cpp's converter writes a Qwen2, because that converter is in no package.
Run as a script it is the process in which llama.cpp answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROMPTS = ("fn main() {\n    let", "error[E0382]: borrow of moved value: `", "The mistake in this program is")
TOP = 5


def llama_logprobs(model: Path, lora: Path, folder: Path) -> list[float]:
    """The TOP log-probabilities of the token after each prompt, one after the other."""
    from transformers import AutoTokenizer

    write_base(model, folder / "base.gguf")
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    ids = json.dumps([tokenizer(prompt)["input_ids"] for prompt in PROMPTS])
    argv = [sys.executable, __file__, str(folder / "base.gguf"), str(lora), ids, str(folder / "answers.json")]
    subprocess.run(argv, check=True, capture_output=True)
    return json.loads((folder / "answers.json").read_text())


def peft_logprobs(model: Path, adapter: Path | None) -> list[float]:
    """The same from transformers in float32, with peft where there is an adapter."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked: Any = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
    asked = PeftModel.from_pretrained(asked, str(adapter)) if adapter else asked
    tokenizer = AutoTokenizer.from_pretrained(str(model))
    found: list[float] = []
    with torch.no_grad():
        for prompt in PROMPTS:
            logits = asked(input_ids=torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
            found += torch.log_softmax(logits.float(), -1).topk(TOP).values.tolist()
    return found


def write_base(model: Path, file: Path) -> None:
    """The Qwen2 in `model` as GGUF in float32, its byte-level BPE included."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((model / "config.json").read_text())
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokens = [f"[unused {i}]" for i in range(config["vocab_size"])]
    kinds = [int(gguf.TokenType.UNUSED)] * len(tokens)
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], kinds[i] = token, int(gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]], kinds[added["id"]] = added["content"], int(gguf.TokenType.CONTROL)
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_bos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for name, tensor in load_file(model / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(base: str, lora: str, prompts: str, out: str) -> None:
    """Ask llama.cpp and write the answers to `out`; it talks on stdout."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = base
    parameters.n_gpu_layers, parameters.n_ctx, parameters.n_parallel, parameters.warmup = 0, 256, 1, False
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = lora, 1.0
    parameters.lora_adapters = [adapter]
    server = xllamacpp.Server(parameters)
    found: list[float] = []
    for ids in json.loads(prompts):
        asked = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": TOP, "cache_prompt": False}
        answer: Any = server.handle_completions(asked)
        first = answer["choices"][0]["logprobs"]["content"][0]
        found += [token["logprob"] for token in first["top_logprobs"]]
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
