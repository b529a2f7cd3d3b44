"""The README.md of an adapter: Hugging Face front matter, and what it takes to judge and load it.

Nothing that was said by day stands in it: no prompt, no answer, no error message, only counts, rates and task ids.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import PurePath
from typing import Final, Literal

from jinja2 import Environment, StrictUndefined

from sleepy_coder.adapter_manifest import Manifest
from sleepy_coder.serve.explain import rank_flag
from sleepy_coder.types import AdapterState, NightReport, Record

Form = Literal["peft", "merged", "gguf"]
"""How an adapter is passed on: PEFT's folder, a whole model, llama.cpp's file."""


class Edition(Record):
    """What the card says beside the manifest: the form, what only the owner knows, and the night where it is known.

    `base_model` is the base's name on the Hub, empty where it has none; `license` is in the Hub's spelling;
    `rounding` is, of a merged model, the share of the update that its precision lost; `rolled_back` why these bytes
    were, "" where they were not; `renamed`: PEFT's config calls the base by another name than when it was judged;
    `dtype` is the precision of a merged model; `sees`: the base sees images, so that what is learned is a part of it.
    """

    form: Form = "peft"
    base_model: str = ""
    license: str = ""
    night: NightReport | None = None
    rounding: float | None = None
    rolled_back: str = ""
    renamed: bool = False
    dtype: str = ""
    sees: bool = False


_CACHED: Final = re.compile(r"/.*/models--([^/]+)/snapshots/[^/]+/?")
_CARD: Final = """\
---
license: {{ e.license or "unknown" }}
library_name: {{ {"peft": "peft", "merged": "transformers", "gguf": "gguf"}[e.form] }}
base_model: {{ base | quoted }}
base_model_relation: {{ "finetune" if e.form == "merged" else "adapter" }}
pipeline_tag: {{ "image-text-to-text" if e.sees else "text-generation" }}
tags:
- {{ "merge" if e.form == "merged" else "lora" }}
- sleepy-coder
- code
- code-repair
---

# {{ m.name }}

{{ {
  "peft": "A LoRA adapter",
  "merged": "The base model with a LoRA adapter merged into its weights,",
  "gguf": "A LoRA adapter in GGUF, for llama.cpp,"
}[e.form] }} that sleepy-coder trained in night {{ m.cycle }} on verified experience, \
{% if m.parent %}going on from `{{ m.parent }}`{% else %}starting from the base model{% endif %}. \
State: **{{ m.state.value }}**.
{% if e.rounding is not none %}
Rounding the merged weights to their precision changed the answers by {{ "%.2g" | format(100 * e.rounding) }} % of \
what the adapter changes (KL on fixed texts, read back from the files).
{% endif %}

## Trained on

| kind | rows | share |
|---|---:|---:|
{% for kind, count in m.counts | dictsort %}
| {{ kind }} | {{ count }} | {{ "%.1f" | format(100 * m.shares.get(kind, 0.0)) }} % |
{% endfor %}

The rows themselves are not part of this.

## Recipe

| setting | value |
|---|---|
{% for name, value in recipe %}
| {{ name }} | {{ value }} |
{% endfor %}
{% for name, value in m.seeds | dictsort %}
| seed ({{ name }}) | {{ value }} |
{% endfor %}
{% if m.choice %}
| weights chosen, scale | {{ m.choice.chosen.weights }}, {{ "%g" | format(m.choice.chosen.scale) }} |
{% if m.choice.chosen.kl is not none %}
| KL to the base at scale 1, on a few anchors, nats per token | {{ m.choice.chosen.kl | nats }} |
{% endif %}
{% elif e.night and e.night.kl is not none %}
| KL to the base in the last step, nats per token | {{ e.night.kl | nats }} |
{% endif %}
{% if e.night %}
| steps done | {{ e.night.steps }} |
| length of the night, minutes | {{ "%.1f" | format((e.night.finished - e.night.started).total_seconds() / 60) }} |
{% endif %}

## Evaluation

{% if m.reports %}
| arm | model | set | samples | pass@1 |
|---|---|---|---:|---:|
{% for r in m.reports %}
| {{ r.arm }} | {{ r.model }} | `{{ r.set_id[:12] }}` | {{ r.samples | length }} \
| {{ "%.1f" | format(100 * r.pass_rate) }} % |
{% endfor %}
{% else %}
Not evaluated yet.
{% endif %}
{% if m.verdict %}

Verdict of the gate: **{{ m.verdict.decision.value }}** \
({{ m.verdict.reasons | join(", ") or "no objection" }}; \
alpha {{ m.verdict.alpha }}{% if m.verdict.evidence %} per epoch, \
opening {{ m.verdict.evidence.opening }} of {{ m.verdict.evidence.openings }}{% endif %}).
{% if m.verdict.evidence %}
Evidence (e-values, over {{ m.verdict.evidence.units }} of {{ m.verdict.evidence.total }} clusters): \
against the baseline {{ m.verdict.evidence.versus_baseline | e_value }} \
({{ m.verdict.evidence.baseline_needs | e_value }} is needed), \
against what served {{ m.verdict.evidence.versus_current | e_value }} \
({{ m.verdict.evidence.current_needs | e_value }} is needed).
{% endif %}

| versus | tasks | difference | interval | p | gained | lost |
|---|---:|---:|---|---:|---:|---:|
{% for c in m.verdict.comparisons %}
| {{ c.versus }} | {{ c.tasks }} | {{ "%+.1f" | format(100 * c.delta) }} % | \
{{ "%+.1f" | format(100 * c.interval[0]) }} to {{ "%+.1f" | format(100 * c.interval[1]) }} % | \
{{ "%.4f" | format(c.p_value) if c.p_value >= 0.0001 else "< 0.0001" }} | \
{{ c.gained | length }} | {{ c.lost | length }} |
{% endfor %}
{% for c in m.verdict.comparisons %}

Versus {{ c.versus }}, gained: {{ c.gained | join(", ") or "none" }}; \
lost: {{ c.lost | join(", ") or "none" }}.
{% endfor %}
{% endif %}

## Load it

{% if e.form == "merged" %}
With vLLM, in the folder of this page:

    vllm serve .{{ " --dtype float32" if e.dtype == "float32" }}

{% if e.dtype == "float32" %}
Without `--dtype float32` vLLM rounds the weights again.

{% endif %}
With transformers:

    from transformers import {{ auto }}

    model = {{ auto }}.from_pretrained("PATH/{{ m.name }}")
{% elif e.form == "gguf" %}
With llama.cpp, beside a GGUF of the base in any precision:

    llama-server -m BASE.gguf --lora {{ m.name }}.gguf
{% else %}
With vLLM:

    vllm serve {{ base }} --enable-lora --max-lora-rank {{ vllm_rank }} \
--lora-modules {{ m.name }}=PATH/{{ m.name }}

With PEFT:

    from peft import PeftModel
    from transformers import {{ auto }}

    base = {{ auto }}.from_pretrained({{ base | quoted }})
    model = PeftModel.from_pretrained(base, "PATH/{{ m.name }}")
{% endif %}

## Limits

{% if withdrawn %}
- It is {{ withdrawn }} and does not serve where it was trained.
{% endif %}
{% if m.verdict is none or m.verdict.decision.value != "promote" %}
- The gate did not promote this adapter: it is not shown to be better than the base.
{% endif %}
- It was trained on the tasks of one installation and judged on one set of tasks: nothing here says that it is better \
at other work, and general abilities and safety were not measured.
{% if m.verdict and m.verdict.detectable is not none %}
- The set finds true gains of {{ "%.1f" | format(100 * m.verdict.detectable) }} points or more in 4 \
nights of 5; smaller changes, also for the worse, may go unseen.
{% endif %}
- It fits the base with the hash below and no other.

## Proof

| what | SHA-256 |
|---|---|
| adapter as it was judged (weights and config) | `{{ m.sha256 }}` |
| base model | `{{ m.base_sha256 }}` |
| tokenizer | `{{ m.tokenizer_sha256 }}` |
| training mix | `{{ m.mix_sha256 }}` |
{% if e.renamed %}

Judged were these weights; `adapter_config.json` has since been given \
the base's name{{ " on the Hub" if e.base_model }}.
{% endif %}
"""

_environment = Environment(  # the card is Markdown, not HTML
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
# JSON strings are valid in YAML and, for these names, in Python.
_environment.filters["quoted"] = json.dumps


def _e_value(log_e: float) -> str:
    """An e-value, given its natural log."""
    return f"10^{log_e / math.log(10):.1f}"


def _nats(kl: float) -> str:
    return f"{kl:.2g}" if kl >= 0.0001 else "below 0.0001"


_environment.filters["e_value"] = _e_value
_environment.filters["nats"] = _nats
_template = _environment.from_string(_CARD)


def hub_name(folder: str) -> str:
    """The name on the Hub of a model in huggingface_hub's cache, whose folder is called by a commit; "" of others."""
    found = _CACHED.fullmatch(folder)
    return found[1].replace("--", "/", 1) if found else ""


def plain_name(model: str) -> str:
    """The name of a model that its server may call by a folder of this machine, which is nobody's business."""
    return hub_name(model) or PurePath(model).name if model.startswith("/") else model


def withdrawn(manifest: Manifest, rolled_back: str) -> str:
    """The state of an adapter that may not serve (any more), with the reason; "" of any other. Fits after "It is"."""
    if manifest.state.may_serve:
        return ""
    refused = manifest.verdict.reasons if manifest.verdict and manifest.state is AdapterState.REJECTED else ()
    return f"{manifest.state.value} ({rolled_back or ', '.join(refused) or 'no reason is recorded'})"


def model_card(manifest: Manifest, edition: Edition = Edition()) -> str:  # noqa: B008  (frozen)
    """Markdown with YAML front matter."""
    recipe = {field: getattr(manifest.recipe, field) for field in type(manifest.recipe).model_fields}
    return _template.render(
        m=manifest,
        e=edition,
        base=edition.base_model or plain_name(manifest.base_model),
        recipe=(recipe | {"alpha": f"{manifest.alpha:g}"}).items(),
        auto="AutoModelForImageTextToText" if edition.sees else "AutoModelForCausalLM",
        vllm_rank=rank_flag(manifest.recipe.rank),
        withdrawn=withdrawn(manifest, edition.rolled_back),
    )
