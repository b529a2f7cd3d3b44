"""vLLM's protocol without vLLM: serves a small Qwen2 folder on the CPU in float32.

    python -m sleepy_coder.serve.embedded --model DIR --port P [--max-loras 4] [--threads 1] ...

Flags are vLLM's own, and so are the answers. Requests of one adapter share their forward passes;
adapters take turns.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import uvicorn
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from sleepy_coder.config import PATIENT_SECONDS, is_loopback
from sleepy_coder.serve.embedded_app import Server, Text
from sleepy_coder.serve.embedded_engine import Limits
from sleepy_coder.serve.embedded_model import load_weights, read_shape
from sleepy_coder.serve.stops import stop_tokens

_LOOK_SECONDS = 1.0  # between two looks whether the parent is there


def load_text(folder: Path) -> Text:
    """The tokenizer and chat template in `folder`, transformers' own so that training renders the same."""
    tokenizer = cast(Any, AutoTokenizer.from_pretrained(folder))
    fast = cast(Tokenizer, tokenizer.backend_tokenizer)

    def encode(text: str, special: bool) -> list[int]:
        return fast.encode(text, add_special_tokens=special).ids

    def chat(messages: list[dict[str, Any]], add_generation_prompt: bool) -> list[int]:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        return encode(text, False)

    def decode(tokens: Sequence[int]) -> str:
        return fast.decode(tokens, skip_special_tokens=True)

    def show(tokens: Sequence[int]) -> str:
        return fast.decode(tokens, skip_special_tokens=False)

    return Text(encode, chat, decode, show)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="vLLM's protocol on the CPU, for one Qwen2 folder")
    parser.add_argument("--model", type=Path, required=True, help="a Hugging Face Qwen2 folder")
    parser.add_argument("--port", type=_positive, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--served-model-name", help="default: the folder as it was given")
    parser.add_argument("--parent", type=_positive, help="a process id: the server ends when its parent is another one")
    parser.add_argument("--max-model-len", type=_positive, help="tokens; default: what the model allows")
    parser.add_argument("--threads", type=_positive, default=1, help="torch threads; a tiny model gains little")
    for flag, default, text in (
        ("--max-loras", Limits().max_loras, "adapters that run at once; more may be loaded"),
        ("--max-lora-rank", Limits().max_lora_rank, "largest rank that is accepted"),
        ("--max-num-seqs", Limits().max_num_seqs, "requests that run at once"),
    ):
        parser.add_argument(flag, type=_positive, default=default, help=text)
    return parser


def _end_with(parent: int) -> None:
    """End this process, as SIGTERM does, when the one that started it is gone: killed, it cannot do so itself."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError when the folder is not a Qwen2 model."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(options.threads)
    folder: Path = options.model
    longest = read_shape(folder).max_positions
    limits = Limits(
        max_num_seqs=options.max_num_seqs,
        max_model_len=min(options.max_model_len or longest, longest),
        max_loras=options.max_loras,
        max_lora_rank=options.max_lora_rank,
    )
    server = Server(
        name=options.served_model_name or str(folder),
        root=folder,
        weights=load_weights(folder, limits.max_model_len),
        text=load_text(folder),
        stop_tokens=stop_tokens(folder),
        limits=limits,
        any_host=not is_loopback(options.host),
    )
    if options.parent:
        threading.Thread(target=_end_with, args=[options.parent], daemon=True).start()
    uvicorn.run(
        server.application(),
        host=options.host,
        port=options.port,
        access_log=False,
        timeout_keep_alive=PATIENT_SECONDS,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
