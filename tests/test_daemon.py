"""`sleepyd` as a process: what it tells its service manager, its log, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import TinyServer
from fakes import make_episode
from sleepyd import main
from sleepyd.live_page import live_page
from sleepyd.main import missing_parts
from typer.testing import CliRunner

from sleepy_coder.cli import app
from sleepy_coder.config import CONFIG_FILE
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import StoreError
from sleepy_coder.serve.process import free_port
from sleepy_coder.store import Store
from sleepy_coder.types import Outcome

pytestmark = pytest.mark.slow
HOURS = [f"{(datetime.now(UTC) + timedelta(hours=hours)):%H}" for hours in (12, 13)]
WINDOW, LATER = (f"{hour}:00-{hour}:01" for hour in HOURS)  # neither opens while these tests run
SETTINGS = """
[server]
url = "{url}"
base_name = "tiny"
[gateway]
port = {port}
drain_seconds = 1
[night]
window = "{window}"
timezone = "UTC"
quiet_minutes = 0
"""


class House:
    """A daemon in `home` with a service manager that listens."""

    def __init__(self, home: Path, server: str) -> None:
        self.home, self.server, self.port = home, server, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(home / "notify"))
        self.manager.settimeout(60)
        self.log: list[dict[str, Any]] = []
        self.write(WINDOW)
        self.ending: subprocess.Popen[str] | None = None
        self.process = self.start()

    def write(self, window: str, **more: object) -> None:
        text = SETTINGS.format(url=self.server, port=more.get("port", self.port), window=window)
        (self.home / CONFIG_FILE).write_text(text)

    def start(self, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sleepyd.main", "--home", str(self.home)]
        told = {**os.environ, "NOTIFY_SOCKET": str(self.home / "notify"), "WATCHDOG_USEC": "2000000", **environment}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=told)

    def told(self, what: str) -> str:
        """The next message to the manager that begins with `what`."""
        while not (message := self.manager.recv(4096).decode()).startswith(what):
            pass
        return message

    def event(self, name: str) -> dict[str, Any]:
        """The next line of the log with this event."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == name:
                return self.log[-1]
        raise AssertionError(f"no {name} in {self.log}")

    def state(self) -> Any:
        return httpx.get(f"{self.url}/admin/state", timeout=60).json()

    def terminate(self) -> None:
        """Ask it to end, once: it no longer heeds a second signal when its loop is closed, and dies of it."""
        if self.process.poll() is None and self.ending is not self.process:
            self.process.send_signal(signal.SIGTERM)
        self.ending = self.process

    def stop(self) -> int:
        self.terminate()
        self.process.communicate(timeout=90)
        return self.process.returncode


@pytest.fixture
def house(tmp_path: Path, tiny_server: TinyServer) -> Iterator[House]:
    house = House(tmp_path, tiny_server.url)
    yield house
    house.stop()
    house.manager.close()


def test_it_is_ready_when_it_serves_and_says_that_it_lives_and_stops(house: House) -> None:
    assert house.url in house.told("READY=1")
    assert httpx.get(f"{house.url}/readyz", timeout=60).status_code == 200
    house.told("WATCHDOG=1")
    house.told("WATCHDOG=1")
    house.terminate()
    house.told("STOPPING=1")
    assert house.stop() == 0


def test_a_store_that_was_found_damaged_is_replaced_at_the_next_start_without_an_episode_lost(house: House) -> None:
    house.told("READY=1")
    assert house.stop() == 0
    path = house.home / "state" / "sleepy.db"
    with Store(path) as store:
        store.save_episodes([make_episode(1, Outcome.PASS)])
    path.write_bytes(b"noise" * 8000)
    house.process = house.start()
    assert "is damaged" in house.event("daemon.failed")["reason"]
    house.process.communicate(timeout=60)
    assert house.process.returncode == 1
    house.process = house.start()  # as the service manager does
    assert house.event("store.rescued")["episodes"] == 1
    assert house.event("daemon.started")
    with Store(path) as store:
        assert [episode.id for episode in store.episodes()] == ["e1"]


def test_every_line_of_its_log_is_json(house: House) -> None:
    assert house.event("daemon.started")["url"] == house.url
    house.terminate()
    assert house.event("daemon.stopped")
    assert house.stop() == 0


def test_there_is_one_daemon_a_home(house: House) -> None:
    house.told("READY=1")
    second = house.start(NOTIFY_SOCKET="")
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 1
    assert "another process runs a daemon here" in said
    assert httpx.get(f"{house.url}/healthz", timeout=60).status_code == 200


def test_a_reload_takes_what_it_can_and_names_what_needs_a_restart(house: House) -> None:
    house.told("READY=1")
    house.write(LATER, port=free_port())
    house.process.send_signal(signal.SIGHUP)
    house.told("RELOADING=1")
    reloaded = house.event("daemon.reloaded")
    assert (reloaded["applied"], reloaded["restart"]) == (["night"], ["gateway"])
    house.told("READY=1")
    assert httpx.get(f"{house.url}/healthz", timeout=60).status_code == 200


def test_wrong_settings_are_refused_on_reload_and_the_old_ones_hold(house: House) -> None:
    house.told("READY=1")
    house.write("whenever")
    house.process.send_signal(signal.SIGHUP)
    assert "whenever" in house.event("daemon.reload_failed")["reason"]
    assert house.state()["nights"]


def test_it_says_what_its_nights_wait_for(house: House) -> None:
    house.event("schedule.waits")
    nights = house.state()["nights"]
    assert nights["why"].startswith(f"outside of {WINDOW}") and nights["next"]
    shown = CliRunner().invoke(app, ["--home", str(house.home), "status"])
    assert f"runs; nights: outside of {WINDOW}" in " ".join(shown.stdout.split())


def test_a_model_server_that_hangs_holds_up_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        url = f"http://127.0.0.1:{hangs.getsockname()[1]}"
        (tmp_path / CONFIG_FILE).write_text(SETTINGS.format(url=url, port=free_port(), window=""))
        monkeypatch.setattr(main, "_ASK_SECONDS", 0.1)
        began = time.monotonic()
        assert "does not say whether it is in use" in main._hindrance(load_config(tmp_path))
        assert time.monotonic() - began < 60  # server.timeout_seconds is 120


def test_its_live_page_is_made_of_what_the_store_holds(house: House) -> None:
    house.told("READY=1")
    page = httpx.get(f"{house.url}/dashboard", timeout=300)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.text.startswith("<!") and "tiny" in page.text


def test_a_live_page_that_cannot_be_made_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "sleepy.db").write_bytes(b"noise" * 8000)
    with pytest.raises(StoreError, match="is damaged"):
        live_page(tmp_path)


def test_a_daemon_that_wants_a_key_is_not_taken_for_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.stop()
    monkeypatch.setenv("SLEEPY_CODER_GATEWAY__API_KEY", "a-long-enough-key")
    house.process = house.start()
    house.event("daemon.started")
    monkeypatch.delenv("SLEEPY_CODER_GATEWAY__API_KEY")
    shown = CliRunner().invoke(app, ["--home", str(house.home), "status"])
    asked = CliRunner().invoke(app, ["--home", str(house.home), "night", "--now"])
    assert "runs, but says no more without its key" in " ".join(shown.stdout.split())
    assert asked.exit_code == 1
    assert "wants its key" in asked.stderr and "CREDENTIALS_DIRECTORY" in asked.stderr


def test_a_night_asked_for_runs_in_a_process_of_its_own_and_stops_with_the_daemon(house: House) -> None:
    house.event("daemon.started")
    asked = CliRunner().invoke(app, ["--home", str(house.home), "night", "--now", "--json"])
    assert json.loads(asked.stdout) == {"night": "a night begins"}
    assert house.event("schedule.night_began")["pid"] != house.process.pid
    # The tiny server answers nonsense, so that there is nothing to learn from: the night is skipped, and over.
    assert house.event("night.started")["cycle"] == 1
    house.terminate()
    house.event("daemon.stopped")
    assert house.stop() == 0


def test_without_a_daemon_nobody_can_be_asked_for_a_night(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text(SETTINGS.format(url="http://127.0.0.1:9", port=free_port(), window=""))
    asked = CliRunner().invoke(app, ["--home", str(tmp_path), "night", "--now"])
    assert asked.exit_code == 1
    assert "no daemon answers" in asked.stderr


@pytest.mark.parametrize("dead", ["recorder", "keeper", "canary"])
def test_a_daemon_with_a_dead_thread_says_no_more_that_it_lives(dead: str) -> None:
    names = {"recorder", "gather", "take_in", "keeper", "canary"}
    assert missing_parts(names, True) == []
    assert missing_parts(names - {dead}, True) == [dead]
    assert missing_parts(names, False) == ["schedule"]
