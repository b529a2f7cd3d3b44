"""Surprise: how unlikely the model that serves finds what it may replay, by its own server."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Final

from sleepy_coder.errors import InfraError
from sleepy_coder.ports import ModelServer
from sleepy_coder.serve.rollout import in_parallel, one_request
from sleepy_coder.store_rows import example_hash
from sleepy_coder.types import Example, Record

MOST: Final = 400
"""Rows that one night asks about, drawn at random: a few seconds. Others can only be chosen at random."""


class Surprise(Record):
    """Mean NLL in nats per token, by `example_hash`."""

    nll: dict[str, float] = {}


def measure_surprise(rows: Sequence[Example], model: str, server: ModelServer, concurrency: int, seed: int) -> Surprise:
    """How unlikely `model` finds up to MOST of the rows.

    It is asked anew each night, for it changes with the model. Conversations with tools and answers with thoughts are
    left out: what the server's template makes of their turns is not the text of one answer. Raises ServerError.
    """
    plain = {example_hash(row): row for row in rows if _is_plain(row)}
    chosen = random.Random(seed).sample(sorted(plain), min(MOST, len(plain)))

    def ask(sha: str) -> tuple[str, float] | None:
        with contextlib.suppress(InfraError), one_request(server, model):  # longer than the server's context, say
            return sha, server.nll(model, plain[sha].messages, plain[sha].completion)

    return Surprise(nll=dict(found for found in in_parallel(ask, chosen, concurrency) if found))


def _is_plain(row: Example) -> bool:
    return not (row.tools or row.reply or row.thoughts or row.first_turn is not None)
