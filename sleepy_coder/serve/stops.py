"""The tokens that a server ends a turn at, as the model's own files name them."""

from __future__ import annotations

import json
from pathlib import Path


def stop_tokens(folder: Path) -> frozenset[int]:
    """The end-of-text tokens that config.json and generation_config.json name."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            value: int | list[int] | None = json.loads((folder / name).read_text()).get("eos_token_id")
            found.update([value] if isinstance(value, int) else value or [])
    return frozenset(found)
