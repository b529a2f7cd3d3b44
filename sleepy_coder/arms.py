"""The arms of a night: the baseline whole and seldom, served and candidate interleaved until the verdict is final.

Clusters are measured in blocks, in the night's fixed order. In each block both rivals answer the same tasks with the
same seeds, one after the other in random order, so that whatever changes in the course of a night meets both alike.
Requests of the two are never in flight together: beside requests for adapters, vLLM's CPU build answers for the base
with the weights of an adapter (vllm-project/vllm#48421). After each block the gate looks, and a final verdict ends
the measuring. Each block is kept by itself: a night that was killed goes on with the next. What the machine failed on
is asked once more, of both, before that and at the end: an outage of some minutes need not cost a night its verdict.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sleepy_coder import log
from sleepy_coder.config import EvalSettings
from sleepy_coder.deploy import ask, ensure_loaded, measure
from sleepy_coder.journal import Journal
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.judge.drift import drifted
from sleepy_coder.judge.evaluate import Arm, joined, restricted, stack_id
from sleepy_coder.parts import Parts
from sleepy_coder.ports import counting
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Adapter, EvalReport, Outcome, Task

SENTINEL = 10  # one in so many frozen tasks is asked again before an earlier baseline is believed
_log = log.get("server")

Pair = tuple[EvalReport, EvalReport]
"""What current and candidate answered to the same tasks, in this order."""


@dataclass(frozen=True, slots=True)
class Rivals:
    """What is measured interleaved in night `night`; None serves as the base. `step` is the journal's name of it."""

    parts: Parts
    night: Journal
    step: str
    serving: Adapter | None
    candidate: Adapter

    def measure(self, order: Sequence[Cluster], tasks: Sequence[Task], final: Callable[[Pair], bool]) -> Pair:
        """Both on `order`, of `tasks`, block by block, until what they have answered makes the verdict `final`.

        The reports hold what was measured. Raises AdapterError when one of them does not answer with its own weights
        before the first block or after any; NightPaused at the curfew.
        """
        known = {task.id: task for task in tasks}
        size, samples = self.parts.policy.block, self.parts.config.eval.samples
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        total = 2 * samples * sum(len(cluster.tasks) for cluster in order)
        measured: list[Task] = []
        found: Pair = (self._ask("current", ()), self._ask("candidate", ()))
        self._prove()
        for number, block in enumerate(blocks, 1):
            if final(found):
                found = self._asked_again(found, measured, number - 1, total)
                if final(found):
                    return found
            asked = [known[task] for cluster in block for task in cluster.tasks]
            measured += asked
            work = partial(self._block, number, asked, len(found[0].samples) * 2, total)
            current, candidate = self.night.noted(f"{self.step}/{number}", Pair, work)
            found = (joined(found[0], current, measured), joined(found[1], candidate, measured))
        return self._asked_again(found, measured, len(blocks), total)

    def _asked_again(self, found: Pair, tasks: Sequence[Task], number: int, total: int) -> Pair:
        """`found` on `tasks`, with what either arm was not measured on asked once more, after block `number`."""
        lost = {s.task_id for report in found for s in report.samples if s.outcome is Outcome.INFRA}
        if not lost:
            return found
        asked, kept = [t for t in tasks if t.id in lost], [t for t in tasks if t.id not in lost]
        done = len(restricted(found[0], kept).samples) * 2
        again = self.night.noted(f"{self.step}/{number}/again", Pair, partial(self._block, number, asked, done, total))
        current, candidate = (joined(restricted(f, kept), a, tasks) for f, a in zip(found, again, strict=True))
        return current, candidate

    def _block(self, number: int, asked: Sequence[Task], done: int, total: int) -> Pair:
        order: list[Arm] = ["current", "candidate"]
        random.Random(f"{self.night.cycle} {self.step} {number}").shuffle(order)
        tick = counting(self.parts.watcher, total, done)
        found = {arm: self._ask(arm, asked, tick) for arm in order}
        self._prove()
        _log.info("eval.block", cycle=self.night.cycle, block=number, tasks=len(asked), order=order)
        return found["current"], found["candidate"]

    def _ask(self, arm: Arm, asked: Sequence[Task], tick: Callable[[], object] = lambda: None) -> EvalReport:
        model = self.parts.answering(self.serving if arm == "current" else self.candidate)
        return ask(self.parts, arm, model, asked, self.parts.config.eval, tick)

    def _prove(self) -> None:
        for adapter in (self.serving, self.candidate):
            if adapter is not None:
                ensure_loaded(self.parts.registry, self.parts.server, adapter, self.parts.prover)


def baseline_arm(parts: Parts, cycle: int) -> EvalReport:
    """The bare base on the whole frozen set: the earlier measurement when it still holds, else a new one."""
    return _remembered(parts, cycle) or _baseline(parts, cycle, "baseline", parts.frozen, baseline_settings(parts))


def fresh_baseline(parts: Parts, cycle: int, tasks: Sequence[Task]) -> EvalReport:
    """The bare base on fresh tasks, which are others every night."""
    return _baseline(parts, cycle, "other", tasks, parts.config.eval)


def baseline_settings(parts: Parts) -> EvalSettings:
    """How the baseline is drawn: as the other arms, with more samples. Greedy answers are all the same."""
    settings = parts.config.eval
    more = settings.baseline_samples if settings.temperature > 0 else 0
    return settings.model_copy(update={"samples": max(settings.samples, more)})


def _remembered(parts: Parts, cycle: int) -> EvalReport | None:
    """The last baseline on this stack, if a random tenth of it, asked again, comes out the same; else None.

    The bare base does not change, and what it was measured with has a name (`stack`); the tenth is the
    sentinel for whatever that name does not cover.
    """
    settings = baseline_settings(parts)
    stack = stack_id(settings, parts.environment)
    earlier = parts.store.evals(arm="baseline", set_id=set_id(parts.frozen), model=parts.base.name, limit=1)
    if not earlier or (earlier[0].stack, earlier[0].weights_sha256) != (stack, parts.base.sha256):
        return None
    samples = earlier[0].samples
    if len(samples) < settings.samples * len(parts.frozen) or any(s.outcome is Outcome.INFRA for s in samples):
        return None
    few = random.Random(cycle).sample(parts.frozen, math.ceil(len(parts.frozen) / SENTINEL))
    again = _baseline(parts, cycle, "other", few, parts.config.eval)
    if drifted(earlier[0], again, greedy=settings.temperature == 0):
        _log.warning("eval.drifted", cycle=cycle, tasks=len(few))
        return None
    known = earlier[0].model_copy(update={"seconds": again.seconds})
    parts.store.save_eval(known, cycle)
    _log.info("eval.remembered", model=known.model, pass_rate=round(known.pass_rate, 4), tasks=len(parts.frozen))
    return known


def _baseline(parts: Parts, cycle: int, arm: Arm, tasks: Sequence[Task], settings: EvalSettings) -> EvalReport:
    tick = counting(parts.watcher, len(tasks) * settings.samples)
    return measure(parts, arm, None, tasks, settings, tick, cycle)
