"""The real sandbox: what gets in, what gets out, and what is left afterwards."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sleepy_coder.errors import InfraError, SandboxUnavailable
from sleepy_coder.ports import Completed, Limits
from sleepy_coder.verify.sandbox import BubblewrapSandbox
from sleepy_coder.verify.sandbox_memory import can_watch

SHORT = Limits(wall_seconds=10)


@pytest.fixture(scope="module")
def sandbox() -> BubblewrapSandbox:
    return BubblewrapSandbox()


def shell(sandbox: BubblewrapSandbox, script: str, limits: Limits = SHORT) -> Completed:
    return sandbox.run(("sh", "-c", script), {}, limits)


def processes_with(mark: str) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            yield command


def gone(mark: str) -> bool:
    """Whether no process with `mark` is left; those killed a moment ago may take one to disappear."""
    deadline = time.monotonic() + 10
    while any(processes_with(mark)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_command_reads_its_files_and_its_output_comes_back(sandbox: BubblewrapSandbox):
    done = sandbox.run(("cat", "src/a.txt", "b.txt"), {"src/a.txt": "ä\n", "b.txt": "b\n"}, Limits())
    assert (done.returncode, done.stdout, done.stderr, done.killed) == (0, "ä\nb\n", "", "")


def test_nothing_is_kept_from_one_run_to_the_next(sandbox: BubblewrapSandbox):
    assert shell(sandbox, "echo x > left; echo x > /tmp/left").returncode == 0
    assert shell(sandbox, "ls . /tmp").stdout == ".:\n\n/tmp:\n"


def test_the_environment_of_the_host_stays_outside(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    assert "hush" not in shell(sandbox, "env; cat /proc/*/environ").stdout


def test_there_is_no_network_inside(sandbox: BubblewrapSandbox):
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        script = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}'; tail -n +3 /proc/net/dev"
        done = shell(sandbox, script)
    assert "refused" in done.stderr
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()] in (["lo"], [])


@pytest.mark.parametrize("place", ["/usr/x", "/etc/x", "/x", "/dev/shm/x", "/proc/sys/kernel/hostname"])
def test_nothing_outside_its_folders_can_be_written(sandbox: BubblewrapSandbox, place: str):
    assert shell(sandbox, f"echo x > {place}").returncode != 0


def test_the_hosts_own_folders_cannot_be_seen(sandbox: BubblewrapSandbox, tmp_path: Path):
    (tmp_path / "private").write_text("hush")
    assert shell(sandbox, f"cat {tmp_path}/private").returncode != 0


def test_folders_given_as_read_only_are_seen_and_cannot_be_changed(tmp_path: Path):
    tmp_path.chmod(0o755)  # root becomes another user inside
    (tmp_path / "tool").write_text("here")
    done = shell(BubblewrapSandbox([tmp_path]), f"cat {tmp_path}/tool; echo x > {tmp_path}/tool")
    assert done.stdout == "here"
    assert done.returncode != 0
    assert (tmp_path / "tool").read_text() == "here"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_files_outside_the_folder_are_refused(sandbox: BubblewrapSandbox, name: str):
    with pytest.raises(InfraError):
        sandbox.run(("true",), {name: "x"}, Limits())


def test_the_files_of_a_whole_project_are_taken(sandbox: BubblewrapSandbox):
    files = {f"apps/{number % 90}/{number}.py": f"{number}\n" * 200 for number in range(4000)}
    done = sandbox.run(("sh", "-c", "find . -type f | wc -l; head -1 apps/9/3969.py"), files, Limits(wall_seconds=60))
    assert done.stdout.split() == ["4000", "3969"], done.stderr


def test_the_command_owns_its_files_and_reads_nothing_else(sandbox: BubblewrapSandbox):
    script = "cat; echo more >> a/b.sh; mkdir a/c; ./a/b.sh"
    done = sandbox.run(("sh", "-c", script), {"a/b.sh": "#!/bin/sh\necho ran\n#"}, SHORT)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_a_file_below_a_file_is_refused(sandbox: BubblewrapSandbox):
    with pytest.raises(InfraError, match="below"):
        sandbox.run(("true",), {"a": "x", "a/b": "x"}, Limits())


def test_a_command_that_sleeps_is_stopped_with_all_its_children(sandbox: BubblewrapSandbox):
    mark = f"mark-{uuid.uuid4().hex}"
    sleeper = f"sh -c 'sleep 60; : {mark}'"
    script = f": {mark}; (setsid {sleeper} &) ; ({sleeper} >&- 2>&- &) ; sleep 60"
    assert shell(sandbox, script, Limits(wall_seconds=1.0)).killed == "time"
    assert gone(mark)


def test_children_in_the_background_end_with_the_command(sandbox: BubblewrapSandbox):
    mark = f"mark-{uuid.uuid4().hex}"
    done = shell(sandbox, f"(setsid sh -c 'sleep 60; : {mark}' &) ; echo done")
    assert (done.stdout, done.killed) == ("done\n", "")
    assert gone(mark)


def test_more_processes_than_allowed_cannot_be_started(sandbox: BubblewrapSandbox):
    script = "for i in $(seq 50); do sleep 60 & done"
    done = shell(sandbox, script, Limits(wall_seconds=10, processes=20))
    assert done.returncode != 0
    assert "fork" in done.stderr


def test_nothing_is_left_of_a_fork_bomb(sandbox: BubblewrapSandbox):
    mark = f"mark-{uuid.uuid4().hex}"
    script = f": {mark}; bomb() {{ bomb | bomb & }}; bomb; sleep 60"
    shell(sandbox, script, Limits(wall_seconds=1.0, processes=20))
    assert gone(mark)


def test_the_command_has_no_privileges(sandbox: BubblewrapSandbox):
    lines = shell(sandbox, "id -u; grep -E 'CapEff|CapPrm|NoNewPrivs' /proc/self/status").stdout.split()
    assert lines[0] != "0"
    assert lines[1:] == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


def test_a_busy_loop_is_stopped_by_its_processor_time(sandbox: BubblewrapSandbox):
    assert shell(sandbox, "while :; do :; done", Limits(cpu_seconds=1)).killed == "cpu"


def test_a_busy_loop_that_ignores_the_warning_is_stopped_too(sandbox: BubblewrapSandbox):
    assert shell(sandbox, "trap '' XCPU; while :; do :; done", Limits(cpu_seconds=1)).killed == "cpu"


def test_memory_beyond_the_limit_is_refused(sandbox: BubblewrapSandbox):
    done = shell(sandbox, "head -c 1G /dev/zero | tail", Limits(memory_bytes=128 << 20))
    assert "memory exhausted" in done.stderr


WATCHED = Limits(wall_seconds=30, memory_bytes=64 << 30, resident_bytes=256 << 20)


@pytest.mark.skipif(not can_watch(), reason="this kernel does not tell which processes a process has started")
def test_memory_that_is_filled_is_watched_over_all_processes(sandbox: BubblewrapSandbox):
    takes = "(head -c 200M /dev/zero | tail | sleep 20)"
    done = shell(sandbox, f"{takes} & {takes} & wait", WATCHED)
    assert done.killed == "memory"


@pytest.mark.skipif(not can_watch(), reason="this kernel does not tell which processes a process has started")
def test_addresses_that_are_asked_for_and_not_filled_are_no_memory(sandbox: BubblewrapSandbox):
    script = "import mmap; mmap.mmap(-1, 1 << 37, flags=mmap.MAP_PRIVATE | 0x4000)"  # MAP_NORESERVE
    done = sandbox.run(("/usr/bin/python3", "-c", script), {}, WATCHED)
    assert done.returncode == 0, done.stderr


def test_the_machine_and_the_user_have_names_inside_and_no_other_has(sandbox: BubblewrapSandbox):
    looks = "getent hosts localhost; getent passwd $(id -u); getent group $(id -g); cat /etc/passwd | wc -l"
    done = shell(sandbox, looks)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["127.0.0.1", "localhost"]
    assert (lines[1].split(":")[0], lines[2].split(":")[0], lines[3]) == ("box", "box", "1")


def test_it_is_the_first_to_end_where_memory_runs_out_and_stays_so(sandbox: BubblewrapSandbox):
    script = "cat /proc/1/oom_score_adj; (echo 0 > /proc/self/oom_score_adj); cat /proc/self/oom_score_adj"
    assert shell(sandbox, script).stdout.split() == ["1000", "1000"]


def test_endless_output_is_stopped_and_cut_to_its_limit(sandbox: BubblewrapSandbox):
    done = shell(sandbox, "yes", Limits(output_bytes=1000))
    assert done.killed == "output"
    assert len(done.stdout) == 1000


def test_too_large_a_file_is_stopped(sandbox: BubblewrapSandbox):
    assert shell(sandbox, "exec head -c 1M /dev/zero > big", Limits(file_bytes=1000)).killed == "file"


def test_a_command_killed_by_something_else_is_the_machines_fault(sandbox: BubblewrapSandbox):
    with pytest.raises(InfraError, match="outside its limits"):
        shell(sandbox, "kill -KILL $$")


def test_files_that_cannot_be_unpacked_are_the_machines_fault(tmp_path: Path):
    with pytest.raises(InfraError, match="cannot be unpacked"):
        BubblewrapSandbox().run(("true",), {"x" * 300: ""}, Limits())


def test_a_sandbox_that_cannot_start_is_the_machines_fault(tmp_path: Path):
    folder = tmp_path / "toolchain"
    folder.mkdir()
    sandbox = BubblewrapSandbox([folder])
    folder.rmdir()
    with pytest.raises(InfraError, match="cannot start"):
        shell(sandbox, "true")


def test_without_bubblewrap_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="apt install bubblewrap"):
        BubblewrapSandbox()


def test_a_sandbox_that_never_works_is_refused_at_once(tmp_path: Path):
    with pytest.raises(SandboxUnavailable, match="no sandbox level works"):
        BubblewrapSandbox([tmp_path / "missing"])
