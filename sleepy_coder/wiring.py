"""From settings to parts: the only place that picks implementations."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sleepy_coder.adapter_manifest import model_sha256, model_width
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import Config
from sleepy_coder.dialogue import SYSTEM
from sleepy_coder.errors import ConfigError
from sleepy_coder.learn.trainer import ChildTrainer, Step
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.ports import Watcher
from sleepy_coder.registry import Registry
from sleepy_coder.report.data import ReportData
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split
from sleepy_coder.types import Outcome
from sleepy_coder.verify.command import TaskVerifier, verifier


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Silent:
    """Watches without a word."""

    def phase(self, name: str) -> None:
        pass

    def tick(self, done: int, total: int, note: str = "") -> None:
        pass


def model_path(config: Config) -> Path:
    """The base model's folder. Raises ConfigError when nothing is there."""
    path = config.home / config.model.path if config.model.path else MODEL_DIR
    if not (path / "config.json").is_file():
        raise ConfigError(f"{path} holds no model", "set model.path, or build the nano model with `make nano`")
    return path.resolve()


@contextmanager
def open_store(config: Config) -> Generator[Store]:
    """The store of this home."""
    config.state.mkdir(parents=True, exist_ok=True)
    with Store(config.state / "sleepy.db") as store:
        yield store


@contextmanager
def embedded_server(config: Config) -> Generator[Config]:
    """The embedded server with this home's base model, for as long as this is open; the settings that point to it."""
    config.state.mkdir(parents=True, exist_ok=True)
    with EmbeddedServer(
        model_path(config),
        config.state / "server.log",
        threads=config.server.threads or os.cpu_count() or 1,
        arguments=("--served-model-name", config.server.base_name),
    ) as server:
        yield config.model_copy(update={"server": config.server.model_copy(update={"url": server.url})})


def open_registry(config: Config) -> Registry:
    """The adapters of this home."""
    config.adapters.mkdir(parents=True, exist_ok=True)
    return Registry(config.adapters, SystemClock())


def open_client(config: Config) -> VllmClient:
    """A client of the configured model server, vLLM or embedded."""
    return VllmClient(config.server.url, config.server.api_key, config.server.timeout_seconds)


def open_redactor(config: Config) -> SecretRedactor:
    """What takes secrets out of all that is kept; it knows our own keys."""
    return SecretRedactor([key for key in (config.server.api_key, config.gateway.api_key) if key])


def open_verifier(config: Config) -> TaskVerifier:
    """The sandboxed verifier, with this home's verdict cache. Raises SandboxUnavailable."""
    config.state.mkdir(parents=True, exist_ok=True)
    return verifier(config.state / "verdicts.db")


def environment_of(client: VllmClient, judge: TaskVerifier) -> str:
    """What two reports must share to be compared, besides how answers are drawn."""
    return "\n".join((client.version(), SYSTEM, judge.fingerprint))


@contextmanager
def open_parts(config: Config, watcher: Watcher) -> Generator[Parts]:
    """Everything a night needs. Raises ServerUnreachable when no model server answers."""
    path = model_path(config)
    base = BaseModel(path, config.server.base_name, model_sha256(path), model_width(path))

    def on_step(step: Step) -> None:
        watcher.tick(step.step, step.steps, f"loss {step.loss:.3f}  KL {step.kl:.4f}")

    with open_store(config) as store, open_client(config) as client:
        judge = open_verifier(config)
        yield Parts(
            config=config,
            base=base,
            store=store,
            registry=open_registry(config),
            server=client,
            verifier=judge,
            trainer=ChildTrainer(path, on_step, config.server.threads),
            clock=SystemClock(),
            watcher=watcher,
            policy=config.gate,
            frozen=load_split("frozen"),
            rehearsal=load_split("rehearsal"),
            environment=environment_of(client, judge),
        )


def titles() -> dict[str, tuple[str, str]]:
    """Family and prompt of each frozen task, for the reports."""
    return {task.id: (task.family, task.prompt) for task in load_split("frozen")}


def asked_shares(config: Config) -> dict[str, float]:
    """The shares of the mix that the settings ask for."""
    return {"replay": config.mix.replay, "passed": config.mix.passed, "hard": config.mix.hard}


def report_data(config: Config, store: Store) -> ReportData:
    """All that the reports show, read from the store."""
    active = open_registry(config).active()
    return ReportData(
        nights=store.nights(),
        episodes_total=store.count_episodes(),
        episodes_passed=store.count_episodes(outcome=Outcome.PASS),
        serving=active.name if active else config.server.base_name,
        generated=SystemClock().now(),
        titles=titles(),
        asked_shares=asked_shares(config),
    )
