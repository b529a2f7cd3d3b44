"""What a night works with. Built in one place (wiring.py); tests build it with fakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sleepy_coder.config import Config, GatePolicy
from sleepy_coder.ports import Clock, ModelServer, Trainer, Verifier, Watcher
from sleepy_coder.registry import Registry
from sleepy_coder.store import Store
from sleepy_coder.types import Task


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base model: where it is, what the server calls it, the hash of its weights, and its channels."""

    path: Path
    name: str
    sha256: str
    width: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Every collaborator of a night. `frozen` is judged on; `rehearsal` is what anchors are written for."""

    config: Config
    base: BaseModel
    store: Store
    registry: Registry
    server: ModelServer
    verifier: Verifier
    trainer: Trainer
    clock: Clock
    watcher: Watcher
    policy: GatePolicy
    frozen: tuple[Task, ...]
    rehearsal: tuple[Task, ...]
    environment: str
