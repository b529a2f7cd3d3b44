"""The units of the daemon: from the templates in systemd/ to what fits a machine. Nothing here changes one."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import jinja2

from sleepy_coder.config import CREDENTIALS, Config, is_loopback
from sleepy_coder.errors import ConfigError

SERVICE: Final = "sleepy-coder.service"
SOCKET: Final = "sleepy-coder.socket"
MODEL_SERVER: Final = "sleepy-vllm.service"
SYSTEM_HOME: Final = Path("/var/lib/sleepy-coder")
KEYS: Final = Path("/etc/sleepy-coder")
MARK: Final = "Written by `sleepy-coder service install`"
_REST_SECONDS: Final = 30
"""What a stop may take besides `gateway.drain_seconds` and the grace of a night."""
HIDDEN: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What ProtectHome and PrivateTmp hide."""
_PLAIN: Final = re.compile(r"[\w@+=,./-]+")
_SECTION: Final = re.compile(r"(?<!\n)\n(\[|# Hardening|# Weaker)")
"""What a blank line goes before; the template's conditions swallow those around them."""
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BESIDE: Final = Path(__file__).parent / "systemd"


class Scope(StrEnum):
    """Whose service manager runs it."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Site:
    """What the units have to know of a machine. `bin` holds the console scripts.

    `reads` are the folders that the services read besides the system's own; `tools` go in front of their PATH.
    `groups` own the GPU devices.
    """

    scope: Scope
    home: Path
    config: Config
    bin: Path
    reads: tuple[Path, ...] = ()
    tools: tuple[Path, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def hidden(self) -> tuple[Path, ...]:
        """Those of `reads` that lie where a hardened service sees nothing."""
        return tuple(filter(is_hidden, self.reads))


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of the installation."""

    path: Path
    text: str

    @property
    def is_unit(self) -> bool:
        return self.path.suffix in (".service", ".socket")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where service managers look for what administrators add."""

    units: Path
    sysusers: Path | None = None
    tmpfiles: Path | None = None
    polkit: Path | None = None

    @classmethod
    def of(cls, scope: Scope, environ: Mapping[str, str] = os.environ) -> Folders:
        if scope is Scope.SYSTEM:
            places = ("/etc/systemd/system", "/etc/sysusers.d", "/etc/tmpfiles.d", "/etc/polkit-1/rules.d")
            return cls(*map(Path, places))
        configuration = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return cls(configuration / "systemd" / "user")

    def path(self, template: str) -> Path | None:
        """The place of what is made of `template`, or None where this scope has none for it."""
        stem, kind = template.rsplit(".", 1)
        others = {
            "sysusers": (self.sysusers, f"{stem}.conf"),
            "tmpfiles": (self.tmpfiles, f"{stem}.conf"),
            "rules": (self.polkit, f"50-{template}"),
        }
        folder, name = others.get(kind, (self.units, template))
        return folder / name if folder else None


TEMPLATES: Final = (
    SERVICE,
    SOCKET,
    MODEL_SERVER,
    "sleepy-coder.sysusers",
    "sleepy-coder.tmpfiles",
    "sleepy-coder.rules",
)


def is_hidden(path: Path) -> bool:
    """Whether a hardened service sees nothing there."""
    return any(path.is_relative_to(folder) for folder in HIDDEN)


def closed(site: Site) -> Path | None:
    """A folder that the service's user would need and may not read, if there is one.

    What lies in a hidden place is shown from itself on, so only its own mode counts.
    """
    for path in site.reads:
        parents = () if path in site.hidden else path.parents
        if path.stat().st_mode & 0o005 != 0o005:
            return path
        if shut := next((parent for parent in parents if not parent.stat().st_mode & 0o001), None):
            return shut
    return None


def render(site: Site, folders: Folders, templates: Iterable[str] = TEMPLATES) -> tuple[Piece, ...]:
    """The files of an installation. Raises ConfigError for a path that units cannot hold."""
    for path in (site.home, site.bin, *site.reads, *site.tools):
        if not _PLAIN.fullmatch(str(path)):
            raise ConfigError(f"{str(path)!r} cannot go into a unit", "Use paths of letters, digits and ._-+=@,/ only")
    values = _values(site)
    pieces: list[Piece] = []
    for name in templates:
        place = folders.path(name)
        if place is not None:
            text = _SECTION.sub(r"\n\n\1", _environment().get_template(name).render(values))
            comment = "//" if name.endswith(".rules") else "#"
            pieces.append(Piece(place, f"{comment} {MARK}; a change here is lost at the next one.\n{text}"))
    return tuple(pieces)


def _environment() -> jinja2.Environment:
    folder = _BESIDE if _BESIDE.is_dir() else Path(__file__).parents[1] / "systemd"  # a wheel, or a checkout
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        line_statement_prefix="#:",
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # units are no HTML
    )


def _values(site: Site) -> Mapping[str, object]:
    gateway, night = site.config.gateway, site.config.night
    hosts = (gateway.host, *(urlsplit(url).hostname or "" for url in site.config.server.urls))
    home = "%S/sleepy-coder" if site.home == SYSTEM_HOME and site.scope is Scope.SYSTEM else str(site.home)
    return {
        "system": site.scope is Scope.SYSTEM,
        "home": home,
        "sleepyd": site.bin / "sleepyd",
        "sleepy_coder": site.bin / "sleepy-coder",
        "path": ":".join((*map(str, site.tools), _SYSTEM_PATH)),
        "protect_home": _protect_home(site.hidden),
        "groups": " ".join(site.groups),
        "credentials": CREDENTIALS,
        "loopback": all(map(is_loopback, hosts)),
        "stop_seconds": round(gateway.drain_seconds + night.grace_seconds + _REST_SECONDS),
        "listen": _listen(gateway.host, gateway.port),
        "target": "multi-user.target" if site.scope is Scope.SYSTEM else "default.target",
    }


def _protect_home(hidden: tuple[Path, ...]) -> str:
    if not hidden:
        return "ProtectHome=yes"
    shown = " ".join(map(str, hidden))
    return (
        "# Relaxed: Python, this package, the Rust toolchain, the base model or vLLM lie in a home folder or in /tmp.\n"
        f"# These folders of it are shown, read-only, and nothing else.\nProtectHome=tmpfs\nBindReadOnlyPaths={shown}"
    )


def _listen(host: str, port: int) -> str:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"gateway.host {host} is a name", "Socket units take addresses: set one") from error
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
