"""The boundaries: small Protocols with a real part each, and a fake for the tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sleepy_coder.types import Adapter, Message, Recipe, Record, Reply, Task, TrainingMix, Verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandboxed command may use. Bytes, seconds, counts.

    `cpu_seconds`, `memory_bytes` and `open_files` hold for each of its processes, `file_bytes` for each file, the
    others for all. `memory_bytes` bounds the addresses that a process may ask for; where there are `resident_bytes`
    and the kernel lets that be watched, what all of them really fill is bounded instead.
    The repr() is a part of what Rust verdicts are remembered by, so limits that those do not set are not in it.
    """

    wall_seconds: float = 20.0
    cpu_seconds: int = 15
    memory_bytes: int = 4 << 30
    processes: int = 64
    output_bytes: int = 256 << 10
    file_bytes: int = 256 << 20
    open_files: int = field(default=256, repr=False)
    resident_bytes: int | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a sandboxed command ended. `killed` says which limit ended it, empty when none did."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float
    killed: str = ""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One entry of /v1/models. `root` is the folder an adapter was loaded from, `max_length` the base's context."""

    name: str
    parent: str | None
    root: str
    max_length: int | None = None


class Fingerprint(Record):
    """What a model answers greedily to fixed prompts: proof of which weights answered.

    `tokens` and `logprobs` (natural, before temperature) have one tuple per prompt.
    """

    tokens: tuple[tuple[int, ...], ...]
    logprobs: tuple[tuple[float, ...], ...]

    def distance(self, other: Fingerprint) -> float:
        """Largest difference between two logprobs in the same place.

        Each prompt is followed up to the first token that differs, and that one counts too: where two tokens are as
        good as equal, noise decides between them, and what comes after answers another text. Infinite for answers
        to other prompts.
        """
        if len(self.tokens) != len(other.tokens):
            return math.inf
        return max((self._apart(other, row) for row in range(len(self.tokens))), default=0.0)

    def matches(self, other: Fingerprint, tolerance: float = 0.01) -> bool:
        """Whether the two are within `tolerance`; it is wider for bfloat16 (0.2) than for float32."""
        return self.distance(other) <= tolerance

    def _apart(self, other: Fingerprint, row: int) -> float:
        mine, theirs = self.tokens[row], other.tokens[row]
        same = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), len(mine))
        if same == len(mine) and len(mine) != len(theirs):
            return math.inf
        pairs = zip(self.logprobs[row][: same + 1], other.logprobs[row][: same + 1], strict=True)
        return max((abs(a - b) for a, b in pairs), default=0.0)


class Sandbox(Protocol):
    """Runs commands that may be hostile."""

    @property
    def level(self) -> str: ...

    def run(
        self,
        argv: Sequence[str],
        files: Mapping[str, str],
        limits: Limits,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run `argv` in a fresh folder that holds `files`. Raises InfraError when it cannot start."""
        ...


class Verifier(Protocol):
    """Tells whether files solve a task, with a real compiler or test run."""

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict: ...


class ModelServer(Protocol):
    """vLLM's protocol: completions and adapters by name, of one server or of several that hold the same."""

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """The single servers; each of them is one of itself."""
        ...

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply: ...

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        """Mean negative log-likelihood of `completion` as the answer to `messages`, in nats per token."""
        ...

    def load(self, name: str, path: Path) -> None: ...

    def unload(self, name: str) -> None: ...

    def models(self) -> tuple[ServedModel, ...]: ...

    def asleep(self) -> bool: ...

    def sleep(self, level: int = 1) -> None:
        """Free the GPU once the requests already there have finished; later ones wait for `wake_up`."""
        ...

    def wake_up(self) -> None: ...

    def busy(self) -> int:
        """Requests running or waiting now."""
        ...


class Replica(ModelServer, Protocol):
    """One server, by itself."""

    @property
    def url(self) -> str: ...

    def version(self) -> str: ...

    def precision(self) -> str:
        """The numbers it computes with, such as its dtype; "" when it does not say."""
        ...

    def fingerprint(self, model: str, prompts: Sequence[str], max_tokens: int = 8) -> Fingerprint:
        """Greedy continuations of `prompts` (at most `max_tokens` each) with their logprobs."""
        ...


class Trainer(Protocol):
    """Trains one LoRA; resumes when `workdir` holds an unfinished run of the same mix and recipe."""

    def train(
        self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path, pause: Callable[[], bool]
    ) -> Path:
        """Return the folder that holds adapter_model.safetensors and adapter_config.json.

        `pause` is asked about once a second. Raises TrainingPaused, at a checkpoint, soon after it says so.
        """
        ...


class Watcher(Protocol):
    """Hears how long work goes, so that whoever looks on is not left in the dark."""

    def phase(self, name: str) -> None:
        """Step `name` begins."""
        ...

    def tick(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the present step are done."""
        ...


def counting(watcher: Watcher, total: int, done: int = 0) -> Callable[[], None]:
    """Tells `watcher` of one more of `total` units whenever it is called, from any thread; `done` were done before."""
    numbers = itertools.count(done + 1)
    return lambda: watcher.tick(next(numbers), total)


class Redactor(Protocol):
    """Takes secrets out of texts before anything is written."""

    def redact(self, text: str) -> str:
        """`text` with placeholders in the place of its secrets; a JSON document stays one.

        Raises SecretFound when the text must not be kept at all.
        """
        ...


class Clock(Protocol):
    """Where time comes from, and how it passes; tests pass their own."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        ...
