"""One night as a process of the daemon's: `python -m sleepyd.night_main --home HOME [--until TIME]`.

Exit status: 0 when the night ended, whatever the verdict and whatever befell what comes after it; 75 (EX_TEMPFAIL) when
it paused, by the end of its window or by SIGTERM, and goes on another time; 1 when the machine failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from sleepy_coder import log, wiring
from sleepy_coder.config_load import load_config
from sleepy_coder.drill import drill_if_due
from sleepy_coder.errors import NightPaused, SleepyError
from sleepy_coder.night import run_night
from sleepy_coder.parts import Parts

_log = log.get("night")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the night with the settings of its home."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--until", type=datetime.fromisoformat)
    options = parser.parse_args(argv)
    log.set_up(verbose=True, to=sys.stdout)
    return hold(lambda: wiring.open_parts(load_config(options.home), wiring.Silent(), until=options.until))


def hold(opened: Callable[[], AbstractContextManager[Parts]]) -> int:
    """One night with what `opened` gives; its exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with opened() as parts:
            _night_and_drill(parts)
    except (NightPaused, KeyboardInterrupt):
        return os.EX_TEMPFAIL
    except SleepyError as error:
        _log.error("night.broke_off", reason=error.message, remedy=error.remedy)
        return 1
    except OSError as error:
        _log.error("night.broke_off", reason=str(error), remedy="Check free space, permissions and the kernel's log")
        return 1
    return 0


def _night_and_drill(parts: Parts) -> None:
    """What befalls once the report is stored is not the night's, which is over: it would be held a second time."""
    before = parts.store.count_nights()
    try:
        run_night(parts)
        drill_if_due(parts)
    except (KeyboardInterrupt, SleepyError, OSError) as error:
        if parts.store.count_nights() == before:
            raise
        _log.error("night.not_tidied", reason=str(error) or "it was stopped; the next night does what is left")


if __name__ == "__main__":
    sys.exit(main())
