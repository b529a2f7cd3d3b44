"""Fixtures that several test modules share. Heavy imports stay inside the fixtures that need them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parent))
# What is logged has to be in the catalogue, also in the processes that tests start.
os.environ["SLEEPY_LOG_STRICT"] = "1"
# The same examples each time and no deadline: a busy machine is no counterexample, and what nobody can repeat decides
# nothing. `pytest --hypothesis-profile=default` looks for new ones.
hypothesis.settings.load_profile("ci")
# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that a test calls sets up logging to that test's stderr, which is closed after it."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _settings_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test itself reads are neither this machine's settings nor those that another's command has left."""
    for name in [name for name in os.environ if name.startswith("SLEEPY_CODER_") or name == "CREDENTIALS_DIRECTORY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLEEPY_CODER_HOME", str(tmp_path_factory.getbasetemp()))


@dataclass(frozen=True)
class TinyServer:
    """A running embedded server that serves the tiny model as `tiny`; no adapter is loaded."""

    url: str
    model: Path
    adapters: dict[str, Path]
    log: Path


@pytest.fixture(scope="session")
def tiny_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyServer]:
    """One embedded server for the whole session; tests unload what they load."""
    from serve_model import tiny_adapter, tiny_model

    from sleepy_coder.serve.process import EmbeddedServer

    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_model(folder / "model")
    adapters = {f"a{seed}": tiny_adapter(model, folder / f"a{seed}", seed) for seed in (1, 2)}
    arguments = ("--served-model-name", "tiny", "--max-loras", "2")
    with EmbeddedServer(model, folder / "server.log", arguments=arguments) as server:
        yield TinyServer(server.url, model, adapters, server.log)


@pytest.fixture
def in_seoul(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine nine hours ahead of UTC; as POSIX says it, so that no zone files are needed."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "KST-9")
        time.tzset()
        yield
    time.tzset()
