"""Honest fakes behind the ports: they keep the ports' promises, and fail in the ways the real parts fail.

The tasks are one-line programs with a number in them. A model here is a function from messages to a
completion; `solver(numbers)` is one that mends the tasks of these numbers and fails on the others. What a
trained adapter can do is written in its files (`solves` in adapter_config.json), and the fake server reads
it when it loads them, so an adapter is only ever as good as the bytes that were served.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web
from test_registry import lora, write_base, write_trained

from sleepy_coder.adapter_manifest import model_width
from sleepy_coder.collect.agent import work_through
from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.config import (
    AgentSettings,
    Config,
    EvalSettings,
    GatePolicy,
    GatewaySettings,
    MixSettings,
    RecipeSettings,
)
from sleepy_coder.curfew import Curfew
from sleepy_coder.errors import (
    ContextTooLong,
    ModelNotFound,
    SecretFound,
    ServerError,
    ServerUnreachable,
    TrainingError,
)
from sleepy_coder.judge.clusters import Cluster
from sleepy_coder.learn.passed import passed_rows
from sleepy_coder.learn.rows import EncodedRow, encode_all
from sleepy_coder.parts import BaseModel, Parts
from sleepy_coder.ports import Clock, Fingerprint, Redactor, ServedModel, Trainer, Watcher
from sleepy_coder.registry import Registry, model_sha256
from sleepy_coder.serve.prover import Prover
from sleepy_coder.store import Store
from sleepy_coder.tasks import task_id
from sleepy_coder.types import (
    Adapter,
    Attempt,
    Episode,
    Example,
    ExampleKind,
    Message,
    Outcome,
    Recipe,
    Reply,
    Task,
    TrainingMix,
    Verdict,
)

Answer = Callable[[Sequence[Message], float, int], str]
BASE = "sleepy-base"
DREAM_TEMPERATURE = 1.5
DAY, REHEARSAL, UNLIKE, FROZEN = range(100), range(100, 200), range(200, 264), range(1000, 2000)
_BROKEN = re.compile(r"broken_(\d+)")
# Shapes without a common run of tokens: a day task must not look like a frozen one. UNLIKE are not like each other.
_SHAPES = (
    (FROZEN, 'fn main() {{ println!("{{}}", {word}_{number} + 1); }}'),
    (REHEARSAL, "struct Kept {{ {word}_{number}: u8 }}"),
    (UNLIKE, "static {word}_{number}: ({names}) = MADE_{number};"),
    (DAY, "const LIMIT: [i64; 2] = [3, {word}_{number}];"),
)


def make_task(number: int, family: str | None = None) -> Task:
    """Task `number`: DAY, REHEARSAL and FROZEN numbers make differently shaped programs. Five families."""
    shape = next(text for numbers, text in _SHAPES if number in numbers)
    names = ", ".join(f"{'ab'[int(bit)]}{number}" for bit in f"0{number % 64:06b}")
    files = {"main.rs": shape.format(word="broken", number=number, names=names) + "\n"}
    prompt, command = f"Mend number {number}.", ("rust-run",)
    return Task(
        id=task_id(files, prompt, command, None, ""),
        family=family or f"family_{number % 5}",
        category="names",
        language="rust",
        files=files,
        prompt=prompt,
        command=command,
        origin="test",
        cluster=f"c{number}",
        reference={"main.rs": shape.format(word="mended", number=number, names=names) + "\n"},
    )


def tasks_of(numbers: Collection[int]) -> tuple[Task, ...]:
    return tuple(make_task(number) for number in numbers)


def alone(tasks: Iterable[Task]) -> tuple[Cluster, ...]:
    """Each task as a cluster of its own: these programs differ in a number only, which `form_clusters` takes as one."""
    return tuple(Cluster(id=t.id, family=t.family, group=t.category, tasks=(t.id,)) for t in tasks)


def right_answer(number: int) -> str:
    return "1|" + (make_task(number).reference or {})["main.rs"].rstrip("\n")


def solver(numbers: Collection[int], dreaming: Collection[int] = ()) -> Answer:
    """A model that mends the tasks `numbers`, at dreaming's temperature also `dreaming`, and no others."""
    awake, asleep = frozenset(numbers), frozenset(numbers) | frozenset(dreaming)

    def answer(messages: Sequence[Message], temperature: float, seed: int) -> str:
        if len(messages) == 1:
            return "I am."  # to a night that asks whether it is awake
        found = _BROKEN.search(messages[1].content)
        assert found is not None, "a prompt without a task"
        number = int(found[1])
        solved = asleep if temperature >= DREAM_TEMPERATURE else awake
        return right_answer(number) if number in solved else f"1|nonsense_{number}"

    return answer


class FakeClock:
    """Each look at it is a second later than the last, whichever thread looks; it can be set."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 23, 3, tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._later(1)

    def sleep(self, seconds: float) -> None:
        self._later(seconds)

    def _later(self, seconds: float) -> datetime:
        with self._lock:
            self.time += timedelta(seconds=seconds)
            return self.time


@dataclass(frozen=True)
class Asked:
    """One chat request as it arrived."""

    model: str
    messages: tuple[Message, ...]
    temperature: float
    seed: int
    max_tokens: int


class FakeServer:
    """`ports.ModelServer` in memory.

    `reachable` and `answers_as` (another model's name in every reply) can be set at any time, and so can `not_applied`:
    adapters that are listed and answer with the base's weights. `requests` is what `busy` says, `thought` stands
    apart from every reply, and `ends` is how each ended. `restart` forgets the adapters, as a real server does.
    """

    def __init__(self, base: Answer, url: str = "http://fake", **others: Answer) -> None:
        self.answers: dict[str, Answer] = {BASE: base, **others}
        self.roots: dict[str, Path] = {}
        self.reachable = True
        self.not_applied: set[str] = set()
        self.url, self.runs, self.requests = url, "fake 1", 0
        self.sleeping = False
        self.answers_as: str | None = None
        self.thought = ""
        self.ends = "stop"
        self.room = 1_000_000  # characters of a conversation
        self.asked: list[Asked] = []
        self.loads: list[str] = []
        self.weighed = set[str]()
        self._lock = threading.Lock()

    def chat(
        self,
        model: str,
        messages: Sequence[Message],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        max_tokens: int = 256,
    ) -> Reply:
        self._reach()
        if self.sleeping:
            raise ServerUnreachable("a request to a sleeping server hangs", "wake it")
        if sum(len(message.content) for message in messages) > self.room:
            raise ContextTooLong("this model's maximum context length is less", "send less")
        if model not in self.answers:
            raise ModelNotFound(f"the model {model} does not exist", status=404)
        with self._lock:
            self.asked.append(Asked(model, tuple(messages), temperature, seed, max_tokens))
        text = self.answers[model](messages, temperature, seed)
        return Reply(text=text, model=self.answers_as or model, finish_reason=self.ends, reasoning=self.thought)

    def nll(self, model: str, messages: Sequence[Message], completion: str) -> float:
        """Any number, but always the same one for the same bytes."""
        self._reach()
        self.weighed.add(model)
        return hashlib.sha256(f"{model}{messages}{completion}".encode()).digest()[0] / 64

    def load(self, name: str, path: Path) -> None:
        self._reach()
        if name in self.answers:
            raise ServerError(f"{name} has already been loaded", status=400)
        self.hold(name, path, json.loads((path / "adapter_config.json").read_text()).get("solves", ()))
        self.loads.append(name)

    def unload(self, name: str) -> None:
        self._reach()
        if name not in self.roots:
            raise ModelNotFound(f"the adapter {name} cannot be found", status=404)
        del self.roots[name], self.answers[name]

    def models(self) -> tuple[ServedModel, ...]:
        self._reach()
        adapters = (ServedModel(name, BASE, str(root)) for name, root in self.roots.items())
        return (ServedModel(BASE, None, "base"), *adapters)

    @property
    def replicas(self) -> tuple[FakeServer, ...]:
        return (self,)

    def version(self) -> str:
        self._reach()
        return self.runs

    def precision(self) -> str:
        self._reach()
        return ""

    def fingerprint(self, model: str, prompts: Sequence[str], max_tokens: int = 8) -> Fingerprint:
        """Follows from the bytes that answer: the base's when the adapter is in `not_applied`."""
        self._reach()
        if model not in self.answers:
            raise ModelNotFound(f"the model {model} does not exist", status=404)
        root = None if model in self.not_applied else self.roots.get(model)
        bytes_ = root.joinpath("adapter_model.safetensors").read_bytes() if root else b"base"
        logprobs = [-hashlib.sha256(bytes_ + prompt.encode()).digest()[0] / 64 - 0.01 for prompt in prompts]
        return Fingerprint(tokens=((1,),) * len(prompts), logprobs=tuple((value,) for value in logprobs))

    def asleep(self) -> bool:
        self._reach()
        return self.sleeping

    def sleep(self, level: int = 1) -> None:
        self._reach()
        self.sleeping = True

    def wake_up(self) -> None:
        self._reach()
        self.sleeping = False

    def busy(self) -> int:
        self._reach()
        return self.requests

    def hold(self, name: str, root: Path, solves: Collection[int]) -> None:
        """Have `name` loaded from `root`, whoever asked for it."""
        self.answers[name] = solver(solves)
        self.roots[name] = root

    def restart(self) -> None:
        for name in list(self.roots):
            del self.roots[name], self.answers[name]

    def _reach(self) -> None:
        if not self.reachable:
            raise ServerUnreachable("nobody answered", "start the model server")


class FakeVerifier:
    """`ports.Verifier`: green when the files are the reference's.

    `infra` maps a task id to how many of its next verifications of an answer fail as INFRA, `blind` to how
    many of its broken program.
    """

    def __init__(self, infra: Mapping[str, int] | None = None, blind: Mapping[str, int] | None = None) -> None:
        self._infra, self._blind = dict(infra or {}), dict(blind or {})
        self.judged = 0
        self._lock = threading.Lock()

    def breaks(self, tasks: Iterable[str]) -> None:
        """From now on no answer to these tasks can be judged."""
        self.fails_for_now(dict.fromkeys(tasks, 1_000_000))

    def fails_for_now(self, tries: Mapping[str, int]) -> None:
        """The next so many answers to each of these tasks cannot be judged."""
        self._infra |= tries

    def verify(self, task: Task, files: Mapping[str, str]) -> Verdict:
        fails = self._blind if dict(files) == task.files else self._infra
        with self._lock:
            self.judged += 1
            left = fails.get(task.id, 0)
            fails[task.id] = max(left - 1, 0)
        if left:
            return Verdict(outcome=Outcome.INFRA, stage="infra", detail="the disk is full")
        if dict(files) == task.files:
            return Verdict(outcome=Outcome.FAIL, stage="compile", error_signature="E0000", feedback="error: broken")
        if dict(files) == task.reference:
            return Verdict(outcome=Outcome.PASS, stage="done")
        said = f"error: no such name in {files['main.rs'].strip()}"
        return Verdict(outcome=Outcome.FAIL, stage="compile", error_signature="E0425", feedback=said)


class FakeTrainer:
    """`ports.Trainer`: a sound adapter for the base of test_registry.py that solves `learns`.

    Raises TrainingError with the words in `fails` when there are any. `runs` tells what it was asked.
    """

    def __init__(self, learns: Collection[int] = (), fails: str = "") -> None:
        self.learns = learns
        self.fails = fails
        self.runs: list[tuple[TrainingMix, Adapter | None, Recipe]] = []

    def train(
        self,
        mix: TrainingMix,
        parent: Adapter | None,
        recipe: Recipe,
        workdir: Path,
        pause: Callable[[], bool] = lambda: False,
    ) -> Path:
        self.runs.append((mix, parent, recipe))
        if self.fails:
            raise TrainingError(self.fails, "look at the log")
        workdir.mkdir(parents=True, exist_ok=True)
        return write_trained(workdir / "adapter", lora(recipe.seed), solves=sorted(self.learns))


class Quiet:
    """`ports.Watcher` that remembers the names of the steps."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def tick(self, done: int, total: int, note: str = "") -> None:
        assert 0 < done <= total


def settings(home: Path, **sections: Any) -> Config:
    """Small settings that fit the fakes: a mix from 8 rows up, adapters of rank 4."""
    return Config(
        **{
            "home": home,
            "gateway": GatewaySettings(port=9),  # the discard port: no gateway of this machine has a say
            "agent": AgentSettings(attempts=2, concurrency=2),
            "mix": MixSettings(
                min_examples=8,
                max_examples=40,
                dream_samples=2,
                dream_temperature=DREAM_TEMPERATURE,
                anchors=16,
                fresh_share=0,
            ),
            "recipe": RecipeSettings(rank=4, alpha=8),
            "eval": EvalSettings(concurrency=2),
            **sections,
        }
    )


def parts(
    home: Path,
    server: FakeServer,
    trainer: Trainer,
    *,
    verifier: FakeVerifier | None = None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
    frozen: Sequence[Task] | None = None,
    redactor: Redactor | None = None,
    until: datetime | None = None,
    ungated: bool = False,
    **sections: Any,
) -> Parts:
    """A real store and a real registry in `home`, around the fakes. Call it again for another process.

    The frozen set is little larger than the least that the gate takes.
    """
    config = settings(home, **sections)
    config.state.mkdir(parents=True, exist_ok=True)
    clock = clock or FakeClock()
    base = home / "base"
    if not base.exists():
        write_base(base)
    judged = tasks_of(FROZEN[:64]) if frozen is None else tuple(frozen)
    return Parts(
        config=config,
        base=BaseModel(base, BASE, model_sha256(base), model_width(base)),
        store=Store(config.state / "sleepy.db"),
        registry=Registry(config.adapters, FakeClock()),
        server=server,
        prover=Prover(config.state / "fingerprints", BASE, 0.01),
        verifier=verifier or FakeVerifier(),
        trainer=trainer,
        redactor=redactor or SecretRedactor(),
        clock=clock,
        watcher=watcher or Quiet(),
        policy=GatePolicy(autonomous_clusters=60),
        frozen=judged,
        clusters=alone(judged),
        rehearsal=tasks_of(REHEARSAL[:20]),
        environment="fake",
        curfew=Curfew(clock, until),
        ungated=ungated,
    )


def live_a_day(house: Parts, numbers: Collection[int], session: str = "day") -> list[Episode]:
    """Let the built-in agent work through these day tasks with what serves now; the saved episodes."""
    active = house.registry.active()
    episodes = list(
        work_through(
            tasks_of(numbers),
            active.name if active else BASE,
            house.server,
            house.verifier,
            house.config.agent,
            house.clock,
            session,
            lambda episode: None,
        )
    )
    house.store.save_episodes(episodes)
    return episodes


def make_episode(number: int, *outcomes: Outcome, source: str = "verifier", name: str = "") -> Episode:
    """An episode on task `number` with one attempt per outcome; the last one's is that of the episode."""
    task = make_task(number)
    messages = (
        Message(role="system", content="s"),
        Message(role="user", content=f"{task.prompt}\n{task.files['main.rs']}"),
    )
    attempts: list[Attempt] = []
    for turn, outcome in enumerate(outcomes):
        passed = outcome is Outcome.PASS
        completion = f"{right_answer(number)} // {name}" if passed else f"1|wrong_{turn} {name}"
        verdict = Verdict(outcome=outcome, stage="done" if passed else "compile")
        attempts.append(Attempt(messages=messages, completion=completion, verdict=verdict, served_by=BASE))
        messages = (*messages, Message(role="assistant", content=completion), Message(role="user", content="no"))
    return Episode(
        id=f"e{number}{name}",
        session="s",
        source="agent",
        task=task,
        attempts=tuple(attempts),
        outcome=outcomes[-1],
        outcome_source=source,
        served_by=BASE,
        created=datetime(2026, 11, 22, tzinfo=UTC),
    )


def encode(example: Example, tokenizer: Any, recipe: Recipe) -> EncodedRow | None:
    """The first row of an example, or None where all of it is left out."""
    return next(iter(encode_all(example, tokenizer, recipe).rows), None)


def passed_examples(episodes: Sequence[Episode], per_task: int) -> list[Example]:
    """All rows that a store with these episodes gives a night."""
    with TemporaryDirectory() as folder, Store(Path(folder) / "store.db") as store:
        store.save_episodes(episodes)
        pool = passed_rows(store, store.position(), per_task)
        return pool.rows(range(len(pool)))


def make_rows(kind: ExampleKind, count: int) -> list[Example]:
    """`count` different rows for the pool of `kind`."""
    return [
        Example(
            messages=(Message(role="user", content=f"{kind} {i}"),),
            completion=f"1|{kind}_{i}",
            kind=kind,
            task_id=f"{kind}-{i}",
            family=f"family_{i % 3}",
            provenance=f"{kind}:{i}",
        )
        for i in range(count)
    ]


@dataclass(frozen=True)
class Arrived:
    """One request as it came to the scripted upstream. `target` is the request line's, headers are in order."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[web.BaseRequest, Arrived], Awaitable[web.StreamResponse]]


class ScriptedUpstream:
    """A model server over real HTTP that answers by `script`, which can be replaced at any time.

    `arrived` has every request byte for byte; `cancelled` counts those whose caller hung up.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.arrived: list[Arrived] = []
        self.cancelled = 0
        self.url = ""
        self._runner = web.ServerRunner(
            web.Server(
                self._handle, handler_cancellation=True, access_log=None, auto_decompress=False, max_field_size=1 << 20
            ),
            shutdown_timeout=0.1,
        )

    async def __aenter__(self) -> ScriptedUpstream:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        arrived = Arrived(request.method, request.raw_path, tuple(request.headers.items()), body)
        self.arrived.append(arrived)
        try:
            return await self.script(request, arrived)
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled += 1
            raise


def says(body: bytes, status: int = 200, **headers: str) -> Script:
    """A script: one whole reply."""

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **named})

    return script


def streams(*chunks: bytes, breaks: bool = False, go_on: asyncio.Event | None = None) -> Script:
    """A script: server-sent events, chunk by chunk.

    With `go_on` it waits before each chunk but the first until the event is set (and clears it); with `breaks`
    the connection breaks after the last one.
    """

    async def script(request: web.BaseRequest, arrived: Arrived) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for number, chunk in enumerate(chunks):
            if go_on is not None and number:
                await go_on.wait()
                go_on.clear()
            await response.write(chunk)
            await asyncio.sleep(0)
        if breaks and request.transport is not None:
            request.transport.abort()
        return response

    return script


class FakeRedactor:
    """`ports.Redactor`: hides `secret`, and refuses texts with a private key in them.

    `fails` is raised instead when there is one.
    """

    def __init__(self, secret: str = "hunter2", fails: Exception | None = None) -> None:
        self.secret, self.fails = secret, fails

    def redact(self, text: str) -> str:
        if self.fails is not None:
            raise self.fails
        if "PRIVATE KEY" in text:
            raise SecretFound("a private key")
        return text.replace(self.secret, "<SECRET:password:1>")
