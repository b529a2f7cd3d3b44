"""The README.md of an adapter: Hugging Face front matter, and what it takes to judge and load it."""

from __future__ import annotations

import json
from typing import Final

from jinja2 import Environment, StrictUndefined

from sleepy_coder.adapter_manifest import Manifest

_CARD: Final = """\
---
library_name: peft
base_model: {{ m.base_model | quoted }}
base_model_relation: adapter
pipeline_tag: text-generation
tags:
- lora
- sleepy-coder
- code-repair
---

# {{ m.name }}

A LoRA adapter that sleepy-coder trained in night {{ m.cycle }} on verified experience, \
{% if m.parent %}going on from `{{ m.parent }}`{% else %}starting from the base model{% endif %}. \
State: **{{ m.state.value }}**.

## Trained on

| kind | rows | share |
|---|---:|---:|
{% for kind, count in m.counts | dictsort %}
| {{ kind }} | {{ count }} | {{ "%.1f" | format(100 * m.shares.get(kind, 0.0)) }} % |
{% endfor %}

## Recipe

| setting | value |
|---|---|
{% for name, value in recipe %}
| {{ name }} | {{ value }} |
{% endfor %}
{% for name, value in m.seeds | dictsort %}
| seed ({{ name }}) | {{ value }} |
{% endfor %}

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
alpha {{ m.verdict.alpha }}).

| versus | tasks | difference | interval | p | gained | lost |
|---|---:|---:|---|---:|---:|---:|
{% for c in m.verdict.comparisons %}
| {{ c.versus }} | {{ c.tasks }} | {{ "%+.1f" | format(100 * c.delta) }} % | \
{{ "%+.1f" | format(100 * c.interval[0]) }} to {{ "%+.1f" | format(100 * c.interval[1]) }} % | \
{{ "%.4f" | format(c.p_value) }} | {{ c.gained | length }} | {{ c.lost | length }} |
{% endfor %}
{% for c in m.verdict.comparisons %}

Versus {{ c.versus }}, gained: {{ c.gained | join(", ") or "none" }}; \
lost: {{ c.lost | join(", ") or "none" }}.
{% endfor %}
{% endif %}

## Load it

With vLLM:

    vllm serve {{ m.base_model }} --enable-lora --max-lora-rank {{ vllm_rank }} \
--lora-modules {{ m.name }}=PATH/{{ m.name }}

With PEFT:

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained({{ m.base_model | quoted }})
    model = PeftModel.from_pretrained(base, "PATH/{{ m.name }}")

## Proof

| what | SHA-256 |
|---|---|
| adapter (weights and config) | `{{ m.sha256 }}` |
| base model | `{{ m.base_sha256 }}` |
| tokenizer | `{{ m.tokenizer_sha256 }}` |
| training mix | `{{ m.mix_sha256 }}` |
"""

# The values that --max-lora-rank of vLLM takes.
_VLLM_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_environment = Environment(  # the card is Markdown, not HTML
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
)
# JSON strings are valid in YAML and, for these names, in Python.
_environment.filters["quoted"] = json.dumps
_template = _environment.from_string(_CARD)


def model_card(manifest: Manifest) -> str:
    """Markdown with YAML front matter."""
    rank = manifest.recipe.rank
    return _template.render(
        m=manifest,
        recipe=[(name, getattr(manifest.recipe, name)) for name in type(manifest.recipe).model_fields],
        vllm_rank=next((allowed for allowed in _VLLM_RANKS if allowed >= rank), rank),
    )
