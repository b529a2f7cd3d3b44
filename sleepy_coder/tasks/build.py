"""Builds the packaged task sets: `python -m sleepy_coder.tasks.build [--out DIR] [--check]`.

A program's split follows from the hash of its skeleton, so a renamed copy never lands in another split;
what is still too close to a frozen task is left out of the other sets. Every task is proved by the
real compiler first. The same code and the same compiler give the same bytes.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from sleepy_coder.errors import SleepyError
from sleepy_coder.files import write_atomic
from sleepy_coder.tasks import SPLITS, TaskSplit, set_id, task_id
from sleepy_coder.tasks.handwritten import Koan, koans
from sleepy_coder.tasks.koans import FAMILIES, Draft, draw
from sleepy_coder.tasks.koans.family import Category, Split, cluster_of, split_of
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.tasks.proof import ProofError, Rustc, prove
from sleepy_coder.types import Task

PER_FAMILY: Mapping[TaskSplit, int] = {"frozen": 6, "day": 14, "dev": 2, "rehearsal": 4}
SEED = 20261123

# One draw in twelve falls in the smallest split; a family that needs far more draws repeats itself.
_DRAWS_PER_DRAFT = 400
_DATA = Path(__file__).parent / "data"
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """A draft with all that its Task will say of it. `source` leads back to it: "seed 123" or a file."""

    family: str
    category: Category
    error_code: str
    source: str
    draft: Draft
    cluster: str


def generate(
    family: str, split: Split, count: int, seed: int, keep: Callable[[Drawn], bool] = lambda _: True
) -> Iterator[Drawn]:
    """`count` drafts of `family` that belong to `split` and pass `keep`; always the same for one seed.

    Outside "pretrain" no two are the same program under other names. Raises SleepyError when the family
    cannot give that many.
    """
    known = FAMILIES[family]
    stream = random.Random(f"{family} {seed}")
    clusters: set[str] = set()
    found = 0
    for _ in range(_DRAWS_PER_DRAFT * count):
        if found == count:
            return
        number = stream.getrandbits(32)
        draft = draw(family, number)
        cluster = cluster_of(draft.buggy)
        drawn = Drawn(family, known.category, known.error_code, f"seed {number}", draft, cluster)
        if split_of(cluster) != split or (split != "pretrain" and cluster in clusters) or not keep(drawn):
            continue
        clusters.add(cluster)
        found += 1
        yield drawn
    if found < count:
        raise SleepyError(
            f"family {family} gives only {found} of {count} programs for {split}",
            "Add a template to the family, or vary the ones that it has",
        )


def to_task(drawn: Drawn, expected_stdout: str | None) -> Task:
    """The Task of a proved draft; `expected_stdout` is what `prove` returned (None: judged by its tests)."""
    draft = drawn.draft
    files = {"main.rs": draft.buggy}
    command = ("rust-test",) if draft.tests else ("rust-run",)
    return Task(
        id=task_id(files, draft.statement, command, expected_stdout, draft.tests),
        family=drawn.family,
        category=drawn.category,
        language="rust",
        files=files,
        prompt=draft.statement,
        command=command,
        origin="koan",
        cluster=drawn.cluster,
        error_code=drawn.error_code,
        expected_stdout=expected_stdout,
        hidden_tests=draft.tests,
        reference={"main.rs": draft.fixed},
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What the sets are made of. `per_family` are generated tasks; hand-written ones come on top."""

    per_family: Mapping[TaskSplit, int]
    families: tuple[str, ...]
    handwritten: tuple[Koan, ...]


def full_plan() -> Plan:
    """The plan of the packaged sets: every family, every hand-written koan."""
    return Plan(PER_FAMILY, tuple(sorted(FAMILIES)), koans())


def choose(plan: Plan, split: TaskSplit, frozen: Sequence[Task]) -> list[Drawn]:
    """The drafts of one split, hand-written ones first; none too close to a task in `frozen`.

    Rehearsal is made of programs that hash to "pretrain", the ones nearest to what the model has seen;
    hand-written koans that do are practised by day, since they are too few to pretrain on.
    """
    bucket = "pretrain" if split == "rehearsal" else split
    index = LeakIndex(frozen)
    taken: set[str] = set()

    def keep(drawn: Drawn) -> bool:
        forms = (drawn.draft.buggy, drawn.draft.fixed)
        return drawn.cluster not in taken and not any(index.find(drawn.source, form) for form in forms)

    def candidates() -> Iterator[Drawn]:
        for koan in plan.handwritten:
            drawn = _drawn(koan)
            home = split_of(drawn.cluster)
            if split == ("day" if home == "pretrain" else home) and keep(drawn):
                yield drawn
        for family in plan.families:
            yield from generate(family, bucket, plan.per_family[split], SEED, keep)

    chosen: list[Drawn] = []
    for drawn in candidates():
        chosen.append(drawn)
        taken.add(drawn.cluster)
    return chosen


def _drawn(koan: Koan) -> Drawn:
    family, cluster = f"handwritten_{koan.category}", cluster_of(koan.draft.buggy)
    return Drawn(family, koan.category, koan.error_code, koan.path, koan.draft, cluster)


def prove_all(drafts: Sequence[Drawn], rustc: Rustc, step: Callable[[], object] = lambda: None) -> list[Task]:
    """The Tasks of `drafts`, each proved by the real compiler; `step` is called after each.

    Raises ProofError naming family and seed (or file) of a draft that fails.
    """

    def one(drawn: Drawn) -> Task:
        try:
            return to_task(drawn, prove(rustc, drawn.draft, drawn.error_code))
        except ProofError as error:
            raise ProofError(
                f"{drawn.family}, {drawn.source}: {error.message}", "Correct the template or the koan"
            ) from error

    tasks: list[Task] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for task in pool.map(one, drafts):
                tasks.append(task)
                step()
        except SleepyError:
            pool.shutdown(cancel_futures=True)
            raise
    # By id, which is a hash: whoever takes the first few gets a fair mixture of families.
    return sorted(tasks, key=lambda task: task.id)


def build_sets(
    out_dir: Path,
    rustc: Rustc,
    plan: Plan,
    progress: Progress | None = None,
) -> dict[TaskSplit, tuple[Task, ...]]:
    """Write a .jsonl file per split to `out_dir`, a Task per line, and return the sets.

    Raises ProofError when a draft is not what it claims, SleepyError when a family is too poor.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    progress = progress or Progress(disable=True)
    sets: dict[TaskSplit, tuple[Task, ...]] = {}
    # The frozen set first: the others keep their distance from it.
    for split in sorted(SPLITS, key=lambda split: split != "frozen"):
        drafts = choose(plan, split, sets.get("frozen", ()))
        bar = progress.add_task(split, total=len(drafts))
        sets[split] = tuple(prove_all(drafts, rustc, lambda bar=bar: progress.advance(bar)))
    for split, tasks in sets.items():
        write_atomic(out_dir / f"{split}.jsonl", "".join(task.model_dump_json() + "\n" for task in tasks))
    return sets


def main(
    out: Annotated[Path, typer.Option(help="Folder for the .jsonl files.")] = _DATA,
    check: Annotated[bool, typer.Option(help="Write nothing; fail when a rebuild would differ.")] = False,
) -> None:
    """Generate and prove the packaged task sets."""
    console = Console()
    with tempfile.TemporaryDirectory() as scratch, Progress(console=console) as progress:
        target = Path(scratch) if check else out
        sets = build_sets(target, Rustc.find(), full_plan(), progress=progress)
        names = [f"{split}.jsonl" for split in sets]
        stale = [name for name in names if (target / name).read_bytes() != _bytes(out / name)]
    for split, tasks in sets.items():
        console.print(f"{split}: {len(tasks)} tasks, set {set_id(tasks)}")
    if stale:
        console.print(f"[red]{', '.join(stale)} would change[/red]: run this again without --check")
        raise typer.Exit(1)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


if __name__ == "__main__":
    typer.run(main)
