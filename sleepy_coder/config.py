"""All settings: `sleepy-coder.toml` in the home folder, then SLEEPY_CODER_* variables on top.

Every field has bounds, a default and one sentence on its effect. Nested fields are set from the
environment with a double underscore: `SLEEPY_CODER_SERVER__URL=http://127.0.0.1:8000`.
"""

from __future__ import annotations

import ipaddress
import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from sleepy_coder.errors import ConfigError

CONFIG_FILE = "sleepy-coder.toml"
HOME_VARIABLE = "SLEEPY_CODER_HOME"
Share = Annotated[float, Field(ge=0, le=1)]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """Base of the sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """The model server that serves and evaluates."""

    url: str = Field("http://127.0.0.1:8399", description="Base URL of vLLM or of the embedded server.")
    api_key: str | None = Field(None, description="Sent as a bearer token when set.")
    base_name: str = Field("sleepy-base", description="The name under which the server serves the base model.")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="Longest wait for one reply.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the embedded server; 0 means all cores.")


class GatewaySettings(Section):
    """The gateway in front of the model server, which coding agents are pointed at."""

    host: str = Field("127.0.0.1", description="Address to listen on; other machines can be let in with a key only.")
    port: int = Field(8400, ge=1, le=65535, description="Port to listen on.")
    alias: str = Field(
        "sleepy-coder",
        min_length=1,
        max_length=200,
        description="Model name that agents ask for; it stands for the adapter that serves now.",
    )
    api_key: str | None = Field(
        None, min_length=8, description="Asked of every caller when set; unset, callers' own keys pass through."
    )
    max_body_mib: int = Field(256, ge=1, le=4096, description="Larger requests are answered with 413, in MiB.")
    record: bool = Field(True, description="Whether a redacted copy of what passes is kept for the nights.")
    record_mib: int = Field(16, ge=1, le=1024, description="Request and reply above this size together are not kept.")
    queue_size: int = Field(512, ge=1, le=100_000, description="Copies that wait to be saved at most; more are lost.")
    queue_mib: int = Field(256, ge=1, le=16_384, description="Memory of the copies that wait to be saved, in MiB.")
    drain_seconds: float = Field(
        10, ge=0, le=3600, description="Time that replies in flight get to finish when the gateway is stopped."
    )

    rest_minutes: float = Field(
        10, gt=0, le=1440, description="A conversation that nobody goes on with for so long becomes an episode."
    )

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> Self:
        if self.api_key is None and not is_loopback(self.host):
            raise ValueError(f"host {self.host} lets other machines in, which needs gateway.api_key")
        return self


class ModelSettings(Section):
    """The base model on disk, which the trainer reads."""

    path: Path | None = Field(None, description="Folder of the base model in HF layout; unset means the nano model.")
    max_length: int = Field(1024, ge=128, le=262144, description="Longest conversation in tokens.")


class AgentSettings(Section):
    """The built-in agent that works on tasks by day."""

    attempts: int = Field(5, ge=1, le=20, description="Attempts before a task counts as failed.")
    temperature: float = Field(0.2, ge=0, le=2, description="Sampling temperature of the first attempt.")
    retry_temperature: float = Field(0.8, ge=0, le=2, description="Sampling temperature of later attempts.")
    max_tokens: int = Field(160, ge=16, le=32768, description="Longest reply in tokens.")
    concurrency: int = Field(16, ge=1, le=256, description="Tasks in flight at the same time.")


class MixSettings(Section):
    """The training mix of a night."""

    replay: Share = Field(0.44, description="Share of verified passes of earlier nights and anchors.")
    passed: Share = Field(0.42, description="Share of newly passed episodes.")
    hard: Share = Field(0.14, description="Share of failed tasks for which dreaming found a verified answer.")
    max_examples: int = Field(420, ge=8, le=100_000, description="Rows in one night at most.")
    min_examples: int = Field(24, ge=1, le=100_000, description="Fewer rows than this and the night is skipped.")
    per_task: int = Field(4, ge=1, le=64, description="Rows of one task at most.")
    dream_samples: int = Field(16, ge=0, le=256, description="Samples per failed task when dreaming.")
    dream_tasks: int = Field(48, ge=0, le=10_000, description="Failed tasks that one night dreams about at most.")
    dream_temperature: float = Field(0.8, ge=0, le=2, description="Sampling temperature when dreaming.")
    anchors: int = Field(160, ge=0, le=10_000, description="Anchor rows the base model writes for itself, once.")

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        whole = self.replay + self.passed + self.hard
        if not math.isclose(whole, 1, abs_tol=1e-3):
            raise ValueError(f"replay + passed + hard are {whole:.4g} and must be 1")
        return self


class RecipeSettings(Section):
    """One conservative LoRA cycle (recipe `rft-anchor`, docs/learning.md)."""

    learning_rate: float = Field(1e-4, gt=0, le=1e-2, description="Learning rate of cycle 0.")
    decay: float = Field(0.9, gt=0, le=1, description="Factor on the learning rate per accepted cycle.")
    floor: float = Field(2e-5, gt=0, le=1e-2, description="The learning rate never falls below this.")
    rank: int = Field(8, ge=1, le=512, description="LoRA rank r.")
    alpha: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="LoRA alpha; the update is scaled by alpha/r. Unset: 16, more for models narrower than 2048.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout; on a CPU it costs a third of a step.")
    max_steps: int = Field(100, ge=1, le=10_000, description="Optimiser steps in one night at most.")
    batch_size: int = Field(16, ge=1, le=4096, description="Rows in one optimiser step.")
    warmup_steps: int = Field(5, ge=0, le=1000, description="Steps over which the learning rate rises.")
    ema: float = Field(0.97, ge=0, lt=1, description="Decay of the running average of the weights; 0 turns it off.")
    kl_anchor: float = Field(1.0, ge=0, le=100, description="Weight of KL(base||adapter) on anchor rows.")
    kl_verified: float = Field(0.05, ge=0, le=100, description="Weight of KL(base||adapter) on verified rows.")


class EvalSettings(Section):
    """How models are compared on the frozen set."""

    samples: int = Field(1, ge=1, le=64, description="Samples per task and arm.")
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature; 0 is greedy.")
    max_tokens: int = Field(160, ge=16, le=32768, description="Longest reply in tokens.")
    concurrency: int = Field(48, ge=1, le=512, description="Requests in flight at the same time.")
    seed: int = Field(20_000, ge=0, description="Seeds of the samples count up from here; equal for all arms.")


class GatePolicy(Section):
    """What the gate asks of a candidate."""

    alpha: float = Field(
        default=0.05, gt=0, le=0.2, description="Largest chance per night of promoting what is not better."
    )
    confidence: float = Field(
        default=0.95, ge=0.5, lt=1, description="Level of the two-sided intervals of the differences."
    )
    family_alpha: float = Field(
        default=0.10, gt=0, le=0.5, description="Chance of blocking over any family by mistake (Holm)."
    )
    min_family_tasks: int = Field(
        default=10, ge=5, description="Families with fewer tasks than this are not guarded on their own."
    )
    max_infra_share: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="A larger share of tasks without a measurement decides nothing.",
    )
    min_tasks: int = Field(
        default=60,
        ge=5,
        description="With fewer tasks than this nothing is promoted, whatever the test says.",
    )


class Config(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix="SLEEPY_CODER_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Field(Path(), description="Folder that holds adapters/, episodes/ and state/.")
    seed: int = Field(0, ge=0, description="Seed of everything random that is not an evaluation.")
    server: ServerSettings = ServerSettings()  # pyright: ignore[reportCallIssue]
    gateway: GatewaySettings = GatewaySettings()  # pyright: ignore[reportCallIssue]
    model: ModelSettings = ModelSettings()  # pyright: ignore[reportCallIssue]
    agent: AgentSettings = AgentSettings()  # pyright: ignore[reportCallIssue]
    mix: MixSettings = MixSettings()  # pyright: ignore[reportCallIssue]
    recipe: RecipeSettings = RecipeSettings()  # pyright: ignore[reportCallIssue]
    eval: EvalSettings = EvalSettings()  # pyright: ignore[reportCallIssue]
    gate: GatePolicy = GatePolicy()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the TOML file; nothing else is read."""
        toml = TomlConfigSettingsSource(settings_cls, find_home() / CONFIG_FILE)
        return (init_settings, env_settings, toml)

    @property
    def state(self) -> Path:
        """The folder of the store, the nights' work and the logs."""
        return self.home / "state"

    @property
    def episodes(self) -> Path:
        """The inbox: any tool may drop files of episodes there."""
        return self.home / "episodes"

    @property
    def adapters(self) -> Path:
        """The registry's folder."""
        return self.home / "adapters"


def find_home(explicit: Path | None = None) -> Path:
    """The home folder: as given, else $SLEEPY_CODER_HOME, else the current folder."""
    return (explicit or Path(os.environ.get(HOME_VARIABLE, "."))).expanduser().resolve()


def load_config(home: Path | None = None) -> Config:
    """Read the settings of `home`.

    Raises ConfigError that names each wrong field and what it may be.
    """
    resolved = find_home(home)
    os.environ[HOME_VARIABLE] = str(resolved)  # so that child processes agree on the home
    try:
        return Config(home=resolved)  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"wrong settings: {fields}", f"mend {resolved / CONFIG_FILE} or the environment") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{resolved / CONFIG_FILE} is no valid TOML: {error}", "mend the file") from error
    except SettingsError as error:
        remedy = "a whole section in the environment has to be JSON; SLEEPY_CODER_SECTION__FIELD sets one field"
        raise ConfigError(f"wrong settings: {error}", remedy) from error
