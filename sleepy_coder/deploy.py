"""The steps of a night that touch the model server: load, measure, promote or turn down."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.config import EvalSettings
from sleepy_coder.errors import AdapterError, ModelNotFound
from sleepy_coder.judge.evaluate import Arm, evaluate, stack_id
from sleepy_coder.parts import Parts
from sleepy_coder.ports import ModelServer
from sleepy_coder.registry import Registry
from sleepy_coder.tasks import set_id
from sleepy_coder.types import Adapter, Decision, EvalReport, GateVerdict, Outcome, Task

SENTINEL = 10  # one in so many frozen tasks is asked again before an earlier baseline is believed
_log = log.get("server")


def ensure_loaded(registry: Registry, server: ModelServer, adapter: Adapter) -> None:
    """Have the server hold `adapter`, from the registry's folder and with the registry's bytes.

    Raises AdapterError when the files have changed or the server loaded them from elsewhere.
    """
    registry.verify(adapter.name)
    roots = {model.name: model.root for model in server.models()}
    if adapter.name not in roots:
        server.load(adapter.name, adapter.path)
        _log.info("server.adapter_loaded", adapter=adapter.name)
        roots = {model.name: model.root for model in server.models()}
    if Path(roots.get(adapter.name, "")).resolve() != adapter.path.resolve():
        raise AdapterError(
            f"the server holds {adapter.name} from {roots.get(adapter.name, 'nowhere')}, not from {adapter.path}",
            "unload it there; it is loaded again from the registry",
        )


def incumbent(registry: Registry, server: ModelServer) -> Adapter | None:
    """The adapter that serves, loaded again if the server was restarted; None when the base serves."""
    active = registry.active()
    if active is not None:
        ensure_loaded(registry, server, active)
    return active


def arms(
    parts: Parts, cycle: int, serving: Adapter | None, candidate: Adapter
) -> tuple[tuple[Arm, Callable[[], EvalReport]], ...]:
    """How night `cycle` measures each arm. Until something was promoted, the baseline is the current arm too."""

    def baseline() -> EvalReport:
        return _remembered(parts, cycle) or _measure(parts, cycle, "baseline", None)

    def current() -> EvalReport:
        if serving is None:
            known = parts.store.evals(cycle=cycle, arm="baseline", limit=1)
            return known[0].model_copy(update={"arm": "current"}) if known else _measure(parts, cycle, "current", None)
        return _measure(parts, cycle, "current", serving)

    return (
        ("baseline", baseline),
        ("current", current),
        ("candidate", lambda: _measure(parts, cycle, "candidate", candidate)),
    )


def _remembered(parts: Parts, cycle: int) -> EvalReport | None:
    """The last baseline on this stack, if a random tenth of it, asked again, comes out the same; else None.

    The bare base does not change, and what it was measured with has a name (`stack`); the tenth is the
    sentinel for whatever that name does not cover.
    """
    stack = stack_id(parts.config.eval, parts.environment)
    earlier = parts.store.evals(arm="baseline", set_id=set_id(parts.frozen), model=parts.base.name, limit=1)
    if not earlier or (earlier[0].stack, earlier[0].weights_sha256) != (stack, parts.base.sha256):
        return None
    if any(sample.outcome is Outcome.INFRA for sample in earlier[0].samples):
        return None
    before = {(sample.task_id, sample.index): sample.outcome for sample in earlier[0].samples}
    few = random.Random(cycle).sample(parts.frozen, math.ceil(len(parts.frozen) / SENTINEL))
    again = _measure(parts, cycle, "other", None, few)
    if any(sample.outcome is not before[sample.task_id, sample.index] for sample in again.samples):
        _log.warning("eval.drifted", cycle=cycle, tasks=len(few))
        return None
    known = earlier[0].model_copy(update={"seconds": again.seconds})
    parts.store.save_eval(known, cycle)
    return known


def _measure(
    parts: Parts, cycle: int, arm: Arm, adapter: Adapter | None, tasks: Sequence[Task] | None = None
) -> EvalReport:
    asked = parts.frozen if tasks is None else tasks
    done = 0
    total = len(asked) * parts.config.eval.samples

    def tick() -> None:
        nonlocal done
        done += 1
        parts.watcher.tick(done, total)

    return measure(parts, arm, adapter, asked, parts.config.eval, tick, cycle)


def measure(
    parts: Parts,
    arm: Arm,
    adapter: Adapter | None,
    tasks: Sequence[Task],
    settings: EvalSettings,
    on_sample: Callable[[], object],
    cycle: int | None = None,
) -> EvalReport:
    """Evaluate `adapter` (None: the base) on `tasks` and keep the report, for night `cycle` where one asked.

    The adapter's weights are proved before and after.
    """
    if adapter is not None:
        ensure_loaded(parts.registry, parts.server, adapter)
    report = evaluate(
        parts.server,
        parts.verifier,
        adapter.name if adapter else parts.base.name,
        arm,
        adapter.sha256 if adapter else parts.base.sha256,
        tasks,
        settings,
        parts.environment,
        on_sample,
    )
    if adapter is not None:
        ensure_loaded(parts.registry, parts.server, adapter)
    parts.store.save_eval(report, cycle)
    return report


def promote(
    parts: Parts,
    serving: Adapter | None,
    candidate: Adapter,
    reports: tuple[EvalReport, ...],
    verdict: GateVerdict,
) -> Adapter:
    """Make `candidate` the one that serves. The previous one stays loaded for an instant rollback.

    Raises AdapterError when `serving`, which it was judged against, does not serve any more.
    """
    active = parts.registry.active()
    name = active.name if active else None
    if name not in (serving.name if serving else None, candidate.name):
        raise AdapterError(
            f"{name or parts.base.name} serves now, and {candidate.name} was not judged against it",
            "nothing was changed; the next night judges anew",
        )
    parts.registry.attach(candidate.name, reports, verdict)
    ensure_loaded(parts.registry, parts.server, candidate)
    return parts.registry.activate(candidate.name)


def turn_down(parts: Parts, candidate: Adapter, reports: tuple[EvalReport, ...], verdict: GateVerdict) -> Adapter:
    """Unload `candidate` and remember why. The incumbent was never touched.

    A rejected adapter can never be served; an undecided one stays staged, for whoever wants to look at it.
    """
    with contextlib.suppress(ModelNotFound):  # the server may have been restarted meanwhile
        parts.server.unload(candidate.name)
        _log.info("server.adapter_unloaded", adapter=candidate.name)
    staged = parts.registry.attach(candidate.name, reports, verdict)
    return parts.registry.reject(candidate.name, verdict) if verdict.decision is Decision.REJECT else staged
