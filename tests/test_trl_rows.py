"""What GRPO answers anew: the same tasks however often a night is started, and none that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeVerifier, make_task

from sleepy_coder.errors import InfraError
from sleepy_coder.learn.trainer import TrainingJob
from sleepy_coder.learn.trl_rows import openings, opens_a_thought
from sleepy_coder.types import Recipe, TrainingMix

TASKS = tuple(make_task(number) for number in (1, 2, 3))


class Words:
    """A tokenizer for which a token is a word; its template ends with `begins`."""

    def __init__(self, begins: str = "") -> None:
        self._begins = begins

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return "\n".join(message["content"] for message in messages) + self._begins

    def __call__(self, text: str, **_: Any) -> dict[str, list[str]]:
        return {"input_ids": text.split()}


def job(max_length: int = 1000) -> TrainingJob:
    numbers = {"learning_rate": 1e-3, "rank": 4, "alpha": 8, "dropout": 0.0, "steps": 1, "batch_size": 8}
    more = {"warmup_steps": 0, "ema": 0.0, "kl_anchor": 0.0, "kl_verified": 0.0, "seed": 1, "objective": "grpo"}
    recipe = Recipe.model_validate({"name": "grpo", "max_length": max_length, **numbers, **more})
    mix = TrainingMix(examples=(), shares={}, counts={}, notes=(), seed=1, sha256="m", tasks=TASKS)
    return TrainingJob(model=Path("model"), parent=None, mix=mix, recipe=recipe, max_tokens=10)


def test_a_task_that_could_not_be_judged_at_one_start_does_not_change_the_rows_of_the_next(tmp_path: Path) -> None:
    judge = FakeVerifier(blind={TASKS[0].id: 1})
    first = openings(job(), Words(), judge, tmp_path)
    assert [row["task"] for row in first.asked] == [TASKS[1].id, TASKS[2].id]
    assert openings(job(), Words(), judge, tmp_path) == first


def test_where_no_task_can_be_judged_it_is_the_machines_failure_and_the_next_start_asks_again(tmp_path: Path) -> None:
    judge = FakeVerifier(blind={task.id: 1 for task in TASKS})
    with pytest.raises(InfraError, match="the disk is full"):
        openings(job(), Words(), judge, tmp_path)
    assert len(openings(job(), Words(), judge, tmp_path).asked) == len(TASKS)


def test_a_task_behind_which_no_answer_fits_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert openings(job(max_length=20), Words(), FakeVerifier(), tmp_path).asked == []
    said = json.loads(capsys.readouterr().out)
    assert said == {"event": "left_out", "reason": "it is beyond 20 tokens", "turns": 3}


@pytest.mark.parametrize(("begins", "opens"), [("<think>\n", True), ("", False), ("<think>\n\n</think>\n", False)])
def test_a_template_that_begins_an_answer_within_a_thought_is_known(begins: str, opens: bool) -> None:
    assert opens_a_thought(Words(begins)) == opens


def test_where_thoughts_are_taken_out_of_answers_already_none_is_open() -> None:
    described = Words("<think>\n")
    described.__dict__["response_schema"] = SimpleNamespace()
    assert not opens_a_thought(described)
