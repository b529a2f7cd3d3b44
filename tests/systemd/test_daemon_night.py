"""A night that the service holds: torch, bubblewrap and rustc under the hardening, told through the journal."""

from __future__ import annotations

import json
import os
import time

import pytest
from installed import COMMAND, HOME, SERVICE, beside, healthy, pid, told, wait_for_another
from machine import Machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DAY = os.environ.get("SLEEPY_TEST_DAY", "320")
"""Tasks that the agent meets before each night. Fewer are faster, and too few to be promoted on."""

NIGHTS = 3
"""An honest gate holds a lucky or unlucky first night now and then; three in a row would be news."""


def ended(machine: Machine, cycle: int, seconds: float = 2400) -> dict[str, object]:
    """The line of night `cycle` in `nights --json`, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        nights = json.loads(machine.said(COMMAND, "--home", HOME, "nights", "--json") or "[]")
        if found := [night for night in nights if night["cycle"] == cycle]:
            return found[0]
        assert machine.said("systemctl", "is-active", SERVICE) == "active", machine.log(SERVICE)
        time.sleep(2)
    raise AssertionError(f"night {cycle} has not ended\n{machine.log(SERVICE)}")


def served(machine: Machine) -> str:
    return json.loads(machine.said("cat", f"{HOME}/adapters/active.json"))["name"]


def test_a_night_of_the_service_is_promoted_and_told_through_the_journal(service: Machine) -> None:
    nights: list[dict[str, object]] = []
    while len(nights) < NIGHTS and not (nights and nights[-1]["outcome"] == "promoted"):
        cycle = len(nights) + 1
        beside(service, f"day-{cycle}", COMMAND, "--home", HOME, "koans", "run", "--count", DAY)
        service.run(COMMAND, "--home", HOME, "night", "--now", timeout=2400)
        nights.append(ended(service, cycle))
    assert nights[-1]["outcome"] == "promoted", [night["reason"] for night in nights]

    told(service, "night.started", "mix.built", "gate.decided", "adapter.promoted", "night.summary")
    assert served(service).startswith(f"sc-{len(nights):04d}-")


def test_what_was_promoted_serves_after_kill_nine(service: Machine) -> None:
    if service.run("test", "-e", f"{HOME}/adapters/active.json", check=False).returncode:
        pytest.skip("no night was promoted before")
    adapter = served(service)
    service.run("systemctl", "reset-failed", SERVICE, check=False)
    service.run("systemctl", "restart", SERVICE)
    before = pid(service)
    service.run("kill", "-KILL", str(before))
    wait_for_another(service, before)
    assert healthy(service) == 200
    assert served(service) == adapter
    asked = (
        "import httpx; r = httpx.post('http://127.0.0.1:8400/v1/chat/completions', timeout=600, json={'model':"
        " 'sleepy-coder', 'max_tokens': 4, 'messages': [{'role': 'user', 'content': 'hi'}]}); print(r.status_code)"
    )
    assert service.python(asked) == "200"
    state = json.loads(service.said(COMMAND, "--home", HOME, "status", "--json"))
    assert state["serving"] == adapter
