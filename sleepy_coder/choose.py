"""The step of a night between training and the gate: which weights, and at what scale, become the candidate.

Loss does not find the best checkpoint, so each contender is loaded, answers tasks of the dev split and is unloaded
again; nothing of the frozen set is read. Only what was chosen enters the registry.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.adapter_manifest import FAST, adapter_name, content_sha256
from sleepy_coder.deploy import ask, load_proved, unload
from sleepy_coder.errors import AdapterError, TrainingError
from sleepy_coder.judge.choice import best_first, finalists, ruling, within
from sleepy_coder.learn.contenders import contenders, scaled
from sleepy_coder.learn.outputs import OUTPUT, Training
from sleepy_coder.parts import Parts
from sleepy_coder.ports import counting
from sleepy_coder.practice import night_folder
from sleepy_coder.serve.prover import Prover
from sleepy_coder.types import (
    Adapter,
    AdapterState,
    Choice,
    Contender,
    EvalReport,
    Outcome,
    Recipe,
    Task,
    TrainingMix,
)

_SERVED = "served"
_CONTENDERS = ".contenders-"
"""How their folder begins. It is among the adapters, because some servers see nothing else of the home; the registry
looks past it, since that is no adapter's name."""
_log = log.get("night")


def choose(parts: Parts, cycle: int, serving: Adapter | None, recipe: Recipe, training: Training) -> Choice:
    """The contenders of this night's training, measured, the best first; may be done again from the start.

    All of them answer a third of the tasks, the best third of them the rest. What serves and the recipe's own output
    answer all. A recipe that keeps no checkpoints serves its output, unmeasured.
    """
    tasks = _dev_tasks(parts, cycle)
    if not recipe.checkpoints or not tasks:
        return Choice(contenders=(Contender(weights=OUTPUT),))
    started = time.monotonic()
    few, rest = tasks[: max(1, len(tasks) // 3)], tasks[max(1, len(tasks) // 3) :]
    whole, *others = contenders(training, recipe.kl_limit)
    in_final = min(len(others), len(finalists([whole, *others])))
    total = 2 * len(tasks) + len(others) * len(few) + in_final * len(rest)
    trials = _Trials(parts, cycle, counting(parts.watcher, total))
    clear_contenders(parts)
    try:
        served = trials.served(serving, tasks)
        whole = trials.measured(whole, tasks)
        tried = [trials.measured(one, few) for one in others]
        names = [task.id for task in few]
        chosen = {(one.weights, one.scale) for one in finalists([within(whole, names), *tried])}
        last = [trials.measured(one, rest) for one in tried if (one.weights, one.scale) in chosen]
    finally:
        clear_contenders(parts)
    early = [one for one in tried if (one.weights, one.scale) not in chosen]
    ranked = (*best_first([whole, *last]), *best_first(early))
    said, reason = ruling(ranked[0], whole, served)
    choice = Choice(contenders=ranked, served=served, ruling=said, reason=reason)
    _log.warning(
        "choose.finished",
        cycle=cycle,
        weights=choice.chosen.weights,
        scale=choice.chosen.scale,
        ruling=said,
        pass_rates={"chosen": round(choice.chosen.rate, 4), _SERVED: round(served.rate, 4)},
        contenders=len(ranked),
        tasks=len(tasks),
        seconds=round(time.monotonic() - started, 3),
    )
    return choice


def stage_chosen(
    parts: Parts, cycle: int, mix: TrainingMix, start: Adapter | None, recipe: Recipe, choice: Choice
) -> Adapter:
    """Take the chosen weights into the registry. Training started from `start`."""
    work, chosen = night_folder(parts, cycle) / "train", choice.chosen
    folder = work / chosen.weights
    staged = parts.registry.stage(
        folder if chosen.scale == 1 else scaled(folder, chosen.scale, work / "chosen"),
        cycle=cycle,
        parent=start.name if start else None,
        base=parts.base.path,
        base_model=parts.base.name,
        base_sha256=parts.base.sha256,
        mix=mix,
        recipe=recipe,
        choice=choice if choice.served else None,
        fast=work / FAST if recipe.dual and (work / FAST).is_dir() else None,
    )
    active = parts.registry.active()
    if active is not None and staged.name == active.name:  # turning it down would unload what serves
        raise TrainingError(f"training produced {active.name} again, which already serves", "nothing was changed")
    return staged


def clear_contenders(parts: Parts) -> None:
    """Unload contenders that are loaded, also those of a night that was killed, and remove their folders.

    Raises ServerError.
    """
    adapters = parts.config.adapters.resolve()
    for model in {model for replica in parts.server.replicas for model in replica.models()}:
        folder = Path(model.root).resolve().parent
        if folder.parent == adapters and folder.name.startswith(_CONTENDERS):
            unload(parts.server, model.name)
    for folder in adapters.glob(f"{_CONTENDERS}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _dev_tasks(parts: Parts, cycle: int) -> tuple[Task, ...]:
    """Tonight's dev tasks: others each night, so that no night's choices are fitted to the same few."""
    count = min(parts.config.recipe.choose_tasks, len(parts.dev))
    return tuple(random.Random(f"dev/{parts.config.seed}/{cycle}").sample(parts.dev, count))


@dataclass
class _Trials:
    """Measures contenders one at a time, each under the name that its bytes give it, and tells how far it is."""

    parts: Parts
    cycle: int
    tick: Callable[[], None]

    @property
    def _folder(self) -> Path:
        return self.parts.config.adapters / f"{_CONTENDERS}{self.cycle:04d}"

    def served(self, serving: Adapter | None, tasks: Sequence[Task]) -> Contender:
        return _with(Contender(weights=_SERVED), self._ask(self.parts.answering(serving), tasks))

    def measured(self, one: Contender, tasks: Sequence[Task]) -> Contender:
        """`one` with its results on `tasks` added; without them when the server does not apply it."""
        place = f"{one.weights.replace('/', '-')}-{one.scale:g}"
        weights = night_folder(self.parts, self.cycle) / "train" / one.weights
        adapter = self._adapter(scaled(weights, one.scale, self._folder / place))
        known = self.parts.prover
        prover = Prover(self._folder / "fingerprints", known.base, known.tolerance)
        try:
            load_proved(self.parts.server, adapter, self.parts.base.sha256, prover, keep=False)
        except AdapterError:
            return one
        try:
            return _with(one, self._ask(self.parts.answering(adapter), tasks))
        finally:
            unload(self.parts.server, adapter.name)

    def _adapter(self, folder: Path) -> Adapter:
        sha256 = content_sha256(folder)
        name = adapter_name(self.cycle, sha256)
        return Adapter(name=name, cycle=self.cycle, parent=None, path=folder, sha256=sha256, state=AdapterState.STAGED)

    def _ask(self, model: tuple[str, str], tasks: Sequence[Task]) -> EvalReport:
        once = self.parts.config.eval.model_copy(update={"samples": 1})
        return ask(self.parts, "other", model, tasks, once, self.tick)


def _with(one: Contender, report: EvalReport) -> Contender:
    """`one` with what the report says of each task; what the machine failed is neither passed nor failed."""
    by = {outcome: tuple(s.task_id for s in report.samples if s.outcome is outcome) for outcome in Outcome}
    return one.model_copy(update={"passed": one.passed + by[Outcome.PASS], "failed": one.failed + by[Outcome.FAIL]})
