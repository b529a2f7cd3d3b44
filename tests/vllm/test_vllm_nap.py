"""A night that shares the GPU with a real vLLM: it sleeps while the night trains, and wakes for whoever asks.

The CPU build frees no memory by that, and holds requests back like any other.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from real_vllm import ALIAS, BASE, Shelf
from test_vllm_night import ASKED, day

from sleepy_coder import wiring
from sleepy_coder.config import CONFIG_FILE, HOME_VARIABLE
from sleepy_coder.config_load import load_config
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.night import run_night
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.types import Reply

SETTINGS = """
[server]
url = "{url}"
timeout_seconds = 600
[gateway]
port = {port}
[agent]
attempts = 1
[mix]
max_examples = 48
min_examples = 4
anchors = 8
dream_tasks = 0
[recipe]
max_steps = 8
choose_tasks = 0  # so short a night would be dropped on the dev tasks, and never reach the gate
[night]
share_gpu = true
quiet_minutes = 0
"""
DAY, FROZEN = 24, 12


def test_a_request_wakes_the_server_from_the_nap_and_the_night_goes_on_to_its_verdict(
    vllm: ServerProcess,
    client: VllmClient,
    shelf: Shelf,
    through: ServerProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(shelf.home))
    (shelf.home / CONFIG_FILE).write_text(SETTINGS.format(url=vllm.url, port=through.port))
    over = threading.Event()

    def ask_in_its_sleep() -> Reply:
        while not client.asleep():
            assert not over.is_set(), "the night ended, and the server had not slept"
            time.sleep(0.05)
        with VllmClient(through.url, timeout=900) as agent:
            return agent.chat(ALIAS, ASKED, max_tokens=24)

    with ThreadPoolExecutor(1) as pool, wiring.open_parts(load_config(shelf.home), wiring.Silent()) as parts:
        tasks = parts.frozen[:: len(parts.frozen) // FROZEN]
        few = replace(parts, frozen=tasks, clusters=form_clusters(tasks))
        day(few, DAY)
        asked = pool.submit(ask_in_its_sleep)
        try:
            report = run_night(few)
        finally:
            over.set()
        said = asked.result()
    assert not client.asleep()
    assert said == client.chat(BASE, ASKED, max_tokens=24).model_copy(update={"model": ALIAS})
    assert report.verdict and {sample.served_by for sample in report.reports[2].samples} == {report.candidate}
