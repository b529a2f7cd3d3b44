"""Whether a browser asks in the name of whoever reads a page of another site."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from sleepy_coder.config import is_loopback


def from_another_site(method: str, headers: Mapping[str, str], *, any_host: bool) -> bool:
    """Whether a page of another site sent this. `headers` are found whatever their case.

    Unless `any_host` may be asked for, a name that is not this machine's own loopback is another site too: a page can
    have its name point here (DNS rebinding). Links that are followed to a page count as its reader's own.
    """
    host = headers.get("Host", "")
    follows_link = method == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not follows_link:
        return True
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return True
    return not any_host and not is_loopback(urlsplit(f"//{host}").hostname or "")
