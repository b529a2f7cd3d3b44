"""From settings to parts: the only place that picks implementations."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sleepy_coder import __version__
from sleepy_coder.adapter_manifest import model_sha256, model_width
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import Config
from sleepy_coder.curfew import Curfew
from sleepy_coder.dialogue import SYSTEM
from sleepy_coder.errors import ConfigError
from sleepy_coder.files import have_folder, private_folder
from sleepy_coder.idle import Idleness, look
from sleepy_coder.journal import no_night
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.judge.spending import prices
from sleepy_coder.learn.hints import Hints
from sleepy_coder.learn.trainer import ChildTrainer, Step
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.ports import Watcher
from sleepy_coder.registry import Registry
from sleepy_coder.report.data import ReportData
from sleepy_coder.report.days import days
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.fleet import Fleet
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split
from sleepy_coder.tasks.frozen import FrozenSets
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import Outcome, Task
from sleepy_coder.verify.command import TaskVerifier, verifier
from sleepy_coder.verify.installed import Installed


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


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
        remedy = "correct model.path" if config.model.path else "set model.path, or build the nano model: `make nano`"
        raise ConfigError(f"{path} holds no model", remedy)
    return path.resolve()


def base_model(config: Config, path: Path) -> BaseModel:
    """The base model in the folder `path`, under the name that the server gives it."""
    return BaseModel(path, config.server.base_name, model_sha256(path), model_width(path))


@contextmanager
def open_store(config: Config) -> Generator[Store]:
    """The store of this home."""
    private_folder(config.state)
    with Store(config.store_file) as store:
        yield store


@contextmanager
def read_store(config: Config) -> Generator[Store]:
    """The same for who only looks: an empty one where there is none, so that no folder becomes a home by a look."""
    if config.store_file.exists():
        with open_store(config) as store:
            yield store
    else:
        with TemporaryDirectory() as nowhere, Store(Path(nowhere, "empty.db")) as store:
            yield store


def embedded_arguments(config: Config) -> tuple[str, ...]:
    """What the embedded server is told of these settings, wherever it listens."""
    rank, loras = str(config.recipe.largest_rank), str(config.server.max_loras)
    return ("--served-model-name", config.server.base_name, "--max-loras", loras, "--max-lora-rank", rank)


@contextmanager
def embedded_server(config: Config) -> Generator[Config]:
    """The embedded server with this home's base model, for as long as this is open; the settings that point to it."""
    private_folder(config.state)
    with EmbeddedServer(
        model_path(config),
        config.state / "server.log",
        threads=config.server.threads or os.cpu_count() or 1,
        arguments=embedded_arguments(config),
    ) as server:
        yield config.model_copy(update={"server": config.server.model_copy(update={"url": server.url})})


def open_registry(config: Config) -> Registry:
    """The adapters of this home."""
    # An adapter remembers what it was trained on. Who lets a server of another user read it opens the folder by hand.
    have_folder(config.adapters, mode=0o700)
    return Registry(config.adapters, SystemClock())


@contextmanager
def read_registry(config: Config) -> Generator[Registry]:
    """The same for who only looks: an empty one where there is none."""
    if config.adapters.exists():
        yield open_registry(config)
    else:
        with TemporaryDirectory() as nowhere:
            yield Registry(Path(nowhere), SystemClock())


@contextmanager
def open_server(config: Config) -> Generator[Fleet]:
    """All configured model servers as one."""
    settings = config.server
    with ExitStack() as stack:
        clients = [
            stack.enter_context(VllmClient(url, settings.api_key, settings.timeout_seconds)) for url in settings.urls
        ]
        yield stack.enter_context(closing(Fleet(clients)))


@contextmanager
def answering_server(config: Config) -> Generator[Fleet]:
    """The same once it has answered, for what needs it: asked first, so that no folder becomes a home for nothing.

    Raises ServerUnreachable.
    """
    with open_server(config) as server:
        server.version()
        yield server


def prover(config: Config) -> Prover:
    """What proves which weights answer, with this home's memory of it."""
    return Prover(config.state / "fingerprints", config.server.base_name, config.server.logprob_tolerance)


def night_lock(config: Config) -> Path:
    """The file that a running night holds."""
    return NapFiles(config.state).lock


def night_runs(config: Config) -> bool:
    """Whether one is under way now, in whichever process."""
    with no_night(night_lock(config)) as none:
        return not none


def daemon_lock(config: Config) -> Path:
    """The file that a running daemon holds."""
    return config.state / "sleepyd.lock"


def open_redactor(config: Config) -> SecretRedactor:
    """What takes secrets out of all that is kept; it knows our own keys."""
    return SecretRedactor([key for key in (config.server.api_key, config.gateway.api_key) if key])


def open_trainer(
    config: Config, watcher: Watcher, base_sha256: str, heard: Callable[[Step], None] = lambda _: None
) -> ChildTrainer:
    """The trainer for this home's base model, which has that hash; `heard` hears of each step besides `watcher`."""

    def on_step(step: Step) -> None:
        heard(step)
        kl = "" if step.kl is None else f"  KL {step.kl:.4f}"
        reward = "" if step.reward is None else f"  reward {step.reward:.2f}"
        watcher.tick(step.step, step.steps, f"loss {step.loss:.3f}{kl}{reward}")

    return ChildTrainer(
        model_path(config),
        on_step,
        threads=config.server.threads,
        patience=config.night.pause_seconds,
        max_tokens=config.agent.max_tokens,
        together=config.training,
        base_sha256=base_sha256,
    )


def open_verifier(config: Config) -> TaskVerifier:
    """The sandboxed verifier, with this home's verdict cache. Raises SandboxUnavailable."""
    private_folder(config.state)
    return verifier(config.state / "verdicts.db")


def open_hints(config: Config, store: Store) -> Hints:
    """The hints that the settings ask for, without whatever is close to a frozen task."""
    judging = [task for tasks in frozen_sets(config).all() for task in tasks]
    return Hints(store, LeakIndex(judging), config.agent.hints)


def open_project_verifier(installed: Installed | None = None) -> TaskVerifier:
    """The sandboxed verifier, with what is `installed` for the project, that remembers nothing of what its tests print.

    Raises SandboxUnavailable.
    """
    return verifier(installed=installed)


def environment_of(server: Fleet, judge: TaskVerifier, judging: Sequence[Task]) -> str:
    """What two reports on the tasks in `judging` must share to be compared, besides how answers are drawn.

    With our own version in it, which says how prompts are laid out and answers read.
    """
    known = (server.version(), server.precision(), SYSTEM, judge.fingerprint_of(judging), f"sleepy-coder {__version__}")
    return "\n".join(filter(None, known))


@contextmanager
def open_parts(config: Config, watcher: Watcher, *, until: datetime | None = None) -> Generator[Parts]:
    """Everything a night needs, which stops at `until`. Raises ServerUnreachable when no model server answers."""
    base, sets = base_model(config, model_path(config)), frozen_sets(config)
    judging = sets.current()
    with answering_server(config) as server, open_store(config) as store:
        judge = open_verifier(config)
        yield Parts(
            config=config,
            base=base,
            store=store,
            registry=open_registry(config),
            server=server,
            prover=prover(config),
            verifier=judge,
            trainer=open_trainer(config, watcher, base.sha256),
            redactor=open_redactor(config),
            clock=SystemClock(),
            watcher=watcher,
            policy=config.gate,
            frozen=judging,
            clusters=form_clusters(judging),
            rehearsal=load_split("rehearsal"),
            environment=environment_of(server, judge, judging),
            curfew=Curfew(SystemClock(), until),
            witness=judge.forgetful(),
            dev=sets.dev(),
            retired=sets.retired(),
        )


def idleness(config: Config) -> Idleness:
    """Whether a night may begin now, and every signal that says so; the schedule asks this once a minute."""
    with read_store(config) as store, open_server(config) as server:
        return look(config, server, store, SystemClock())


def curfew(config: Config, when_idle: bool) -> datetime | None:
    """When a night that begins now has to stop: at the end of the window, if it is in one and is asked to keep it."""
    hours = config.night.hours() if when_idle or config.night.stop_at_window_end else None
    opening = hours.now_open(SystemClock().now()) if hours else None
    return opening.ends if opening else None


def frozen_sets(config: Config) -> FrozenSets:
    """The frozen set of this home, and those before it."""
    return FrozenSets(config.state)


def budget(config: Config, store: Store) -> tuple[str, bool]:
    """What is used of the gate's epoch and what to do when nothing is left; whether something is."""
    (epoch, used), left = store.openings_used(), store.openings_left(prices(config.gate))
    said = f"epoch {max(epoch, 1)}: {used} of {config.gate.openings} openings used"
    return (said, True) if left else (f"{said}: nothing is promoted any more until `sleepy-coder gate renew`", False)


def titles(config: Config) -> dict[str, tuple[str, str]]:
    """Family and prompt of each task that judges or has judged, for the reports."""
    return {task.id: (task.family, task.prompt) for tasks in frozen_sets(config).all() for task in tasks}


def report_data(config: Config, store: Store) -> ReportData:
    """All that the reports show, read from the store."""
    nights = store.nights()
    with read_registry(config) as registry:
        serving = registry.serving(config.server.base_name)
    return ReportData(
        nights=nights,
        days=days(store, nights),
        episodes_total=store.count_episodes(),
        episodes_passed=store.count_episodes(outcome=Outcome.PASS),
        serving=serving,
        generated=SystemClock().now(),
        titles=titles(config),
        asked_shares=config.mix.shares,
    )
