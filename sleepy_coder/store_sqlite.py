"""sqlite-utils without pandas. Where that is installed (training libraries bring it) sqlite-utils imports it for data
frames, which nobody here has: 100 MB in the daemon, and a second more for every command."""

from __future__ import annotations

import sys

_OTHERWISE = "pandas" not in sys.modules
if _OTHERWISE:
    sys.modules["pandas"] = None  # pyright: ignore[reportArgumentType] - an import of it fails meanwhile
try:
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations
finally:
    if _OTHERWISE:
        del sys.modules["pandas"]

__all__ = ["Database", "Migrations"]
