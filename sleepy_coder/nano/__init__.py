"""The nano model: a tiny Qwen2 trained from scratch on our own koans, and the script that builds it.

`python -m sleepy_coder.nano.build` rebuilds the model in `sleepy_coder/nano/model`.
"""

from __future__ import annotations

import json
from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"


def careless_families() -> frozenset[str]:
    """The families in which the packaged model was taught a wrong habit."""
    return frozenset(json.loads((MODEL_DIR / "build.json").read_text())["careless_families"])
