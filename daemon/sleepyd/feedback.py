"""What `POST /v1/feedback` takes: a word of a person on a session, or on one reply in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from sleepy_coder.collect.gathering import exchange_name
from sleepy_coder.collect.identify import clean
from sleepy_coder.errors import problems
from sleepy_coder.ports import Redactor
from sleepy_coder.store import Store

FEEDBACK: Final = "/v1/feedback"

# vLLM makes its replies' ids from ours: `chatcmpl-<id>`, `cmpl-<id>-0`; those of /v1/responses are its own.
_EXCHANGE_ID: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_FOREIGN: Final = "resp_"


class WrongFeedback(ValueError):
    """A body that says nothing about anything, with the reason."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """`about` is the name in the store: a session, or an exchange by `exchange_name`."""

    about: str
    good: bool
    note: str


KeepFeedback = Callable[[Feedback], None]
"""Stores it. Raises SecretFound or StoreError."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    good: StrictBool
    session: str = Field("", max_length=200)
    id: str = Field("", max_length=200)
    note: str = Field("", max_length=10_000)


def read_feedback(tag: str, body: bytes) -> Feedback:
    """The feedback in a request with this path tag; an id counts before a session, the tag last. Raises WrongFeedback.

    A session is named as the gateway names it in the record (`identify`), so that the two meet.
    """
    try:
        said = _Body.model_validate_json(body)
    except ValidationError as error:
        raise WrongFeedback(f"wrong feedback: {'; '.join(problems(error, 'body'))}") from error
    if said.id:
        found = None if said.id.startswith(_FOREIGN) else _EXCHANGE_ID.search(said.id)
        if found is None:
            raise WrongFeedback("id: no exchange of this gateway has such an id; name the session instead")
        return Feedback(exchange_name(found[0]), said.good, said.note)
    session = clean(said.session) or clean(tag)
    if not session:
        raise WrongFeedback("give session or id, or a session in the path")
    return Feedback(session, said.good, said.note)


def keeping(store: Store, redactor: Redactor) -> KeepFeedback:
    """Keeps feedback in `store`, its note without secrets."""

    def keep(said: Feedback) -> None:
        store.save_feedback(said.about, said.good, redactor.redact(said.note))

    return keep
