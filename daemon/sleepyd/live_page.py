"""The live page, made by a process of its own: `python -m sleepyd.live_page --home HOME` prints it.

It is made of every answer that was ever judged. In the gateway's process that would hold up replies while it is read,
and keep more memory after each night.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Final

from sleepy_coder import wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import SleepyError, StoreError
from sleepy_coder.report.dashboard import dashboard_html

_SECONDS: Final = 300


def live_page(home: Path) -> str:
    """The page of `home` as HTML. Raises StoreError when it cannot be made."""
    command = (sys.executable, "-m", "sleepyd.live_page", "--home", str(home))
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise StoreError(f"the live page was not made within {_SECONDS} s", "Look at the machine's load") from error
    if done.returncode != 0:
        raise StoreError(f"the live page cannot be made: {done.stderr.decode(errors='replace').strip()[-500:]}")
    return done.stdout.decode()


def main() -> int:
    """Print the page; exit status 1 with the reason on stderr when it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    config = load_config(parser.parse_args().home)
    try:
        with wiring.open_store(config) as store:
            page = dashboard_html(wiring.report_data(config, store), live=True)
    except SleepyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(page.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
