"""`python -m sleepy_coder` and the console script."""

from __future__ import annotations

from sleepy_coder.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="sleepy-coder")


if __name__ == "__main__":
    main()
