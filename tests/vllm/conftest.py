"""One real vLLM for all of these tests, started by `make test-vllm`; each test unloads what it loads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "conformance")]
pytest.register_assert_rewrite("test_conformance", "swapping")

from real_vllm import Shelf, gateway, real_vllm  # noqa: E402

from sleepy_coder.serve.client import VllmClient  # noqa: E402
from sleepy_coder.serve.process import ServerProcess  # noqa: E402

SECONDS = 1800  # one test; the first one starts the server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with real_vllm(tmp_path_factory.mktemp("vllm") / "vllm.log") as server:
        yield server


@pytest.fixture
def client(vllm: ServerProcess) -> Iterator[VllmClient]:
    """Speaks to vLLM itself; at the end all adapters are unloaded."""
    with VllmClient(vllm.url, timeout=600) as client:
        yield client
        for model in client.models():
            if model.parent is not None:
                client.unload(model.name)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def through(shelf: Shelf, vllm: ServerProcess) -> Iterator[ServerProcess]:
    """The gateway of the shelf's home before vLLM."""
    with gateway(shelf.home, vllm.url) as server:
        yield server
