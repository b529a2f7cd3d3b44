"""Exports: what leaves the house is whole, belongs to its base, and holds nothing that was said by day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_hub import TOKEN, fake_hub
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from report_data import skipped
from safetensors.numpy import load_file, save_file
from test_registry import LAYERS, House, lora, report, verdict

from sleepy_coder.errors import AdapterError, AlreadyRuns, ConfigError, HubError, InfraError
from sleepy_coder.learn.launch import TRAINER_VARIABLE
from sleepy_coder.learn.merge import MergeJob, MergeProof, merge
from sleepy_coder.model_card import Edition, Form, model_card
from sleepy_coder.share.bundle import Bundle, Exporter, shareable
from sleepy_coder.share.gguf_lora import interleaved
from sleepy_coder.share.hub import push, workroom
from sleepy_coder.types import Adapter, AdapterState, Choice, Contender, Decision

PRIVATE = "the customer's own words"
asks_peft = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21's question


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def judged(house: House) -> Adapter:
    """An adapter in service, whose night's reports hold what must not leave the house."""
    adapter = house.stage()
    told = report()
    samples = (told.samples[0].model_copy(update={"completion": PRIVATE, "error_signature": PRIVATE}),)
    house.registry.attach(adapter.name, [told.model_copy(update={"samples": samples})], verdict(Decision.PROMOTE))
    return house.registry.activate(adapter.name)


def exported(house: House, name: str, form: Form = "peft", to: str = "out") -> Bundle:
    return Exporter(house.registry, lambda: house.base).export(name, Edition(form=form), house.root / to)


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n", 2)[1])


def describe(house: House, architecture: str) -> None:
    """Say in the base's config what it is; its layers are 5 wide and 6 high, and have heads of 2 in llama."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 5}
    (house.base / "config.json").write_text(json.dumps({"architectures": [architecture], **sizes}))


# A folder for PEFT


def test_an_export_is_a_whole_copy_in_a_new_folder(house: House) -> None:
    adapter = judged(house)
    bundle = exported(house, adapter.name)
    assert set(bundle.files) == {"adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.json"}
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (bundle.folder / file).read_bytes() == (adapter.path / file).read_bytes()
    with pytest.raises(AdapterError, match="exists already"):
        exported(house, adapter.name)


def test_an_export_names_the_base_as_the_hub_does_and_changes_nothing_else(house: House) -> None:
    adapter = judged(house)
    edition = Edition(base_model="acme/coder-7b")
    folder = Exporter(house.registry, lambda: house.base).export(adapter.name, edition, house.root / "out").folder
    weights, config = "adapter_model.safetensors", "adapter_config.json"
    assert (folder / weights).read_bytes() == (adapter.path / weights).read_bytes()
    known = json.loads((adapter.path / config).read_bytes())
    assert json.loads((folder / config).read_bytes()) == known | {"base_model_name_or_path": "acme/coder-7b"}
    assert "has since been given the base's name" in (folder / "README.md").read_text()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("named", [COMMIT, f"/home/me/.cache/hub/models--acme--coder-7b/snapshots/{COMMIT}"])
def test_a_base_from_the_hubs_cache_is_called_as_on_the_hub(house: House, named: str) -> None:
    cached = house.root / "hub" / "models--acme--coder-7b" / "snapshots" / COMMIT
    cached.parent.mkdir(parents=True)
    house.base.rename(cached)
    house.base = cached
    bundle = exported(house, house.stage(base_model_name_or_path=named).name)
    assert bundle.base_model == "acme/coder-7b"
    assert config_of(bundle)["base_model_name_or_path"] == "acme/coder-7b"
    assert front_matter((bundle.folder / "README.md").read_text())["base_model"] == "acme/coder-7b"


def test_a_base_that_took_the_place_of_another_does_not_lend_it_its_name(house: House) -> None:
    name = house.stage(base_model_name_or_path=COMMIT).name
    cached = house.root / "hub" / "models--acme--other" / "snapshots" / COMMIT[::-1]
    bundle = Exporter(house.registry, lambda: cached).export(name, Edition(), house.root / "out")
    assert bundle.base_model == ""
    assert config_of(bundle)["base_model_name_or_path"] == "acme/tiny-coder"  # as its server called it


def test_a_folder_of_this_machine_does_not_leave_it_in_pefts_config(house: House) -> None:
    bundle = exported(house, house.stage(base_model_name_or_path="/srv/private/m").name)
    assert config_of(bundle)["base_model_name_or_path"] == "acme/tiny-coder"
    assert not [file for file in bundle.files if b"/srv/private" in (bundle.folder / file).read_bytes()]
    assert "has since been given the base's name.\n" in (bundle.folder / "README.md").read_text()


def config_of(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.folder / "adapter_config.json").read_bytes())


def test_an_adapter_that_changed_on_disk_is_not_passed_on(house: House) -> None:
    adapter = judged(house)
    (adapter.path / "adapter_config.json").write_text("{}")
    with pytest.raises(AdapterError, match="changed on disk"):
        exported(house, adapter.name)
    assert not (house.root / "out").exists()


@pytest.mark.parametrize("form", ["peft", "gguf"])
def test_nothing_that_was_said_by_day_is_exported(house: House, form: Form) -> None:
    if form == "gguf":
        pytest.importorskip("gguf")
    describe(house, "Qwen2ForCausalLM")
    bundle = exported(house, judged(house).name, form)
    assert PRIVATE in (house.adapters / bundle.adapter / "manifest.json").read_text()
    assert not [file for file in bundle.files if PRIVATE.encode() in (bundle.folder / file).read_bytes()]


def test_the_folder_of_a_base_model_stays_at_home(house: House) -> None:
    manifest = house.registry.manifest(judged(house).name)
    said = manifest.reports[0].model_copy(update={"model": "/srv/private/m"})
    named = manifest.model_copy(update={"base_model": "/srv/private/m", "reports": (said,)})
    shared = shareable(named, AdapterState.ACTIVE)
    assert (shared.base_model, shared.reports[0].model) == ("m", "m")
    assert "/srv/private" not in shared.model_dump_json()


# The card


@pytest.mark.parametrize(
    ("form", "library", "relation", "command"),
    [
        ("peft", "peft", "adapter", "--enable-lora"),
        ("merged", "transformers", "finetune", "vllm serve ."),
        ("gguf", "gguf", "adapter", "--lora"),
    ],
)
def test_the_card_of_each_form_says_what_it_is_and_how_to_load_it(
    house: House, form: Form, library: str, relation: str, command: str
) -> None:
    manifest = house.registry.manifest(judged(house).name)
    card = model_card(manifest, Edition(form=form, base_model="acme/coder-7b", license="apache-2.0", rounding=0.002))
    front = front_matter(card)
    assert (front["library_name"], front["base_model_relation"]) == (library, relation)
    assert (front["base_model"], front["license"]) == ("acme/coder-7b", "apache-2.0")
    assert command in card
    assert ModelCard(card).data.base_model == "acme/coder-7b"


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_card_of_a_model_in_float32_has_it_served_so(
    house: House, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    def merged(job: MergeJob, _: object) -> MergeProof:
        (job.out / "config.json").write_text(json.dumps({key: "float32"}))
        return MergeProof(update=1, error=0)

    monkeypatch.setattr("sleepy_coder.share.bundle.merge", merged)
    card = (exported(house, judged(house).name, "merged").folder / "README.md").read_text()
    assert "    vllm serve . --dtype float32\n" in card
    assert "--dtype" not in model_card(house.registry.manifest(judged(house).name), Edition(form="merged"))


def test_the_card_of_an_adapter_for_a_base_that_sees_images_loads_the_base_whole(house: House) -> None:
    layers = {name.replace(".model.layers", ".model.language_model.layers"): half for name, half in lora(1).items()}
    shapes = {f"{layer.replace('model.', 'model.language_model.', 1)}.weight": np.ones((6, 5)) for layer in LAYERS}
    save_file(shapes, house.base / "model.safetensors")
    name = house.stage(tensors=layers).name
    for folder in (house.adapters / name, exported(house, name).folder):
        card = (folder / "README.md").read_text()
        assert "base = AutoModelForImageTextToText.from_pretrained(" in card
        assert "AutoModelForCausalLM" not in card
        assert front_matter(card)["pipeline_tag"] == "image-text-to-text"


def test_a_card_without_settings_names_an_unknown_license_and_no_folder_of_this_machine(house: House) -> None:
    manifest = house.registry.manifest(judged(house).name).model_copy(update={"base_model": "/srv/models/coder-7b"})
    card = model_card(manifest)
    assert (front_matter(card)["license"], front_matter(card)["base_model"]) == ("unknown", "coder-7b")
    assert "/srv/models" not in card


def test_a_card_tells_the_night_and_the_limits(house: House) -> None:
    manifest = house.registry.manifest(judged(house).name)
    night = skipped(1, "base").model_copy(update={"kl": 0.0123})
    card = model_card(manifest, Edition(night=night))
    for fact in ("| 0.012 |", "**promote**", "task-gained", "task-lost", "## Limits", "10.0 points or more"):
        assert fact in card
    assert "did not promote" not in card
    refused = manifest.model_copy(update={"verdict": verdict(Decision.REJECT), "state": AdapterState.REJECTED})
    assert "did not promote" in model_card(refused)


def test_a_card_names_the_alpha_of_the_weights_it_is_about(house: House) -> None:
    manifest = house.registry.manifest(judged(house).name)
    choice = Choice(contenders=(Contender(weights="adapter", scale=0.25),))
    assert "| alpha | 8 |" in model_card(manifest)
    assert "| alpha | 2 |" in model_card(manifest.model_copy(update={"choice": choice}))


def test_a_card_describes_the_weights_that_were_chosen_and_not_the_end_of_the_run(house: House) -> None:
    choice = Choice(contenders=(Contender(weights="checkpoints/0040", scale=0.25, kl=0.0456),))
    manifest = house.registry.manifest(judged(house).name).model_copy(update={"choice": choice})
    card = model_card(manifest, Edition(night=skipped(1, "base").model_copy(update={"kl": 0.0123, "steps": 77})))
    for fact in ("| checkpoints/0040, 0.25 |", "| 0.046 |", "| steps done | 77 |"):
        assert fact in card
    assert "in the last step" not in card


def test_an_exported_card_says_that_the_adapter_serves(house: House) -> None:
    bundle = exported(house, judged(house).name)
    assert "State: **active**" in (bundle.folder / "README.md").read_text()


def assert_withdrawn(house: House, name: str, why: str) -> None:
    bundle = exported(house, name)
    assert bundle.withdrawn == why
    for card in (bundle.folder, house.adapters / name):
        assert f"- It is {why} and does not serve" in (card / "README.md").read_text()


def test_a_rejected_adapter_is_exported_with_what_the_gate_found(house: House) -> None:
    name, refusal = house.stage().name, verdict(Decision.REJECT)
    house.registry.reject(name, refusal)
    assert_withdrawn(house, name, f"rejected ({', '.join(refusal.reasons)})")


def test_an_adapter_that_was_rolled_back_is_exported_with_the_reason(house: House) -> None:
    name = judged(house).name
    house.registry.rollback(why="too slow")
    assert_withdrawn(house, name, "quarantined (too slow)")


# GGUF


def read_gguf(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    gguf = pytest.importorskip("gguf")
    found = gguf.GGUFReader(file)
    return {name: f.contents() for name, f in found.fields.items()}, {t.name: t.data for t in found.tensors}


def test_a_gguf_holds_the_tensors_under_llama_cpps_names(house: House) -> None:
    pytest.importorskip("gguf")
    describe(house, "Qwen2ForCausalLM")
    bundle = exported(house, judged(house).name, "gguf")
    fields, tensors = read_gguf(bundle.folder / f"{bundle.adapter}.gguf")
    expected = {"general.architecture": "qwen2", "general.type": "adapter", "adapter.type": "lora"}
    assert {**expected, "adapter.lora.alpha": 8.0}.items() <= fields.items()
    ours = {name.removeprefix("base_model.model.model."): value for name, value in lora(1).items()}
    for theirs, name in (("blk.0.attn_q", "layers.0.self_attn.q_proj"), ("blk.1.ffn_up", "layers.1.mlp.up_proj")):
        np.testing.assert_array_equal(tensors.pop(f"{theirs}.weight.lora_a"), ours[f"{name}.lora_A.weight"])
        np.testing.assert_array_equal(tensors.pop(f"{theirs}.weight.lora_b"), ours[f"{name}.lora_B.weight"])
    assert not tensors


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_llamas_rows_are_paired_within_each_head_and_none_is_lost(heads: int, half: int, rank: int) -> None:
    b = np.arange(heads * 2 * half * rank, dtype=np.float32).reshape(heads * 2 * half, rank)
    turned = interleaved(b, heads)
    for head in range(heads):
        for i in range(half):
            at = head * 2 * half
            np.testing.assert_array_equal(turned[at + 2 * i], b[at + i])
            np.testing.assert_array_equal(turned[at + 2 * i + 1], b[at + half + i])


def test_of_a_llama_only_queries_and_keys_are_turned_around(house: House) -> None:
    pytest.importorskip("gguf")
    describe(house, "LlamaForCausalLM")
    bundle = exported(house, judged(house).name, "gguf")
    fields, tensors = read_gguf(bundle.folder / f"{bundle.adapter}.gguf")
    q, up = (
        lora(1)[f"base_model.model.model.layers.{at}.lora_B.weight"] for at in ("0.self_attn.q_proj", "1.mlp.up_proj")
    )
    assert fields["general.architecture"] == "llama"
    np.testing.assert_array_equal(tensors["blk.0.attn_q.weight.lora_b"], interleaved(q, 3))
    np.testing.assert_array_equal(tensors["blk.1.ffn_up.weight.lora_b"], up)


def test_an_architecture_that_is_not_known_here_is_refused_with_the_way_around(house: House) -> None:
    pytest.importorskip("gguf")
    describe(house, "BloomForCausalLM")
    adapter = judged(house)
    with pytest.raises(AdapterError, match="convert_lora_to_gguf") as refused:
        exported(house, adapter.name, "gguf")
    assert "BloomForCausalLM" in refused.value.message


def test_a_form_that_needs_the_base_refuses_another_one(house: House) -> None:
    adapter = judged(house)
    describe(house, "Qwen2ForCausalLM")  # after the staging: the base has changed
    with pytest.raises(AdapterError, match="another base"):
        exported(house, adapter.name, "gguf")


# A merged model


def test_a_quantised_base_is_not_merged_into(house: House) -> None:
    (house.base / "config.json").write_text('{"quantization_config": {}}')
    job = MergeJob(model=house.base, adapter=house.base, out=house.root, dtype="base")
    with pytest.raises(ConfigError, match="quantised"):
        merge(job)


def test_a_disk_without_room_for_a_merged_model_is_called_so(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    child = house.root / "child"
    child.write_text("#!/bin/sh\necho 'I/O error: No space left on device (os error 28)'\nexit 1\n")
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    job = MergeJob(model=house.base, adapter=house.base, out=house.root / "out", dtype="base")
    with pytest.raises(InfraError, match="is full.*Free as much as the base takes"):
        merge(job)


def processes_of(words: str) -> list[int]:
    """Who has `words` in the command line."""
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if words.encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def until(happened: Callable[[], object]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.1)
    pytest.fail("it never happened")


def test_a_sigterm_leaves_neither_a_half_merged_model_nor_a_child_that_goes_on(house: House) -> None:
    (house.root / "sleepy-coder.toml").write_text('[model]\npath = "base"\n')
    name, out = judged(house).name, house.root / "models" / "merged"
    argv = [sys.executable, "-m", "sleepy_coder", "adapters", "export", name, "--format", "merged", "--out", str(out)]
    env = {**os.environ, "SLEEPY_CODER_HOME": str(house.root)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as export:
        until(lambda: len(processes_of(str(out.parent))) == 2)
        export.terminate()
        said = export.communicate()[1]
    assert (export.returncode, said) == (130, "stopped; what was finished is kept\n")
    assert not list(out.parent.iterdir())
    assert not processes_of(str(out.parent))


def test_a_child_that_merges_ends_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    child = "import time; from sleepy_coder.learn.child import end_with_parent; end_with_parent(); time.sleep(100)"
    start = (
        f"import os, subprocess, sys, time; os.environ[{TRAINER_VARIABLE!r}] = str(os.getpid());"
        f" subprocess.Popen([sys.executable, '-c', {child!r}, {str(tmp_path)!r}]); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", start]) as parent:
        until(lambda: len(processes_of(str(tmp_path))) == 2)
        parent.kill()
    until(lambda: not processes_of(str(tmp_path)))


def test_a_merged_model_keeps_the_precision_and_the_processor_of_a_base_that_sees_images(tmp_path: Path) -> None:
    import torch

    from sleepy_coder.learn.merge_lora import write

    class Merged:
        def to(self, dtype: torch.dtype) -> Merged:
            self.dtype = dtype
            return self

        def save_pretrained(self, _: str) -> None: ...

    base, out, merged = tmp_path / "base", tmp_path / "out", Merged()
    base.mkdir()
    out.mkdir()
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "dtype": "bfloat16"}}
    (base / "config.json").write_text(json.dumps(config))
    processor = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
    for name in processor:
        (base / name).write_text(name)
    write(merged, MergeJob(model=base, adapter=base, out=out, dtype="base"))
    assert merged.dtype is torch.bfloat16
    assert [(out / name).read_text() for name in processor] == list(processor)


@pytest.mark.slow
def test_merged_weights_are_the_base_plus_the_scaled_product_rounded_to_bfloat16(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file as load_tensors
    from serve_model import tiny_adapter

    from sleepy_coder.nano import MODEL_DIR

    adapter, out, heard = tiny_adapter(MODEL_DIR, tmp_path / "adapter", 1), tmp_path / "out", list[str]()
    out.mkdir()
    job = MergeJob(model=MODEL_DIR, adapter=adapter, out=out, dtype="base")
    proof = merge(job, lambda step, _: heard.append(step))
    assert heard == ["load", "ask", "merge", "write", "prove"]
    assert proof.update > 0.1 and proof.lost < 0.01
    base, merged = load_tensors(MODEL_DIR / "model.safetensors"), load_tensors(out / "model.safetensors")
    halves = load_tensors(adapter / "adapter_model.safetensors")
    assert base.keys() == merged.keys()
    for name, weight in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        wanted = weight.float()
        if f"{stem}.lora_A.weight" in halves:
            wanted = wanted + 2.0 * halves[f"{stem}.lora_B.weight"] @ halves[f"{stem}.lora_A.weight"]
        assert merged[name].dtype is torch.bfloat16
        torch.testing.assert_close(merged[name].float(), wanted.bfloat16().float(), rtol=2**-7, atol=1e-4)
    assert (out / "tokenizer.json").read_bytes() == (MODEL_DIR / "tokenizer.json").read_bytes()


@asks_peft
@pytest.mark.slow
def test_an_update_that_rounding_swallows_is_told_and_kept_in_float32(tmp_path: Path) -> None:
    from safetensors.torch import load_file as load_tensors
    from safetensors.torch import save_file
    from serve_model import tiny_adapter

    from sleepy_coder.errors import TrainingError
    from sleepy_coder.learn.merge_lora import merge as merge_here
    from sleepy_coder.nano import MODEL_DIR

    adapter = tiny_adapter(MODEL_DIR, tmp_path / "adapter", 1)
    file = adapter / "adapter_model.safetensors"
    faint = {name: value * (0.002 if "lora_B" in name else 1) for name, value in load_tensors(file).items()}
    save_file(faint, file)
    jobs = {}
    for dtype in ("base", "float32"):
        (tmp_path / dtype).mkdir()
        jobs[dtype] = MergeJob(model=MODEL_DIR, adapter=adapter, out=tmp_path / dtype, dtype=dtype)
    with pytest.raises(TrainingError, match="--dtype float32"):
        merge_here(jobs["base"])
    assert merge_here(jobs["float32"]).lost < 1e-3


# The Hub


def test_a_push_is_one_private_commit_of_all_files(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    with fake_hub() as hub:
        pushed = push(bundle, "me/coder", endpoint=hub.url)
    assert (pushed.url, pushed.public) == (f"{hub.url}/me/coder/commit/1", False)
    assert hub.private == {"me/coder": True}
    assert hub.commits == [f"{bundle.adapter} (peft)"]
    assert hub.files["me/coder"] == {file: (bundle.folder / file).read_bytes() for file in bundle.files}
    assert front_matter(hub.cards[0])["library_name"] == "peft"


def test_a_public_repository_takes_a_push_only_when_that_is_said(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    with fake_hub() as hub:
        hub.private["me/coder"], hub.files["me/coder"] = False, {}
        with pytest.raises(HubError, match="--public"):
            push(bundle, "me/coder", endpoint=hub.url)
        assert hub.files["me/coder"] == {}
        push(bundle, "me/coder", public=True, endpoint=hub.url)
    assert set(hub.files["me/coder"]) == set(bundle.files)


def test_a_private_repository_does_not_become_public_by_a_push(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    with fake_hub() as hub:
        hub.private["me/coder"], hub.files["me/coder"] = True, {}
        with pytest.raises(HubError, match="is private") as refused:
            push(bundle, "me/coder", public=True, endpoint=hub.url)
        assert (hub.commits, hub.private["me/coder"]) == ([], True)
    assert f"{hub.url}/me/coder/settings" in refused.value.remedy


def as_form(bundle: Bundle, form: Form, *names: str) -> Bundle:
    """The same with other weights in it."""
    kept = {name: size for name, size in bundle.files.items() if not name.startswith("adapter_")}
    for name in names:
        (bundle.folder / name).write_text(name)
    return bundle.model_copy(update={"form": form, "files": kept | {name: len(name) for name in names}})


def test_a_push_leaves_no_file_of_an_earlier_one_that_a_loader_would_take(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json")
    forms = [
        as_form(bundle, "merged", "config.json", "tokenizer.json", "chat_template.jinja", *shards),
        bundle,
        as_form(bundle, "gguf", "sc-0001-11111111.gguf"),
        as_form(bundle, "gguf", "sc-0002-22222222.gguf"),
        as_form(bundle, "merged", "config.json", "tokenizer.json", "model.safetensors"),
    ]
    deleted: tuple[str, ...] = ()
    with fake_hub() as hub:
        for one in forms:
            deleted = push(one, "me/coder", endpoint=hub.url).deleted
            assert set(hub.files["me/coder"]) == set(one.files)
    assert deleted == ("sc-0002-22222222.gguf",)
    assert len(hub.commits) == len(forms)


def test_a_push_deletes_nothing_that_somebody_else_put_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    own = {name: b"mine" for name in (".gitattributes", "EVAL.md", "tokenizer.json", "quantised/model.q4.gguf")}
    with fake_hub() as hub:
        push(bundle, "me/coder", endpoint=hub.url)
        hub.files["me/coder"] |= own
        push(bundle, "me/coder", endpoint=hub.url)
    assert own.items() <= hub.files["me/coder"].items()


@pytest.mark.parametrize("manifest", [None, b"{}", b"\x89", b"[]"])
def test_a_repository_with_weights_of_somebody_else_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch, manifest: bytes | None
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    files = {"model.safetensors": b"", **({} if manifest is None else {"manifest.json": manifest})}
    with fake_hub() as hub:
        hub.private["me/coder"], hub.files["me/coder"] = True, dict(files)
        with pytest.raises(HubError, match="name another repository"):
            push(bundle, "me/coder", endpoint=hub.url)
    assert hub.files["me/coder"] == files


def test_a_repository_that_was_made_by_hand_takes_a_push(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    bundle = exported(house, judged(house).name)
    with fake_hub() as hub:
        hub.private["me/coder"], hub.files["me/coder"] = True, {"README.md": b"", ".gitattributes": b""}
        push(bundle, "me/coder", endpoint=hub.url)
    assert set(hub.files["me/coder"]) == {*bundle.files, ".gitattributes"}


def test_a_wrong_token_a_wrong_name_and_no_network_each_say_what_to_do(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    bundle = exported(house, judged(house).name)
    with fake_hub() as hub:
        with pytest.raises(HubError, match="hf auth login"):
            push(bundle, "me/coder", endpoint=hub.url)
        with pytest.raises(HubError, match="USER/NAME"):
            push(bundle, "me/co/der", endpoint=hub.url)
    with pytest.raises(HubError, match="cannot be reached"):
        push(bundle, "me/coder", endpoint="http://127.0.0.1:9")


def command(home: Path, *words: str, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`sleepy-coder adapters ...` in a process of its own, with no login of this machine."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"SLEEPY_CODER_HOME": str(home), "HF_HOME": str(home / "hf"), **environment}
    argv = [sys.executable, "-m", "sleepy_coder", "adapters", *words]
    return subprocess.run(argv, env=env, input=answer, capture_output=True, text=True, check=False)


def test_the_command_shows_first_and_then_pushes_to_the_hub_of_the_environment(house: House) -> None:
    name = judged(house).name
    words = ("push", name, "--repo", "me/coder", "--json")
    (house.root / "sleepy-coder.toml").write_text('[model]\nhub_id = "acme/coder"\n')
    with fake_hub(lfs=True) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        tried = command(house.root, *words, "--dry-run", **env)
        dry = json.loads(tried.stdout)
        assert (dry["url"], dry["public"], tried.stderr, hub.private) == (None, False, "", {})
        assert "hf auth login" in command(house.root, *words, "--yes", **env).stderr
        done = command(house.root, *words, "--yes", HF_TOKEN=TOKEN, **env)
        assert json.loads(done.stdout)["url"] == f"{hub.url}/me/coder/commit/1", done.stderr
    assert {file: len(data) for file, data in hub.files["me/coder"].items()} == dry["files"]
    weights = load_file(house.adapters / name / "adapter_model.safetensors")
    assert hub.objects and weights.keys() == lora(1).keys()


def test_a_push_that_the_hub_would_refuse_is_told_before_a_model_is_merged(house: House) -> None:
    words = ("push", judged(house).name, "--repo", "me/coder", "--format", "merged", "--yes")
    with fake_hub() as hub:
        hub.private["me/coder"], hub.files["me/coder"] = False, {}
        refused = command(house.root, *words, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
    assert (refused.returncode, "is public" in refused.stderr) == (1, True), refused.stderr


def test_a_dry_run_of_a_push_refuses_what_is_no_name_for_a_repository(house: House) -> None:
    for repo in ("me/my/coder", "me/..", ""):
        refused = command(house.root, "push", judged(house).name, "--repo", repo, "--dry-run")
        assert (refused.returncode, "USER/NAME" in refused.stderr) == (1, True), refused.stderr


def test_a_push_works_on_the_homes_disk_alone_and_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / "push" / "half").mkdir(parents=True)
    with workroom(tmp_path) as room:
        assert room.parent == tmp_path and not room.exists()
        room.mkdir()
        with pytest.raises(AlreadyRuns), workroom(tmp_path):
            pass
        assert room.exists()
    assert not room.exists()


def test_an_adapter_that_was_rolled_back_is_pushed_only_by_who_says_so_again(house: House) -> None:
    name = judged(house).name
    house.registry.rollback(why="too slow")
    words = ("push", name, "--repo", "me/coder", "--yes")
    with fake_hub() as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        refused = command(house.root, *words, **env)
        assert f"{name} is quarantined (too slow)" in refused.stderr
        assert "set model.hub_id" in refused.stderr
        assert (refused.returncode, hub.commits) == (1, [])
        done = command(house.root, *words, answer="y\n", **env)
    assert len(hub.commits) == 1, done.stderr


# llama.cpp itself


@asks_peft
@pytest.mark.slow
def test_llama_cpp_answers_with_the_exported_lora_as_peft_does(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from llama_cpp_house import llama_logprobs, peft_logprobs
    from serve_model import tiny_adapter

    from sleepy_coder.nano import MODEL_DIR
    from sleepy_coder.share.gguf_lora import write_gguf

    adapter = tiny_adapter(MODEL_DIR, tmp_path / "adapter", 1)
    write_gguf(adapter, MODEL_DIR, tmp_path / "lora.gguf")
    theirs = llama_logprobs(MODEL_DIR, tmp_path / "lora.gguf", tmp_path)
    assert theirs == pytest.approx(peft_logprobs(MODEL_DIR, adapter), abs=0.05)
    assert theirs != pytest.approx(peft_logprobs(MODEL_DIR, None), abs=0.5)
