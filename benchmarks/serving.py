"""How much concurrency is worth: completions per second with 32 requests at once against one by one.

One JSON line: the same prompts on the same embedded server in the same run; `ratio` is the claim
(at least 4). Serves the repository's nano model when it has been built, else a random one of its size.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sleepy_coder.dialogue import number_lines
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import EmbeddedServer
from sleepy_coder.types import Message

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = 'fn main() {\n    let s = String::from("hi");\n    let t = s;\n    println!("{s} {t}");\n}'


def model_folder(scratch: Path) -> tuple[Path, str]:
    """The model to serve and what to call it."""
    nano = ROOT / "sleepy_coder" / "nano" / "model"
    if (nano / "config.json").is_file():
        return nano, "nano"
    sys.path.insert(0, str(ROOT / "tests"))
    from serve_model import tiny_model

    return tiny_model(scratch / "model", hidden=128, layers=4), "random 4 x 128"


def measure(client: VllmClient, requests: int, workers: int, max_tokens: int) -> tuple[float, int]:
    """Seconds for `requests` completions with `workers` at once, and the tokens they generated."""

    def ask(index: int) -> int:
        messages = (Message(role="user", content=f"Fix program {index}.\n{number_lines(PROGRAM)}"),)
        reply = client.chat("bench", messages, temperature=0.8, seed=index, max_tokens=max_tokens)
        return reply.completion_tokens

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        tokens = sum(pool.map(ask, range(requests)))
    return time.perf_counter() - start, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, label = model_folder(Path(name))
        arguments = ("--served-model-name", "bench", "--max-num-seqs", "32")
        with (
            EmbeddedServer(folder, Path(name) / "server.log", arguments=arguments) as server,
            VllmClient(server.url) as client,
        ):
            measure(client, 8, 8, options.max_tokens)
            alone, tokens = measure(client, options.requests, 1, options.max_tokens)
            together, same = measure(client, options.requests, 32, options.max_tokens)
    result = {
        "benchmark": "serving",
        "model": label,
        "requests": options.requests,
        "tokens": tokens,
        "same_tokens": tokens == same,
        "one_by_one_per_second": round(options.requests / alone, 2),
        "concurrent_per_second": round(options.requests / together, 2),
        "ratio": round(alone / together, 2),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
