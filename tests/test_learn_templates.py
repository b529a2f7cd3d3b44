"""A row reads as it was served, whatever the model's tokenizer and template do at the borders of a turn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import assistant, system, user
from test_learn_rows import RECIPE, SAID, TALK, TEMPLATES, example, with_template

from sleepy_coder.learn.rows import encode_all, turn_ends
from sleepy_coder.learn.trainer import TrainingJob
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.types import Message, TrainingMix

# As TinyLlama-Chat's and Zephyr's: only the end of a turn is a token of its own.
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# As Phi-3's: behind the end of a turn a line break, and behind the whole conversation the end of a text.
PHI_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
PHI_3_ENDS = ("<|end|>", "<|im_end|>")
# As Llama 3.1's and 3.2's: a call stands in place of what was said beside it.
LLAMA_3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n\n{% if 'tool_calls' in m %}{% for c in m.tool_calls %}"
    '{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}{% endfor %}'
    "{% else %}{{ m.content | trim }}{% endif %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
# As SmolVLM's and Idefics3's: it writes out the parts of a content, and a text has none.
SMOL_VLM = (
    "{% for m in messages %}{{ m.role | capitalize }}: {% for part in m.content %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
NOT_SHOWN = "the chat template does not show what the model wrote"
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


def learned(tokenizer: Any, messages: tuple[Message, ...], first: int | None, ends: Iterable[str]) -> list[str]:
    """The texts under the loss, of all rows."""
    done = encode_all(example(messages, first), tokenizer, RECIPE, ends)
    spans = [(row, span) for row in done.rows for span in row.turns]
    return [tokenizer.decode(row.ids[start:end]) for row, (start, end) in spans]


@pytest.mark.parametrize("first", [None, 1])
def test_nothing_that_a_template_writes_behind_the_end_of_a_turn_is_learned(qwen: Any, first: int | None) -> None:
    tokenizer = with_template(qwen, PHI_3)
    said = "1|end <|end|> x"
    assert learned(tokenizer, (user("a"), assistant(said)), first, PHI_3_ENDS) == [f"{said}<|end|>"]


def test_turns_are_learned_in_one_row_though_the_template_ends_the_whole_with_more(qwen: Any) -> None:
    talk = (user("a"), assistant("one"), user("b"), assistant("two"))
    (row,) = encode_all(example(talk, 1), with_template(qwen, PHI_3), RECIPE, PHI_3_ENDS).rows
    assert [qwen.decode(row.ids[start:end]) for start, end in row.turns] == ["one<|end|>", "two<|end|>"]


def test_a_call_whose_text_the_template_drops_is_left_out_with_the_reason(qwen: Any) -> None:
    tokenizer = with_template(qwen, LLAMA_3)
    done = encode_all(example(TALK), tokenizer, RECIPE)
    assert done.left_out == (NOT_SHOWN,)
    assert learned(tokenizer, TALK, 2, ()) == [
        '{"name": "bash", "parameters": {"command": "cargo test"}}<|eot_id|>',
        "Done.<|eot_id|>",
    ]


@pytest.mark.parametrize("first", [None, 1])
def test_a_template_that_shows_no_plain_text_teaches_nothing(qwen: Any, first: int | None) -> None:
    done = encode_all(example((user("a"), assistant("1|x")), first), with_template(qwen, SMOL_VLM), RECIPE)
    assert (done.rows, done.left_out) == ((), (NOT_SHOWN,))


def test_thoughts_within_a_text_may_begin_in_the_prompt(qwen: Any) -> None:
    opening = TEMPLATES["chatml"].replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    talk = (user("a"), assistant("<think>\nHm.\n</think>\n\n1|x"))
    assert learned(with_template(qwen, opening), talk, None, ()) == ["Hm.\n</think>\n\n1|x<|im_end|>"]


def test_the_ends_of_a_turn_are_those_that_the_models_files_and_its_tokenizer_name(qwen: Any, tmp_path: Path) -> None:
    from sleepy_coder.learn.train_lora import read_rows

    assert turn_ends(tmp_path, qwen) == {qwen.eos_token} == {"<|im_end|>"}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 1]}))
    assert turn_ends(tmp_path, qwen) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    rows = (example((user("a"), assistant("1|x")), None),)
    mix = TrainingMix(examples=rows, shares={}, counts={}, notes=(), seed=1, sha256="m")
    job = TrainingJob(model=tmp_path, parent=None, mix=mix, recipe=RECIPE)
    (row,) = read_rows(job, with_template(qwen, PHI_3.replace("<|end|>", "<|im_start|>"))).learned
    assert qwen.decode(row.ids[row.turns[0][0] :]) == "1|x<|im_start|>"
