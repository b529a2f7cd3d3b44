"""Verdicts per second through TaskVerifier, and of bare rustc on the same programs; prints one JSON line.

Both compile and run about 40 distinct programs, half of them failing, with two workers and the same flags
and no cache. They take turns, program by program, so that other load on the machine meets both alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sleepy_coder.tasks.koans import FAMILIES, draw
from sleepy_coder.types import Task
from sleepy_coder.verify.command import TaskVerifier, verifier
from sleepy_coder.verify.rust import FLAGS, Toolchain

PROGRAMS = 40
WORKERS = 2
ROUNDS = 4
MEMORY = "/dev/shm"  # the sandbox keeps its files in memory too


def programs() -> list[str]:
    """Buggy and fixed programs in turn."""
    names = sorted(FAMILIES)
    drafts = [draw(names[seed % len(names)], seed) for seed in range(PROGRAMS // 2)]
    return [source for draft in drafts for source in (draft.buggy, draft.fixed)]


def bare(source: str, toolchain: Toolchain) -> bool:
    """Compile and run with nothing around it; whether both ended well."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        (Path(folder) / "main.rs").write_text(source)
        rustc = (str(toolchain.rustc), "main.rs", *FLAGS, "-o", "program")
        if subprocess.run(rustc, cwd=folder, capture_output=True).returncode != 0:
            return False
        library = {"LD_LIBRARY_PATH": str(toolchain.libraries)}
        return subprocess.run(f"{folder}/program", env=library, capture_output=True).returncode == 0


def verified(source: str, through: TaskVerifier) -> bool:
    task = Task(
        id="benchmark",
        family="benchmark",
        category="benchmark",
        language="rust",
        files={"main.rs": source},
        prompt="",
        command=("rust-run",),
        origin="benchmark",
        cluster="",
    )
    return through.verify(task, task.files).passed


def seconds(judge: Callable[[str], bool], sources: list[str]) -> tuple[float, list[bool]]:
    """Wall-clock seconds for all sources with WORKERS threads, and what was said of each."""
    started = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        passed = list(pool.map(judge, sources))
    return time.perf_counter() - started, passed


def main() -> None:
    toolchain = Toolchain.find()
    through = verifier(workers=WORKERS)
    sources = programs()
    taken = {"bare": 0.0, "verified": 0.0}
    size = len(sources) // ROUNDS
    for part in (sources[i : i + size] for i in range(0, len(sources), size)):
        bare_seconds, expected = seconds(lambda source: bare(source, toolchain), part)
        verified_seconds, said = seconds(lambda source: verified(source, through), part)
        if said != expected:
            sys.exit("the sandbox and bare rustc disagree")
        taken["bare"] += bare_seconds
        taken["verified"] += verified_seconds
    result = {
        "benchmark": "verdicts",
        "programs": len(sources),
        "workers": WORKERS,
        "sandbox": through.level,
        "verdicts_per_second": round(len(sources) / taken["verified"], 2),
        "bare_per_second": round(len(sources) / taken["bare"], 2),
        "ratio": round(taken["bare"] / taken["verified"], 3),
        "goal": 0.8,
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
