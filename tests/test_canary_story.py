"""The whole story with real parts: nano model, embedded server, gateway, sandboxed rustc; only the adapter is bad."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from gateway_house import run
from serve_model import tiny_adapter
from sleepyd.gateway_main import working
from test_registry import MIX, RECIPE

from sleepy_coder import log, wiring
from sleepy_coder.canary import last_state
from sleepy_coder.config import CanarySettings, Config, GatewaySettings
from sleepy_coder.dialogue import ReplyFormatError, apply_reply
from sleepy_coder.errors import AdapterError
from sleepy_coder.registry import model_sha256
from sleepy_coder.serve.rollout import opening
from sleepy_coder.store import Store
from sleepy_coder.tasks import load_split
from sleepy_coder.types import AdapterState, Outcome, SessionCheck, Task, Verdict
from sleepy_coder.verify.command import TaskVerifier

AT_ONCE = 8
SESSIONS = 120


@dataclass(frozen=True)
class Developer:
    """Works on tasks through the gateway as `sleepy-coder run` does: announced, asked, verified."""

    url: str
    store: Store
    judge: TaskVerifier

    def work(self, number: int, task: Task) -> None:
        session = f"run-{number}"
        self.store.begin_check(session, wiring.SystemClock().now())
        messages = [message.model_dump(mode="json") for message in opening(self.judge, task)]
        body = {"model": "sleepy-coder", "messages": messages, "temperature": 0, "max_tokens": 160}
        reply = httpx.post(f"{self.url}/s/{session}/v1/chat/completions", json=body, timeout=300)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == "sleepy-coder"
        verdict = self._verdict(task, reply.json()["choices"][0]["message"]["content"])
        self.store.save_check(SessionCheck(session=session, task=task, verdict=verdict))

    def _verdict(self, task: Task, text: str) -> Verdict:
        try:
            return self.judge.verify(task, apply_reply(text, task.files))
        except ReplyFormatError as error:
            return Verdict(outcome=Outcome.FAIL, stage="format", feedback=str(error))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """The nano model on the embedded server."""
    home = tmp_path_factory.mktemp("home")
    gateway = GatewaySettings(rest_minutes=0.02)  # pyright: ignore[reportCallIssue]
    # Noise also makes replies longer, which would be found as well, sometimes sooner: here its failures have to tell.
    canary = CanarySettings(explosion_threshold=1e9)  # pyright: ignore[reportCallIssue]
    settings = Config(home=home, gateway=gateway, canary=canary)  # pyright: ignore[reportCallIssue]
    with wiring.embedded_server(settings) as config:  # pyright: ignore[reportCallIssue]
        yield config


def promote_a_bad_one(config: Config) -> str:
    """A LoRA of noise, promoted as if it had passed the gate."""
    base, registry = wiring.model_path(config), wiring.open_registry(config)
    bad = registry.stage(
        tiny_adapter(base, config.home / "noise", seed=3),
        cycle=1,
        parent=None,
        base=base,
        base_model="nano",
        base_sha256=model_sha256(base),
        mix=MIX,
        recipe=RECIPE.model_copy(update={"rank": 8, "alpha": 16}),
    )
    return registry.activate(bad.name).name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_bad_adapter_is_found_by_its_users_sessions_and_they_are_back_on_the_old_one(
    served: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    log.set_up(as_json=True, verbose=True)
    bad = promote_a_bad_one(served)
    registry, tasks = wiring.open_registry(served), [t for t in load_split("day") if t.command == ("rust-run",)]

    async def story() -> None:
        with wiring.open_store(served) as store, ThreadPoolExecutor(AT_ONCE) as pool:
            async with working(served, port=0) as day:
                someone = Developer(day.url, store, wiring.open_verifier(served))
                loop, number = asyncio.get_running_loop(), 0
                while registry.active() is not None and number < SESSIONS:
                    several = range(number, number + AT_ONCE)
                    await asyncio.gather(
                        *(loop.run_in_executor(pool, someone.work, n, tasks[7 * n % len(tasks)]) for n in several)
                    )
                    number += AT_ONCE
                while registry.active() is not None:  # the last ones still have to come to rest
                    await asyncio.sleep(0.2)
                for n in range(1000, 1000 + AT_ONCE):
                    await loop.run_in_executor(pool, someone.work, n, tasks[n % len(tasks)])
            state = last_state(store, served.canary)
            assert state is not None
            assert (state.trial.stage, state.trial.adapter) == ("rolled_back", bad)
            assert state.evidence.new.failures > state.evidence.old.failures
            models = {exchange.session: exchange.served_by for exchange in store.exchanges()}
            assert set(models.values()) == {bad, served.server.base_name}
            assert {model for session, model in models.items() if int(session[4:]) >= 1000} == {served.server.base_name}

    run(story, seconds=900)
    assert registry.get(bad).state is AdapterState.QUARANTINED
    with pytest.raises(AdapterError, match="quarantined"):
        registry.activate(bad)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    [back] = [line for line in lines if line["event"] == "adapter.rolled_back"]
    assert back["adapter"] == bad and back["now"] is None
    assert "fewer of its sessions pass" in back["reason"] and back["statistics"]["e"] >= served.canary.threshold
    assert not [line for line in lines if line["event"] == "canary.watch_failed"]
