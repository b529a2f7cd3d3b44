"""Real agents at work through the real gateway become episodes with the outcome that a check gives them.

Each agent is a program from its registry, started without a screen in an empty home, and edits a real project. Only
the model is a script (acting.py): it mends the fault, or it does not and claims that it did.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from acting import Read, Replace, Run, Say, a_title, acting
from fakes import Arrived, Script, ScriptedUpstream, passed_examples
from planted import plant
from real_agents import AGENTS, AIDER, FOLDER, Agent, empty_home, write_project
from test_gateway_main import process, wait_for
from test_learn_rows import RECIPE, TEMPLATES
from transformers import AutoTokenizer

from sleepy_coder.collect.gathering import gather_resting
from sleepy_coder.collect.sessions import group
from sleepy_coder.learn.rows import encode_all
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.serve.process import free_port
from sleepy_coder.store import Store
from sleepy_coder.types import Episode, Exchange, Message, Outcome

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the agents are not installed: run `make test-agents`"),
]

TURNS = 5
RECORDED = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
PLANTED = [plant(kind, random.Random(7)) for kind in ("github-pat", "password")]
SECRETS = {planted.name: planted.secret for planted in PLANTED}
Way = Literal["run", "plain"]


@dataclass(frozen=True)
class Case:
    """An agent, started by `sleepy-coder run` or plainly with only its base URL set; the model mends, or boasts."""

    agent: Agent
    way: Way
    mends: bool

    def __str__(self) -> str:
        return f"{self.agent.name}-{self.way}-{'mends' if self.mends else 'boasts'}"


@dataclass(frozen=True)
class Day:
    """What came of a case. `arrived` is what reached the model server, `stored` all bytes of the store."""

    status: int
    said: str
    errors: str
    source: str
    arrived: tuple[Arrived, ...]
    exchanges: tuple[Exchange, ...]
    side_calls: tuple[str, ...]
    left_out: dict[str, str]
    episodes: tuple[Episode, ...]
    stored: bytes


CASES = [Case(agent, way, mends) for agent in AGENTS for way in ("run", "plain") for mends in (True, False)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@contextmanager
def model_server(script: Script) -> Generator[ScriptedUpstream]:
    """A scripted model server on a thread of its own."""
    ready: Future[ScriptedUpstream] = Future()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with ScriptedUpstream(script) as upstream:
            ready.set_result(upstream)
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="model server", daemon=True)
    thread.start()
    try:
        yield ready.result(30)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
        loop.close()


def work(case: Case, folder: Path) -> Day:
    """Let an agent work in an empty home on a fresh project."""
    home, project = folder / "home", folder / "project"
    home.mkdir()
    source = write_project(project, SECRETS)
    fault = source.read_text()
    new = "a + b" if case.mends else "b - a"
    plan = (
        Run("cat .env src/lib.rs"),
        Read(source),
        Replace(source, "a - b", new),
        Run("cargo test --offline"),
        Say("The sum is mended, and all tests pass."),
    )
    command = case.agent.command

    def whole_file(body: dict[str, Any]) -> str:
        """For aider: wrong at first, and mended or not once it has sent what failed."""
        text = fault.replace("a - b", new if "FAILED" in str(body["messages"][-1]["content"]) else "b - a")
        return f"The sum is mended.\n\nsrc/lib.rs\n```\n{text}```\n"

    without_tools = whole_file if case.agent is AIDER else a_title
    with model_server(acting(plan, end=case.agent.end, without_tools=without_tools)) as upstream:
        port = free_port()  # after the server has its own: a port that is free now may be the next one given out
        variables = {**empty_home(folder / "user"), "SLEEPY_CODER_GATEWAY__PORT": str(port)}
        with process(home, port, SLEEPY_CODER_SERVER__URL=upstream.url) as gateway:
            wait_for(f"http://127.0.0.1:{port}", gateway)
            if case.way == "run":
                # For whoever tests a checkout that is not the one installed.
                variables |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
                command = [sys.executable, "-m", "sleepy_coder", "--home", str(home), "run", "--json", "--", *command]
            else:
                pointing = case.agent.pointing(f"http://127.0.0.1:{port}")
                variables |= pointing.variables
                for name, text in pointing.files.items():
                    (folder / "user" / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / "user" / name).write_text(text)
            done = subprocess.run(
                command,
                cwd=project,
                env=variables,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=600,
            )
        arrived = tuple(upstream.arrived)
    with Store(home / "state" / "sleepy.db") as store:
        exchanges = tuple(store.exchanges())
        grouped = group(exchanges)
        if exchanges:
            gather_resting(store, exchanges[-1].started + timedelta(hours=1), timedelta(minutes=10))
        episodes = tuple(store.episodes())
    return Day(
        status=done.returncode,
        said=done.stdout,
        errors=done.stderr,
        source=source.read_text(),
        arrived=arrived,
        exchanges=exchanges,
        side_calls=grouped.side_calls,
        left_out=grouped.left_out,
        episodes=episodes,
        stored=b"".join(file.read_bytes() for file in (home / "state").rglob("*") if file.is_file()),
    )


@pytest.fixture(scope="module")
def day_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], Day]]:
    """Each case is worked once, and asked about by several tests."""
    days: dict[Case, Day] = {}

    def day(case: Case) -> Day:
        if not case.agent.installed:
            pytest.fail(f"{case.agent.name} is not installed; see why: scripts/agents {case.agent.name}")
        if case not in days:
            days[case] = work(case, tmp_path_factory.mktemp(str(case)))
        return days[case]

    return day


def conversation(day: Day) -> tuple[Message, ...]:
    """The messages of the one episode, with its last reply."""
    (episode,) = day.episodes
    (attempt,) = episode.attempts
    return (*attempt.messages, attempt.reply or Message(role="assistant", content=attempt.completion))


@every_case
def test_the_agent_edits_the_project_and_ends(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    assert day.status == 0, day.said + day.errors
    assert ("a + b" if case.mends else "b - a") in day.source


@every_case
def test_one_session_is_one_episode_with_all_turns_of_the_model(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    turns = [message for message in conversation(day) if message.role == "assistant"]
    assert (len(turns), len(day.side_calls), day.left_out) == (TURNS, case.agent.side_calls, {})
    assert turns[-1].content == "The sum is mended, and all tests pass."
    (episode,) = day.episodes
    assert episode.attempts[0].tools, "the tools that the agent offers are part of what the model saw"


@every_case
def test_the_session_is_found_where_it_is_documented(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    source = "path" if case.way == "run" else case.agent.source
    found = {(exchange.session_source, exchange.wire, exchange.streamed) for exchange in day.exchanges}
    assert found == {(source, case.agent.wire, case.agent.streams)}
    assert all(exchange.agent.startswith(case.agent.agent) for exchange in day.exchanges)
    assert len({exchange.session for exchange in day.exchanges}) == 1
    assert {exchange.asked_model for exchange in day.exchanges} == {"sleepy-coder"}


@every_case
def test_the_outcome_is_the_checks_and_not_the_models_claim(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    (episode,) = day.episodes
    assert episode.outcome is (Outcome.PASS if case.mends else Outcome.FAIL)
    assert episode.outcome_source == ("verifier" if case.way == "run" else "tool-text")
    if case.way == "run":
        assert json.loads(day.said[day.said.rindex("{\n") :])["outcome"] == episode.outcome.value


@every_case
def test_a_secret_that_the_agent_read_is_a_placeholder_in_the_store(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    for name, secret in SECRETS.items():
        assert any(secret.encode() in arrived.body for arrived in day.arrived), f"{name} was not read"
        assert secret.encode() not in day.stored, f"{name} is in the store"
    assert any("<SECRET:" in message.content for message in conversation(day))


@every_case
def test_everything_that_passed_is_recorded_whole(case: Case, day_of: Callable[[Case], Day]) -> None:
    day = day_of(case)
    passed = [arrived for arrived in day.arrived if arrived.target.partition("?")[0] in RECORDED]
    assert len(day.exchanges) == len(passed)
    assert all(exchange.whole for exchange in day.exchanges)


@pytest.mark.parametrize("case", [c for c in CASES if c.way == "run" and c.mends], ids=str)
def test_every_turn_of_a_verified_session_becomes_a_training_row(case: Case, day_of: Callable[[Case], Day]) -> None:
    (row,) = passed_examples(day_of(case).episodes, 4)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.chat_template = TEMPLATES["chatml"]
    encoding = encode_all(row, tokenizer, RECIPE.model_copy(update={"max_length": 1 << 20}))
    assert encoding.left_out == ()
    assert sum(len(encoded.turns) for encoded in encoding.rows) == TURNS
    learned = "".join(tokenizer.decode([encoded.ids[i] for i in encoded.learned()]) for encoded in encoding.rows)
    assert "cargo test --offline" in learned
    assert "assert_eq!" not in learned, "what the tools said is not learned"


@pytest.mark.parametrize("case", [c for c in CASES if c.way == "plain"], ids=str)
def test_hints_alone_train_nothing(case: Case, day_of: Callable[[Case], Day]) -> None:
    assert not passed_examples(day_of(case).episodes, 4)


@pytest.mark.parametrize("mends", [True, False], ids=["mends", "boasts"])
def test_of_aider_which_rewrites_its_history_the_last_request_gets_the_verdict(
    mends: bool, day_of: Callable[[Case], Day]
) -> None:
    day = day_of(Case(AIDER, "run", mends))
    assert (day.status, day.left_out) == (0, {}), day.said + day.errors
    # Now and then it has its history summed up, beside its work.
    assert len(day.episodes) + len(day.side_calls) == len(day.exchanges)
    *before, last = day.episodes
    assert len(before) == (1 if mends else 3), "it asks three times again"
    assert (last.outcome, last.outcome_source) == (Outcome.PASS if mends else Outcome.FAIL, "verifier")
    assert "verifier" not in {episode.outcome_source for episode in before}
    assert len(passed_examples(day.episodes, 4)) == mends
