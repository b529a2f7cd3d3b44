"""Is everything in place for the nights? Machine, base model, model servers, gateway: one finding per check."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from sleepy_coder import wiring
from sleepy_coder.adapter_manifest import model_sha256
from sleepy_coder.config import CONFIG_FILE, NANO, Config
from sleepy_coder.drill import complaint
from sleepy_coder.errors import ServerError, ServerUnreachable, SleepyError
from sleepy_coder.files import private_folder, temporary_beside
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.learn.launch import read_launch
from sleepy_coder.learn.recipes import RECIPES
from sleepy_coder.learn.trainer import refuse_idle_processes, refuse_quantised, require_for
from sleepy_coder.registry import Registry
from sleepy_coder.report.episodes import short_reason
from sleepy_coder.report.standing import VERIFIED, daemon_line, small_set
from sleepy_coder.serve.checkup import Finding, check_server, checked, fail, ok, warn
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.gateway_client import gateway_answers, running
from sleepy_coder.types import Adapter, Outcome
from sleepy_coder.verify.rust import Toolchain

_GIB: Final = 1 << 30
_PLENTY: Final = 5
"""Times `night.min_free_gib`: below it, a night that begins well may yet fill the disk."""
_MANY: Final = 20
"""Passed episodes of which one at least should train."""
_RECENT: Final = 20
"""So many episodes back it is looked whether checks can be run."""
_FEW: Final = 3
"""Checks that could not be run before more is suspected than chance."""
_GATEWAY_SECONDS: Final = 10.0


def examine(config: Config, on_check: Callable[[str], None] = lambda _: None) -> tuple[Finding, ...]:
    """All findings, in the order in which things depend on each other; `on_check` hears what is looked at."""
    on_check("machine")
    findings = [
        _settings(config),
        checked("home", lambda: _home(config)),
        checked("disk", lambda: _disk(config)),
        checked("store", lambda: _store(config)),
        checked("episodes", lambda: _episodes(config)),
        checked("rust", _rust),
        checked("sandbox", _sandbox),
    ]
    on_check("base model")
    try:
        with wiring.read_registry(config) as registry:
            findings += _with_registry(config, registry, on_check)
    except SleepyError as error:  # its folder cannot be read, or is on a disk that is read-only
        findings.append(fail("registry", error.message, error.remedy))
    on_check("gateway")
    return (*findings, checked("gateway", lambda: _gateway(config)), _nights(config))


def _with_registry(config: Config, registry: Registry, on_check: Callable[[str], None]) -> Iterator[Finding]:
    """What is said of adapters, training and servers."""
    serving = checked("registry", lambda: _registry(registry))
    active = registry.active() if serving.level == "ok" else None
    yield serving
    yield checked("base model", lambda: _base_model(config, registry, active))
    yield checked("recipe", lambda: _recipe(config))
    if config.training.processes > 1:
        yield checked("training", lambda: check_training(config))
    yield checked("drill", lambda: _drill(config))
    yield checked("frozen set", lambda: _frozen_set(config))
    for url in config.server.urls:
        on_check(url)
        yield from _server(config, url, registry, active)


def _settings(config: Config) -> Finding:
    path = config.home / CONFIG_FILE
    return ok("settings", str(path) if path.is_file() else f"no {CONFIG_FILE} in {config.home}: defaults serve")


def _frozen_set(config: Config) -> Finding:
    sets = wiring.frozen_sets(config)
    tasks = sets.current()
    with wiring.read_store(config) as store:
        budget, some_left = wiring.budget(config, store)
    clusters = len(form_clusters(tasks))
    said = f"{len(tasks)} tasks in {clusters} clusters; {budget}"
    if not sets.dev():
        said += "; no dev tasks, so that a night's weights are not chosen"
    if not some_left:
        return warn("frozen set", said, "Put unseen tasks in its place: `sleepy-coder gate renew`.")
    if small := small_set(clusters, len(tasks) * config.eval.samples, config.gate):
        return warn("frozen set", f"{said}; {small}", "Add tasks and renew: `sleepy-coder gate renew --from FILE`.")
    return ok("frozen set", said)


def _home(config: Config) -> Finding:
    """A folder in which nothing was begun yet is not made a home of by looking at it."""
    try:
        config.home.mkdir(parents=True, exist_ok=True)
        if config.state.is_dir():
            private_folder(config.state)
        probe = temporary_beside((config.state if config.state.is_dir() else config.home) / "doctor")
        probe.touch()
        probe.unlink()
    except OSError as error:
        remedy = "Name a folder of your own: --home or $SLEEPY_CODER_HOME; a service's is its user's (`sudo -u`)."
        return fail("home", f"{config.home} cannot be written ({error.strerror})", remedy)
    return ok("home", f"{config.home} can be written")


def _disk(config: Config) -> Finding:
    free, needs = shutil.disk_usage(config.home).free / _GIB, config.night.min_free_gib
    said = f"{free:.1f} GiB free at {config.home}; a night needs {needs:g}"
    remedy = "Make room; `sleepy-coder adapters prune` and `sleepy-coder episodes prune` drop what is old."
    if free < needs:
        return fail("disk", said, remedy)
    return warn("disk", said, remedy) if free < _PLENTY * needs else ok("disk", said)


def _store(config: Config) -> Finding:
    path = config.store_file
    if not path.exists():
        return ok("store", "nothing is collected yet")
    with wiring.open_store(config) as store:
        store.check()
        return ok("store", f"{path} is whole; {store.count_episodes()} episodes")


def _episodes(config: Config) -> Finding:
    with wiring.read_store(config) as store:
        waiting = store.waiting()
        recent = [episode for episode in store.latest_episodes(_RECENT) if episode.outcome_source == "verifier"]
        failed = [episode for episode in recent if episode.outcome is Outcome.INFRA]
        checks = store.checks({episode.session for episode in failed[-1:]})
    if len(failed) >= _FEW and 2 * len(failed) > len(recent):
        why = short_reason(failed[-1], checks.get(failed[-1].session))
        said = f"{len(failed)} of the last {len(recent)} checks could not be run; the last one: {why}"
        return warn("episodes", said, "Mend what is missing, or name another check: `sleepy-coder run --verify`.")
    said = f"{waiting.passed} passed since they were last learned from, {waiting.trainable} of them can train"
    if waiting.passed >= _MANY and not waiting.trainable:
        return warn("episodes", said, f"Only what a verifier passed trains, on a task: {VERIFIED}.")
    return ok("episodes", said)


def _rust() -> Finding:
    version = Toolchain.find().version.splitlines()[0]
    if shutil.which("cargo") is None:
        return warn("rust", f"{version}, but no cargo", "Install Rust with rustup, for tasks that are cargo projects.")
    return ok("rust", f"{version}, and cargo")


def _sandbox() -> Finding:
    return ok("sandbox", f"level {wiring.open_project_verifier().level}")


def _registry(registry: Registry) -> Finding:
    active = registry.active()
    if active is None:
        return ok("registry", "no adapter is active: the base serves")
    registry.verify(active.name)
    return ok("registry", f"{active.name} is active and whole")


def _drill(config: Config) -> Finding:
    with wiring.read_store(config) as store:
        last, promotions = store.last_drill(), len(store.canaries())
    wrong = complaint(last, promotions, wiring.SystemClock().now(), config.canary.drill_days)
    if not wrong:
        return ok("drill", f"caught a broken adapter on {last.at:%Y-%m-%d}" if last else "nothing was promoted yet")
    remedy = "Hold one: `sleepy-coder drill`. Until it catches the broken adapter, do not rely on rollbacks."
    return (fail if last is not None and not last.caught else warn)("drill", wrong, remedy)


def _base_model(config: Config, registry: Registry, active: Adapter | None) -> Finding:
    path, name = wiring.model_path(config), config.server.base_name
    if config.model.path is None and name != NANO:
        what = f"model.path is unset, so that nights would train the nano model, and {name} serves"
        return fail("base model", what, f"Set model.path to the folder of {name}, as vLLM has it.")
    sha256 = model_sha256(path)
    if active is not None and registry.manifest(active.name).base_sha256 != sha256:
        return fail(
            "base model",
            f"{path} is not the model that {active.name} was trained on",
            "Set model.path to that model, or go back to the base: `sleepy-coder adapters rollback`.",
        )
    refuse_quantised(path)
    return ok("base model", f"{path}, sha256 {sha256[:12]}")


def _recipe(config: Config) -> Finding:
    spec = RECIPES[config.recipe.name]
    if spec.objective != "none":
        require_for(spec.objective)
    return ok("recipe", spec.name)


def check_training(config: Config) -> Finding:
    """Several processes are started only when a night has dreamed: what the launcher would refuse is found before."""
    settings, objective = config.training, RECIPES[config.recipe.name].objective
    if objective != "none":
        refuse_idle_processes(objective, config.recipe.batch_size, settings.processes)
    launch = read_launch(settings.processes, settings.accelerate_args)
    machines, here, gpus = launch.machines, launch.here, launch.gpus
    said = f"{settings.processes} processes"
    if machines > 1:
        said += f" on {machines} machines, {here} of them here"
        if here * machines != settings.processes:
            return fail("training", said, "Set training.processes to a multiple of the number of machines.")
        if launch.rank:
            where = f"{said}; this one is number {launch.rank}"
            return fail("training", where, "Nights run on the machine with --machine_rank 0: its first process speaks.")
        if not launch.met_at:
            missing = f"{said}; they do not know where to meet"
            return fail("training", missing, "Name --main_process_ip and --main_process_port in accelerate_args.")
    if 0 < gpus < here:
        return fail("training", f"{said}, and {gpus} GPUs here", "Lower training.processes: each needs its own GPU.")
    return ok("training", f"{said}, on {f'{gpus} GPUs' if gpus else 'the CPU'}")


def _server(config: Config, url: str, registry: Registry, active: Adapter | None) -> list[Finding]:
    try:
        base: Path | None = wiring.model_path(config)
    except SleepyError:
        base = None
    sha256 = registry.manifest(active.name).base_sha256 if active else ""
    with VllmClient(url, config.server.api_key, config.server.timeout_seconds) as client:
        try:
            found = check_server(client, config, base, active, wiring.prover(config), sha256)
        except SleepyError as error:
            found = [fail("server", error.message, error.remedy)]
    several = len(config.server.urls) > 1
    return [finding.model_copy(update={"name": f"{finding.name} ({url})"}) for finding in found] if several else found


def _nights(config: Config) -> Finding:
    found = running(config)
    said = daemon_line(found)
    if found.state is None or found.state.nights is None:
        return warn("nights", said, "Nights begin by themselves in the daemon only; by hand: `sleepy-coder night`.")
    return ok("nights", said)


def _gateway(config: Config) -> Finding:
    url, settings = config.gateway.local_url, config.gateway
    if not gateway_answers(settings):
        return warn("gateway", f"none answers at {url}", "Start it: `sleepy-coder gateway`.")
    with VllmClient(url, settings.api_key, _GATEWAY_SECONDS) as client:
        try:
            names = [model.name for model in client.models()]
        except ServerUnreachable as error:
            return fail("gateway", error.message, error.remedy)
        except ServerError as error:
            if error.status != HTTPStatus.UNAUTHORIZED or settings.api_key or not config.server.api_key:
                raise
            return fail(
                "gateway",
                f"{url} wants the model server's key of every caller",
                "Set gateway.api_key: callers bring that one, and the gateway brings server.api_key.",
            )
    if settings.alias not in names:
        return fail("gateway", f"{url} does not list {settings.alias}", "Restart it: `sleepy-coder gateway`.")
    return ok("gateway", f"{url} passes {settings.alias} on")
