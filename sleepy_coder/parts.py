"""What a night works with. Built in one place (wiring.py); tests build it with fakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sleepy_coder.config import Config, GatePolicy
from sleepy_coder.curfew import Curfew, PunctualServer
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.ports import Clock, ModelServer, Redactor, Trainer, Verifier, Watcher
from sleepy_coder.registry import Registry
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.types import Adapter, Task


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The base model: where it is, what the server calls it, the hash of its weights, and its channels."""

    path: Path
    name: str
    sha256: str
    width: int


@dataclass(frozen=True, slots=True)
class Parts:
    """Every collaborator of a night. `frozen` is judged on, by `clusters`; `rehearsal` is what anchors are written for;
    `dev` chooses among what was trained; `retired` are tasks of earlier frozen sets.

    `witness` verifies without memory; None where `verifier` has none. Whatever asks `server` many times asks `punctual`
    instead, which keeps `curfew`. `ungated` promotes whatever was trained: only the study sets it, to see what nights
    would do without the gate, in homes that nobody is served from.
    """

    config: Config
    base: BaseModel
    store: Store
    registry: Registry
    server: ModelServer
    prover: Prover
    verifier: Verifier
    trainer: Trainer
    redactor: Redactor
    clock: Clock
    watcher: Watcher
    policy: GatePolicy
    frozen: tuple[Task, ...]
    clusters: tuple[Cluster, ...]
    rehearsal: tuple[Task, ...]
    environment: str
    curfew: Curfew
    witness: Verifier | None = None
    ungated: bool = False
    dev: tuple[Task, ...] = ()
    retired: tuple[Task, ...] = ()

    @property
    def judging(self) -> tuple[Task, ...]:
        """Every task that judges or has judged: none of them, nor what is close to one, is trained on."""
        return (*self.frozen, *self.retired)

    def answering(self, adapter: Adapter | None) -> tuple[str, str]:
        """The name under which `adapter` (None: the base) answers, and the SHA-256 of its weights."""
        found = adapter or self.base
        return found.name, found.sha256

    @property
    def punctual(self) -> ModelServer:
        """The server, until the curfew; from then on it raises NightPaused instead of answering."""
        return PunctualServer(self.server, self.curfew)
