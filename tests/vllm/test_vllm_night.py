"""A small day and a whole night on a real vLLM, through the real steps: rustc, training, evaluation, the gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_vllm import ALIAS, BASE, Shelf

from sleepy_coder import wiring
from sleepy_coder.collect.agent import work_through
from sleepy_coder.config import CONFIG_FILE, HOME_VARIABLE
from sleepy_coder.config_load import load_config
from sleepy_coder.judge.clusters import form_clusters
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess
from sleepy_coder.tasks import load_split
from sleepy_coder.types import Message

SETTINGS = """
[server]
url = "{url}"
timeout_seconds = 600
[agent]
attempts = 2
[mix]
max_examples = 96
min_examples = 8
anchors = 16
dream_tasks = 4
dream_samples = 4
[recipe]
max_steps = 8
choose_tasks = 0  # so short a night would be dropped on the dev tasks, and never reach the gate
"""
DAY, FROZEN = 48, 62
ASKED = (Message(role="user", content="fn main() {"),)


@pytest.fixture
def parts(shelf: Shelf, vllm: ServerProcess, client: VllmClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.setenv(HOME_VARIABLE, str(shelf.home))
    (shelf.home / CONFIG_FILE).write_text(SETTINGS.format(url=vllm.url))
    with wiring.open_parts(load_config(shelf.home), wiring.Silent()) as parts:
        tasks = parts.frozen[:: len(parts.frozen) // FROZEN]
        yield replace(parts, frozen=tasks, clusters=form_clusters(tasks))


def day(parts: Parts, count: int) -> None:
    """About `count` tasks of a day, met by the base."""
    tasks = load_split("day")
    few = tasks[:: len(tasks) // count]
    keep = parts.store.save_episode
    agent = parts.config.agent
    list(work_through(few, BASE, parts.server, parts.verifier, agent, parts.clock, "test", keep))


def test_a_night_reaches_a_verdict_and_pointer_server_and_alias_agree(
    parts: Parts, client: VllmClient, through: ServerProcess
) -> None:
    day(parts, DAY)
    report = run_night(parts)
    assert report.outcome in {"promoted", "rejected", "inconclusive"}, report.reason
    assert report.verdict and [arm.arm for arm in report.reports] == ["baseline", "current", "candidate"]
    assert {sample.served_by for sample in report.reports[2].samples} == {report.candidate}

    active = parts.registry.active()
    assert report.serving == (active.name if active else BASE)
    roots = {model.name: Path(model.root) for model in client.models() if model.parent}
    if report.outcome == "promoted":
        assert active and active.name == report.candidate
        assert roots == {active.name: active.path}
    else:
        assert active is None and not roots
    with VllmClient(through.url, timeout=600) as agent:
        said = agent.chat(ALIAS, ASKED, max_tokens=24)
    assert said == client.chat(report.serving, ASKED, max_tokens=24).model_copy(update={"model": ALIAS})
