"""`python -m sleepy_coder` and the console script."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import cast


def main() -> None:
    """Run the command line, with a word and a status of its own where the output ends early."""
    with suppress(AttributeError):  # of a stdout that is closed
        # A letter that the locale lacks must not end a command; stderr takes all letters as it is.
        cast("TextIOWrapper", sys.stdout).reconfigure(errors="replace")
    try:
        from sleepy_coder.cli import app  # takes a second, in which Ctrl-C is Ctrl-C too

        app(prog_name="sleepy-coder")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich and typer both turn it into status 1
            _end(141)  # as a process ends that SIGPIPE has killed
        raise
    except BrokenPipeError:
        _end(141)
    except KeyboardInterrupt:
        _end(130)
    except OSError as error:
        if error.filename is not None:
            raise
        with suppress(OSError):  # no file's: stdout refused what it was given
            print(f"error: the output cannot be written ({error.strerror or error})", file=sys.stderr)  # noqa: T201
        _end(1)


def _end(status: int) -> None:
    """End here, without Python trying once more at its exit to write what is left."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status)


if __name__ == "__main__":
    main()
