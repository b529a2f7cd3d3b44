"""A real vLLM on the CPU with the nano model, adapters for it that answer differently, and the gateway before it.

For tests/vllm and benchmarks/swap.py. `scripts/vllm-env` makes the environment that it runs from.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
from safetensors.numpy import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from serve_model import tiny_adapter

from sleepy_coder.adapter_manifest import WEIGHTS, model_sha256
from sleepy_coder.config import Config, NightSettings, RecipeSettings, ServerSettings
from sleepy_coder.deploy import ensure_loaded
from sleepy_coder.learn.recipes import recipe_for
from sleepy_coder.nano import MODEL_DIR
from sleepy_coder.registry import Registry
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess, free_port
from sleepy_coder.serve.prover import Prover
from sleepy_coder.serve.vllm_command import vllm_command
from sleepy_coder.types import Adapter, TrainingMix
from sleepy_coder.wiring import SystemClock

ROOT = Path(__file__).resolve().parent.parent
VLLM = ROOT / os.environ.get("VLLM_ENV", ".venv-vllm") / "bin" / "vllm"
BASE, ALIAS = "sleepy-base", "sleepy-coder"
# No sleep mode: the CPU build ends at once with it, and has the endpoints without it.
FLAGS = (
    *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16", "--num-gpu-blocks-override", "256"),
    "--no-enable-sleep-mode",
)
START_SECONDS = 900.0  # 30 to 70 on two quiet cores


def real_vllm(log: Path) -> ServerProcess:
    """vLLM on a free port, as `sleepy-coder serve` starts it, not yet started."""
    if not VLLM.is_file():
        raise FileNotFoundError(f"{VLLM} is missing: make it with scripts/vllm-env")
    port = free_port()
    settings = ServerSettings(url=f"http://127.0.0.1:{port}", base_name=BASE, vllm=str(VLLM), extra_args=FLAGS)
    napping = NightSettings(share_gpu=True)  # which opens the sleep endpoints
    start = vllm_command(Config(server=settings, night=napping), MODEL_DIR)
    environment = {**start.environment, "VLLM_CPU_KVCACHE_SPACE": "1"}
    return ServerProcess(start.argv, port, log, environment=environment, start_seconds=START_SECONDS)


def gateway(home: Path, server: str, **settings: object) -> ServerProcess:
    """`sleepy-coder gateway` of `home` before the model server at `server`, not yet started.

    What is asked here is which adapter answers, so all sessions get the one that serves: no lots are drawn.
    """
    port = free_port()
    command = [sys.executable, "-m", "sleepy_coder", "--home", str(home), "gateway", "--port", str(port), "--log"]
    chosen = {f"SLEEPY_CODER_GATEWAY__{name.upper()}": str(value) for name, value in settings.items()}
    environment = {"SLEEPY_CODER_SERVER__URL": server, "SLEEPY_CODER_SERVER__BASE_NAME": BASE, **chosen}
    environment["SLEEPY_CODER_CANARY__ENABLED"] = "false"
    log = home / "gateway.log"
    return ServerProcess(command, port, log, environment=environment, health="/healthz", grace_seconds=120)


def in_flight(gateway_url: str, model: str) -> int:
    """How many requests the gateway has on `model` now."""
    state = httpx.get(f"{gateway_url}/admin/state", timeout=60).raise_for_status().json()
    return state["in_flight"].get(model, 0)


@dataclass(frozen=True)
class Shelf:
    """A registry of random adapters. `weights` 1 and 2 answer differently; each cycle has a name of its own."""

    home: Path

    @property
    def registry(self) -> Registry:
        return Registry(self.home / "adapters", SystemClock())

    def load(self, client: VllmClient, adapter: Adapter) -> None:
        """Have vLLM hold `adapter`, and prove that it answers with it."""
        settings = ServerSettings(base_name=BASE)
        prover = Prover(self.home / "state" / "fingerprints", BASE, settings.logprob_tolerance)
        ensure_loaded(self.registry, client, adapter, prover)

    def stage(self, weights: int, cycle: int) -> Adapter:
        """An adapter of these weights under the name of this cycle.

        No two nights give the same bytes, and bytes that were rolled back never serve again, so the file names its
        cycle.
        """
        trained = self.home / "trained" / f"{weights}-{cycle}"
        tiny_adapter(MODEL_DIR, trained, weights)
        file = trained / WEIGHTS
        save_file(load_file(file), file, metadata={"cycle": str(cycle)})
        return self.registry.stage(
            trained,
            cycle=cycle,
            parent=None,
            base=MODEL_DIR,
            base_model=BASE,
            base_sha256=model_sha256(MODEL_DIR),
            mix=TrainingMix(examples=(), shares={}, counts={}, notes=(), seed=weights, sha256="0" * 64),
            recipe=recipe_for(RecipeSettings(alpha=16), 1, 0, 128, 1024, weights),
        )
