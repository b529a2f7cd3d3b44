"""Turns captures into records on a thread of its own, so that no reply ever waits for it.

It fails closed: what cannot be redacted is not kept. It never fails the gateway: a full queue, a broken disk or
a capture that nothing can be made of is counted, logged and forgotten.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from sleepy_coder import log
from sleepy_coder.config import GatewaySettings
from sleepy_coder.errors import SecretFound
from sleepy_coder.ports import Redactor
from sleepy_coder.types import Exchange

from .capture import Capture, Unreadable, exchange_of
from .meters import Meters

_BATCH: Final = 128  # one transaction each: a sync of the disk per record would be most of the work
_GATHER_SECONDS: Final = 0.2
_REPORT_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.0002
_NOT_OURS: Final = (401, 403)

Save = Callable[[Sequence[Exchange]], object]


class Recorder:
    """Use it as a context manager, or call `start` and `close`. What `save` refuses, by any error, counts as lost."""

    def __init__(self, save: Save, redactor: Redactor, settings: GatewaySettings, meters: Meters) -> None:
        self._save, self._redactor, self._meters = save, redactor, meters
        self._on = settings.record
        self._queue: queue.Queue[Capture | None] = queue.Queue(settings.queue_size)
        self._room = settings.queue_bytes
        self._held = 0
        self._lost: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._log = log.get("recorder")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        # The thread shares the interpreter with the event loop, which must not wait the usual 5 ms for its turn.
        sys.setswitchinterval(_TURN_SECONDS)
        self._thread.start()

    def close(self, timeout: float = 30.0) -> int:
        """Save what is waiting, for at most `timeout` seconds. Returns how many were left unsaved."""
        self._closing.set()
        with suppress(queue.Full):  # a full queue keeps the thread awake anyway
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._guarded(self._report)
        with self._queue.mutex:
            return sum(capture is not None for capture in self._queue.queue)  # what ends the thread is no capture

    @property
    def depth(self) -> int:
        """Captures that wait."""
        return self._queue.qsize()

    def wants(self) -> bool:
        """Whether a capture would be kept at all."""
        return self._on

    def offer(self, capture: Capture) -> None:
        """Take a finished capture, or count it as lost. Never waits and never raises."""
        if capture.status in _NOT_OURS:
            self._drop("not_authorised")
        elif capture.too_large:
            self._drop("too_large")
        elif self._held + capture.size > self._room:
            self._drop("queue_full")
        else:
            try:
                self._queue.put_nowait(capture)
            except queue.Full:
                self._drop("queue_full")
                return
            with self._lock:
                self._held += capture.size

    # The thread

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                self._guarded(partial(self._record, batch))
            self._guarded(self._report)
            if not batch and self._closing.is_set():
                return

    def _guarded(self, work: Callable[[], object]) -> None:
        """What fails must not end the thread: nothing would be recorded any more."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - what models say comes in every form
            with suppress(Exception):  # the log may be what fails
                self._log.error("recorder.failed", reason=f"{type(error).__name__}: {error}")

    def _next_batch(self) -> list[Capture]:
        """What waits, at most _BATCH; waits itself for a while when nothing does."""
        batch: list[Capture] = []
        try:
            wait = 0.05 if self._closing.is_set() else _REPORT_SECONDS
            first = self._queue.get(timeout=wait)
            self._closing.wait(_GATHER_SECONDS)  # more come meanwhile, and the reply that just went is in peace
            while first is not None:
                batch.append(first)
                if len(batch) == _BATCH:
                    break
                first = self._queue.get_nowait()
        except queue.Empty:
            pass
        with self._lock:
            self._held -= sum(capture.size for capture in batch)
        return batch

    def _record(self, batch: Sequence[Capture]) -> None:
        exchanges = [exchange for capture in batch if (exchange := self._exchange(capture))]
        if not exchanges:
            return
        try:
            self._save(exchanges)
        except Exception as error:  # noqa: BLE001 - whatever it is, these are lost and have to be counted
            self._drop("store", len(exchanges))
            why = f"{type(error).__name__}: {error}"
            self._log.error("exchange.dropped", reason="store", count=len(exchanges), why=why)
            return
        self._meters.recorded(len(exchanges))
        for exchange in exchanges:
            self._log.info(
                "exchange.recorded",
                id=exchange.id,
                wire=exchange.wire,
                session_source=exchange.session_source,
                served_by=exchange.served_by,
                whole=exchange.whole,
            )

    def _exchange(self, capture: Capture) -> Exchange | None:
        """The redacted record; None when there can be none, which is counted."""
        try:
            return redacted(exchange_of(capture), self._redactor)
        except Unreadable:
            self._drop("unreadable")
        except SecretFound:
            self._drop("secret")
        except Exception as error:  # noqa: BLE001 - a redactor that fails must cost the copy, never the recording
            self._drop("redaction_failed")
            self._log.error("exchange.dropped", reason="redaction_failed", count=1, why=type(error).__name__)
        return None

    def _drop(self, reason: str, count: int = 1) -> None:
        self._meters.dropped(reason, count)
        with self._lock:
            self._lost[reason] += count

    def _report(self) -> None:
        """Log what was lost since the last time: one line a reason, however many there were."""
        with self._lock:
            lost, self._lost = self._lost, Counter()
        for reason, count in lost.items():
            self._log.warning("exchange.dropped", reason=reason, count=count)


def redacted(exchange: Exchange, redactor: Redactor) -> Exchange:
    """`exchange` without secrets. Raises SecretFound, or ValueError when redaction leaves no JSON.

    The session is kept as it is: it is an identifier, and two sessions under one placeholder would be mixed.
    """
    texts = {name: redactor.redact(getattr(exchange, name)) for name in ("request", "response")}
    for name, text in texts.items():
        if text != getattr(exchange, name):
            json.loads(text)
    words = {name: redactor.redact(getattr(exchange, name)) for name in ("agent", "asked_model", "served_by")}
    return exchange.model_copy(update={**texts, **words})
