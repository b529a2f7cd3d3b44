"""What the nano model learns from: conversations about our own koans (pretrain split only).

Every compiler message in them is rustc's own. A part of the rows are second attempts: a wrong edit,
what the compiler said of it, and then the right one, so that the model can use feedback.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sleepy_coder.dialogue import apply_reply, edits_between, first_messages, retry_messages
from sleepy_coder.errors import InfraError
from sleepy_coder.tasks.build import Drawn, generate
from sleepy_coder.tasks.koans import Draft
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import Message, Record, Task
from sleepy_coder.verify.diagnostics import compact, read_errors
from sleepy_coder.verify.rust import FLAGS

FILE = "main.rs"
TOGETHER = 40
_MODULE = re.compile(r"(?:crate::)?\bm\d+x::")


class Row(Record):
    """One pretraining conversation; the loss is on `completion` in full and on the rest in part."""

    family: str
    messages: tuple[Message, ...]
    completion: str


def _rustc(rustc: str, files: Mapping[str, str], root: str, *flags: str) -> list[str]:
    """The JSON diagnostics of our own programs (never a model's, so without a sandbox)."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        argv = [rustc, root, *FLAGS, "--emit=metadata", *flags]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()


def diagnose(program: str, rustc: str) -> str:
    """What rustc says of `program`, in the form the verifier shows it; empty when it compiles."""
    return compact(_rustc(rustc, {FILE: program}, FILE), sizes={FILE: program.count("\n") + 1})


def diagnose_together(programs: Sequence[str], rustc: str) -> list[str]:
    """`diagnose` for many programs of one family in one call, as modules of one crate: 20 times faster.

    Programs of one family fail in the same phase of the compiler, so none hides another's error.
    """
    files = {f"m{i}x.rs": program for i, program in enumerate(programs)}
    root = "".join(f"mod {Path(name).stem};\n" for name in files)
    said: dict[str, list[str]] = {name: [] for name in files}
    for line in _rustc(rustc, {**files, "root.rs": root}, "root.rs", "--crate-type=lib"):
        for error in read_errors([line]):
            for name in dict.fromkeys(span.at_call()[0] for span in error.spans if span.is_primary):
                if name in said:
                    said[name].append(_MODULE.sub("", line))
    return [compact(lines, sizes={name: files[name].count("\n") + 1}) for name, lines in said.items()]


def wrong_edits(draft: Draft, chooser: random.Random) -> str:
    """A plausible wrong answer: the old line again, the right edit with one name swapped, or a deletion."""
    right = edits_between(draft.buggy, draft.fixed)
    names = sorted(set(re.findall(r"\b[a-z_]{3,}\b", draft.buggy)) & set(re.findall(r"\b[a-z_]{3,}\b", right)))
    kind = chooser.random()
    if kind < 0.6 and names:
        others = sorted(set(re.findall(r"\b[a-z]{3,}\b", draft.buggy)) - set(names))
        return re.sub(rf"\b{chooser.choice(names)}\b", chooser.choice(others or names), right)
    number = right.split("|")[0].rstrip("-").split("\n")[-1]
    if not number.isdigit():
        return right
    line = draft.buggy.split("\n")[min(int(number), draft.buggy.count("\n")) - 1]
    return f"{number}|{line}" if kind < 0.9 else f"{number}-"


def _task(draft: Draft) -> Task:
    return Task(
        id="",
        family="",
        category="",
        language="rust",
        files={FILE: draft.buggy},
        prompt=draft.statement,
        command=("rust-run",),
        origin="koan",
        cluster="",
    )


def make_row(family: str, draft: Draft, feedback: str, second: bool, seed: int, rustc: str) -> Row:
    """The conversation for `draft`; with `second`, one in which a wrong edit came first."""
    if not feedback:
        raise InfraError(f"a buggy program of family {family} compiles", f"mend its template:\n{draft.buggy}")
    messages = first_messages(_task(draft), feedback)
    completion = edits_between(draft.buggy, draft.fixed)
    if second:
        wrong = wrong_edits(draft, random.Random(seed))
        said = diagnose(apply_reply(wrong, {FILE: draft.buggy})[FILE], rustc)
        if wrong != completion and said:
            messages = retry_messages(messages, wrong, said)
    return Row(family=family, messages=messages, completion=completion)


def build_rows(
    counts: Mapping[str, int],
    seed: int,
    rustc: str,
    second_share: float,
    frozen: Sequence[Task],
    workers: int = 2,
) -> Iterator[Row]:
    """All rows for `counts` programs per family, in a fixed order; none too close to a task in `frozen`."""
    leaks = LeakIndex(frozen)

    def clean(drawn: Drawn) -> bool:
        return not any(leaks.find(drawn.source, form) for form in (drawn.draft.buggy, drawn.draft.fixed))

    def together(job: tuple[str, list[Draft], random.Random]) -> list[Row]:
        family, drafts, chooser = job
        said = diagnose_together([draft.buggy for draft in drafts], rustc)
        return [
            make_row(family, draft, feedback, chooser.random() < second_share, chooser.randrange(1 << 30), rustc)
            for draft, feedback in zip(drafts, said, strict=True)
        ]

    jobs: list[tuple[str, list[Draft], random.Random]] = []
    for family, count in sorted(counts.items()):
        drafts = [drawn.draft for drawn in generate(family, "pretrain", count, seed, clean)]
        for at in range(0, count, TOGETHER):
            jobs.append((family, drafts[at : at + TOGETHER], random.Random(f"{seed}/{family}/{at}")))
    with ThreadPoolExecutor(workers) as pool:
        for rows in pool.map(together, jobs):
            yield from rows


def save_rows(rows: Iterable[Row], path: Path) -> None:
    """One JSON object per line."""
    with path.open("w") as file:
        for row in rows:
            file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")


def load_rows(path: Path) -> list[Row]:
    """The rows that `save_rows` wrote."""
    with path.open() as file:
        return [Row.model_validate_json(line) for line in file]
