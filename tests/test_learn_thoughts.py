"""What a thinking model thought before its answer is learned with it, and never judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import (
    BASE,
    REHEARSAL,
    Answer,
    FakeClock,
    FakeServer,
    FakeTrainer,
    FakeVerifier,
    make_task,
    passed_examples,
    right_answer,
    solver,
)
from fakes import parts as house_of
from talks import assistant, thinking, user
from test_agent import SETTINGS, green_after_feedback
from test_learn_rows import FORGETFUL, RECIPE, TEMPLATES, example, with_template

from sleepy_coder.anchors import known_anchors, write_anchors
from sleepy_coder.collect.agent import solve
from sleepy_coder.collect.formats import ExportFormat, exported
from sleepy_coder.config import EvalSettings, MixSettings
from sleepy_coder.judge.evaluate import evaluate
from sleepy_coder.learn.dream import Dreamer, dream
from sleepy_coder.learn.rows import encode_all
from sleepy_coder.learn.surprise import measure_surprise
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.store_rows import example_hash
from sleepy_coder.types import Episode, Example, Outcome

THOUGHT = "The name is broken.\n1|nonsense"
# As gpt-oss's, which reads thoughts under a name of its own.
GPT_OSS = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if loop.last and 'thinking' in m %}<|channel|>analysis<|message|>"
    "{{ m.thinking }}<|end|><|start|>assistant{% endif %}<|message|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_DIR)


def thinker(answer: Answer | None = None, thought: str = THOUGHT) -> FakeServer:
    server = FakeServer(answer or solver(range(200)))
    server.thought = thought
    return server


def anchor(server: FakeServer, home: Path) -> tuple[int, Example]:
    """The first anchor, as later nights read it."""
    parts = house_of(home, server, FakeTrainer())
    write_anchors(parts)
    return REHEARSAL[0], known_anchors(parts)[0]


def dreamt(server: FakeServer, home: Path) -> tuple[int, Example]:
    dreamer = Dreamer((BASE,), server, FakeVerifier(), MixSettings(dream_samples=4), 64, seed=5, concurrency=1)
    return 1, dream((make_task(1),), dreamer).found[0]


def worked(server: FakeServer) -> Episode:
    return solve(make_task(1), BASE, server, FakeVerifier(), SETTINGS, FakeClock(), "s", seed=40)


def practised(server: FakeServer, home: Path) -> tuple[int, Example]:
    """The row of a task that the built-in agent mends by day."""

    return 1, passed_examples([worked(server)], 4)[0]


Way = Callable[[FakeServer, Path], tuple[int, Example]]
WAYS = pytest.mark.parametrize("way", [anchor, dreamt, practised])


@WAYS
def test_an_answer_is_learned_with_the_thought_that_was_served(way: Way, tokenizer: Any, tmp_path: Path) -> None:
    number, row = way(thinker(), tmp_path)
    (found,) = encode_all(row, with_template(tokenizer, FORGETFUL), RECIPE).rows
    assert (
        tokenizer.decode(found.ids[found.turns[0][0] :]) == f"<think>{THOUGHT}</think>{right_answer(number)}<|im_end|>"
    )


@WAYS
def test_an_answer_without_a_thought_is_the_row_that_it_always_was(way: Way, tokenizer: Any, tmp_path: Path) -> None:
    number, row = way(thinker(thought=""), tmp_path)
    assert "thoughts" not in row.model_dump_json()
    (found,) = encode_all(row, with_template(tokenizer, FORGETFUL), RECIPE).rows
    assert tokenizer.decode(found.ids[found.turns[0][0] :]) == f"{right_answer(number)}<|im_end|>"


def test_the_thought_before_a_late_fix_is_learned_behind_the_first_prompt(tokenizer: Any, tmp_path: Path) -> None:
    _, row = practised(thinker(green_after_feedback), tmp_path)
    (found,) = encode_all(row, with_template(tokenizer, FORGETFUL), RECIPE).rows
    assert len(row.messages) == 2
    assert THOUGHT in tokenizer.decode(found.ids[found.turns[0][0] :])


def test_the_thought_of_a_retry_after_a_failure_is_kept_and_is_not_sent_again() -> None:
    server = thinker(green_after_feedback)
    first, second = worked(server).attempts
    assert (first.thoughts, second.thoughts) == ({2: THOUGHT}, {4: THOUGHT})
    assert not any(message.reasoning for call in server.asked for message in call.messages)


def test_an_evaluation_judges_the_answer_and_not_the_thought() -> None:
    server = thinker(solver([1000]), thought=right_answer(1001))
    tasks = (make_task(1000), make_task(1001))
    report = evaluate(server, FakeVerifier(), BASE, "baseline", "w", tasks, EvalSettings(samples=1), "stack")
    assert [sample.outcome for sample in report.samples] == [Outcome.PASS, Outcome.FAIL]
    assert report.samples[0].completion == right_answer(1000)


def test_a_template_that_reads_thoughts_under_gpt_osss_name_is_given_them(tokenizer: Any) -> None:
    (row,) = encode_all(example((user("a"), thinking("Hm.", "1|x")), 1), with_template(tokenizer, GPT_OSS), RECIPE).rows
    assert "<|channel|>analysis<|message|>Hm.<|end|>" in tokenizer.decode(row.ids[row.turns[0][0] :])


def test_a_template_that_drops_the_thought_does_not_teach_to_answer_without_it(tokenizer: Any) -> None:
    talk = (user("a"), thinking("Hm.", "1|x"), user("b"), assistant("2|y"))
    done = encode_all(example(talk, first_turn=1), with_template(tokenizer, TEMPLATES["chatml"]), RECIPE)
    assert [tokenizer.decode(row.ids[row.turns[0][0] :]) for row in done.rows] == ["2|y<|im_end|>"]
    assert done.left_out == ("the chat template does not show what the model wrote",)


def test_equal_answers_after_different_thoughts_are_different_rows(tmp_path: Path) -> None:
    hashes = {example_hash(dreamt(thinker(thought=thought), tmp_path)[1]) for thought in ("", "A", "B")}
    assert len(hashes) == 3


def test_the_server_is_not_asked_how_likely_an_answer_is_without_its_thought(tmp_path: Path) -> None:
    _, row = dreamt(thinker(), tmp_path)
    assert measure_surprise([row], BASE, thinker(), 1, 1).nll == {}


def test_an_exported_answer_has_its_thought() -> None:
    line = exported(worked(thinker()), ExportFormat.HF)
    assert line is not None
    assert line["messages"][-1]["reasoning_content"] == THOUGHT
