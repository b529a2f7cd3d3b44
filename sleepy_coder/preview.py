"""What a night would train on if it began now; nothing is asked of a model and nothing is changed."""

from __future__ import annotations

from sleepy_coder.anchors import known_anchors
from sleepy_coder.learn.dream import Dreams
from sleepy_coder.learn.mix import of_tasks
from sleepy_coder.material import answers_tasks, tasks_to_answer
from sleepy_coder.parts import Parts
from sleepy_coder.practice import choose_recipe, look_back, propose, too_little
from sleepy_coder.types import Record


class Preview(Record):
    """`rows` by kind as things stand; a night dreams about `failed_tasks` first, which may add rows of kind hard.

    `anchors` are those that are written already: the first night of a base model writes them. `too_little` says what is
    missing for a night; it is empty when there is `enough`.
    """

    cycle: int
    serving: str
    rows: dict[str, int]
    shares: dict[str, float]
    notes: tuple[str, ...]
    anchors: int
    failed_tasks: int
    learning_rate: float
    steps: int
    enough: bool
    too_little: str


def preview(parts: Parts) -> Preview:
    """Look at the store as the next night would. Raises StoreError."""
    unfinished = parts.store.unfinished_night()
    cycle = unfinished if unfinished is not None else parts.store.next_cycle()
    day, serving, anchors = look_back(parts), parts.registry.active(), known_anchors(parts)
    mix = propose(parts, cycle, day, anchors, Dreams(found=(), unsolved=()), serving)
    if answers_tasks(parts):
        mix = of_tasks(mix, tasks_to_answer(parts, cycle, day.until, day.fresh))
    recipe, lacks = choose_recipe(parts, cycle, mix, serving), too_little(parts, mix)
    return Preview(
        cycle=cycle,
        serving=parts.answering(serving)[0],
        rows=mix.counts,
        shares=mix.shares,
        notes=mix.notes,
        anchors=len(anchors),
        failed_tasks=len(parts.store.failed_tasks(day.until, cycle, parts.config.mix.dream_tasks, day.fresh)),
        learning_rate=recipe.learning_rate,
        steps=recipe.steps,
        enough=not lacks,
        too_little=lacks,
    )
