"""Which rows each optimiser step learns from, in an order that follows from the seed alone."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

from sleepy_coder.learn.rows import EncodedRow
from sleepy_coder.types import Recipe

WINDOW: Final = 8  # steps


def batch_of(step: int, rows: Sequence[EncodedRow], recipe: Recipe) -> list[int]:
    """Indices of the rows of `step`, from (seed, step) alone: fresh shuffles of the examples, one after the other.

    Each pass takes one row of every example, the next one each time. How many rows a conversation is, is up to the chat
    template, and must not decide how much it weighs. Within a window of WINDOW steps rows of similar length go
    together, so that little is padded.
    """
    window = step // WINDOW
    first, end = window * WINDOW, min((window + 1) * WINDOW, recipe.steps)
    examples = _by_example(rows)
    places = [divmod(place, len(examples)) for place in range(first * recipe.batch_size, end * recipe.batch_size)]
    orders = {number: [one[number % len(one)] for one in examples] for number, _ in places}
    for number, order in orders.items():
        random.Random(f"{recipe.seed}/{number}").shuffle(order)
    drawn = [orders[number][place] for number, place in places]
    drawn.sort(key=lambda index: len(rows[index].ids))
    batches = [drawn[at : at + recipe.batch_size] for at in range(0, len(drawn), recipe.batch_size)]
    random.Random(f"{recipe.seed}/window/{window}").shuffle(batches)
    return batches[step - first]


def passes(examples: int, recipe: Recipe) -> int:
    """How often each of so many examples is drawn at most: rows of one beyond that number are never needed."""
    return math.ceil(recipe.steps * recipe.batch_size / examples)


def _by_example(rows: Sequence[EncodedRow]) -> list[list[int]]:
    """Indices of the rows of each example, in the order in which they come."""
    found: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(-1 - index if row.example is None else row.example, []).append(index)
    return list(found.values())
