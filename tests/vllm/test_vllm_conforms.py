"""The whole conformance suite, asked of a real vLLM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_vllm import BASE, MODEL_DIR
from serve_model import tiny_adapter
from test_conformance import *  # noqa: F403
from test_conformance import Target, connect

from sleepy_coder.serve.process import ServerProcess


@pytest.fixture(scope="module")
def target(vllm: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("conformance")
    adapters = [tiny_adapter(MODEL_DIR, folder / str(seed), seed) for seed in (1, 2)]
    yield from connect(vllm.url, BASE, adapters, embedded=False)
