"""What a machine has for the daemon: its Python, its Rust toolchain, its GPU groups, its settings."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sleepy_coder.config import CREDENTIALS_VARIABLE, HOME_VARIABLE, VARIABLES, Config
from sleepy_coder.config_load import load_config
from sleepy_coder.errors import ConfigError
from sleepy_coder.service import HIDDEN, KEYS, SERVICE, SYSTEM_HOME, Folders, Scope, Site, closed, is_hidden

_GPU_DEVICES: Final = ("nvidia*", "kfd", "dri/render*")
_SYSTEM_TREES: Final = ("/usr", "/lib", "/lib64", "/bin")


def find_site(scope: Scope, home: Path | None, model_server: bool) -> Site:
    """This machine, as the units have to know it.

    Raises ConfigError when the settings are wrong, or when the service's user could not read what it runs.
    """
    home = _home(scope, home)
    config, sysroot = _config(scope, home), rust_sysroot()
    site = Site(
        scope,
        home,
        config,
        bin=Path(sys.prefix) / "bin",
        reads=_reads(sysroot, hidden_folders(config, model_server)) if scope is Scope.SYSTEM else (),
        tools=(Path(sys.prefix) / "bin", *([sysroot / "bin"] if sysroot else [])),
        groups=_groups() if scope is Scope.SYSTEM else (),
    )
    if not (site.bin / "sleepyd").is_file():
        raise ConfigError(f"{site.bin / 'sleepyd'} is missing", "Install sleepy-coder with pip, in this environment")
    if shut := closed(site):
        remedy = f"`chmod o+rx {shut}`, or keep what lies there in a folder that all may read, like /opt/sleepy-coder"
        raise ConfigError(f"the service's user cannot read {shut}", remedy)
    return site


def left_behind(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Settings in this shell's environment that the service will not have."""
    return tuple(sorted(name for name in environ if name.startswith(VARIABLES) and name != HOME_VARIABLE))


def home_of(scope: Scope, folders: Folders, environ: Mapping[str, str] = os.environ) -> Path:
    """The home folder of the installed daemon, or the one that it would get.

    That is /var/lib/sleepy-coder, or for a user `sleepy-coder` in $XDG_STATE_HOME.
    """
    if scope is Scope.SYSTEM:
        return SYSTEM_HOME
    unit = folders.units / SERVICE
    lines = unit.read_text().splitlines() if unit.is_file() else []
    if found := next((line for line in lines if line.startswith("WorkingDirectory=")), None):
        return Path(found.partition("=")[2])
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sleepy-coder"


def rust_sysroot() -> Path | None:
    """The folder of the real toolchain, not of rustup's stand-ins; None when there is none.

    `sudo` has a PATH of its own: the toolchain of the person behind it is looked for too.
    """
    environ = dict(os.environ)
    if shutil.which("rustc") is None and (person := environ.get("SUDO_USER")):
        theirs = pwd.getpwnam(person).pw_dir
        environ |= {"HOME": theirs, "PATH": f"{theirs}/.cargo/bin:{environ.get('PATH', '')}"}
    rustc = shutil.which("rustc", path=environ.get("PATH"))
    if rustc is None:
        return None
    done = subprocess.run(
        (rustc, "--print", "sysroot"), env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def hidden_folders(config: Config, model_server: bool) -> tuple[Path, ...]:
    """The folders of the base model, and of vLLM for a service that runs it, where a hardened service sees nothing.

    Raises ConfigError when there is no model in such a place, for what is put there later stays hidden, and when all
    of a home or of /tmp would be shown.
    """
    named: list[Path] = []
    if config.model.path:
        model = config.home / config.model.path
        if is_hidden(model) and not model.is_dir():
            raise ConfigError(f"{model} holds no model", "Set model.path to a folder that is there")
        files = [file.resolve() for file in model.glob("*")]  # in the Hub's cache each is a link
        named += [model, *(file if file.is_dir() else file.parent for file in files)]
    if model_server and config.server.engine == "vllm" and (program := Path(config.server.vllm)).is_absolute():
        scripts = program.resolve().parent
        named += [program.parent, scripts]
        if (python := scripts / "python").exists() and (scripts.parent / "pyvenv.cfg").is_file():
            named += [scripts.parent, python.resolve().parents[1]]
    found = tuple(sorted(filter(is_hidden, _real(named))))
    whole = [*HIDDEN, *(Path(user.pw_dir) for user in pwd.getpwall())]
    for folder in found:
        if any(tree.is_relative_to(folder) for tree in whole):
            raise ConfigError(f"all of {folder} would be shown to the service", "Move what lies there into a folder")
    return found


def _home(scope: Scope, home: Path | None) -> Path:
    if home is not None and scope is Scope.SYSTEM:
        remedy = f"Leave --home out; for a larger disk make {SYSTEM_HOME} a link to a folder on it"
        raise ConfigError(f"the system's service keeps its data in {SYSTEM_HOME}", remedy)
    return home.expanduser().resolve() if home else home_of(scope, Folders.of(scope))


def _config(scope: Scope, home: Path) -> Config:
    """The settings as the service will read them: its file and its keys, without this shell's environment."""
    for name in left_behind():
        del os.environ[name]
    if scope is Scope.SYSTEM:
        os.environ[CREDENTIALS_VARIABLE] = str(KEYS)
    try:
        return load_config(home)
    except PermissionError as error:  # the state of an installed service is for its user and root only
        raise ConfigError(f"{error.filename} cannot be read", "Run the command with sudo") from error


def _reads(sysroot: Path | None, named: tuple[Path, ...]) -> tuple[Path, ...]:
    """`named`, and where this Python, this package and rustc are read from; without folders inside of others."""
    own = [Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(None, sys.path))]
    found = _real([*own, *named, *([sysroot] if sysroot else [])])
    found -= {folder for folder in found if any(folder.is_relative_to(tree) for tree in _SYSTEM_TREES)}
    return tuple(sorted(folder for folder in found if not any(parent in found for parent in folder.parents)))


def _real(named: Iterable[Path]) -> set[Path]:
    """Those that are folders, and what they are links to."""
    return {folder for path in named for folder in (path, path.resolve()) if folder.is_dir()}


def _groups() -> tuple[str, ...]:
    """The groups of the GPU devices that not everyone may use."""
    devices = [device for pattern in _GPU_DEVICES for device in Path("/dev").glob(pattern)]
    found = {device.group() for device in devices if device.stat().st_mode & 0o006 != 0o006}
    return tuple(sorted(found - {"root"}))
