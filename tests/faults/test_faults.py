"""`make test-faults`: whatever strikes, no episode is lost, the last promoted adapter serves, and no night is stuck."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clocks import jump

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAST, REAL, JUMPS = 200, 10, 20
WORKERS = 2
DISK_MIB = 128


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[Path]]:
    """A small file system for each worker, to be filled; none where nobody may mount them."""
    places = [tmp_path / f"disk{worker}" for worker in range(WORKERS)]
    mounted: list[Path] = []
    for place in places:
        place.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}M", "sleepy-faults", str(place)]
        if os.geteuid() == 0 and subprocess.run(argv, capture_output=True, check=False).returncode == 0:
            mounted.append(place)
    yield mounted
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[str]]]:
    """Workers, which do not outlive the test."""
    workers: list[subprocess.Popen[str]] = []
    yield workers
    for worker in workers:
        with worker, suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def begin(*arguments: object) -> subprocess.Popen[str]:
    path = os.pathsep.join(map(str, (ROOT, ROOT / "daemon", HERE.parent, HERE)))
    argv = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
    )


def figures(worker: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = worker.communicate()
    assert worker.returncode == 0, said
    return json.loads(said.splitlines()[-1])


@pytest.mark.timeout(3600)  # four minutes on a quiet machine
def test_no_fault_loses_an_episode_serves_another_adapter_or_leaves_a_night_stuck(
    tmp_path: Path, disks: list[Path], begun: list[subprocess.Popen[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SLEEPY_FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    for worker in range(WORKERS):
        begun.append(begin(HERE / "drill.py", seed, FAST // WORKERS, worker, tmp_path, *disks[worker : worker + 1]))
    begun.append(begin(HERE / "real.py", seed, REAL, tmp_path))
    stuck = jump(seed, JUMPS, tmp_path / "clocks")
    found = [figures(worker) for worker in begun]
    by_kind = sum((Counter(one["by_kind"]) for one in found), Counter({"schedule_clock_jumps": JUMPS}))
    line = {
        "faults": by_kind.total(),
        "episodes_lost": sum(one["episodes_lost"] for one in found),
        "wrong_adapter": sum(one["wrong_adapter"] for one in found),
        "stuck": stuck + sum(one["stuck"] for one in found),
        "by_kind": by_kind,
        "real": found[-1]["faults"],
        "disk": "tmpfs" if disks else "none: disk_full needs root",
        "seed": seed,
    }
    with capfd.disabled():
        print(json.dumps(line))  # noqa: T201
    trouble = [said for one in found for said in one["trouble"]]
    assert not trouble, "\n".join(trouble)
    assert line["faults"] >= FAST
    assert (line["episodes_lost"], line["wrong_adapter"], line["stuck"]) == (0, 0, 0)
