"""A night that comes to no verdict: what it left on the model server, and how one that nobody goes on with ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sleepy_coder import log
from sleepy_coder.adapter_manifest import adapter_name
from sleepy_coder.config import Config
from sleepy_coder.deploy import unload
from sleepy_coder.errors import ServerError, SleepyError
from sleepy_coder.files import private_folder
from sleepy_coder.journal import Journal, alone
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.ports import Clock, ModelServer
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.types import NightReport

_log = log.get("night")


def abandon(config: Config, store: Store, registry: Registry, server: ModelServer, clock: Clock) -> NightReport:
    """End the unfinished night as failed. It asks no more of a model server than to unload, and of none that is gone.

    Raises SleepyError when no night is unfinished, and AlreadyRuns while one runs.
    """
    _must_be_unfinished(store)  # before there is a lock: a folder without a night becomes no home
    private_folder(config.state)
    with alone(NapFiles(config.state).lock):
        _must_be_unfinished(store)
        night = Journal(store)
        report = NightReport(
            cycle=night.cycle,
            started=night.began(clock.now),
            finished=clock.now(),
            outcome="failed",
            reason="abandoned by hand",
            serving=registry.serving(config.server.base_name),
        )
        unload_left(config.home, registry, server, night.cycle)
        store.finish_night(report)
        _log.error("night.failed", cycle=report.cycle, reason=report.reason)
        return report


def _must_be_unfinished(store: Store) -> None:
    if store.unfinished_night() is None:
        raise SleepyError(
            "no night is unfinished", "there is nothing to end; `sleepy-coder nights` lists the finished ones"
        )


def unload_left(home: Path, registry: Registry, server: ModelServer, cycle: int) -> None:
    """Unload what night `cycle` of this home loaded and nobody is served from, nor would be after a rollback.

    A server that does not answer keeps it: no name is ever given to other bytes.
    """
    active, ours = registry.active(), adapter_name(cycle, "")
    kept = {active.name if active else None, registry.previous()}
    for replica in server.replicas:
        with suppress(ServerError):
            for model in replica.models():
                of_home = Path(model.root).resolve().is_relative_to(home.resolve())
                if of_home and model.name.startswith(ours) and model.name not in kept:
                    unload(replica, model.name, replica.url)
