"""What GRPO and SDFT answer anew: the questions as TRL takes them, and what has none that fits."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# A tokenizer is only partly typed.

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sleepy_coder.errors import InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.learn.child import say_left_out
from sleepy_coder.learn.trainer import TrainingJob
from sleepy_coder.ports import Verifier
from sleepy_coder.serve.rollout import opening
from sleepy_coder.types import Message

TEACHER_PROMPT: Final = """{prompt}

This answer to the same question was verified:
{privileged_context}

Now give an answer of your own."""
_THOUGHT: Final = "<think>"
_KEPT: Final = "rows.json"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of TRL's dataset before they are drawn; `too_long` as in `Training`."""

    asked: list[dict[str, Any]]
    too_long: int = 0


def openings(job: TrainingJob, tokenizer: Any, judge: Verifier, folder: Path) -> Rows:
    """The opening messages of `mix.tasks`. A job's are kept in `folder`, so that a resumed run has the very same ones.

    Raises InfraError when the machine can judge none of them.
    """
    kept = folder / _KEPT
    if kept.is_file():
        return Rows(json.loads(kept.read_bytes()))
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    unjudged: InfraError | None = None
    for task in job.mix.tasks:
        try:
            messages = opening(judge, task)
        except InfraError as error:
            unjudged = error
            left_out.append(error.message)
            continue
        if _fits(messages, job, tokenizer):
            rows.append({"prompt": plain(messages), "task": task.id})
        else:
            left_out.append(f"it is beyond {job.recipe.max_length} tokens")
    if not rows and unjudged:
        raise InfraError(f"there is no task to answer: {unjudged.message}", unjudged.remedy)
    say_left_out(left_out)
    write_atomic(kept, json.dumps(rows))
    return Rows(rows)


def questions(job: TrainingJob, tokenizer: Any) -> Rows:
    """The rows of one question and one verified answer; others cannot show the answer to a teacher."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    too_long = 0
    for row in job.mix.examples:
        if row.reply or row.tools or row.first_turn is not None or row.messages[-1].role != "user":
            left_out.append("it is a conversation with tools or several answers")
            continue
        question = row.messages[-1]
        told = TEACHER_PROMPT.format(prompt=question.content, privileged_context=row.completion)
        if _fits((*row.messages[:-1], question.model_copy(update={"content": told})), job, tokenizer):
            rows.append({"prompt": plain(row.messages), "privileged_context": row.completion})
        else:
            too_long += row.kind == "passed"
            left_out.append(f"with its answer shown it is beyond {job.recipe.max_length} tokens")
    say_left_out(left_out)
    return Rows(rows, too_long)


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as the chat template wants them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def opens_a_thought(tokenizer: Any) -> bool:
    """Whether the chat template begins each answer within a thought, so that the answer itself only closes it.

    Not where TRL takes thoughts out of answers by itself, as the tokenizer describes them.
    """
    if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
        return False
    asked = plain([Message(role="user", content="?")])
    return _rendered(asked, tokenizer).rstrip().endswith(_THOUGHT)


def _rendered(messages: list[dict[str, str]], tokenizer: Any) -> str:
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def _fits(messages: Sequence[Message], job: TrainingJob, tokenizer: Any) -> bool:
    """Whether an answer of the longest length fits behind `messages` into the model's context."""
    prompt = tokenizer(_rendered(plain(messages), tokenizer), add_special_tokens=False)["input_ids"]
    return len(prompt) + job.max_tokens <= job.recipe.max_length
