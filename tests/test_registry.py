"""Promises of sleepy_coder.registry. Run as a script it is the process that gets killed at every step."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from sleepy_coder import log
from sleepy_coder.adapter_manifest import content_sha256
from sleepy_coder.errors import AdapterError, ConfigError, InfraError
from sleepy_coder.files import write_atomic
from sleepy_coder.registry import Registry, model_sha256, tokenizer_sha256
from sleepy_coder.types import (
    Adapter,
    AdapterState,
    Comparison,
    Decision,
    EvalReport,
    GateVerdict,
    Outcome,
    Recipe,
    Sample,
    TrainingMix,
)

LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj")
RECIPE = Recipe(
    name="test",
    learning_rate=1e-3,
    rank=4,
    alpha=8,
    dropout=0.0,
    steps=10,
    batch_size=2,
    warmup_steps=1,
    ema=0.0,
    kl_anchor=0.0,
    kl_verified=0.0,
    max_length=64,
    seed=5,
)
MIX = TrainingMix(
    examples=(),
    shares={"hard": 0.75, "replay": 0.25},
    counts={"hard": 3, "replay": 1},
    notes=(),
    seed=9,
    sha256="m" * 64,
)
Tensors = dict[str, "np.ndarray[Any, Any]"]


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 11, 23, 3, tzinfo=UTC)


def write_base(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 5}')
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    save_file({f"{layer}.weight": np.ones((6, 5), np.float32) for layer in LAYERS}, folder / "model.safetensors")
    return folder


def lora(seed: int = 0) -> Tensors:
    chance = np.random.default_rng(seed)
    shapes = {"A": (4, 5), "B": (6, 4)}
    return {
        f"base_model.model.{layer}.lora_{half}.weight": chance.normal(size=shape).astype(np.float32)
        for layer in LAYERS
        for half, shape in shapes.items()
    }


def write_trained(folder: Path, tensors: Tensors | None = None, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(lora() if tensors is None else tensors, folder / "adapter_model.safetensors")
    plain = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "bias": "none",
        "use_dora": False,
        "rank_pattern": {},
    }
    (folder / "adapter_config.json").write_text(json.dumps({**plain, **config}))
    return folder


def stage(registry: Registry, trained: Path, base: Path, cycle: int = 1, parent: str | None = None) -> Adapter:
    return registry.stage(
        trained,
        cycle=cycle,
        parent=parent,
        base=base,
        base_model="acme/tiny-coder",
        base_sha256=model_sha256(base),
        mix=MIX,
        recipe=RECIPE,
    )


class House:
    """A registry beside a base model, and adapters on demand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = write_base(root / "base")
        self.adapters = root / "adapters"
        self.registry = Registry(self.adapters, FixedClock())

    def stage(self, cycle: int = 1, tensors: Tensors | None = None, **config: object) -> Adapter:
        trained = write_trained(self.root / "trained", lora(cycle) if tensors is None else tensors, **config)
        return stage(self.registry, trained, self.base, cycle)

    def serve(self, *cycles: int) -> list[str]:
        return [self.registry.activate(self.stage(cycle).name).name for cycle in cycles]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def report() -> EvalReport:
    sample = Sample(
        task_id="t1",
        family="f",
        index=0,
        seed=0,
        outcome=Outcome.PASS,
        served_by="x",
        completion="fn main() {}",
    )
    return EvalReport(
        model="x",
        arm="candidate",
        weights_sha256="w",
        set_id="set-1",
        stack="",
        samples=(sample,),
        seconds=1.0,
    )


def verdict(decision: Decision) -> GateVerdict:
    comparison = Comparison(
        versus="baseline",
        tasks=100,
        delta=0.125,
        interval=(0.05, 0.2),
        confidence=0.95,
        gained=("task-gained",),
        lost=("task-lost",),
        p_value=0.01,
        p_harm=0.99,
    )
    return GateVerdict(
        decision=decision,
        reasons=("family-harm",),
        alpha=0.05,
        comparisons=(comparison,),
        families=(),
        infra_tasks=(),
        minimum_detectable_effect=0.1,
    )


# Staging


def test_a_staged_adapter_is_named_by_cycle_and_content_and_holds_the_trained_bytes(house: House) -> None:
    adapter = house.stage(cycle=7)
    assert adapter.name == f"sc-0007-{adapter.sha256[:8]}"
    assert adapter.state is AdapterState.STAGED
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (adapter.path / file).read_bytes() == (house.root / "trained" / file).read_bytes()
    assert adapter.path.is_absolute()
    assert house.registry.verify(adapter.name) == adapter


def test_the_manifest_says_where_an_adapter_is_from(house: House) -> None:
    manifest = house.registry.manifest(house.stage().name)
    assert manifest.base_sha256 == model_sha256(house.base)
    assert manifest.tokenizer_sha256 == tokenizer_sha256(house.base)
    assert (manifest.mix_sha256, manifest.recipe, manifest.created) == (
        MIX.sha256,
        RECIPE,
        FixedClock().now(),
    )
    assert manifest.seeds == {"mix": 9, "training": 5}


def test_staging_the_same_bytes_again_gives_the_adapter_that_is_there(house: House) -> None:
    first = house.stage()
    house.registry.activate(first.name)
    assert house.stage() == house.registry.active()
    assert len(house.registry.adapters()) == 1


def with_tensor(name: str, value: np.ndarray[Any, Any]) -> Tensors:
    return {**lora(), name: value}


Q = f"base_model.model.{LAYERS[0]}"
REFUSALS: dict[str, tuple[Tensors, dict[str, object], str]] = {
    "nan": (with_tensor(f"{Q}.lora_A.weight", np.full((4, 5), np.nan, np.float32)), {}, "NaN"),
    "infinity": (with_tensor(f"{Q}.lora_B.weight", np.full((6, 4), np.inf, np.float16)), {}, "infinity"),
    "zero": ({name: value * ("lora_A" in name) for name, value in lora().items()}, {}, "zero"),
    "empty": ({}, {}, "zero"),
    "double": (with_tensor(f"{Q}.lora_A.weight", np.ones((4, 5))), {}, "F64; save adapters as float32"),
    "config rank": (lora(), {"r": 8}, "rank 8"),
    "config alpha": (lora(), {"lora_alpha": 16}, "alpha 16"),
    "tensor rank": (
        with_tensor(f"{Q}.lora_A.weight", np.ones((8, 5), np.float32)),
        {},
        "not those of rank 4",
    ),
    "half a pair": (
        {k: v for k, v in lora().items() if k != f"{Q}.lora_A.weight"},
        {},
        "not those of rank 4",
    ),
    "shape": (with_tensor(f"{Q}.lora_A.weight", np.ones((4, 7), np.float32)), {}, "the adapter fits"),
    "deeper model": (
        {k.replace("layers.1", "layers.9"): v for k, v in lora().items()},
        {},
        "the base has no layer model.layers.9",
    ),
    "head": ({k.replace(LAYERS[0], "lm_head"): v for k, v in lora().items()}, {}, "lm_head"),
    "embedding": (
        with_tensor("base_model.model.model.embed_tokens.lora_A.weight", np.ones((4, 5))),
        {},
        "embed",
    ),
    "dora tensor": (with_tensor(f"{Q}.lora_magnitude_vector", np.ones(6, np.float32)), {}, "magnitude"),
    "path trick": (with_tensor("base_model.model.../../x.lora_A.weight", np.ones((4, 5))), {}, "not a lora_A"),
    "dora": (lora(), {"use_dora": True}, "use_dora"),
    "bias": (lora(), {"bias": "all"}, "bias all"),
    "saved modules": (lora(), {"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "rank pattern": (lora(), {"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    "other method": (lora(), {"peft_type": "IA3"}, "IA3"),
    "rank as text": (lora(), {"r": "4"}, "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_adapter_that_is_no_plain_sane_lora_of_this_base_is_refused(house: House, case: str) -> None:
    tensors, config, reason = REFUSALS[case]
    with pytest.raises(AdapterError, match=reason):
        house.stage(tensors=tensors, **config)
    assert house.registry.adapters() == ()
    assert [entry.name for entry in house.adapters.iterdir()] == [".lock"]


def test_bfloat16_is_refused_with_the_types_that_are_taken(house: House) -> None:
    trained = write_trained(house.root / "trained")
    weights = trained / "adapter_model.safetensors"
    # Same length: the header keeps its size, and an F16 tensor of as many bytes becomes a BF16 one.
    save_file({name: value.astype(np.float16) for name, value in lora().items()}, weights)
    data = weights.read_bytes().replace(b'"F16"', b'"BF16"')
    size = int.from_bytes(data[:8], "little") + len(lora())
    weights.write_bytes(size.to_bytes(8, "little") + data[8:])
    with pytest.raises(AdapterError, match="BF16; save adapters as float32 or float16"):
        stage(house.registry, trained, house.base)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_weights_file_is_refused(house: House, keep: int) -> None:
    trained = write_trained(house.root / "trained")
    weights = trained / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(AdapterError, match="not a complete safetensors file"):
        stage(house.registry, trained, house.base)


def test_a_folder_without_safetensors_or_with_a_link_is_refused(house: House) -> None:
    trained = write_trained(house.root / "trained")
    weights = trained / "adapter_model.safetensors"
    weights.rename(trained / "adapter_model.bin")
    with pytest.raises(AdapterError, match="missing or not a plain file"):
        stage(house.registry, trained, house.base)
    weights.symlink_to(trained / "adapter_model.bin")
    with pytest.raises(AdapterError, match="missing or not a plain file"):
        stage(house.registry, trained, house.base)


def test_a_base_that_changed_since_the_training_is_refused(house: House) -> None:
    trained, before = write_trained(house.root / "trained"), model_sha256(house.base)
    (house.base / "config.json").write_text('{"new": 1}')
    with pytest.raises(AdapterError, match="not the base this was trained on"):
        house.registry.stage(
            trained,
            cycle=1,
            parent=None,
            base=house.base,
            base_model="b",
            base_sha256=before,
            mix=MIX,
            recipe=RECIPE,
        )


def test_a_parent_must_exist_and_share_the_base(house: House) -> None:
    parent = house.stage(1).name
    trained = write_trained(house.root / "trained", lora(2))
    assert stage(house.registry, trained, house.base, 2, parent).parent == parent
    with pytest.raises(AdapterError, match="There is no adapter"):
        stage(house.registry, trained, house.base, 3, "sc-0009-00000000")
    (house.base / "config.json").write_text('{"new": 1}')
    with pytest.raises(AdapterError, match="belongs to another base"):
        stage(house.registry, trained, house.base, 3, parent)


def test_only_the_two_files_of_a_trained_folder_are_taken(house: House) -> None:
    trained = write_trained(house.root / "trained")
    (trained / "optimizer.pt").write_bytes(b"pickle")
    adapter = stage(house.registry, trained, house.base)
    assert sorted(entry.name for entry in adapter.path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]


# Who serves


def test_a_new_registry_serves_the_bare_base(house: House) -> None:
    assert house.registry.active() is None
    assert house.registry.rollback() is None


def test_activating_retires_the_old_adapter_and_remembers_it(house: House) -> None:
    first, second = house.serve(1, 2)
    active = house.registry.active()
    assert active and (active.name, active.state) == (second, AdapterState.ACTIVE)
    assert house.registry.get(first).state is AdapterState.RETIRED
    assert house.registry.previous() == first
    assert Registry(house.adapters, FixedClock()).active() == active


def test_rolling_back_goes_to_the_previous_one_then_to_the_base_and_never_forward_again(house: House) -> None:
    first, second = house.serve(1, 2)
    back = house.registry.rollback()
    assert back and (back.name, back.state) == (first, AdapterState.ACTIVE)
    assert house.registry.get(second).state is AdapterState.QUARANTINED
    with pytest.raises(AdapterError, match="quarantined"):
        house.registry.activate(second)
    assert house.registry.rollback() is None
    assert house.registry.active() is None


def test_what_was_rolled_back_without_blame_is_not_gone_back_to_either(house: House) -> None:
    first, _ = house.serve(1, 2)
    house.registry.rollback(quarantine=False)
    assert (house.registry.serving("base"), house.registry.previous()) == (first, None)
    assert house.registry.rollback(quarantine=False) is None


def test_what_is_rolled_back_while_the_list_is_damaged_stays_refused_without_it(house: House) -> None:
    [name] = house.serve(1)
    (house.adapters / "quarantine.json").write_text("{")
    house.registry.rollback()
    (house.adapters / "quarantine.json").unlink()
    with pytest.raises(AdapterError, match="is quarantined"):
        house.registry.activate(name)


def test_nothing_descends_from_bytes_that_were_rolled_back_under_another_name(house: House) -> None:
    house.serve(1)
    twin = house.stage(2, lora(1)).name
    house.registry.rollback()
    with pytest.raises(AdapterError, match="was rolled back"):
        stage(house.registry, write_trained(house.root / "trained", lora(3)), house.base, 3, parent=twin)


def test_what_a_kill_left_half_written_within_an_adapter_is_gone_after_the_next_opening(house: House) -> None:
    left = house.stage().path / ".manifest.json.0.tmp"
    left.write_text("half")
    Registry(house.adapters, FixedClock())
    assert not left.exists()


def test_rolling_back_to_a_damaged_adapter_ends_at_the_base(house: House) -> None:
    first, _ = house.serve(1, 2)
    (house.adapters / first / "adapter_config.json").write_text("{}")
    assert house.registry.rollback() is None


def test_rolling_back_to_what_may_not_serve_any_more_ends_at_the_base(house: House) -> None:
    first, _ = house.serve(1, 2)
    house.registry.reject(first, verdict(Decision.REJECT))
    assert house.registry.rollback() is None
    assert house.registry.active() is None


def test_a_broken_manifest_of_the_active_adapter_does_not_stop_a_rollback(house: House) -> None:
    first, second = house.serve(1, 2)
    (house.adapters / second / "manifest.json").write_text("{")
    back = house.registry.rollback()
    assert back and back.name == first
    assert [adapter.state for adapter in house.registry.adapters()] == [
        AdapterState.ACTIVE,
        AdapterState.QUARANTINED,
    ]


@pytest.mark.parametrize("file", ["manifest.json", "README.md"])
def test_an_adapter_whose_folder_cannot_be_written_is_rolled_back_and_stays_in_quarantine(
    house: House, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    first, second = house.serve(1, 2)

    def refusing(path: Path, data: bytes | str) -> None:
        if path == house.adapters / second / file:
            raise InfraError(f"{path} cannot be written", "Check free space and permissions")
        write_atomic(path, data)

    monkeypatch.setattr("sleepy_coder.registry.write_atomic", refusing)
    back = house.registry.rollback()
    assert back and back.name == first
    assert house.registry.get(second).state is AdapterState.QUARANTINED


def test_a_broken_manifest_of_the_active_adapter_does_not_stop_its_successor(house: House) -> None:
    (served,) = house.serve(1)
    (house.adapters / served / "manifest.json").unlink()
    assert house.serve(2) == [house.registry.adapters()[-1].name]


def test_an_adapter_whose_bytes_changed_is_not_activated(house: House) -> None:
    adapter = house.stage()
    write_trained(adapter.path, lora(99))
    with pytest.raises(AdapterError, match="has changed on disk"):
        house.registry.activate(adapter.name)
    assert house.registry.active() is None


def test_an_adapter_of_another_base_fails_its_verification(house: House) -> None:
    adapter = house.stage()
    assert house.registry.verify(adapter.name, model_sha256(house.base)) == adapter
    with pytest.raises(AdapterError, match="another base"):
        house.registry.verify(adapter.name, "0" * 64)


def test_a_rejected_adapter_is_never_activated_and_an_active_one_never_rejected(house: House) -> None:
    (served,) = house.serve(1)
    candidate = house.stage(2)
    assert house.registry.reject(candidate.name, verdict(Decision.REJECT)).state is AdapterState.REJECTED
    with pytest.raises(AdapterError, match="rejected"):
        house.registry.activate(candidate.name)
    with pytest.raises(AdapterError, match="is serving"):
        house.registry.reject(served, verdict(Decision.REJECT))


@pytest.mark.parametrize(
    "name", ["..", "../adapters", "/etc", "sc-0001-zzzzzzzz", "sc-0001-00000000", "", "active.json"]
)
def test_a_name_that_is_no_adapter_is_refused(house: House, name: str) -> None:
    for use in (house.registry.get, house.registry.activate, house.registry.verify):
        with pytest.raises(AdapterError, match="There is no adapter"):
            use(name)


def test_a_pointer_that_cannot_be_read_is_an_error_with_a_remedy(house: House) -> None:
    (house.adapters / "active.json").write_text('{"name": "sc-')
    with pytest.raises(AdapterError, match="remove it to serve the bare base"):
        house.registry.active()


@pytest.mark.parametrize("damage", ["", "cut", "name"])
def test_a_damaged_pointer_is_restored_from_its_twin(house: House, damage: str) -> None:
    (name,) = house.serve(1)
    path = house.adapters / "active.json"
    sound = path.read_text()
    path.write_text({"": "", "cut": sound[:20], "name": sound.replace(name[:6], "sc-9001"[:6], 1)}[damage])
    assert house.registry.active() == house.registry.get(name)
    Registry(house.adapters, FixedClock())
    assert path.read_text() == sound


def test_a_pointer_that_was_removed_stays_so_and_the_base_serves(house: House) -> None:
    house.serve(1)
    (house.adapters / "active.json").unlink()
    assert Registry(house.adapters, FixedClock()).active() is None
    house.stage(2)
    (house.adapters / "active.json").write_text("broken")
    with pytest.raises(AdapterError):
        Registry(house.adapters, FixedClock()).active()


def test_a_twin_that_a_kill_left_behind_follows_the_pointer(house: House) -> None:
    house.serve(1)
    twin = house.adapters / "active.twin.json"
    old = twin.read_text()
    house.serve(2)
    twin.write_text(old)
    Registry(house.adapters, FixedClock())
    assert twin.read_text() == (house.adapters / "active.json").read_text() != old


def test_a_pointer_that_a_full_disk_does_not_let_mend_stops_nobody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = house.serve(1)
    (house.adapters / "active.json").write_text("")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert Registry(house.adapters, FixedClock()).serving("base") == name


def test_a_registry_steps_back_from_a_damaged_adapter_and_from_no_other(house: House) -> None:
    first, second = house.serve(1, 2)
    assert house.registry.step_back_if_damaged() is None
    weights = house.adapters / second / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert house.registry.step_back_if_damaged() == second
    active = house.registry.active()
    assert active is not None and active.name == first


def test_an_adapter_that_was_damaged_and_is_restored_may_serve_again(house: House) -> None:
    _, second = house.serve(1, 2)
    weights = house.adapters / second / "adapter_model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(sound[:-1] + b"!")
    house.registry.step_back_if_damaged()
    with pytest.raises(AdapterError, match="has changed on disk"):
        house.registry.activate(second)
    weights.write_bytes(sound)
    assert house.registry.activate(second).name == second


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "manifest.json"])
def test_an_adapter_that_could_not_be_read_is_stepped_back_from_and_may_serve_again(
    house: House, monkeypatch: pytest.MonkeyPatch, file: str, error: int
) -> None:
    first, second = house.serve(1, 2)
    fails, opened = [house.adapters / second / file], io.open

    def once(path: Any, *arguments: Any, **options: Any) -> Any:
        if path in fails:
            fails.remove(path)
            raise OSError(error, "cannot be read", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(io, "open", once)
    assert house.registry.step_back_if_damaged() == second
    assert house.registry.get(second).state is AdapterState.RETIRED
    assert house.registry.quarantine.adapters() == ()
    assert house.registry.activate(second).name == second


def test_a_registry_that_cannot_be_written_is_an_infra_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="Check the folder"):
        Registry(tmp_path / "file" / "adapters", FixedClock())


# Reports, pruning, hashes


def test_reports_are_kept_without_completions_and_the_card_names_every_task(house: House) -> None:
    adapter = house.stage()
    house.registry.attach(adapter.name, [report()], verdict(Decision.PROMOTE))
    manifest = house.registry.manifest(adapter.name)
    assert [sample.completion for sample in manifest.reports[0].samples] == [""]
    assert manifest.verdict == verdict(Decision.PROMOTE)
    _, front, body = (adapter.path / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == "acme/tiny-coder"
    assert yaml.safe_load(front)["library_name"] == "peft"
    for fact in ("task-gained", "task-lost", "+12.5 %", "| hard | 3 | 75.0 % |", "**promote**", "vllm serve"):
        assert fact in body
    assert house.registry.verify(adapter.name).sha256 == adapter.sha256


def test_what_was_rolled_back_earlier_stays_in_quarantine_beside_what_is_rolled_back_now(house: House) -> None:
    house.serve(1)
    bad: list[str] = []
    for cycle in (2, 3):
        bad += house.serve(cycle)
        house.registry.rollback()
    assert [one.name for one in house.registry.quarantine.adapters()] == bad


def test_a_damaged_adapter_that_somebody_else_stepped_back_from_takes_nobody_with_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = house.serve(1, 2)
    (house.registry.get(second).path / "adapter_model.safetensors").write_bytes(b"damaged")
    verify = house.registry.verify

    def meanwhile(name: str) -> Adapter:
        if name == second:
            monkeypatch.undo()
            Registry(house.adapters, FixedClock()).step_back_if_damaged()
        return verify(name)

    monkeypatch.setattr(house.registry, "verify", meanwhile)
    assert house.registry.step_back_if_damaged() is None
    assert house.registry.active() == house.registry.get(first)


def test_an_adapter_whose_manifest_was_changed_with_its_bytes_is_known_by_its_name(house: House) -> None:
    adapter = house.stage()
    save_file(lora(9), adapter.path / "adapter_model.safetensors")
    manifest = json.loads((adapter.path / "manifest.json").read_text())
    sha256 = content_sha256(adapter.path)
    (adapter.path / "manifest.json").write_text(json.dumps(manifest | {"sha256": sha256}))
    with pytest.raises(AdapterError, match="changed on disk"):
        house.registry.activate(adapter.name)


def test_what_was_judged_against_another_is_not_activated(house: House) -> None:
    first, second, third = (house.stage(cycle).name for cycle in (1, 2, 3))
    house.registry.activate(first)
    house.registry.activate(second, instead_of=(first, second))
    house.registry.rollback(only=second)
    with pytest.raises(AdapterError, match="was not judged against it"):
        house.registry.activate(third, instead_of=(second, third))
    assert house.registry.active() == house.registry.get(first)


def test_who_writes_waits_until_another_registry_of_the_same_folder_is_done(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (house.stage(cycle).name for cycle in (1, 2))
    later = threading.Thread(target=Registry(house.adapters, FixedClock()).activate, args=(second,))
    verify = house.registry.verify

    def meanwhile(name: str) -> Adapter:
        later.start()
        later.join(0.5)
        return verify(name)

    monkeypatch.setattr(house.registry, "verify", meanwhile)
    house.registry.activate(first)
    later.join()
    assert (house.registry.serving("base"), house.registry.previous()) == (second, first)


def test_pruning_keeps_the_newest_and_everything_in_use(house: House) -> None:
    names = [house.stage(cycle).name for cycle in range(1, 8)]
    house.registry.activate(names[1])
    house.registry.activate(names[2])
    assert house.registry.prune(2, in_use=[names[4]]) == (names[0], names[3])
    kept = [adapter.name for adapter in house.registry.adapters()]
    assert kept == [names[1], names[2], names[4], names[5], names[6]]
    assert not [entry for entry in house.adapters.iterdir() if entry.suffix == ".tmp"]


def test_pruning_deletes_nothing_while_there_are_no_more_than_are_kept(house: House) -> None:
    for cycle in range(1, 4):
        house.stage(cycle)
    assert house.registry.prune(5) == ()
    assert len(house.registry.adapters()) == 3


def test_what_cannot_be_deleted_stops_neither_pruning_nor_opening_and_is_warned_of(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unlink = os.unlink

    def of_another_user(path: Path | str, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None or Path(path).suffix == ".tmp":  # in a folder that goes, or left by a kill
            raise PermissionError(f"Operation not permitted: {path}")
        unlink(path)

    names = [house.stage(cycle).name for cycle in range(1, 4)]
    (house.adapters / ".file.0.tmp").write_text("left by a kill")
    log.set_up(as_json=True)
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "unlink", of_another_user)
        assert house.registry.prune(1) == tuple(names[:2])
        opened = Registry(house.adapters, FixedClock())
    assert [adapter.name for adapter in opened.adapters()] == names[2:]
    warnings = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], len(line["names"])) for line in warnings] == [("adapter.leftovers_stay", 3)] * 2
    Registry(house.adapters, FixedClock())
    assert not [entry for entry in house.adapters.iterdir() if entry.suffix == ".tmp"]


def test_pruning_keeps_what_the_served_adapter_grew_from(house: House) -> None:
    parent: str | None = None
    names: list[str] = []
    for cycle in range(1, 7):
        trained = write_trained(house.root / "trained", lora(cycle))
        parent = stage(house.registry, trained, house.base, cycle, parent).name if cycle < 5 else None
        names.append(parent or house.stage(cycle).name)
    house.registry.activate(names[2])
    assert house.registry.prune(1, in_use=[names[2]]) == (names[3], names[4])
    assert [adapter.name for adapter in house.registry.adapters()] == [*names[:3], names[5]]


def test_the_hash_of_a_base_follows_its_weights_and_not_its_tokenizer(house: House) -> None:
    weights, tokens = model_sha256(house.base), tokenizer_sha256(house.base)
    (house.base / "chat_template.jinja").write_text("{{ messages }}")
    assert (model_sha256(house.base) == weights, tokenizer_sha256(house.base) == tokens) == (True, False)
    save_file({"other": np.ones(1, np.float32)}, house.base / "model-2.safetensors")
    assert model_sha256(house.base) != weights


@pytest.mark.parametrize("hash_of", [model_sha256, tokenizer_sha256])
def test_a_folder_that_is_no_model_is_a_config_error(tmp_path: Path, hash_of: Callable[[Path], str]) -> None:
    with pytest.raises(ConfigError, match="Hugging Face"):
        hash_of(tmp_path)


# Killed at every step


def killed_at_every_step(root: Path, story: str) -> list[Path]:
    """Copies of the house in `root`, each left behind by a process that was killed one step later."""
    subprocess.run([sys.executable, __file__, story, root], check=True, timeout=280)
    return sorted(root.glob("killed-*"))


def test_a_process_killed_at_any_step_of_staging_leaves_all_or_nothing(house: House) -> None:
    (served,) = house.serve(1)
    write_trained(house.root / "trained", lora(2))
    sizes: list[int] = []
    for left in killed_at_every_step(house.root, "stage"):
        registry = Registry(left / "adapters", FixedClock())
        found = [registry.verify(adapter.name) for adapter in registry.adapters()]
        sizes.append(len(found))
        active = registry.active()
        assert active and active.name == served
        assert not [entry for entry in (left / "adapters").iterdir() if entry.suffix == ".tmp"]
        assert stage(registry, left / "trained", left / "base", 2).cycle == 2
    assert len(sizes) > 10 and sizes == sorted(sizes) and set(sizes) == {1, 2}


@pytest.mark.parametrize("story", ["activate", "rollback"])
def test_a_process_killed_at_any_step_of_a_switch_leaves_the_old_or_the_new_adapter(house: House, story: str) -> None:
    first, second = house.serve(1, 2)
    house.stage(3)
    seen: list[str] = []
    for left in killed_at_every_step(house.root, story):
        registry = Registry(left / "adapters", FixedClock())
        active = registry.active()
        assert active and active.state is AdapterState.ACTIVE
        assert registry.verify(active.name) == active
        seen.append(active.name)
    new = first if story == "rollback" else house.registry.adapters()[-1].name
    assert len(seen) > 5 and seen == sorted(seen, key=[second, new].index) and set(seen) == {second, new}


def test_a_process_killed_while_it_rolls_back_forgets_the_quarantine_at_no_step(house: House) -> None:
    first, second = house.serve(1, 2)
    bytes_ = house.registry.get(second).sha256
    held = [
        registry.quarantine.holds(bytes_)
        for left in killed_at_every_step(house.root, "rollback")
        if (registry := Registry(left / "adapters", FixedClock())).serving("base") == first
    ]
    assert held and all(held)


STORIES: dict[str, Callable[[Registry, Path], object]] = {
    "stage": lambda registry, root: stage(registry, root / "trained", root / "base", 2),
    "activate": lambda registry, _: registry.activate(registry.adapters()[-1].name),
    "rollback": lambda registry, _: registry.rollback(),
}
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.copyfile", "fcntl.flock")


def die_at_step(number: int, below: Path) -> None:
    """SIGKILL this process just before its `number`-th step (from 0) on the files below a folder."""
    left = [number]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and (event == "fcntl.flock" or str(arguments[0]).startswith(str(below))):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(watch)


def main(story: str, root: Path) -> None:
    for number in range(1000):
        copy = root / f"killed-{number:03d}"
        for folder in ("adapters", "base", "trained"):
            shutil.copytree(root / folder, copy / folder)
        child = os.fork()
        if child == 0:
            registry = Registry(copy / "adapters", FixedClock())
            die_at_step(number, copy / "adapters")
            STORIES[story](registry, copy)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return
        if not os.WIFSIGNALED(status):
            raise RuntimeError(f"step {number} of {story} raised instead of being killed")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
