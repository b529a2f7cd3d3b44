"""Around a night: the store is copied before it, and what is old is cleared away after it.

Never what serves, what a rollback goes to, or an episode.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from sleepy_coder import log
from sleepy_coder.choose import clear_contenders
from sleepy_coder.deploy import held_by, unload
from sleepy_coder.errors import InfraError, ServerError, SleepyError
from sleepy_coder.parts import Parts
from sleepy_coder.practice import night_folder, nights_folder
from sleepy_coder.serve.throwaway import is_throwaway

_log = log.get("night")
_BACKUPS = 3
_LEFT: Final = timedelta(days=1)


def tidy(parts: Parts) -> None:
    """Delete what failed and killed nights and drills left, adapters above `night.keep_adapters`, and exchanges that
    became episodes long ago.

    Adapters stay as they are when a server does not say what it holds: it may read their folders again. What fails in
    it is only logged: the night before it is over, and would be held again.
    """
    try:
        _clear_away(parts)
    except (SleepyError, OSError) as error:
        _log.error("night.not_tidied", reason=str(error))


def _clear_away(parts: Parts) -> None:
    _remove_night_folders(parts)
    _remove_throwaways(parts)
    try:
        _unload_throwaways(parts)
        clear_contenders(parts)
        adapters = parts.registry.prune(parts.config.night.keep_adapters, held_by(parts.server))
    except ServerError:
        adapters = ()
    before = parts.clock.now() - timedelta(days=parts.config.store.keep_exchanges_days)
    pruned = parts.store.prune_exchanges(before)
    _log.info("night.tidied", adapters=adapters, exchanges=pruned.exchanges, freed_bytes=pruned.bytes)


def _remove_night_folders(parts: Parts) -> None:
    """Checkpoints fill the disk that a night may have failed of. Those of the last one that failed may show why."""
    failed = [night.cycle for night in parts.store.nights(last=1, outcomes=("failed",))]
    kept = {night_folder(parts, cycle) for cycle in (*failed, parts.store.unfinished_night()) if cycle is not None}
    for folder in set(nights_folder(parts).glob("*")) - kept:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_throwaways(parts: Parts) -> None:
    """Adapters of drills and of `doctor` that were killed: no running one takes a day."""
    for folder in filter(lambda folder: is_throwaway(folder.name), parts.config.adapters.glob("*")):
        with suppress(FileNotFoundError):
            if abs(parts.clock.now().timestamp() - folder.stat().st_mtime) > _LEFT.total_seconds():
                shutil.rmtree(folder, ignore_errors=True)


def _unload_throwaways(parts: Parts) -> None:
    """Those whose folder is gone take a place on the server. Raises ServerError."""
    for model in {model for replica in parts.server.replicas for model in replica.models()}:
        folder = Path(model.root)
        ours = is_throwaway(model.name) and folder.resolve().parent == parts.config.adapters.resolve()
        if ours and not folder.exists():
            unload(parts.server, model.name)


def back_up(parts: Parts) -> None:
    """Keep a copy of the store with all of the day in it, once a date.

    No room for one is no reason to fail. Raises StoreError when the store is damaged: the night would build on sand.
    """
    try:
        copy = parts.store.keep_backup(f"{parts.clock.now():%Y-%m-%d}", _BACKUPS)
    except InfraError as error:
        _log.error("store.not_backed_up", reason=error.message, remedy=error.remedy)
    else:
        _log.info("store.backed_up", file=str(copy))
