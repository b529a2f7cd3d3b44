"""What an episode has to teach, in a few numbers: all that a night needs to choose among a million of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sleepy_coder.dialogue import feedback_in
from sleepy_coder.types import Episode, Outcome
from sleepy_coder.verify.diagnostics import error_in


@dataclass(frozen=True, slots=True)
class Lesson:
    """The attempts that were judged and those that passed; machine failures count as neither.

    `answer` names the answer that passed, equal for equal ones; `dreamable` says that the task was failed and
    can be asked again. `mistake` is the signature of the error that a passed answer to a prompt of ours mends: what it
    is found by as a hint for the same mistake elsewhere.
    """

    tried: int
    passed: int
    answer: int | None
    dreamable: bool
    mistake: str | None


def lesson_of(episode: Episode) -> Lesson | None:
    """None where no verifier vouches for the outcome, or there is no task to tell of."""
    if episode.task is None or episode.outcome_source != "verifier":
        return None
    judged = [attempt.verdict for attempt in episode.attempts if attempt.verdict.outcome is not Outcome.INFRA]
    answer = _answer(episode)
    return Lesson(
        tried=len(judged),
        passed=sum(verdict.passed for verdict in judged),
        answer=answer,
        mistake=None if answer is None else _mistake(episode),
        dreamable=episode.outcome is Outcome.FAIL and episode.task.prompt != "",
    )


def _answer(episode: Episode) -> int | None:
    """A digest of the answer that passed, if the last one did and the model wrote any of it.

    Conversations end in much the same words; what differs is what was done before.
    """
    last = episode.attempts[-1] if episode.attempts else None
    if last is None or episode.outcome is not Outcome.PASS or not last.verdict.passed or last.thoughts == {}:
        return None
    before = last.messages if last.first_turn is not None else ()
    digest = hashlib.blake2b(digest_size=8)
    for part in (last.completion, *(message.model_dump_json() for message in before)):
        data = part.encode(errors="surrogatepass")
        digest.update(f"{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest(), signed=True)


def _mistake(episode: Episode) -> str | None:
    """None for another agent's conversation: it shows no broken program with what the compiler says of it."""
    if episode.attempts[-1].first_turn is not None:
        return None
    return error_in(feedback_in(episode.attempts[0].messages)) or None
