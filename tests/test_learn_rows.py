"""A row teaches what the assistant wrote and nothing else, whatever the chat template does to the conversation."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import Talk, assistant, bash, exchanges_of, result, system, thinking, user

from sleepy_coder import log
from sleepy_coder.collect.sessions import group
from sleepy_coder.learn.rows import EncodedRow, encode_all
from sleepy_coder.learn.trainer import ChildTrainer, Step
from sleepy_coder.types import Example, Message, Recipe, ToolCall, TrainingMix

RECIPE = Recipe(
    name="test",
    learning_rate=1e-3,
    rank=4,
    alpha=8,
    dropout=0.0,
    steps=1,
    batch_size=1,
    warmup_steps=0,
    ema=0.0,
    kl_anchor=1.0,
    kl_verified=0.05,
    max_length=4096,
    seed=1,
)
_CALLS = (
    "{% for c in m.tool_calls or [] %}"
    "<call>{{ c.function.name }} {{ c.function.arguments | tojson }}</call>"
    "{% endfor %}"
)
_ITEMS = "c.function.arguments | items | map('join', '=') | join(' ')"
_HEAD = "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}" + _CALLS + "<|im_end|>\n"
_THOUGHT = "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
TEMPLATES = {
    "chatml": _HEAD + "{% for m in messages %}" + _TURN + "{% endfor %}" + _ASK,
    "no break at the end": "{% for m in messages %}"
    + _TURN.removesuffix("\n")
    + "{% if not loop.last %}\n{% endif %}{% endfor %}"
    + "{% if add_generation_prompt %}\n<|im_start|>assistant\n{% endif %}",
    "trimming": "{% for m in messages %}"
    + _TURN.replace("{{ m.content }}", "{{ m.content | trim }}")
    + "{% endfor %}"
    + _ASK,
}
# As Qwen3 does: the thoughts of the turns before the user's last word are dropped.
FORGETFUL = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.index0 > ns.last %}"
    + _THOUGHT
    + "{% endif %}{{ m.content }}"
    + _CALLS
    + "<|im_end|>\n{% endfor %}"
    + _ASK
)

TALK = (
    system("You mend code."),
    user("Mend main.rs."),
    assistant("I look. ", bash("c1", "cat main.rs")),
    result("c1", "fn main() {"),
    assistant("", bash("c2", "cargo test")),
    result("c2", "ok"),
    assistant("Done."),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serve_model import tiny_model

    return tiny_model(tmp_path_factory.mktemp("rows") / "model")


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def with_template(tokenizer: Any, template: str) -> Any:
    tokenizer.chat_template = template
    return tokenizer


def example(messages: tuple[Message, ...], first_turn: int | None = 2, tools: str = "") -> Example:
    """A row of a conversation that ends with the assistant."""
    *asked, reply = messages
    return Example(
        messages=tuple(asked),
        completion=reply.content,
        kind="passed",
        task_id="t",
        family="f",
        provenance="e",
        reply=reply if reply.tool_calls or reply.reasoning else None,
        first_turn=first_turn,
        tools=tools,
    )


def pieces(row: EncodedRow, tokenizer: Any) -> list[str]:
    """The texts under the loss."""
    return [tokenizer.decode(row.ids[start:end]) for start, end in row.turns]


def call(command: str) -> str:
    return f'<call>bash {{"command": "{command}"}}</call>'


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_turn_of_the_assistant_is_learned_with_its_calls_and_nothing_else_is(tokenizer: Any, name: str) -> None:
    done = encode_all(example(TALK), with_template(tokenizer, TEMPLATES[name]), RECIPE)
    (row,) = done.rows
    space = "" if name == "trimming" else " "
    assert pieces(row, tokenizer) == [
        f"I look.{space}{call('cat main.rs')}<|im_end|>",
        f"{call('cargo test')}<|im_end|>",
        "Done.<|im_end|>",
    ]
    assert not done.left_out
    assert len(row.learned()) == sum(end - start for start, end in row.turns)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tokens_are_the_whole_conversation_as_the_server_renders_it(tokenizer: Any, name: str) -> None:
    (row,) = encode_all(example(TALK), with_template(tokenizer, TEMPLATES[name]), RECIPE).rows
    plain = [{"role": m.role, "content": m.content} for m in TALK]
    for number, command in ((2, "cat main.rs"), (4, "cargo test")):
        plain[number]["tool_calls"] = [{"function": {"name": "bash", "arguments": {"command": command}}}]
    assert tokenizer.decode(row.ids) == tokenizer.apply_chat_template(plain, tokenize=False).rstrip("\n")


def test_tools_are_shown_where_the_template_shows_them(tokenizer: Any) -> None:
    tools = '[{"type": "function", "function": {"name": "bash"}}]'
    (row,) = encode_all(example(TALK, tools=tools), with_template(tokenizer, TEMPLATES["chatml"]), RECIPE).rows
    assert tokenizer.decode(row.ids).startswith("<tools>")


def test_turns_that_an_agent_put_before_the_first_reply_are_not_learned(tokenizer: Any) -> None:
    (row,) = encode_all(example(TALK, first_turn=4), with_template(tokenizer, TEMPLATES["chatml"]), RECIPE).rows
    assert pieces(row, tokenizer) == [f"{call('cargo test')}<|im_end|>", "Done.<|im_end|>"]


def test_a_template_that_forgets_thoughts_gives_a_row_for_each_time_it_forgets(tokenizer: Any) -> None:
    talk = (user("a"), thinking("A", "one"), user("b"), thinking("B", "two"), thinking("C", "three"))
    done = encode_all(example(talk, first_turn=1), with_template(tokenizer, FORGETFUL), RECIPE)
    learned = [pieces(row, tokenizer) for row in done.rows]
    assert learned == [
        ["<think>B</think>two<|im_end|>", "<think>C</think>three<|im_end|>"],
        ["<think>A</think>one<|im_end|>"],
    ]
    assert "<think>A" not in tokenizer.decode(done.rows[0].ids)
    assert not done.left_out


def recorded(talk: tuple[Message, ...], **changes: Any) -> Example:
    """The row of a conversation that passed the gateway."""
    (found,) = group(exchanges_of(Talk(talk), "x")).conversations
    row = example(found.messages, found.first_turn)
    return row.model_copy(update={"thoughts": found.thoughts, **changes})


def test_thoughts_that_no_agent_sent_again_are_learned_each_in_its_turn_and_stand_in_no_prompt(tokenizer: Any) -> None:
    talk = (user("Mend it."), thinking("A", "one", bash("c", "ls")), result("c", "main.rs"), thinking("B", "two"))
    done = encode_all(recorded(talk), with_template(tokenizer, FORGETFUL), RECIPE)
    assert [pieces(row, tokenizer) for row in done.rows] == [
        ["<think>B</think>two<|im_end|>"],
        [f"<think>A</think>one{call('ls')}<|im_end|>"],
    ]
    assert [tokenizer.decode(row.ids).count("<think>") for row in done.rows] == [1, 1]
    assert not done.left_out


def test_only_the_turns_that_the_model_ended_are_learned(tokenizer: Any) -> None:
    chatml = with_template(tokenizer, TEMPLATES["chatml"])
    (row,) = encode_all(recorded(TALK, thoughts={2: "", 6: ""}), chatml, RECIPE).rows
    assert pieces(row, tokenizer) == [f"I look. {call('cat main.rs')}<|im_end|>", "Done.<|im_end|>"]
    nothing = encode_all(recorded(TALK, thoughts={}), chatml, RECIPE)
    assert nothing.rows == () and nothing.left_out == ("the model ended none of its turns",)


def test_places_where_no_assistant_speaks_are_not_learned(tokenizer: Any) -> None:
    (row,) = encode_all(
        recorded(TALK, thoughts={1: "", 6: "", 7: ""}), with_template(tokenizer, TEMPLATES["chatml"]), RECIPE
    ).rows
    assert pieces(row, tokenizer) == ["Done.<|im_end|>"]


def test_a_conversation_is_cut_after_the_last_turn_that_fits_and_says_so(tokenizer: Any) -> None:
    fitting = with_template(tokenizer, TEMPLATES["chatml"])
    (whole,) = encode_all(example(TALK), fitting, RECIPE).rows
    second = whole.turns[1][1]
    done = encode_all(example(TALK), fitting, RECIPE.model_copy(update={"max_length": second}))
    assert done.rows[0].ids == whole.ids[:second]
    assert done.rows[0].turns == whole.turns[:2]
    assert done.left_out == (f"it is beyond {second} tokens",)
    nothing = encode_all(example(TALK), fitting, RECIPE.model_copy(update={"max_length": 8}))
    assert nothing.rows == () and nothing.left_out == ("it is beyond 8 tokens",) * 3


def test_a_template_that_leaves_calls_out_teaches_no_empty_answers(tokenizer: Any) -> None:
    silent = with_template(tokenizer, TEMPLATES["chatml"].replace(_CALLS, ""))
    done = encode_all(example(TALK), silent, RECIPE)
    assert [pieces(row, tokenizer) for row in done.rows] == [["Done.<|im_end|>"]]
    ending = encode_all(example(TALK[:5]), silent, RECIPE)
    assert ending.rows == ()
    assert all("does not show what the model wrote" in reason for reason in ending.left_out)


def test_a_template_that_knows_no_tools_refuses_with_its_own_words(tokenizer: Any) -> None:
    refusing = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{% endfor %}"
    )
    done = encode_all(example(TALK), with_template(tokenizer, refusing), RECIPE)
    assert done.rows == ()
    assert done.left_out[0] == "the chat template refuses it: no tools here"


def test_a_call_that_the_template_cannot_write_does_not_cost_the_turns_before_it(tokenizer: Any) -> None:
    strict = with_template(tokenizer, TEMPLATES["chatml"].replace("c.function.arguments | tojson", _ITEMS))
    broken = ToolCall(id="c2", name="bash", arguments="no json")
    done = encode_all(example((*TALK[:4], assistant("", broken), *TALK[5:])), strict, RECIPE)
    assert [pieces(row, tokenizer) for row in done.rows] == [
        ["I look. <call>bash command=cat main.rs</call><|im_end|>"]
    ]
    assert len(done.left_out) == 2


def test_a_question_with_its_answer_is_one_row_of_which_the_answer_is_learned_to_its_end(tokenizer: Any) -> None:
    chatml = with_template(tokenizer, TEMPLATES["chatml"])
    plain = example((*TALK[:2], assistant("1|fn main() {}")), first_turn=None)
    (row,) = encode_all(plain, chatml, RECIPE).rows
    ((start, end),) = row.turns
    assert tokenizer.decode(row.ids[start:]) == "1|fn main() {}<|im_end|>"
    assert (end, row.learned()) == (len(row.ids), list(range(start, end)))


# Qwen's tokenizer normalises to NFC, so that only such texts come out as they went in.
SAID = st.text(max_size=12).map(lambda text: unicodedata.normalize("NFC", text))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4),
    st.sampled_from(["chatml", "no break at the end"]),
)
def test_whatever_is_said_what_is_learned_is_what_the_assistant_said(
    tokenizer: Any, talk: list[tuple[str, str]], name: str
) -> None:
    marked = [(ask.replace("<", ""), answer.replace("<", "")) for ask, answer in talk]
    messages = tuple(m for ask, answer in marked for m in (user(ask), assistant(answer)))
    (row,) = encode_all(example(messages, first_turn=1), with_template(tokenizer, TEMPLATES[name]), RECIPE).rows
    said = [tokenizer.decode(row.ids[s:e], clean_up_tokenization_spaces=False) for s, e in row.turns]
    assert said == [f"{answer}<|im_end|>" for _, answer in marked]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_night_trains_on_conversations_and_says_what_it_leaves_out(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[Step] = []
    log.set_up(as_json=True)
    # The tiny model's template shows no calls, so only what was said beside them can be learned.
    rows = (example((*TALK[:2], assistant("I look."), user("Go on."), assistant("Done."))), example(TALK[:5]))
    mix = TrainingMix(examples=rows, shares={}, counts={}, notes=(), seed=1, sha256="m")
    recipe = RECIPE.model_copy(update={"steps": 8, "learning_rate": 5e-3, "max_length": 256})
    ChildTrainer(model, heard.append, threads=1).train(mix, None, recipe, tmp_path)
    assert heard[-1].loss < heard[0].loss
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.reset_defaults()
    assert {line["event"] for line in said} == {"train.left_out"}
    assert all("does not show what the model wrote" in line["reason"] for line in said)
