"""Hand-written koans: `<category>/<slug>.md`, one program each with the mistake as a diff.

    # E0382
    What the program is meant to do.
    ```diff
     fn main() {
    -    the broken lines
    +    the right lines
     }
    ```
    ```rust
    #[cfg(test)] mod tests { ... }      (optional, hidden from the model)
    ```

One text holds both forms, so they cannot differ anywhere but in the mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import cast, get_args

from sleepy_coder.errors import TaskFormatError
from sleepy_coder.tasks.koans.family import Category, Draft

_KOAN = re.compile(
    r"\A# (?P<code>E\d{4})\n+(?P<statement>.+?)\n+"
    r"```diff\n(?P<diff>.*?)\n```\n+(?:```rust\n(?P<tests>.*?\n)```\n+)?\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Koan:
    """One hand-written koan. `path` is `category/slug.md`."""

    path: str
    category: Category
    error_code: str
    draft: Draft


def parse(path: str, text: str) -> Koan:
    """Read one koan. Raises TaskFormatError naming `path` and what is wrong with it."""
    category = path.split("/")[0]
    if category not in get_args(Category):
        raise TaskFormatError(f"{path}: {category} is not a category", f"Use one of {', '.join(get_args(Category))}")
    match = _KOAN.match(text)
    if match is None:
        raise TaskFormatError(
            f"{path}: not a koan",
            "Write `# E....`, the statement, a ```diff block and perhaps a ```rust block",
        )
    lines = match["diff"].split("\n")
    strange = [line for line in lines if line[:1] not in ("", " ", "-", "+")]
    if strange:
        raise TaskFormatError(f"{path}: {strange[0]!r} is not a diff line", "Start it with a space, - or +")
    buggy, fixed = ("".join(line[1:] + "\n" for line in lines if line[:1] != drop) for drop in "+-")
    draft = Draft(" ".join(match["statement"].split()), buggy, fixed, match["tests"] or "")
    return Koan(path, cast(Category, category), match["code"], draft)


@cache
def koans() -> tuple[Koan, ...]:
    """All hand-written koans, sorted by path. Raises TaskFormatError when one cannot be read."""
    folders = [item for item in resources.files(__name__).iterdir() if item.name in get_args(Category)]
    found = [
        parse(f"{folder.name}/{file.name}", file.read_text("utf-8"))
        for folder in folders
        for file in folder.iterdir()
        if file.name.endswith(".md")
    ]
    return tuple(sorted(found, key=lambda koan: koan.path))
