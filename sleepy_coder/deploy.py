"""The steps of a night that touch the model server: load, measure, promote or turn down."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.config import EvalSettings
from sleepy_coder.dialogue import HINTS
from sleepy_coder.errors import AdapterError, ModelNotFound, ServerError, SleepyError
from sleepy_coder.judge.evaluate import Arm, evaluate
from sleepy_coder.parts import Parts
from sleepy_coder.ports import ModelServer, Replica
from sleepy_coder.registry import Registry
from sleepy_coder.serve.prover import Prover
from sleepy_coder.serve.rollout import Hinter
from sleepy_coder.types import Adapter, AdapterState, Decision, EvalReport, GateVerdict, Outcome, Task

_log = log.get("server")


def ensure_loaded(
    registry: Registry, server: ModelServer, adapter: Adapter, prover: Prover, *, keep: bool = False
) -> None:
    """Have every replica of `server` hold `adapter` with the registry's bytes, and prove that it answers with them.

    What serves stays loaded whatever it proves; with `keep` any other does as well. Raises AdapterError when the files
    have changed, a server loaded them from elsewhere or answers with other weights.
    """
    serves = registry.verify(adapter.name).state is AdapterState.ACTIVE
    load_proved(server, adapter, registry.manifest(adapter.name).base_sha256, prover, keep=keep or serves)


def load_proved(server: ModelServer, adapter: Adapter, base_sha256: str, prover: Prover, *, keep: bool) -> None:
    """Have every replica of `server` hold `adapter` from its folder, and prove that it answers with it.

    What one of them refuses, none keeps: it is unloaded again where this loaded it, unless `keep`. Raises AdapterError.
    """
    fresh: list[Replica] = []
    try:
        for replica in server.replicas:
            if _load(replica, adapter):
                fresh.append(replica)
            prover.prove(replica, adapter.name, base_sha256)
    except SleepyError:
        for replica in () if keep else fresh:
            with contextlib.suppress(ServerError):
                unload(replica, adapter.name, replica.url)
        raise


def _load(replica: Replica, adapter: Adapter) -> bool:
    """Whether `adapter` had to be loaded. Raises AdapterError when it is there from another folder."""
    held = {model.name: model.root for model in replica.models()}
    missing = adapter.name not in held
    if missing:
        try:
            replica.load(adapter.name, adapter.path)
            _log.info("server.adapter_loaded", adapter=adapter.name, server=replica.url)
        except ServerError:
            # The keeper or a night may have been quicker with the same adapter.
            if adapter.name not in {model.name for model in replica.models()}:
                raise
        held = {model.name: model.root for model in replica.models()}
    if Path(held.get(adapter.name, "")).resolve() != adapter.path.resolve():
        raise AdapterError(
            f"{replica.url} holds {adapter.name} from {held.get(adapter.name, 'nowhere')}, not from {adapter.path}",
            "unload it there; it is loaded again from the registry",
        )
    return missing


def stand_in(registry: Registry) -> None:
    """Go back to what served before when the files of what serves are damaged.

    They could be loaded nowhere any more, so that every later night would fail.
    """
    damaged = registry.step_back_if_damaged()
    if damaged is not None:
        _log.error("adapter.damaged", adapter=damaged)


def held_by(server: ModelServer) -> set[str]:
    """Every model that some replica holds. Raises ServerError when one of them does not say."""
    return {model.name for replica in server.replicas for model in replica.models()}


def incumbent(registry: Registry, server: ModelServer, prover: Prover) -> Adapter | None:
    """The adapter that serves, loaded again if the server was restarted; None when the base serves."""
    active = registry.active()
    if active is not None:
        ensure_loaded(registry, server, active, prover)
    return active


def ask(
    parts: Parts,
    arm: Arm,
    model: tuple[str, str],
    tasks: Sequence[Task],
    settings: EvalSettings,
    on_sample: Callable[[], object],
    hints: Hinter | None = None,
) -> EvalReport:
    """Evaluate `model` (its name, and the SHA-256 of its weights) until the curfew; nothing is proved nor kept."""
    name, sha256 = model
    environment = f"{parts.environment}\n{HINTS}" if hints else parts.environment
    return evaluate(parts.punctual, parts.verifier, name, arm, sha256, tasks, settings, environment, on_sample, hints)


def measure(
    parts: Parts,
    arm: Arm,
    adapter: Adapter | None,
    tasks: Sequence[Task],
    settings: EvalSettings,
    on_sample: Callable[[], object],
    cycle: int | None = None,
    hints: Hinter | None = None,
) -> EvalReport:
    """Evaluate `adapter` (None: the base) on `tasks` and keep the report, for night `cycle` where one asked.

    The adapter's weights are proved before and after. A report with `hints` compares with none without.
    """
    if adapter is not None:
        ensure_loaded(parts.registry, parts.server, adapter, parts.prover)
    report = ask(parts, arm, parts.answering(adapter), tasks, settings, on_sample, hints)
    if adapter is not None:
        ensure_loaded(parts.registry, parts.server, adapter, parts.prover)
    keep(parts, report, cycle)
    return report


def keep(parts: Parts, report: EvalReport, cycle: int | None) -> None:
    """Store a measurement, for night `cycle` where one asked, and log it."""
    parts.store.save_eval(report, cycle)
    _log.info(
        "eval.finished",
        arm=report.arm,
        model=report.model,
        pass_rate=round(report.pass_rate, 4),
        tasks=len({sample.task_id for sample in report.samples}),
        infra=len({sample.task_id for sample in report.samples if sample.outcome is Outcome.INFRA}),
        seconds=round(report.seconds, 3),
    )


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
    parts.registry.attach(candidate.name, reports, verdict)
    ensure_loaded(parts.registry, parts.server, candidate, parts.prover)
    judged_against = (serving.name if serving else None, candidate.name)
    return parts.registry.activate(candidate.name, instead_of=judged_against)


def turn_down(parts: Parts, candidate: Adapter, reports: tuple[EvalReport, ...], verdict: GateVerdict) -> Adapter:
    """Unload `candidate` and remember why. The incumbent was never touched.

    A rejected adapter can never be served; an undecided one stays staged, for whoever wants to look at it.
    """
    unload(parts.server, candidate.name)
    staged = parts.registry.attach(candidate.name, reports, verdict)
    return parts.registry.reject(candidate.name, verdict) if verdict.decision is Decision.REJECT else staged


def unload(server: ModelServer, name: str, where: str = "all") -> None:
    """Unload the adapter `name`; it may be gone already, when the server was restarted meanwhile.

    `where` is the server's URL, for the log; all replicas are one server.
    """
    with contextlib.suppress(ModelNotFound):
        server.unload(name)
        _log.info("server.adapter_unloaded", adapter=name, server=where)
