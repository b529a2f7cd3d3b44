"""How the settings of a home are read, and what is said when they are wrong."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from sleepy_coder.config import (
    CONFIG_FILE,
    HOME_VARIABLE,
    SESSION_VARIABLE,
    VARIABLES,
    Config,
    Section,
    find_home,
)
from sleepy_coder.errors import ConfigError, problems


class _WithoutFile(Config):
    reads_file: ClassVar[bool] = False


def settle_home(home: Path | None = None) -> Path:
    """The home folder, from now on also that of whatever is started by this process."""
    resolved = find_home(home)
    os.environ[HOME_VARIABLE] = str(resolved)
    return resolved


def load_config(home: Path | None = None, *, here: bool = True) -> Config:
    """Read the settings of `home`.

    A command that is called in any project's folder says not `here`: a file that lies there may be anybody's, and
    would say to whom the key and the project go. It is read only where a home was named.

    Raises ConfigError that names each wrong field and what it may be.
    """
    anywhere = not here and home is None and HOME_VARIABLE not in os.environ
    resolved = find_home() if anywhere else settle_home(home)
    if resolved.exists() and not resolved.is_dir():
        raise ConfigError(f"{resolved} is not a folder", f"name one: --home or ${HOME_VARIABLE}")
    _refuse_unknown_variables()
    try:
        return (_WithoutFile if anywhere else Config)(home=resolved)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        wrong = "; ".join(problems(error))
        remedy = f"{_meant(error)}fix {resolved / CONFIG_FILE} or the environment"
        raise ConfigError(f"wrong settings: {wrong}", remedy) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{resolved / CONFIG_FILE} is not valid TOML: {error}", "fix the file") from error
    except SettingsError as error:
        remedy = "a whole section in the environment has to be JSON; SLEEPY_CODER_SECTION__FIELD sets one field"
        raise ConfigError(f"wrong settings: {error}", remedy) from error


def _meant(error: ValidationError) -> str:
    """A question for each unknown name that is close to a known one."""
    asked = ""
    for found in error.errors():
        if found["type"] != "extra_forbidden":
            continue
        *section, name = map(str, found["loc"])
        field = Config.model_fields.get(section[0]) if section else None
        kind = field.annotation if field else Config
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            near = difflib.get_close_matches(name, kind.model_fields.keys() - {"home"}, n=1)
            asked += f"did you mean `{'.'.join((*section, *near))}`? " if near else ""
    return f"{asked}Otherwise " if asked else ""


def _refuse_unknown_variables() -> None:
    """Raises ConfigError for a variable that sets nothing: whoever misspelled it believes that it holds."""
    known = {HOME_VARIABLE, SESSION_VARIABLE}
    for name, field in Config.model_fields.items():
        known.add(section := f"{VARIABLES}{name}".upper())
        if isinstance(kind := field.annotation, type) and issubclass(kind, Section):
            known |= {f"{section}__{inner}".upper() for inner in kind.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(VARIABLES) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
            meant = f"did you mean `{near[0]}`? Otherwise " if near else ""
            raise ConfigError(f"{name} is not a setting", f"{meant}remove it from the environment")
