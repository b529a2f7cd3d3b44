"""Work that is equal is done once: the same weights are not asked the same twice, nor the same job trained twice.

Every trajectory of a seed has the same days, and with and without the gate the first nights are often equal. Both
the embedded server and the training child are deterministic, so that what is remembered is what would come again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from sleepy_coder.adapter_manifest import content_sha256
from sleepy_coder.errors import ModelNotFound
from sleepy_coder.files import folder_in_the_making, publish_folder, write_atomic
from sleepy_coder.learn.outputs import CHECKPOINT, OUTPUT
from sleepy_coder.learn.trainer import JOB_FILE, Step
from sleepy_coder.ports import ModelServer, Trainer
from sleepy_coder.serve.relay import Relay
from sleepy_coder.study.store import Learned, StudyStore
from sleepy_coder.types import Adapter, Message, Recipe, Reply, TrainingMix

_LAST_STEPS: Final = 10
_LEARNED: Final = "learned.json"
_ONLY_ITS_OWN: Final = shutil.ignore_patterns(JOB_FILE, CHECKPOINT, "lock")


class RememberingServer(Relay):
    """`ports.ModelServer` that answers from memory what the same weights were asked before."""

    def __init__(self, inner: ModelServer, store: StudyStore, base: str, base_sha256: str) -> None:
        super().__init__(inner)
        self._store = store
        self._weights = {base: base_sha256}
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
        asked = [self._weights_of(model), [m.model_dump(mode="json") for m in messages], temperature, seed, max_tokens]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        if known := self._store.answer(key):
            return known.model_copy(update={"model": model})
        reply = super().chat(model, messages, temperature=temperature, seed=seed, max_tokens=max_tokens)
        if reply.model == model and reply.finish_reason != "abort":
            self._store.save_answer(key, reply)
        return reply

    def unload(self, name: str) -> None:
        super().unload(name)
        with self._lock:
            self._weights.pop(name, None)

    def _weights_of(self, model: str) -> str:
        """SHA-256 of the bytes that `model` was loaded from."""
        with self._lock:
            if model not in self._weights:
                root = next((held.root for held in self.models() if held.name == model), None)
                if root is None:
                    raise ModelNotFound(f"the study's server holds no {model}", "load it first", status=404)
                self._weights[model] = content_sha256(Path(root))
            return self._weights[model]


class RememberingTrainer:
    """`ports.Trainer` that gives the adapter of an equal job again, out of `folder`.

    `make` builds the trainer, given who is to hear of each step; `on_learned` hears what it took. Seconds of a run
    that was killed and resumed count from where it was resumed.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Step], None]], Trainer],
        folder: Path,
        on_learned: Callable[[Learned], None],
    ) -> None:
        self._inner = make(self._on_step)
        self._folder, self._on_learned = folder, on_learned
        self._kls: list[float] = []

    def train(
        self, mix: TrainingMix, parent: Adapter | None, recipe: Recipe, workdir: Path, pause: Callable[[], bool]
    ) -> Path:
        job = [mix.model_dump_json(), parent.sha256 if parent else "", recipe.model_dump_json()]
        kept = self._folder / hashlib.sha256(json.dumps(job).encode()).hexdigest()
        if not kept.is_dir():
            self._kls, began = [], time.monotonic()
            trained = self._inner.train(mix, parent, recipe, workdir, pause)
            kls = self._kls[-_LAST_STEPS:]
            learned = Learned(seconds=round(time.monotonic() - began, 3), kl=fmean(kls) if kls else None)
            with folder_in_the_making(kept) as made:
                shutil.copytree(trained.parent, made, ignore=_ONLY_ITS_OWN, dirs_exist_ok=True)
                write_atomic(made / _LEARNED, learned.model_dump_json())
                publish_folder(made, kept)
        self._on_learned(Learned.model_validate_json((kept / _LEARNED).read_bytes()))
        shutil.copytree(kept, workdir, dirs_exist_ok=True)
        return workdir / OUTPUT

    def _on_step(self, step: Step) -> None:
        if step.kl is not None:
            self._kls.append(step.kl)
