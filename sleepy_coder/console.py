"""How the command line shows things: errors with what to do, JSON for scripts, progress for people."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from sleepy_coder.errors import SleepyError

out = Console(emoji=False)  # `:x:` in a path or a program is no picture
err = Console(stderr=True, emoji=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_PIPED: Final = 10_000  # columns
_ONE_WORD: Final = ("when", "started", "outcome")


def say(text: str, to: Console = out) -> None:
    """Print `text` as it is: brackets are no styles here, and no line is broken, which somebody may want to copy."""
    to.print(text, highlight=False, markup=False, soft_wrap=True)


def _complain(message: str, remedy: str) -> None:
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    if remedy:
        err.print(f"[bold]to do:[/] {escape(remedy)}", highlight=False, soft_wrap=True)


@contextmanager
def explained(*, keeps: bool = True) -> Generator[None]:
    """Errors of ours become one message with what to do, and exit status 1.

    `keeps` says whether what a stopped command has finished is kept.
    """
    try:
        yield
    except SleepyError as error:
        _complain(error.message, error.remedy)
        raise typer.Exit(1) from error
    except BrokenPipeError:  # whoever reads the output has seen enough: no error
        raise
    except OSError as error:  # a home that is somebody else's, no folder, or on a disk that is full or read-only
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _complain(said, "name a folder that can be written and has room: --home or $SLEEPY_CODER_HOME")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        say("stopped; what was finished is kept" if keeps else "stopped", err)
        raise typer.Exit(130) from None


def stop_tidily() -> None:
    """Take a service manager's SIGTERM, and the end of a terminal, for a Ctrl-C: what is half written is removed."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # not under nohup
            signal.signal(ending, signal.default_int_handler)


def as_json(value: Any) -> None:
    """Records, or lists and dicts of them, as JSON on stdout; escaped where its encoding is not UTF-8."""

    def plain(item: Any) -> Any:
        if isinstance(item, BaseModel):
            return item.model_dump(mode="json")
        if isinstance(item, datetime):  # as records give theirs
            return item.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return str(item)

    out.print_json(json.dumps(value, default=plain), ensure_ascii=out.encoding not in ("utf-8", "utf8"))


def local_zone() -> tzinfo:
    """The local zone with the offset of now, so that the head of a table can name it for all its rows."""
    zone = datetime.now(UTC).astimezone().tzinfo
    assert zone
    return zone


def confirm(question: str) -> None:
    """Ask on stderr, so that stdout stays clean; ends the command with status 1 unless the answer is yes."""
    typer.confirm(question, abort=True, err=True)


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]], to: Console = out) -> None:
    """A plain table below its title; brackets in `rows` are shown as they are. Never cut in two is what names
    a row, a date and an outcome."""
    if title:
        to.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    grid = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for number, name in enumerate(columns):
        grid.add_column(name, no_wrap=number == 0 or name.partition(" (")[0] in _ONE_WORD, overflow="fold")
    for row in rows:
        grid.add_row(*map(escape, row))
    show(grid, to)


def show(grid: Table, to: Console = out) -> None:
    """Print `grid`. What is no terminal gets lines however long, for `grep`."""
    if to.is_terminal or os.environ.get("COLUMNS"):
        to.print(grid)
        return
    wide = Console(file=to.file, width=_PIPED, emoji=False)
    with wide.capture() as got:
        wide.print(grid)
    say("\n".join(map(str.rstrip, got.get().splitlines())), to)


def progress_bar() -> Progress:
    """A progress bar on stderr, so that stdout stays clean for what is piped; none where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        disable=not err.is_terminal,
    )


class ProgressWatcher:
    """A line with a bar for each step of a night (`ports.Watcher`)."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = None

    def phase(self, name: str) -> None:
        """The bar of the step before is full; a new one begins."""
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=max(done, 1), completed=max(done, 1))
        self._task = self._progress.add_task(name, total=None, note="")

    def tick(self, done: int, total: int, note: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, note=note)
