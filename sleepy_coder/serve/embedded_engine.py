"""The embedded server's engine: one thread that owns torch and batches whatever is running.

Between two decode steps rows join (their prompts are prefilled into the batch's KV cache) and leave.
Rows of one adapter form a group with that adapter's merged weights; each round steps every group
once, so that no adapter starves another. Everything from outside arrives as a message on one queue
and runs between steps, which is why nothing here needs a lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from sleepy_coder.serve.embedded_lora import Lora, merge, read_lora
from sleepy_coder.serve.embedded_model import KvCache, Weights, decode, prefill, score
from sleepy_coder.serve.embedded_rows import Piece, Row
from sleepy_coder.serve.embedded_sampling import choose, logprobs

T = TypeVar("T")
_PREFILL_TOKENS = 8192  # prompts joining in one round, so that running rows are not held up for long


@dataclass(frozen=True, slots=True)
class Limits:
    """vLLM's flags of the same names. `max_loras` adapters run at once; more may be loaded."""

    max_num_seqs: int = 32
    max_model_len: int = 2048
    max_loras: int = 4
    max_lora_rank: int = 16


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """An adapter under its name; running rows keep it alive after it was unloaded."""

    name: str
    path: str
    lora: Lora


@dataclass(slots=True, eq=False)
class _Group:
    """The running rows of one set of weights; row i of the list is row i of the cache."""

    weights: Weights
    cache: KvCache
    rows: list[Row] = field(default_factory=list[Row])


@dataclass(slots=True)
class Counts:
    """What /metrics reports; written by the engine's thread only."""

    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()


class Engine:
    """Continuous batching over one base model and its adapters.

    `publish` gets each step's pieces, on the engine's thread.
    """

    def __init__(
        self, weights: Weights, limits: Limits, publish: Callable[[Sequence[tuple[Row, Piece]]], None]
    ) -> None:
        self.weights, self.limits = weights, limits
        self.counts = Counts()
        self._publish = publish
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._waiting: deque[Row] = deque()
        self._held: deque[Row] = deque()
        self._groups: OrderedDict[object, _Group] = OrderedDict()
        self._retired: set[LoadedAdapter] = set()
        self._asleep = self._stopping = False
        self._drained: list[Future[None]] = []
        self._pieces: list[tuple[Row, Piece]] = []
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread that owns torch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current step; rows that still run get no more pieces."""

        def end() -> None:
            self._stopping = True

        self._inbox.put(end)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """False once the thread has died, after which no request is ever answered."""
        return self._thread.is_alive()

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows, in order; those that come while asleep wait for `wake`."""
        self._inbox.put(lambda: (self._held if self._asleep else self._waiting).extend(rows))

    def cancel(self, rows: Sequence[Row]) -> None:
        """Drop rows whose client is gone; rows that have finished are left as they are."""
        for row in rows:
            row.cancelled = True
        self._inbox.put(lambda: None)

    def read_adapter(self, name: str, path: Path) -> Future[LoadedAdapter]:
        """Read an adapter folder between two steps. The future raises read_lora's errors."""

        def read() -> LoadedAdapter:
            return LoadedAdapter(name, str(path), read_lora(path, self.weights.shape, self.limits.max_lora_rank))

        return self._call(read)

    def score(
        self, adapter: LoadedAdapter | None, prompts: Sequence[Sequence[int]]
    ) -> Future[list[tuple[list[float], list[int]]]]:
        """Log probabilities and ranks of the prompts' own tokens but the first, read between two steps."""

        def read() -> list[tuple[list[float], list[int]]]:
            group = self._groups.get(adapter)
            merged = merge(self.weights, adapter.lora) if adapter and not group else self.weights
            return [score(group.weights if group else merged, prompt) for prompt in prompts]

        return self._call(read)

    def forget(self, adapter: LoadedAdapter) -> None:
        """Free an unloaded adapter's merged weights once its last row has finished."""
        self._inbox.put(lambda: self._retired.add(adapter))

    def sleep(self, wait: bool) -> Future[None]:
        """Take no more rows; done once those already here have finished (`wait`) or were aborted."""
        done: Future[None] = Future()

        def doze() -> None:
            self._asleep = True
            self._drained.append(done)
            if not wait:
                self._abort_all()

        self._inbox.put(doze)
        return done

    def wake(self) -> Future[None]:
        """Go on with the rows that were held while asleep."""

        def rise() -> None:
            self._asleep = False
            self._waiting.extend(self._held)
            self._held.clear()
            self._report_drained()

        return self._call(rise)

    def _call(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001  # it belongs to whoever waits on the future
                future.set_exception(error)

        self._inbox.put(run)
        return future

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while not self._stopping:
                    self._read_inbox()
                    self._drop_cancelled()
                    self._admit()
                    for group in list(self._groups.values()):
                        self._step(group)
                    self._settle()
        finally:
            self._waiting.extend(self._held)
            self._abort_all()
            self._publish(self._pieces)

    def _read_inbox(self) -> None:
        """Run all messages; sleep on the queue when there is nothing else to do."""
        try:
            if not self.counts.running and not self._waiting:
                self._inbox.get()()
            while True:
                self._inbox.get_nowait()()
        except Empty:
            return

    def _drop_cancelled(self) -> None:
        for queue in (self._waiting, self._held):
            if any(row.cancelled for row in queue):
                kept = [row for row in queue if not row.cancelled]
                queue.clear()
                queue.extend(kept)
        for group in self._groups.values():
            _compact(group, lambda row: row.cancelled)

    def _admit(self) -> None:
        """Let waiting rows join, first come first served except where their adapter finds no place."""
        room = self.limits.max_num_seqs - sum(len(group.rows) for group in self._groups.values())
        budget = _PREFILL_TOKENS
        joining: dict[_Group, list[Row]] = {}
        later: list[Row] = []
        while self._waiting and room > 0 and budget > 0:
            row = self._waiting.popleft()
            group = self._group_of(row, joining)
            if group is None:
                later.append(row)
                continue
            joining.setdefault(group, []).append(row)
            room, budget = room - 1, budget - len(row.prompt)
        self._waiting.extendleft(reversed(later))
        for group, rows in joining.items():
            self._join(group, rows)

    def _group_of(self, row: Row, joining: dict[_Group, list[Row]]) -> _Group | None:
        """The group of the row's weights, made on demand in place of the idle one used longest ago."""
        key = row.adapter
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        weights = self.weights
        if isinstance(key, LoadedAdapter):
            adapters = [other for other in self._groups if other is not None]
            if len(adapters) >= self.limits.max_loras:
                idle = [o for o in adapters if not self._groups[o].rows and self._groups[o] not in joining]
                if not idle:
                    return None
                del self._groups[idle[0]]
            weights = merge(self.weights, key.lora)
        cache = KvCache(weights.shape, self.limits.max_num_seqs, self.limits.max_model_len)
        self._groups[key] = _Group(weights, cache)
        return self._groups[key]

    def _join(self, group: _Group, rows: Sequence[Row]) -> None:
        """Prefill the prompts that are new; copy those of running rows (several samples of one task).

        A copied row has no token yet: its first decode step reads the prompt's last token again.
        """
        group.cache.reserve(len(group.rows) + len(rows), max(len(row.prompt) for row in rows))
        places = {row.prompt: place for place, row in enumerate(group.rows)}
        fresh: list[Row] = []
        for row in rows:
            if row.prompt not in places:
                places[row.prompt] = len(group.rows) + len(fresh)
                fresh.append(row)
        if fresh:
            logits = prefill(group.weights, group.cache, len(group.rows), [row.prompt for row in fresh])
            group.rows.extend(fresh)
            self._accept(fresh, logits)
        copies = [row for row in rows if group.rows[places[row.prompt]] is not row]
        for row in copies:
            group.cache.move(places[row.prompt], len(group.rows), len(row.prompt))
            group.rows.append(row)
        self.counts.prompt_tokens += sum(len(row.prompt) for row in rows)

    def _step(self, group: _Group) -> None:
        _compact(group, lambda row: row.finish_reason is not None)
        if rows := group.rows:
            newest, lengths = [row.newest for row in rows], [row.cached for row in rows]
            self._accept(rows, decode(group.weights, group.cache, newest, lengths))

    def _accept(self, rows: Sequence[Row], logits: Tensor) -> None:
        tokens = choose(logits, rows)
        for row, token, logprob in zip(rows, tokens, logprobs(logits, rows, tokens), strict=True):
            row.accept(token, logprob)
            if piece := row.piece():
                self._pieces.append((row, piece))
        self.counts.generation_tokens += len(rows)

    def _abort_all(self) -> None:
        """End every row here with vLLM's finish_reason "abort"; running ones leave at their next step."""
        for row in [*self._waiting, *(row for group in self._groups.values() for row in group.rows)]:
            row.finish_reason = "abort"
            if piece := row.piece():
                self._pieces.append((row, piece))
        self._waiting.clear()

    def _settle(self) -> None:
        """End of a round: drop finished rows, publish, update the counts, report a drained engine."""
        for group in self._groups.values():
            _compact(group, lambda row: row.finish_reason is not None)
        if self._pieces:
            self._publish(self._pieces)
            self._pieces = []
        for adapter in [key for key in self._retired if key not in self._groups or not self._groups[key].rows]:
            self._groups.pop(adapter, None)
            self._retired.discard(adapter)
        queued = [*self._waiting, *self._held]
        counts = self.counts
        counts.running = sum(len(group.rows) for group in self._groups.values())
        counts.waiting = len(queued)
        counts.running_adapters = tuple(
            key.name for key, group in self._groups.items() if isinstance(key, LoadedAdapter) and group.rows
        )
        counts.waiting_adapters = tuple(
            {row.adapter.name: None for row in queued if isinstance(row.adapter, LoadedAdapter)}
        )
        if self._asleep and not counts.running and not self._waiting:
            self._groups.clear()
            self._report_drained()

    def _report_drained(self) -> None:
        for future in self._drained:
            future.set_result(None)
        self._drained.clear()


def _compact(group: _Group, gone: Callable[[Row], bool]) -> None:
    """Remove rows, moving the last row into each gap so that the cache stays without holes."""
    for place in range(len(group.rows) - 1, -1, -1):
        if gone(group.rows[place]):
            last = group.rows.pop()
            if place < len(group.rows):
                group.cache.move(len(group.rows), place, last.cached)
                group.rows[place] = last
