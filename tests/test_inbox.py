"""Whatever is dropped into the inbox is in the store once, or put aside with the reason. Run as a script it is
the child that gets killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import make_episode
from sleepyd.inbox import QUARANTINE, WORKING, Inbox, Taken
from talks import assistant, chat_form, user

from sleepy_coder.collect.redact import SecretRedactor
from sleepy_coder.errors import InfraError, StoreError
from sleepy_coder.store import Store
from sleepy_coder.types import Episode, Outcome


def entry(number: int) -> dict[str, Any]:
    return {"messages": chat_form((user(f"Mend {number}."), assistant("Done.")))}


def line(number: int) -> str:
    return json.dumps(entry(number)) + "\n"


class Kept:
    """A store in memory; `full` makes it refuse."""

    def __init__(self) -> None:
        self.episodes: dict[str, Episode] = {}
        self.full = False

    def __call__(self, episodes: Sequence[Episode]) -> int:
        if self.full:
            raise StoreError("the disk is full", "make room")
        before = len(self.episodes)
        self.episodes.update({e.id: e for e in episodes})
        return len(self.episodes) - before


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def inbox(tmp_path: Path, kept: Kept) -> Inbox:
    return Inbox(tmp_path, kept, SecretRedactor().redact)


def drop(folder: Path, name: str, text: str) -> Path:
    """As a careful tool does it: written beside, renamed into."""
    (folder / f".{name}").write_text(text)
    return (folder / f".{name}").rename(folder / name)


def looks(inbox: Inbox) -> tuple[Taken, ...]:
    """Two looks, because nobody told of a file's end."""
    return (*inbox.scan(), *inbox.scan())


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() and p.name != ".lock")


def test_files_of_both_kinds_are_stored_and_gone(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    drop(tmp_path, "a.json", json.dumps(entry(1)))
    drop(tmp_path, "b.jsonl", line(2) + line(3))
    assert looks(inbox) == (Taken("a.json", 1, 0, 0), Taken("b.jsonl", 2, 0, 0))
    assert len(kept.episodes) == 3
    assert files(tmp_path) == []


def test_what_comes_twice_is_stored_once(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    for name in ("a.json", "again.json"):
        drop(tmp_path, name, json.dumps(entry(1)))
    assert [(done.recorded, done.known) for done in looks(inbox)] == [(1, 0), (0, 1)]


def test_a_bad_file_is_put_aside_with_its_reason_and_its_good_lines_are_stored(
    tmp_path: Path, inbox: Inbox, kept: Kept
) -> None:
    drop(tmp_path, "a.jsonl", line(1) + "{broken\n" + line(2))
    assert looks(inbox) == (Taken("a.jsonl", 2, 0, 1),)
    assert files(tmp_path) == ["quarantine/a.jsonl", "quarantine/a.jsonl.reason.txt"]
    reason = (tmp_path / QUARANTINE / "a.jsonl.reason.txt").read_text()
    assert reason.startswith("line 2: it is not JSON")
    assert "The other 2 episodes of this file are in the store." in reason


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-10:00"])
def test_a_time_that_utc_has_no_year_for_is_put_aside_and_the_rest_is_stored(
    tmp_path: Path, inbox: Inbox, kept: Kept, at: str
) -> None:
    odd = {**make_episode(1, Outcome.PASS).model_dump(mode="json"), "created": at}
    drop(tmp_path, "a.jsonl", json.dumps(odd) + "\n" + line(2))
    assert looks(inbox) == (Taken("a.jsonl", 1, 0, 1),)
    assert "a time that cannot be kept" in (tmp_path / QUARANTINE / "a.jsonl.reason.txt").read_text()


def test_a_file_that_nobody_foresaw_is_put_aside_and_does_not_hold_up_the_next(tmp_path: Path) -> None:
    kept = Kept()

    def stumbles(episodes: Sequence[Episode]) -> int:
        if any("Mend 1." in e.model_dump_json() for e in episodes):
            raise OverflowError("date value out of range")
        return kept(episodes)

    inbox = Inbox(tmp_path, stumbles, SecretRedactor().redact)
    for number in (1, 2):
        drop(tmp_path, f"{number}.json", json.dumps(entry(number)))
    assert looks(inbox) == (Taken("1.json", 0, 0, 1), Taken("2.json", 1, 0, 0))
    assert "OverflowError" in (tmp_path / QUARANTINE / "1.json.reason.txt").read_text()


def test_a_second_bad_file_of_the_same_name_does_not_replace_the_first(tmp_path: Path, inbox: Inbox) -> None:
    for text in ("first", "second"):
        drop(tmp_path, "a.json", text)
        looks(inbox)
    assert (tmp_path / QUARANTINE / "a.json").read_text() == "first"
    assert (tmp_path / QUARANTINE / "a-2.json").read_text() == "second"
    assert (tmp_path / QUARANTINE / "a-2.json.reason.txt").is_file()


@pytest.mark.parametrize("text", ["", "\n\n", "[]"])
def test_a_file_with_nothing_in_it_is_put_aside(tmp_path: Path, inbox: Inbox, text: str) -> None:
    drop(tmp_path, "a.jsonl" if text != "[]" else "a.json", text)
    assert looks(inbox)[0].bad == 1


def test_a_long_name_leaves_room_for_the_reason(tmp_path: Path, inbox: Inbox) -> None:
    drop(tmp_path, "ü" * 120 + ".json", "bad")
    assert looks(inbox)[0].bad == 1
    assert len(files(tmp_path)) == 2


def test_other_files_and_hidden_ones_and_folders_are_left_alone(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    for name in ("README.md", ".hidden.json", "a.json.part"):
        (tmp_path / name).write_text(json.dumps(entry(1)))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "folder.json" / "a.json").write_text(json.dumps(entry(2)))
    assert looks(inbox) == ()
    assert len(files(tmp_path)) == 4 and not kept.episodes


def test_a_link_is_put_aside_and_what_it_points_to_is_neither_read_nor_touched(
    tmp_path: Path, inbox: Inbox, kept: Kept
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text(json.dumps(entry(1)))
    (tmp_path / "a.json").symlink_to(outside)
    (tmp_path / "b.json").symlink_to("../../etc/passwd")
    assert [done.bad for done in looks(inbox)] == [1, 1]
    assert not kept.episodes and outside.read_text() == json.dumps(entry(1))
    assert "not a regular file" in (tmp_path / QUARANTINE / "a.json.reason.txt").read_text()


def test_a_pipe_does_not_hold_it_up(tmp_path: Path, inbox: Inbox) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert looks(inbox)[0].bad == 1


def test_a_name_with_dots_stays_in_the_folder(tmp_path: Path, inbox: Inbox) -> None:
    drop(tmp_path, "x..json", "bad")
    looks(inbox)
    assert files(tmp_path) == ["quarantine/x..json", "quarantine/x..json.reason.txt"]


def test_a_name_of_any_bytes_and_a_time_outside_the_calendar_are_no_trouble(
    tmp_path: Path, inbox: Inbox, kept: Kept
) -> None:
    for name, text in ((b"\xff.json", json.dumps(entry(1))), (b"\xfe.json", "bad")):
        path = tmp_path / os.fsdecode(name)
        path.write_text(text)
        os.utime(path, (2**40, 2**40))
    assert sorted(done.bad for done in looks(inbox)) == [0, 1]
    assert len(kept.episodes) == 1


@pytest.mark.parametrize("depth", [50, 900, 100_000])
def test_a_file_nested_too_deeply_is_put_aside_and_does_not_hold_up_the_next(
    tmp_path: Path, inbox: Inbox, kept: Kept, depth: int
) -> None:
    nested = f'[{{"password": {73946105}\n}},' * depth + "1" + "]" * depth
    answer = '{"role": "assistant", "content": "ok"}'
    drop(tmp_path, "a.json", f'{{"messages": [{{"role": "user", "content": {nested}}}, {answer}]}}')
    drop(tmp_path, "b.json", json.dumps(entry(1)))
    first, second = looks(inbox)
    assert (first.bad, second.bad) == (depth > 500, 0)
    assert "73946105" not in str(kept.episodes)


def test_a_file_that_is_being_written_waits_until_it_is_closed(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        file.write(line(1))
        file.flush()
        assert (*looks(inbox), *looks(inbox)) == ()
        file.write(line(2))
    assert [done.recorded for done in looks(inbox)] == [2]


def test_a_file_that_grows_between_two_looks_waits(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    drop(tmp_path, "a.jsonl", line(1))
    assert inbox.scan() == ()
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(line(2))
    assert inbox.scan() == ()
    assert [done.recorded for done in inbox.scan()] == [2]


def test_what_is_added_to_a_file_while_it_is_taken_in_is_stored_as_well(tmp_path: Path, kept: Kept) -> None:
    def meanwhile(episodes: Sequence[Episode]) -> int:
        if not kept.episodes:
            with (tmp_path / WORKING / "a.jsonl").open("a") as file:
                file.write(line(2))
        return kept(episodes)

    drop(tmp_path, "a.jsonl", line(1))
    looks(Inbox(tmp_path, meanwhile, SecretRedactor().redact))
    assert (len(kept.episodes), files(tmp_path)) == (2, [])


def test_nothing_is_lost_while_the_store_refuses(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    drop(tmp_path, "a.json", json.dumps(entry(1)))
    inbox.scan()
    kept.full = True
    with pytest.raises(StoreError):
        inbox.scan()
    assert files(tmp_path) == [f"{WORKING}/a.json"]
    kept.full = False
    assert inbox.scan() == (Taken("a.json", 1, 0, 0),)
    assert files(tmp_path) == []


def test_secrets_are_gone_before_anything_is_stored(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    token = "gh" + "p_" + "a1B2c3D4e5F6" * 3
    drop(tmp_path, "a.json", json.dumps({"messages": chat_form((user(token), assistant("ok")))}))
    looks(inbox)
    (episode,) = kept.episodes.values()
    assert token not in episode.model_dump_json()


def within(seconds: float, done: Any) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(done())


def test_it_hears_of_files_at_once_whether_renamed_or_closed(tmp_path: Path, kept: Kept) -> None:
    inbox = Inbox(tmp_path, kept, SecretRedactor().redact, settle_seconds=600)
    stop = threading.Event()
    worker = threading.Thread(target=inbox.run, args=(stop,))
    worker.start()
    try:
        probes = iter(range(1000, 4000))

        def listens() -> bool:  # what comes before the watch is up is not heard of
            drop(tmp_path, "probe.json", json.dumps(entry(next(probes))))
            return len(kept.episodes) > 0

        assert within(30, listens)
        before = len(kept.episodes)
        for number in range(50):
            drop(tmp_path, f"r{number}.json", json.dumps(entry(number)))
            (tmp_path / f"w{number}.json").write_text(json.dumps(entry(100 + number)))
        assert within(30, lambda: len(kept.episodes) >= before + 100)
    finally:
        stop.set()
        inbox.wake()
        worker.join()


def test_two_keepers_of_one_inbox_are_one_too_many(tmp_path: Path, inbox: Inbox, kept: Kept) -> None:
    stop = threading.Event()
    worker = threading.Thread(target=inbox.run, args=(stop,))
    worker.start()
    try:
        drop(tmp_path, "first.json", json.dumps(entry(1)))
        assert within(30, lambda: len(kept.episodes) == 1), "the first keeper is at work"
        with pytest.raises(InfraError, match="another process"):
            Inbox(tmp_path, kept, str).run(threading.Event())
    finally:
        stop.set()
        inbox.wake()
        worker.join()


# Killed


def child(home: Path, seconds: float) -> None:
    """Empty the inbox of `home`, and end; be killed when that takes longer than `seconds`."""
    with Store(home / "store.db") as store:
        inbox = Inbox(home / "episodes", store.save_episodes, SecretRedactor().redact)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # whose signal ends the process as abruptly as SIGKILL
        looks(inbox)


def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    chooser = random.Random(7)
    folder = tmp_path / "episodes"
    folder.mkdir()
    for number in range(60):
        bad = "{broken\n" if number % 5 == 0 else ""
        drop(folder, f"f{number:02}.jsonl", line(2 * number) + bad + line(2 * number + 1))
    kills, seconds = 0, 0.005
    while any(folder.glob("*.jsonl")) or any((folder / WORKING).glob("*")):
        argv = [sys.executable, __file__, str(tmp_path), str(chooser.uniform(0.001, seconds))]
        done = subprocess.run(argv, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
        assert done.returncode in (0, -signal.SIGALRM)
        kills += done.returncode != 0
        seconds *= 1.1  # a slow disk gets on as well
    assert kills > 3
    with Store(tmp_path / "store.db") as store:
        asked = sorted(e.attempts[0].messages[0].content for e in store.episodes())
    assert asked == sorted(f"Mend {number}." for number in range(120))
    aside = {p.name for p in (folder / QUARANTINE).glob("*.jsonl")}
    assert aside == {f"f{number:02}.jsonl" for number in range(0, 60, 5)}
    assert all((folder / QUARANTINE / f"{name}.reason.txt").read_text() for name in aside)


if __name__ == "__main__":
    child(Path(sys.argv[1]), float(sys.argv[2]))
