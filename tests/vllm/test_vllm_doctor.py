"""`sleepy-coder doctor` before a real vLLM that was started by our own command line."""

from __future__ import annotations

from real_vllm import Shelf

from sleepy_coder.config_load import load_config
from sleepy_coder.doctor import examine
from sleepy_coder.serve.client import VllmClient
from sleepy_coder.serve.process import ServerProcess


def test_a_vllm_that_may_sleep_tells_in_which_dtype_it_computes(client: VllmClient) -> None:
    assert client.precision().startswith("float32, ")


def test_a_vllm_that_was_started_as_we_say_has_nothing_to_mend_and_keeps_nothing_of_the_doctors(
    vllm: ServerProcess, client: VllmClient, shelf: Shelf, through: ServerProcess
) -> None:
    config = load_config(shelf.home)
    here = config.model_copy(
        update={
            "server": config.server.model_copy(update={"url": vllm.url, "timeout_seconds": 600.0}),
            "gateway": config.gateway.model_copy(update={"port": through.port}),
        }
    )
    findings = examine(here)
    assert [finding for finding in findings if finding.level == "fail"] == []
    assert all(model.parent is None for model in client.models())
