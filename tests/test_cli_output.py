"""Where the command line writes to: a full disk, a pipe that closes, an encoding with few letters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TextIO

import pytest
import structlog
from rich.console import Console

from sleepy_coder.__main__ import main
from sleepy_coder.config import HOME_VARIABLE
from sleepy_coder.console import out, progress_bar, table


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    home = tmp_path / "hémm [bold]a [foo]"
    home.mkdir()
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    yield home
    structlog.reset_defaults()


def open_(path: Path) -> TextIO:
    return path.open("w", encoding="ascii")


def status_of(stdout: TextIO, *arguments: str) -> int:
    """How the program ends when it writes to `stdout`, which is closed then."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "argv", ["sleepy-coder", *arguments])
        main()
    out.quiet = True  # the console is the next test's too: what it could not write is dropped
    out.print()
    out.quiet = False
    with suppress(OSError):
        stdout.close()
    return int(end.value.code or 0)


@pytest.mark.parametrize("command", [("nights", "--json"), ("recipes",), ("--help",)])
def test_output_that_a_full_disk_refuses_is_an_error_in_one_line(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert status_of(open_(Path("/dev/full")), *command) == 1
    assert capsys.readouterr().err == "error: the output cannot be written (No space left on device)\n"


@pytest.mark.parametrize("command", [("nights", "--json"), ("recipes",), ("--help",)])
def test_a_reader_that_has_seen_enough_ends_a_command_as_sigpipe_does_and_without_a_word(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert status_of(os.fdopen(writer, "w"), *command) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_while_the_program_still_loads_ends_it_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sleepy_coder.cli", Loading())
    assert status_of(open_(Path(os.devnull))) == 130


def test_an_encoding_without_a_letter_ends_no_command(tmp_path: Path, home: Path) -> None:
    said = tmp_path / "said"
    assert status_of(open_(said), "config", "check") == 0
    assert str(home).replace("é", "?") in said.read_text()


def test_json_is_whole_in_every_encoding(tmp_path: Path, home: Path) -> None:
    said = tmp_path / "said"
    assert status_of(open_(said), "config", "check", "--json") == 0
    assert json.loads(said.read_text())["file"] == str(home / "sleepy-coder.toml")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("config", "check"), "no {home}/sleepy-coder.toml"),
        (("config", "init", "--yes", "--server", "http://127.0.0.1:9/[/b]"), "wrote {home}/sleepy-coder.toml"),
        (("episodes", "export", "{home}/rows.jsonl"), "0 episodes in {home}/rows.jsonl"),
        (("adapters", "rollback"), "[/b]:x: serves; there is nothing to roll back"),
    ],
)
def test_brackets_and_colons_in_a_name_are_shown_as_they_are(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], said: str
) -> None:
    monkeypatch.setenv("SLEEPY_CODER_SERVER__BASE_NAME", "[/b]:x:")
    heard = tmp_path / "said"
    assert status_of(heard.open("w"), *(part.format(home=home) for part in command)) == 0
    assert said.format(home=home) in heard.read_text()


def test_a_log_that_stderr_goes_to_has_no_remnants_of_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress.update(progress.add_task("tasks", total=2, note=""), completed=1)
    assert capsys.readouterr().err == ""


def test_a_date_and_an_outcome_are_whole_on_a_narrow_terminal() -> None:
    narrow = Console(file=StringIO(), width=40, force_terminal=True, color_system=None)
    columns = ("night", "started", "outcome", "baseline", "current", "candidate", "serving after")
    row = ("1", "11-30 02:00", "promoted", "61.3%", "61.3%", "67.0%", "sc-0001-1a2b3c4d")
    table("Nights", columns, [row], narrow)
    assert "1      11-30 02:00  promoted" in narrow.file.getvalue()


@pytest.mark.parametrize(("columns", "lines"), [(None, 2), ("40", 7)])
def test_a_row_that_goes_into_a_pipe_is_one_line_unless_a_width_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, columns: str | None, lines: int
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    pipe = Console(file=StringIO(), force_terminal=False)
    table("", ("name", "what it says"), [("one", "a word " * 30)], pipe)
    assert len(pipe.file.getvalue().splitlines()) == lines
