"""What the gateway costs: added time to the first token and CPU a request, with recording on. One JSON line.

The same 30 KB request goes to the same stub model server directly and through the gateway, in turns and in the
same run; every reply is a stream of 50 events. Then the same number of requests of conversations that grow, as an
agent's do: each sends all of the one before, and a turn more. Afterwards the store is read, and every recorded
request and reply is held against what was sent. `--litellm` measures LiteLLM's proxy in front of the same stub as a
peer (it is installed into an environment of its own, which takes minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from sleepy_coder import log, wiring
from sleepy_coder.collect.redact_memory import RememberingRedactor
from sleepy_coder.config_load import load_config
from sleepy_coder.nap_files import NapFiles
from sleepy_coder.serve.process import free_port
from sleepy_coder.store import Store

ROOT = Path(__file__).resolve().parent.parent
ALIAS, BASE = "sleepy-coder", "stub"
EVENTS = 50
TICK = os.sysconf("SC_CLK_TCK")
sys.path.insert(0, str(ROOT / "daemon"))


def request_body(model: str, size: int) -> bytes:
    """A chat request of an agent: tools, and a conversation that grows to `size` bytes."""
    parameters = {"type": "object", "properties": {"path": {"type": "string"}, "old": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": f"tool_{i}", "description": "Edits. " * 20, "parameters": parameters}}
        for i in range(12)
    ]
    text = 'fn main() {\n    let model = "x"; // it\'s not moved\n}\n'
    messages = [{"role": "user", "content": f"Fix this:\n{text}"}]
    body = {"model": model, "stream": True, "tools": tools, "messages": messages}
    while len(json.dumps(body)) < size:
        role = "assistant" if len(messages) % 2 else "user"
        messages.append({"role": role, "content": text * 12})
    return json.dumps(body).encode()


def growing_bodies(model: str, size: int, count: int) -> list[bytes]:
    """`count` requests of agents at work: each conversation grows by one turn a request, `size` bytes on average.

    All share their tools, as the sessions of one agent do, and nothing else.
    """
    body = json.loads(request_body(model, 0))
    bodies: list[bytes] = []
    while len(bodies) < count:
        session = len(bodies)
        messages = body["messages"] = [{"role": "user", "content": f"Fix number {session}."}]
        text = b""
        while len(text) < 3 * size // 2 and len(bodies) < count:
            turn = f"{session}.{len(messages)}"
            lines = "".join(f"let model_{turn}_{line} = it.moved();\n" for line in range(30))
            call = {"id": f"call-{turn}", "type": "function", "function": {"name": "tool_1", "arguments": "{}"}}
            messages.append({"role": "assistant", "content": f"Step {turn}.", "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"call-{turn}", "content": lines})
            text = json.dumps(body).encode()
            if len(text) >= size // 2:
                bodies.append(text)
    return bodies


def events(model: str) -> list[bytes]:
    """The stub's reply, event by event."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"

    pieces = [chunk({"content": f" token{i}"}) for i in range(EVENTS - 3)]
    return [chunk({"role": "assistant", "content": ""}), *pieces, chunk({}, "stop"), b"data: [DONE]\n\n"]


# The processes


async def stub(port: int) -> None:
    """A model server that answers at once, one write an event."""
    reply = events(BASE)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        if request.path != "/v1/chat/completions":
            return web.json_response({"data": [{"id": BASE, "object": "model"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in reply:
            await response.write(event)
            await asyncio.sleep(0)
        return response

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def gateway(port: int, home: Path) -> None:
    """The gateway as `sleepy-coder gateway` runs it."""
    from sleepyd.gateway_main import listening
    from sleepyd.meters import Meters
    from sleepyd.napping import Gate
    from sleepyd.recorder import Recorder
    from sleepyd.serving import Serving

    log.set_up()
    config, meters = load_config(home), Meters()
    serving = Serving(wiring.open_registry(config), BASE)
    redactor = RememberingRedactor(wiring.open_redactor(config))
    with (
        wiring.open_store(config) as store,
        Recorder(store.save_exchanges, redactor, config.gateway, meters) as recorder,
    ):
        settings, clock = config.gateway, wiring.SystemClock()
        gate = Gate(NapFiles(config.state), settings, meters)
        async with listening(settings, config.server, serving, recorder, meters, clock, gate, port=port):
            await asyncio.Event().wait()


@contextlib.contextmanager
def running(command: Sequence[str], core: int, url: str, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """A process on one core, once it answers at `url`."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    os.sched_setaffinity(process.pid, {core})
    try:
        asyncio.run(answering(url, process))
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


async def answering(url: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise SystemExit(f"{process.args} ended: {process.communicate()[1].decode()}")
            try:
                async with http.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    raise SystemExit(f"nothing answers at {url}")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# The load


async def ask(http: aiohttp.ClientSession, url: str, body: bytes) -> tuple[float, bytes]:
    """Seconds to the first byte of the stream, and all of it."""
    start = time.perf_counter()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with http.post(f"{url}/v1/chat/completions", data=body, headers=headers) as reply:
        pieces: list[bytes] = []
        first = 0.0
        async for piece in reply.content.iter_any():
            first = first or time.perf_counter() - start
            pieces.append(piece)
        assert reply.status == 200, pieces
    return first, b"".join(pieces)


async def in_turns(urls: Sequence[str], bodies: Sequence[bytes], rounds: int) -> list[list[float]]:
    """First-byte seconds at each URL, one request at a time, the URLs in turns."""
    times: list[list[float]] = [[] for _ in urls]
    async with aiohttp.ClientSession() as http:
        for round in range(rounds + 20):
            for place, (url, body) in enumerate(zip(urls, bodies, strict=True)):
                first, _ = await ask(http, url, body)
                if round >= 20:  # the first ones open connections and warm caches
                    times[place].append(first)
    return times


async def at_once(url: str, bodies: Sequence[bytes], workers: int) -> tuple[float, set[bytes]]:
    """Seconds for all `bodies` with `workers` at once, and the different replies that came."""
    replies: set[bytes] = set()
    left = iter(bodies)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def work() -> None:
            for body in left:
                replies.add((await ask(http, url, body))[1])

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return time.perf_counter() - start, replies


async def recorded(url: str, count: int) -> float:
    """How many exchanges the gateway has saved, once it is `count` or nothing has come for a while."""
    found, idle = 0.0, 0
    async with aiohttp.ClientSession() as http:
        while found < count and idle < 10:
            await asyncio.sleep(0.5)
            before = found
            async with http.get(f"{url}/metrics") as reply:
                page = await reply.text()
            found = next(
                float(line.split()[1]) for line in page.splitlines() if "recorded_total " in line and line[0] != "#"
            )
            idle = idle + 1 if found == before else 0
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


# The results


def held_against(home: Path, bodies: Collection[bytes]) -> tuple[int, bool]:
    """How many exchanges are stored, and whether all are what was sent and what was answered, byte for byte."""
    said = "".join(f" token{i}" for i in range(EVENTS - 3))
    count, equal, sent = 0, True, set(bodies)
    with Store(home / "state" / "sleepy.db") as store:
        for exchange in store.exchanges():
            count += 1
            content = json.loads(exchange.response)["choices"][0]["message"]["content"]
            equal &= exchange.whole and exchange.request.encode() in sent and content == said
    return count, equal


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    python, script = sys.executable, str(Path(__file__))
    ours, theirs = (0, 1) if (os.cpu_count() or 1) > 1 else (0, 0)
    os.sched_setaffinity(0, {theirs})
    stub_port, port = free_port(), free_port()
    direct, through = f"http://127.0.0.1:{stub_port}", f"http://127.0.0.1:{port}"
    plain, body = request_body(BASE, options.bytes), request_body(ALIAS, options.bytes)
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'daemon'}", "SLEEPY_CODER_SERVER__URL": direct}
    environment |= {"SLEEPY_CODER_SERVER__BASE_NAME": BASE, "SLEEPY_CODER_GATEWAY__QUEUE_SIZE": "100000"}
    home = scratch / "home"
    serve = [python, script, "--gateway", str(port), "--home", str(home)]
    with (
        running([python, script, "--stub", str(stub_port)], theirs, f"{direct}/v1/models", **environment),
        running(serve, ours, f"{through}/healthz", **environment) as process,
    ):
        alone, passed = uvloop.run(in_turns((direct, through), (plain, body), options.rounds))
        uvloop.run(recorded(through, options.rounds + 20))
        bare, sent = uvloop.run(at_once(direct, [plain] * options.requests, options.workers))
        before = cpu_seconds(process.pid)
        busy, came = uvloop.run(at_once(through, [body] * options.requests, options.workers))
        uvloop.run(recorded(through, options.rounds + 20 + options.requests))
        cpu = (cpu_seconds(process.pid) - before) / options.requests
        grown = growing_bodies(ALIAS, options.bytes, options.requests)
        before = cpu_seconds(process.pid)
        uvloop.run(at_once(through, grown, options.workers))
        saved = uvloop.run(recorded(through, options.rounds + 20 + 2 * options.requests))
        cpu_growing = (cpu_seconds(process.pid) - before) / options.requests
        result: dict[str, object] = {
            "benchmark": "gateway",
            "request_bytes": len(body),
            "events": EVENTS,
            "added_first_token_ms_p50": round(1000 * (percentile(passed, 0.5) - percentile(alone, 0.5)), 3),
            "added_first_token_ms_p99": round(1000 * (percentile(passed, 0.99) - percentile(alone, 0.99)), 3),
            "direct_first_token_ms_p50": round(1000 * percentile(alone, 0.5), 3),
            "cpu_ms_per_request": round(1000 * cpu, 3),
            "requests_per_second_per_core": round(1 / cpu),
            "growing_request_bytes_mean": sum(map(len, grown)) // len(grown),
            "growing_cpu_ms_per_request": round(1000 * cpu_growing, 3),
            "requests_per_second": round(options.requests / busy),
            "direct_requests_per_second": round(options.requests / bare),
            "replies_equal_but_for_the_name": came == {reply.replace(b'"stub"', b'"sleepy-coder"') for reply in sent},
            "exchanges_saved": int(saved),
        }
        if options.litellm:
            result |= peer(options, scratch, direct, plain, ours, cpu)
    count, equal = held_against(home, [body, *grown])
    asked = options.rounds + 20 + 2 * options.requests
    return {**result, "recorded_equals_sent": equal and count == asked}


def peer(
    options: argparse.Namespace, scratch: Path, direct: str, body: bytes, core: int, ours: float
) -> dict[str, object]:
    """LiteLLM's proxy on the same core before the same stub, with a tenth of the requests; `ours` is our CPU time."""
    folder = scratch / "litellm"
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"]
    if subprocess.run(install, check=False).returncode:
        return {"litellm": "cannot be installed"}
    settings = {"model": f"openai/{BASE}", "api_base": f"{direct}/v1", "api_key": "none"}
    file = scratch / "litellm.yaml"
    file.write_text(json.dumps({"model_list": [{"model_name": BASE, "litellm_params": settings}]}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(folder / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    # A stub on the loopback interface needs no key; the proxy does not start without one unless it is told so.
    keyless = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    with running(command, core, f"{url}/health/liveliness", **keyless) as process:
        alone, passed = uvloop.run(in_turns((direct, url), (body, body), max(options.rounds // 10, 20)))
        requests = max(options.requests // 10, 50)
        before = cpu_seconds(process.pid)
        uvloop.run(at_once(url, [body] * requests, options.workers))
        cpu = (cpu_seconds(process.pid) - before) / requests
    return {
        "litellm_added_first_token_ms_p50": round(1000 * (percentile(passed, 0.5) - percentile(alone, 0.5)), 3),
        "litellm_cpu_ms_per_request": round(1000 * cpu, 3),
        "litellm_requests_per_second_per_core": round(1 / cpu),
        "requests_per_core_against_litellm": round(cpu / ours, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="requests one by one, each way")
    parser.add_argument("--requests", type=int, default=1500, help="requests in the burst")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--bytes", type=int, default=30_000, help="size of a request")
    parser.add_argument("--litellm", action="store_true", help="measure LiteLLM's proxy as well")
    parser.add_argument("--stub", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--gateway", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stub:
        uvloop.run(stub(options.stub))
    elif options.gateway:
        uvloop.run(gateway(options.gateway, options.home))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            sys.stdout.write(json.dumps(measure(options, Path(scratch))) + "\n")


if __name__ == "__main__":
    main()
