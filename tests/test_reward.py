"""What an answer earns by itself: the verifier's word, and nothing where it has none."""

from __future__ import annotations

import pytest
from fakes import FakeVerifier, make_task, right_answer

from sleepy_coder.errors import ConfigError, InfraError
from sleepy_coder.learn.reward import Reward, answer_in, reward_of
from sleepy_coder.learn.trainer import require
from sleepy_coder.types import Outcome, Verdict


def test_answers_earn_what_the_verifier_says_of_each_on_its_own_task() -> None:
    first, second = make_task(1), make_task(2)
    answers = [right_answer(1), right_answer(1), "no edit at all", right_answer(2)]
    names = [first.id, second.id, first.id, second.id]
    replies = [[{"role": "assistant", "content": answer}] for answer in answers]
    reward = Reward(FakeVerifier(), (first, second))
    assert reward(replies, names, prompts=[], completion_ids=[]) == [1.0, 0.0, 0.0, 1.0]


def test_an_answer_that_the_machine_could_not_judge_earns_nothing_and_costs_nothing() -> None:
    task = make_task(1)
    replies = [[{"role": "assistant", "content": right_answer(1)}]] * 2
    assert sorted(Reward(FakeVerifier(infra={task.id: 1}), (task,))(replies, [task.id] * 2), key=str) == [1.0, None]


def test_answers_of_which_the_machine_can_judge_none_are_its_failure_and_no_reward() -> None:
    task = make_task(1)
    answers = [right_answer(1), "1|nonsense", "no edit at all"]  # the last one fails whatever the machine does
    replies = [[{"role": "assistant", "content": answer}] for answer in answers]
    with pytest.raises(InfraError, match="the disk is full"):
        Reward(FakeVerifier(infra={task.id: 2}), (task,))(replies, [task.id] * 3)
    assert Reward(FakeVerifier(infra={task.id: 1}), (task,))(replies, [task.id] * 3)[2] == 0.0


@pytest.mark.parametrize(
    ("opened", "said", "judged"),
    [
        (False, "1|a", "1|a"),
        (False, "<think>\n1|b\n</think>\n1|a", "\n1|a"),
        (True, "1|b\n</think>1|a", "1|a"),
        (True, "1|b", ""),
        (False, "<think>1|b", ""),
        (False, "<think>1|b</think><think>1|c", ""),
    ],
)
def test_what_follows_a_thought_is_the_answer_and_a_thought_without_end_has_none(
    opened: bool, said: str, judged: str
) -> None:
    assert answer_in(said, opened) == judged


def test_a_reward_is_for_the_answer_and_not_for_what_was_thought_before_it() -> None:
    task = make_task(1)
    thoughts = f"1|nonsense</think>{right_answer(1)}", f"{right_answer(1)}</think>1|nonsense", right_answer(1)
    replies = [[{"role": "assistant", "content": said}] for said in thoughts]
    assert Reward(FakeVerifier(), (task,), opened=True)(replies, [task.id] * 3) == [1.0, 0.0, 0.0]


def test_a_cheat_is_worse_than_an_honest_failure() -> None:
    cheat = reward_of(Verdict(outcome=Outcome.FAIL, stage="cheat"))
    honest = reward_of(Verdict(outcome=Outcome.FAIL, stage="compile"))
    assert cheat is not None and honest is not None
    assert cheat < honest


def test_without_the_extra_a_recipe_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'sleepy-coder\[trl\]'"):
        require("a_package_that_nobody_has", "trl")
