"""What sets two adapters apart."""

from __future__ import annotations

import math

from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

from sleepy_coder.adapter_manifest import WEIGHTS, Manifest
from sleepy_coder.errors import AdapterError
from sleepy_coder.judge.metrics import changes
from sleepy_coder.types import Adapter, EvalReport, Record


class AdapterDifference(Record):
    """`recipe` maps a setting that differs to its two values, `pass_rates` are fractions on the frozen set.

    `distance` is ||dW2 - dW1|| / ||dW1|| over all updates dW = (alpha/r) B A (Frobenius norms). `gained` and `lost`
    are what the second passes and the first does not, and the other way round, where both were judged on one set.
    """

    recipe: dict[str, tuple[str, str]]
    pass_rates: tuple[float | None, float | None]
    distance: float
    comparable: bool
    gained: tuple[str, ...]
    lost: tuple[str, ...]


def difference(old: Adapter, old_manifest: Manifest, new: Adapter, new_manifest: Manifest) -> AdapterDifference:
    """Compare two adapters of one base. Raises AdapterError when they belong to different ones."""
    if old_manifest.base_sha256 != new_manifest.base_sha256:
        raise AdapterError(f"{old.name} and {new.name} belong to different bases", "Name two of one base")
    before, after = _judged(old_manifest), _judged(new_manifest)
    comparable = before is not None and after is not None and before.set_id == after.set_id
    found = changes(before, after) if before and after and comparable else None
    return AdapterDifference(
        recipe=_settings(old_manifest, new_manifest),
        pass_rates=(before.pass_rate if before else None, after.pass_rate if after else None),
        distance=_distance(old, old_manifest, new, new_manifest),
        comparable=comparable,
        gained=found.gained if found else (),
        lost=found.lost if found else (),
    )


def _judged(manifest: Manifest) -> EvalReport | None:
    """How this adapter did on the frozen set in its own night."""
    return next((report for report in manifest.reports if report.arm == "candidate"), None)


def _settings(old: Manifest, new: Manifest) -> dict[str, tuple[str, str]]:
    more = ({"alpha": f"{m.alpha:g}", "parent": m.parent, "rows": m.counts} for m in (old, new))
    first, second = ({**m.recipe.model_dump(), **own} for m, own in zip((old, new), more, strict=True))
    return {name: (str(first[name]), str(second[name])) for name in first if first[name] != second[name]}


def _distance(old: Adapter, old_manifest: Manifest, new: Adapter, new_manifest: Manifest) -> float:
    """Without forming any dW: <B A, D C> = trace((B^T D)(C A^T)), matrices of r x r only."""
    ours, theirs = load_file(old.path / WEIGHTS), load_file(new.path / WEIGHTS)
    scales = [m.alpha / m.recipe.rank for m in (old_manifest, new_manifest)]
    modules = [name.removesuffix("lora_A.weight") for name in ours if name.endswith("lora_A.weight")]
    own = cross = other = 0.0
    for module in modules:
        a, b = ours[module + "lora_A.weight"], ours[module + "lora_B.weight"]
        c, d = theirs[module + "lora_A.weight"], theirs[module + "lora_B.weight"]
        own += scales[0] ** 2 * float(((b.T @ b) * (a @ a.T).T).sum())
        cross += scales[0] * scales[1] * float(((b.T @ d) * (c @ a.T).T).sum())
        other += scales[1] ** 2 * float(((d.T @ d) * (c @ c.T).T).sum())
    return math.sqrt(max(0.0, own - 2 * cross + other) / own) if own else math.inf
