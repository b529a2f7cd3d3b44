"""What swapping adapters costs those who are being answered: promotions and rollbacks under load. One JSON line.

A real vLLM (on the CPU, the nano model), the real gateway, and clients that stream the alias's answers while the
registry's pointer moves between adapters that answer differently. A reply that is not exactly one adapter's greedy
answer is mixed. The peer for the stall is the same load in the same run without a swap, some before and some after.
`--naive` also measures the obvious way, new weights loaded in place under one name, asked of vLLM directly.
Needs .venv-vllm: `scripts/vllm-env` makes it (about 2 GB).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "daemon")]

import httpx  # noqa: E402
from real_vllm import ALIAS, VLLM, Shelf, gateway, real_vllm  # noqa: E402
from swapping import TOKENS, Crowd, Reply, Swaps, failures, known_answers, mixed, swap_under_load  # noqa: E402

from sleepy_coder import log  # noqa: E402
from sleepy_coder.serve.client import VllmClient  # noqa: E402
from sleepy_coder.store import Store  # noqa: E402

Known = Mapping[str, tuple[int, int]]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def gaps_ms(replies: Sequence[Reply]) -> dict[str, float]:
    """What the clients waited from token to token, and for the first one."""
    gaps = [gap for reply in replies for gap in reply.gaps]
    firsts = [reply.first for reply in replies if reply.gaps]
    return {
        "inter_token_ms_p50": round(1000 * percentile(gaps, 0.5), 2),
        "inter_token_ms_p99": round(1000 * percentile(gaps, 0.99), 2),
        "inter_token_ms_max": round(1000 * max(gaps), 2),
        "first_token_ms_p99": round(1000 * percentile(firsts, 0.99), 2),
    }


def counts(replies: Sequence[Reply], known: Known) -> dict[str, object]:
    return {
        "requests": len(replies),
        "failed": len(failures(replies)),
        "failures": sorted(set(failures(replies)))[:5],
        "mixed": len(mixed(replies, known)),
    }


async def quiet(crowd: Crowd, replies: int) -> None:
    """The same load without a swap."""
    async with crowd.asking():
        await crowd.more(replies)


def recorded_as_answered(home: Path, known: Known, swaps: Swaps, asked: int) -> bool:
    """Whether each exchange was recorded, whole, under the name of the adapter that its text is from."""
    with Store(home / "state" / "sleepy.db") as store:
        exchanges = list(store.exchanges())
    texts = [json.loads(e.response)["choices"][0]["message"]["content"] for e in exchanges if e.whole]
    weights = [swaps.weights.get(e.served_by) for e in exchanges if e.whole]
    return len(texts) == asked and all(
        known.get(text, (0, 0))[1] == mine for text, mine in zip(texts, weights, strict=True)
    )


def versioned(options: argparse.Namespace, vllm: str, client: VllmClient, scratch: Path) -> dict[str, object]:
    """sleepy-coder's way: a name for each adapter, the alias that the gateway maps, unloading when nobody is left."""
    shelf = Shelf(scratch / "home")
    with gateway(shelf.home, vllm, queue_size=100_000) as through:
        swaps = Swaps(shelf, client, through.url, options.swaps)
        known = swaps.known(vllm)
        half = options.swaps * options.clients // 4
        before, crowd, after = (Crowd(through.url, ALIAS, options.clients) for _ in range(3))
        asyncio.run(quiet(before, half))
        started = time.perf_counter()
        asyncio.run(swap_under_load(crowd, swaps.swap, options.swaps))
        seconds = time.perf_counter() - started
        asyncio.run(quiet(after, max(1, len(crowd.replies) - len(before.replies))))
    peer = [*before.replies, *after.replies]
    with_swaps, without = gaps_ms(crowd.replies), gaps_ms(peer)
    return {
        "promotions": swaps.promotions,
        "rollbacks": swaps.rollbacks,
        **counts(crowd.replies, known),
        "seconds_per_swap": round(seconds / options.swaps, 2),
        **with_swaps,
        "added_stall_ms_p99": round(with_swaps["inter_token_ms_p99"] - without["inter_token_ms_p99"], 2),
        "without_swaps": {**counts(peer, known), **without},
        "recorded_as_answered": recorded_as_answered(shelf.home, known, swaps, len(crowd.replies) + len(peer)),
    }


def naive(options: argparse.Namespace, vllm: str, client: VllmClient, scratch: Path) -> dict[str, object]:
    """The peer: one name, and new weights loaded in place under it."""
    shelf = Shelf(scratch / "naive")
    adapters = [shelf.stage(weights, cycle=weights) for weights in (1, 2)]
    for adapter in adapters:
        client.load(adapter.name, adapter.path)
    known = known_answers(vllm, {weights: adapters[weights - 1].name for weights in (1, 2)})
    turns = itertools.cycle(adapters)

    def swap() -> None:
        body = {"lora_name": "naive", "lora_path": str(next(turns).path), "load_inplace": True}
        httpx.post(f"{vllm}/v1/load_lora_adapter", json=body, timeout=600).raise_for_status()

    swap()
    crowd = Crowd(vllm, "naive", options.clients)
    asyncio.run(swap_under_load(crowd, swap, options.swaps))
    return {**counts(crowd.replies, known), **gaps_ms(crowd.replies)}


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    with real_vllm(scratch / "vllm.log") as server, VllmClient(server.url, timeout=600) as client:
        head = {
            "benchmark": "swap",
            "server": f"vLLM {client.version()} (CPU, float32)",
            "clients": options.clients,
            "swaps": options.swaps,
            "tokens": TOKENS,
            "cores": os.cpu_count(),
        }
        result = {**head, **versioned(options, server.url, client, scratch)}
        return {**result, "naive": naive(options, server.url, client, scratch)} if options.naive else result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=100, help="promotions and rollbacks")
    parser.add_argument("--clients", type=int, default=16, help="streaming clients")
    parser.add_argument("--naive", action="store_true", help="measure loading in place under one name as well")
    options = parser.parse_args()
    log.set_up()
    if not VLLM.is_file():
        raise SystemExit(f"{VLLM} is missing: make it with scripts/vllm-env (about 2 GB), or run `make test-vllm`")
    with tempfile.TemporaryDirectory() as scratch:
        sys.stdout.write(json.dumps(measure(options, Path(scratch))) + "\n")


if __name__ == "__main__":
    main()
