"""One model answer, applied and verified; and many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from sleepy_coder.dialogue import ReplyFormatError, apply_reply, first_messages, with_hints
from sleepy_coder.errors import AnswerTimedOut, InfraError, ServerError
from sleepy_coder.ports import ModelServer, Verifier
from sleepy_coder.types import Message, Outcome, Task, Thoughts, Verdict

Item = TypeVar("Item")
Result = TypeVar("Result")
Hinter = Callable[[Task, Verdict], str]
"""What may help with a task, of whose broken program the verifier says this; empty for nothing (learn/hints.py)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one completion is drawn. `max_tokens` bounds the reply."""

    temperature: float
    max_tokens: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer and what the verifier says of it. What the model thought before it is learned, and not judged.

    One that was `cut` at the longest length teaches nothing: the model did not end it there.
    """

    messages: tuple[Message, ...]
    completion: str
    verdict: Verdict
    served_by: str
    reasoning: str = ""
    cut: bool = False

    @property
    def thoughts(self) -> Thoughts | None:
        """As `Attempt` and `Example` hold them; None where there are none, empty where no turn was ended."""
        if self.cut:
            return {}
        return {len(self.messages): self.reasoning} if self.reasoning else None


def opening(verifier: Verifier, task: Task, hints: Hinter | None = None) -> tuple[Message, ...]:
    """The messages that open `task`, with what the compiler really says of its broken files, and hints where asked for.

    Raises InfraError when the compiler could not be asked.
    """
    verdict = verifier.verify(task, task.files)
    if verdict.outcome is Outcome.INFRA:
        raise InfraError(f"task {task.id} could not be judged: {verdict.detail}", "see `sleepy-coder koans show`")
    return with_hints(first_messages(task, verdict.feedback), hints(task, verdict) if hints else "")


@contextmanager
def one_request(server: ModelServer, model: str) -> Generator[None]:
    """Raises InfraError in place of a timeout or a 5xx while `model` goes on answering others.

    An answer without an end, or one that breaks the server's kernels, is about this request: it would fail in every
    night, and as the server's failure keep all of them from their end.
    """
    try:
        yield
    except ServerError as error:
        of_this_one = isinstance(error, AnswerTimedOut) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if not of_this_one or not _answers(server, model):
            raise
        raise InfraError(f"one request failed, while others are answered: {error.message}", error.remedy) from error


def _answers(server: ModelServer, model: str) -> bool:
    try:
        server.chat(model, (Message(role="user", content="1"),), max_tokens=1)
    except ServerError:
        return False
    return True


def attempt(
    server: ModelServer,
    verifier: Verifier,
    model: str,
    task: Task,
    messages: Sequence[Message],
    sampling: Sampling,
) -> Rollout:
    """Ask `model` once, apply its answer to the task's files and verify them.

    An answer that cannot be applied is a failure of the model, with a verdict that says so. Raises InfraError when this
    answer alone fails; ServerError when the server does, or when the reply comes from another model than the one asked
    for: weights that are not the ones under test must never be credited.
    """
    with one_request(server, model):
        reply = server.chat(
            model,
            messages,
            temperature=sampling.temperature,
            seed=sampling.seed,
            max_tokens=sampling.max_tokens,
        )
    if reply.model != model:
        raise ServerError(f"asked for {model}, but {reply.model} answered", "check the server's model names")
    if reply.finish_reason == "abort":
        raise ServerError(f"{model}'s answer was cut off by the server", "see the server's log; then start again")
    verdict = verdict_on(verifier, task, reply.text)
    cut = reply.finish_reason == "length"
    return Rollout(tuple(messages), reply.text, verdict, reply.model, reply.reasoning, cut)


def verdict_on(verifier: Verifier, task: Task, answer: str) -> Verdict:
    """What `verifier` says of the task's files with `answer` applied."""
    try:
        return verifier.verify(task, apply_reply(answer, task.files))
    except ReplyFormatError as error:
        return Verdict(
            outcome=Outcome.FAIL, stage="format", error_signature="format", feedback=f"no valid edit: {error}"
        )


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], concurrency: int) -> Iterator[Result]:
    """`work` over `items` in threads, results in order; the first error ends the rest."""
    with ThreadPoolExecutor(concurrency) as pool:
        futures = [pool.submit(copy_context().run, work, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
