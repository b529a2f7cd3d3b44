"""The boundaries: small Protocols with a real part each, and a fake in tests/fakes.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sleepy_coder.types import Adapter, Message, Recipe, Reply, Task, TrainingMix, Verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sandboxed command may use. Bytes, seconds, counts."""

    wall_seconds: float = 20.0
    cpu_seconds: int = 15
    memory_bytes: int = 4 << 30
    processes: int = 64
    output_bytes: int = 256 << 10
    file_bytes: int = 256 << 20


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
    """One entry of /v1/models. `root` is the folder an adapter was loaded from."""

    name: str
    parent: str | None
    root: str


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
    """vLLM's protocol: completions and adapters by name."""

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply: ...

    def load(self, name: str, path: Path) -> None: ...

    def unload(self, name: str) -> None: ...

    def models(self) -> tuple[ServedModel, ...]: ...

    def asleep(self) -> bool: ...

    def busy(self) -> int:
        """Requests running or waiting now."""
        ...


class Trainer(Protocol):
    """Trains one LoRA; resumes when `workdir` holds an unfinished run of the same mix and recipe."""

    def train(self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path) -> Path:
        """Return the folder that holds adapter_model.safetensors and adapter_config.json."""
        ...


class Watcher(Protocol):
    """Hears how long work goes, so that whoever looks on is not left in the dark."""

    def phase(self, name: str) -> None:
        """Step `name` begins."""
        ...

    def tick(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of the present step are done."""
        ...


class Redactor(Protocol):
    """Takes secrets out of texts before anything is written."""

    def redact(self, text: str) -> str:
        """`text` with placeholders in the place of its secrets; a JSON document stays one.

        Raises SecretFound when the text must not be kept at all.
        """
        ...


class Clock(Protocol):
    """Where time comes from; tests pass their own."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...
