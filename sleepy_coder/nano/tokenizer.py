"""The nano model's tokenizer: byte-level BPE, cut the way transformers cuts for every Qwen2 model.

Words are never merged with what stands before them, so a name is one token wherever it stands, and a
model with a million parameters can copy it. transformers 5 replaces the pre-tokenizer of any
tokenizer.json of a "qwen2" model by its own (so does vLLM through it); ours is therefore saved with that
one, and keeps words apart by having no merge that would join them.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# torch, transformers and peft are only partly typed.

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
_APART = r"[A-Za-z]+|[^A-Za-z]+"


def train_tokenizer(texts: Iterable[str], vocab_size: int, out: Path) -> PreTrainedTokenizerFast:
    """Train on `texts` (conversations without the template) and save in HF layout to `out`."""
    tokenizer = Tokenizer(models.BPE())
    as_served = [
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    apart = pre_tokenizers.Split(Regex(_APART), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([as_served[0], apart, as_served[1]])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(as_served)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.save_pretrained(str(out))
    return fast
