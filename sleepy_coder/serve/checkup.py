"""Is this model server fit for the nights? Each check asks it for real and leaves it as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from sleepy_coder.config import Config
from sleepy_coder.errors import AdapterError, ServerError, ServerUnreachable, SleepyError
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.explain import rank_flag
from sleepy_coder.serve.prover import NOISE, PROMPTS, Prover
from sleepy_coder.serve.throwaway import throwaway_adapters
from sleepy_coder.types import Adapter, Message, Record

Level = Literal["ok", "warn", "fail"]
_LOAD_TRIES: Final = 10  # answers that end before anybody could look at them say nothing
_LOAD_LOOKS: Final = 100
_LOOK_SECONDS: Final = 0.005


class Finding(Record):
    """What one check saw. `remedy` says how to mend it, empty when nothing is wrong."""

    name: str
    level: Level
    what: str
    remedy: str = ""


def ok(name: str, what: str) -> Finding:
    return Finding(name=name, level="ok", what=what)


def warn(name: str, what: str, remedy: str) -> Finding:
    return Finding(name=name, level="warn", what=what, remedy=remedy)


def fail(name: str, what: str, remedy: str) -> Finding:
    return Finding(name=name, level="fail", what=what, remedy=remedy)


def checked(name: str, check: Callable[[], Finding]) -> Finding:
    """The finding of `check`; an error of ours is one too, and what the disk refuses."""
    try:
        return check()
    except SleepyError as error:
        return fail(name, error.message, error.remedy)
    except OSError as error:
        return fail(name, str(error), "Check the folder, its owner and free space.")


def check_server(
    client: VllmClient, config: Config, base: Path | None, active: Adapter | None, prover: Prover, base_sha256: str
) -> list[Finding]:
    """All findings of one server. What needs an answer is not asked of one that gives none or sleeps.

    `base` is the folder of the base model, None when there is none; `base_sha256` is what `active` was trained on.
    """
    reached = checked("server", lambda: ok("server", f"{client.url} runs {client.version()}"))
    if reached.level != "ok":
        return [reached]
    if client.asleep():
        return [reached, warn("asleep", f"{client.url} sleeps, and nothing more is asked", "Wake it: POST /wake_up.")]
    named = checked("base name", lambda: _base_name(client, config))
    findings = [reached, named, checked("request ids", lambda: _request_ids(client))]
    findings.append(checked("sleep", lambda: _sleep(client, config)))
    if named.level == "ok":
        findings.append(checked("context", lambda: _context(client, config)))
        findings.append(checked("load tracking", lambda: _load_tracking(client, config)))
        if base is not None:
            findings += _adapters(client, config, base)
    if active is not None:
        findings.append(checked("active adapter", lambda: _active(client, active, prover, base_sha256)))
    return findings


def _base_name(client: VllmClient, config: Config) -> Finding:
    name, models = config.server.base_name, client.models()
    bases = [model.name for model in models if model.parent is None]
    if bases and bases[0] == name:
        return ok("base name", f"serves {name}")
    if name in bases:  # vLLM signs its replies with the first
        return fail(
            "base name",
            f"serves {name}, but its replies say {bases[0]}",
            f"Name {name} first in --served-model-name, or set server.base_name to {bases[0]}.",
        )
    others = ", ".join(model.name for model in models) or "nothing"
    return fail(
        "base name",
        f"serves {others}, and not {name}",
        f"Start vLLM with --served-model-name {name}, or set server.base_name.",
    )


def _context(client: VllmClient, config: Config) -> Finding:
    room = next(model.max_length for model in client.models() if model.name == config.server.base_name)
    wanted = config.model.max_length
    if room is None:
        return warn("context", "the server does not say how long a conversation may be", "Update the model server.")
    if room < wanted:
        return fail(
            "context",
            f"conversations of {room} tokens at most, and model.max_length is {wanted}",
            f"Start vLLM with --max-model-len {wanted}, or lower model.max_length.",
        )
    return ok("context", f"{room} tokens, at least model.max_length ({wanted})")


def _request_ids(client: VllmClient) -> Finding:
    if client.echoes_request_ids():
        return ok("request ids", "replies name their request")
    return warn(
        "request ids",
        "replies do not name their request, so that logs are harder to match",
        "Start vLLM with --enable-request-id-headers.",
    )


def _sleep(client: VllmClient, config: Config) -> Finding:
    if client.can_sleep():
        return ok("sleep", "can sleep while a night trains")
    if not config.night.share_gpu:
        return ok("sleep", "cannot sleep, and night.share_gpu does not ask for it")
    return warn(
        "sleep",
        "cannot sleep: server and training have to fit beside each other",
        "Start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 in its environment.",
    )


def _load_tracking(client: VllmClient, config: Config) -> Finding:
    """Whether /load counts a request that is being answered."""
    asked = (Message(role="user", content="Count from one to one thousand, in words."),)
    tokens = min(config.eval.max_tokens, config.model.max_length // 2)
    looks = 0
    for seed in range(_LOAD_TRIES):
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                client.chat, config.server.base_name, asked, temperature=1.0, seed=seed, max_tokens=tokens
            )
            seen = False
            while not seen and not running.done():
                seen, looks = client.server_load() > 0, looks + 1
                time.sleep(_LOOK_SECONDS)
            running.result()
        if seen:
            return ok("load tracking", "/load counts requests")
        if looks >= _LOAD_LOOKS:
            break
    return warn(
        "load tracking",
        "/load did not count a request that was running",
        "Start vLLM with --enable-server-load-tracking, or a night may begin while somebody waits for an answer.",
    )


def _adapters(client: VllmClient, config: Config, base: Path) -> list[Finding]:
    """Load two throw-away adapters beside each other, ask each, unload them."""
    name = "adapters"
    try:
        with (
            throwaway_adapters(base, config.adapters, config.recipe.largest_rank) as folders,
            _loaded(client, folders),
        ):
            asked = (config.server.base_name, *(folder.name for folder in folders))
            prints = [client.fingerprint(model, PROMPTS) for model in asked]
            same = [
                f"{asked[i]} and {asked[j]}"
                for j in range(len(asked))
                for i in range(j)
                if prints[i].distance(prints[j]) <= NOISE
            ]
            if same:
                what = f"these answer alike, although their weights differ: {', '.join(same)}"
                return [fail(name, what, "Restart the server; if it stays so, its version does not apply adapters.")]
            rank = config.recipe.largest_rank
            loaded = ok(name, f"loads, applies and unloads adapters of rank {rank} at run time, two at once")
            return [loaded, checked("adapter slots", lambda: _slots(client, config))]
    except ServerUnreachable as error:
        return [fail(name, error.message, error.remedy)]
    except ServerError as error:
        flag = rank_flag(config.recipe.largest_rank)
        needed = f"--enable-lora --max-loras {config.server.max_loras} --max-lora-rank {flag}"
        return [fail(name, error.message, error.remedy or f"Start vLLM with {needed}.")]
    except AdapterError as error:
        return [warn(name, f"{error.message}, so loading was not tried", error.remedy)]


@contextmanager
def _loaded(client: VllmClient, folders: tuple[Path, ...]) -> Generator[None]:
    """The adapters in `folders`, loaded under the folders' names; none is left, whatever happens."""
    try:
        for folder in folders:
            client.load(folder.name, folder)
        yield
    finally:
        for folder in folders:
            with suppress(ServerError):
                client.unload(folder.name)


def _slots(client: VllmClient, config: Config) -> Finding:
    slots, wanted = client.max_loras(), config.server.max_loras
    if slots is None:
        return warn("adapter slots", "the metrics do not say how many adapters run at once", "Look at --max-loras.")
    if slots < 2:
        what = "one adapter at a time: the served one and a candidate push each other out"
        return fail("adapter slots", what, f"Start vLLM with --max-loras {wanted}.")
    if slots < wanted:
        what = f"{slots} adapters at once, and server.max_loras is {wanted}"
        return warn("adapter slots", what, f"Start vLLM with --max-loras {wanted}, or lower server.max_loras.")
    return ok("adapter slots", f"{slots} adapters at once")


def _active(client: VllmClient, active: Adapter, prover: Prover, base_sha256: str) -> Finding:
    held = {model.name: model.root for model in client.models()}
    if active.name not in held:
        return fail(
            "active adapter",
            f"{active.name} is not loaded",
            "`sleepy-coder gateway` loads it and keeps it loaded; so does any night.",
        )
    if Path(held[active.name]).resolve() != active.path.resolve():
        what = f"{active.name} was loaded from {held[active.name]}, not from {active.path}"
        return fail("active adapter", what, "Unload it there; the gateway loads it again from the registry.")
    prover.prove(client, active.name, base_sha256)
    return ok("active adapter", f"{active.name} is loaded, and answers as it did")
