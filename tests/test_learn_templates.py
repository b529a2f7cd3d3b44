"""A row reads as it was served, whatever the model's tokenizer and template do at the borders of a turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import assistant, system, user
from test_learn_rows import RECIPE, SAID, TEMPLATES, example, with_template

from sleepy_coder.learn.rows import encode_all
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.types import Message

# As TinyLlama-Chat's and Zephyr's: only the end of a turn is a token of its own.
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ANSWERS = ("1|fn main() {", "  2|x", "\n\n3|x", "ü")


@pytest.fixture(scope="module")
def qwen() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def llama() -> Any:
    """As Llama 2's: spaces are `▁`, and one is put before the first piece of whatever is tokenised."""
    from tokenizers import Tokenizer, models, normalizers, trainers
    from transformers import LlamaTokenizer

    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=marks, show_progress=False)
    trained.train_from_iterator(
        ["1|fn main() {", "2|    let x = 1;", "system user assistant fix it please"] * 50, trainer
    )
    made = json.loads(trained.to_str())["model"]
    tokenizer = LlamaTokenizer(vocab=made["vocab"], merges=[tuple(merge) for merge in made["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    assert json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]["prepend_scheme"] == "first"
    return tokenizer


def rendered(tokenizer: Any, messages: tuple[Message, ...]) -> str:
    plain = [{"role": message.role, "content": message.content} for message in messages]
    return tokenizer.apply_chat_template(plain, tokenize=False).rstrip("\n")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("template", [TEMPLATES["chatml"], ZEPHYR], ids=["chatml", "zephyr"])
@pytest.mark.parametrize("name", ["qwen", "llama"])
def test_a_row_reads_as_the_text_that_was_served(
    name: str, template: str, answer: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = with_template(request.getfixturevalue(name), template)
    asked = (system("You mend code."), user("Mend it."), assistant(answer))
    talk = (*asked, user("Go on."), assistant("Done."))
    for messages, first in ((asked, None), (talk, 2)):
        (row,) = encode_all(example(messages, first), tokenizer, RECIPE).rows
        assert tokenizer.decode(row.ids) == rendered(tokenizer, messages)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4), st.sampled_from([*TEMPLATES]))
def test_what_qwens_tokenizer_makes_of_each_piece_alone_is_the_row(
    qwen: Any, talk: list[tuple[str, str]], name: str
) -> None:
    tokenizer = with_template(qwen, TEMPLATES[name])
    messages = tuple(m for ask, answer in talk for m in (user(ask), assistant(answer)))
    for row in encode_all(example(messages, first_turn=1), tokenizer, RECIPE).rows:
        borders = [0, *(border for span in row.turns for border in span)]
        texts = [tokenizer.decode(row.ids[a:b]) for a, b in zip(borders, borders[1:], strict=False)]
        alone = [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
        assert row.ids == alone
