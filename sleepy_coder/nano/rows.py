"""What the nano model learns from: conversations about our own koans (pretrain split only).

Every compiler message in them is rustc's own. A part of the rows are second attempts: a wrong edit,
what the verifier says of it, and then the right one, so that the model can use feedback.

Some families are shown with a careless habit: a part of their first answers only makes the message go
away (or not even that), as in much of what a real base model has read. Such a model can do better than it
usually does: its best answer is wrong, another sample is right, and after feedback it mends its ways.
"""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sleepy_coder.dialogue import apply_reply, edits_between, first_messages, retry_messages
from sleepy_coder.errors import InfraError
from sleepy_coder.files import atomic_writer
from sleepy_coder.ports import Verifier
from sleepy_coder.tasks.build import Drawn, generate
from sleepy_coder.tasks.koans import Draft
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.tasks.proof import Rustc
from sleepy_coder.types import Message, Record, Task
from sleepy_coder.verify.diagnostics import compact, read_errors
from sleepy_coder.verify.rust import FLAGS

FILE = "main.rs"
TOGETHER = 40
_WORKERS = 2
_MODULE = re.compile(r"(?:crate::)?\bm\d+x::")

Habit = Literal["delete", "keep", "todo"]
"""What a careless answer does with the line in question: drops it, repeats it, or puts `todo!()` there."""


@dataclass(frozen=True, slots=True)
class Portion:
    """How much of a family is shown, and the share of first answers that follow a careless `habit`."""

    rows: int
    habit: Habit | None = None
    careless: float = 0.0


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
    return done.stderr.split("\n")


def diagnose_together(programs: Sequence[str], rustc: str) -> list[str]:
    """What rustc says of programs of one family, in the form the verifier shows it; empty for one that compiles.

    All in one call, as modules of one crate: 20 times faster. Programs of one family fail in the same phase of the
    compiler, so none hides another's error.
    """
    files = {f"m{i}x.rs": program for i, program in enumerate(programs)}
    root = "".join(f"mod {Path(name).stem};\n" for name in files)
    said: dict[str, list[str]] = {name: [] for name in files}
    for line in _rustc(rustc, {**files, "root.rs": root}, "root.rs", "--crate-type=lib"):
        for error in read_errors([line]):
            for name in dict.fromkeys(span.at_call()[0] for span in error.spans if span.is_primary):
                if name in said:
                    said[name].append(_MODULE.sub("", line))
    return [compact(lines, files={name: files[name]}) for name, lines in said.items()]


def careless_edit(before: str, after: str, habit: Habit) -> str:
    """An answer to the first line that has to change which does not mend it (see Habit)."""
    number = int(edits_between(before, after).partition("\n")[0].partition("|")[0].rstrip("-"))
    line = before.rstrip("\n").split("\n")[number - 1]
    indent = line[: len(line) - len(line.lstrip())]
    return {"delete": f"{number}-", "keep": f"{number}|{line}", "todo": f"{number}|{indent}todo!();"}[habit]


def wrong_edit(draft: Draft, habit: Habit | None, chooser: random.Random) -> str:
    """A plausible wrong answer: the family's habit, or the right edit with a name swapped, or some carelessness."""
    if habit:
        return careless_edit(draft.buggy, draft.fixed, habit)
    right = edits_between(draft.buggy, draft.fixed)
    names = sorted(set(re.findall(r"\b[a-z_]{3,}\b", draft.buggy)) & set(re.findall(r"\b[a-z_]{3,}\b", right)))
    if names and chooser.random() < 0.6:
        others = sorted(set(re.findall(r"\b[a-z]{3,}\b", draft.buggy)) - set(names))
        return re.sub(rf"\b{chooser.choice(names)}\b", chooser.choice(others or names), right)
    return careless_edit(draft.buggy, draft.fixed, "keep" if chooser.random() < 0.75 else "delete")


def _task(draft: Draft, expected_stdout: str | None) -> Task:
    return Task(
        id="",
        family="",
        category="",
        language="rust",
        files={FILE: draft.buggy},
        prompt=draft.statement,
        command=("rust-test",) if draft.tests else ("rust-run",),
        origin="koan",
        cluster="",
        expected_stdout=expected_stdout,
        hidden_tests=draft.tests,
    )


@dataclass(frozen=True, slots=True)
class Author:
    """Writes the conversations; `judge` says what a wrong edit leads to, with the outputs that `rustc` finds."""

    rustc: Rustc
    judge: Verifier
    second_share: float

    def row(self, family: str, portion: Portion, draft: Draft, feedback: str, chooser: random.Random) -> Row:
        """The conversation for `draft`; a second attempt ends right, a first one may follow the habit."""
        if not feedback:
            raise InfraError(f"a buggy program of family {family} compiles", f"fix its template:\n{draft.buggy}")
        messages = first_messages(_task(draft, None), feedback)
        completion = edits_between(draft.buggy, draft.fixed)
        if chooser.random() < self.second_share:
            wrong = wrong_edit(draft, portion.habit, chooser)
            if said := self.said_of(wrong, draft):
                messages = retry_messages(messages, wrong, said)
        elif portion.habit and chooser.random() < portion.careless:
            completion = careless_edit(draft.buggy, draft.fixed, portion.habit)
        return Row(family=family, messages=messages, completion=completion)

    def said_of(self, edit: str, draft: Draft) -> str:
        """The verifier's words on `edit`; empty when it passes after all."""
        printed = None if draft.tests else self.rustc.output(draft.fixed)
        return self.judge.verify(_task(draft, printed), apply_reply(edit, {FILE: draft.buggy})).feedback


def build_rows(
    portions: Mapping[str, Portion],
    seed: int,
    author: Author,
    frozen: Sequence[Task],
) -> Iterator[Row]:
    """All rows for `portions` by family, in a fixed order; none too close to a task in `frozen`."""
    leaks = LeakIndex(frozen)

    def clean(drawn: Drawn) -> bool:
        return not any(leaks.find(drawn.source, form) for form in (drawn.draft.buggy, drawn.draft.fixed))

    def together(job: tuple[str, list[Draft], random.Random]) -> list[Row]:
        family, drafts, chooser = job
        said = diagnose_together([draft.buggy for draft in drafts], str(author.rustc.path))
        return [
            author.row(family, portions[family], draft, feedback, chooser)
            for draft, feedback in zip(drafts, said, strict=True)
        ]

    jobs: list[tuple[str, list[Draft], random.Random]] = []
    for family, portion in sorted(portions.items()):
        drafts = [drawn.draft for drawn in generate(family, "pretrain", portion.rows, seed, clean)]
        for at in range(0, portion.rows, TOGETHER):
            jobs.append((family, drafts[at : at + TOGETHER], random.Random(f"{seed}/{family}/{at}")))
    with ThreadPoolExecutor(_WORKERS) as pool:
        for rows in pool.map(together, jobs):
            yield from rows


def save_rows(rows: Iterable[Row], path: Path) -> None:
    """One JSON object per line; a file that is there is whole."""
    with atomic_writer(path) as file:
        for row in rows:
            file.write(row.model_dump_json().encode() + b"\n")


def load_rows(path: Path) -> list[Row]:
    """The rows that `save_rows` wrote."""
    with path.open() as file:
        return [Row.model_validate_json(line) for line in file]
