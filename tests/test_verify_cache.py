"""The cache gives back what was put in, and never a failure of the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sleepy_coder.errors import StoreError
from sleepy_coder.types import Outcome, Task, Verdict
from sleepy_coder.verify.cache import VerdictCache, cache_key

TASK = Task(
    id="t",
    family="f",
    category="c",
    language="rust",
    files={"main.rs": "a"},
    prompt="",
    command=("rust-run",),
    origin="test",
    cluster="",
    expected_stdout="a\n",
)
FAIL = Verdict(outcome=Outcome.FAIL, stage="run", feedback="wrong", error_signature="w", seconds=1.5)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VerdictCache]:
    with closing(VerdictCache(tmp_path / "verdicts.db")) as cache:
        yield cache


def test_a_verdict_comes_back_marked_as_cached(cache: VerdictCache):
    cache.put("k", FAIL)
    assert cache.get("k") == FAIL.model_copy(update={"cached": True})
    assert cache.get("other") is None


def test_verdicts_outlive_the_process(tmp_path: Path):
    for expected in (None, FAIL.model_copy(update={"cached": True})):
        with closing(VerdictCache(tmp_path / "v.db")) as cache:
            assert cache.get("k") == expected
            cache.put("k", FAIL)


def test_a_failure_of_the_machine_is_not_kept(cache: VerdictCache):
    cache.put("k", Verdict(outcome=Outcome.INFRA, stage="infra"))
    assert cache.get("k") is None


def test_every_part_of_a_check_is_part_of_its_key():
    files = {"main.rs": "b", "a.rs": "c"}
    keys = {
        cache_key(TASK, files, "rustc 1", "bwrap"),
        cache_key(TASK, {**files, "main.rs": "B"}, "rustc 1", "bwrap"),
        cache_key(TASK, {"a.rs": "b", "main.rs": "c"}, "rustc 1", "bwrap"),
        cache_key(TASK, files, "rustc 2", "bwrap"),
        cache_key(TASK, files, "rustc 1", "none"),
        *(
            cache_key(TASK.model_copy(update=change), files, "rustc 1", "bwrap")
            for change in ({"command": ("rust-check",)}, {"expected_stdout": None}, {"hidden_tests": "x"})
        ),
    }
    assert len(keys) == 8


def test_many_threads_may_use_one_cache(cache: VerdictCache):
    def put_and_get(i: int) -> bool:
        cache.put(str(i), FAIL)
        return cache.get(str(i)) is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(put_and_get, range(200)))


OPENS = """
import sys
from pathlib import Path
from sleepy_coder.verify.cache import VerdictCache

for number in range(60):
    print("ready", flush=True)
    sys.stdin.readline()
    VerdictCache(Path(sys.argv[1]) / f"{number}.db")
"""


def test_processes_may_open_a_new_cache_at_once(tmp_path: Path):
    command = [sys.executable, "-c", OPENS, str(tmp_path)]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for _ in range(60):
        for opener in openers:
            assert opener.stdout and opener.stdout.readline() == b"ready\n"
        for opener in openers:
            assert opener.stdin
            opener.stdin.write(b"go\n")
            opener.stdin.flush()
    assert [opener.communicate(timeout=60) and opener.returncode for opener in openers] == [0] * 4


def test_a_damaged_cache_says_which_file_to_delete(tmp_path: Path):
    path = tmp_path / "v.db"
    path.write_bytes(b"not a database, not at all " * 100)
    with pytest.raises(StoreError, match="Delete"):
        VerdictCache(path)
