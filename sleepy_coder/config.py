"""All settings: `sleepy-coder.toml` in the home folder, then SLEEPY_CODER_* variables on top.

Every field has bounds, a default and one sentence on its effect. Nested fields are set from the
environment with a double underscore: `SLEEPY_CODER_SERVER__URL=http://127.0.0.1:8000`.
Under systemd the keys come as credentials (systemd.exec(5)), each in a file that is named after its field.
"""

from __future__ import annotations

import ipaddress
import math
import os
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sleepy_coder.types import ExampleKind
from sleepy_coder.window import Window, zone_named

CONFIG_FILE = "sleepy-coder.toml"
VARIABLES: Final = "SLEEPY_CODER_"
HOME_VARIABLE = f"{VARIABLES}HOME"
SESSION_VARIABLE: Final = f"{VARIABLES}SESSION"
"""By which an agent of `sleepy-coder run`, and whatever it starts, knows its session: no setting."""
NANO: Final = "sleepy-base"
"""What the model that comes with the package is served as."""
CREDENTIALS = ("server.api_key", "gateway.api_key")
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
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


PATIENT_SECONDS: Final = 60
"""For so long the servers that we start hold an idle connection. A client that is starved oversleeps its own few."""


def without_v1(url: str) -> str:
    """The root of a server that is known by it or by its `/v1`."""
    return url.rstrip("/").removesuffix("/v1")


class ServerSettings(Section):
    """The model server that serves and evaluates."""

    url: str = Field("http://127.0.0.1:8399", description="Base URL of vLLM or of the embedded server.")
    api_key: str | None = Field(None, description="Sent as a bearer token when set.")
    base_name: str = Field(NANO, description="The name under which the server serves the base model.")
    timeout_seconds: float = Field(120, gt=0, le=3600, description="Longest wait for one reply.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the embedded server; 0 means all cores.")
    replicas: tuple[str, ...] = Field(
        (), description="Further servers with the same model; adapters are loaded on all of them or on none."
    )
    max_loras: int = Field(
        4, ge=2, le=64, description="Adapters loaded at once at most; vLLM's --max-loras has to be as large."
    )
    logprob_tolerance: float = Field(
        0.2,
        gt=0,
        le=5,
        description="Logprobs of the same weights may differ by this much; 0.01 is enough for float32.",
    )
    engine: Literal["embedded", "vllm"] = Field("embedded", description="What `sleepy-coder serve` starts.")
    vllm: str = Field("vllm", min_length=1, description="The vllm program; its environment may be another one.")
    extra_args: tuple[str, ...] = Field(
        (), description="Further arguments of `vllm serve`; they come last, so that they win."
    )
    restart_command: tuple[str, ...] = Field(
        (), description="Command that restarts the server when it does not wake, word by word; empty means none."
    )
    restart_seconds: float = Field(600, gt=0, le=7200, description="Longest wait for a restarted server to answer.")

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// URL")
        try:
            none = parts.port == 0
        except ValueError:
            none = True
        if none:
            raise ValueError(f"{url!r} has a port that is none: they go from 1 to 65535")
        return url

    @model_validator(mode="after")
    def _each_server_once(self) -> Self:
        for url in self.replicas:
            self._is_a_url(url)
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("a server is named twice in url and replicas")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """All servers, the first one first, without /v1."""
        return tuple(map(without_v1, (self.url, *self.replicas)))


class GatewaySettings(Section):
    """The gateway in front of the model server, which coding agents are pointed at."""

    host: str = Field("127.0.0.1", description="Address to listen on; other machines are let in only with a key.")
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
    max_body_mib: int = Field(64, ge=1, le=4096, description="Larger requests are answered with 413, in MiB.")
    record: bool = Field(True, description="Whether a redacted copy of what passes is kept for the nights.")
    ask_usage: bool = Field(
        True, description="Whether streams that are recorded are asked for their token counts, unseen by the caller."
    )
    record_mib: int = Field(16, ge=1, le=1024, description="Request and reply above this size together are not kept.")
    queue_size: int = Field(512, ge=1, le=100_000, description="Copies that wait to be saved at most; more are lost.")
    queue_mib: int = Field(256, ge=1, le=16_384, description="Memory of the copies that wait to be saved, in MiB.")
    drain_seconds: float = Field(
        10, ge=0, le=3600, description="Time that replies in flight get to finish when the gateway is stopped."
    )

    rest_minutes: float = Field(
        10, gt=0, le=1440, description="A conversation that nobody continues for this long becomes an episode."
    )
    while_asleep: Literal["wake", "hold", "refuse"] = Field(
        "wake",
        description="What a request meets while the model server sleeps: it wakes it, waits, or is answered with 503.",
    )
    hold_seconds: float = Field(
        600, ge=1, le=86_400, description="Longest wait of a request for a sleeping model server before it gets a 503."
    )

    @property
    def body_bytes(self) -> int:
        return self.max_body_mib << 20

    @property
    def record_bytes(self) -> int:
        return self.record_mib << 20

    @property
    def queue_bytes(self) -> int:
        return self.queue_mib << 20

    @property
    def local_url(self) -> str:
        """Where this machine reaches the gateway, without /v1."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @model_validator(mode="after")
    def _strangers_need_a_key(self) -> Self:
        if self.api_key is None and not is_loopback(self.host):
            raise ValueError(f"host {self.host} lets other machines in, which needs gateway.api_key")
        return self


class ModelSettings(Section):
    """The base model on disk, which the trainer reads."""

    path: Path | None = Field(None, description="Folder of the base model in HF layout; unset means the nano model.")
    max_length: int = Field(1024, ge=128, le=262144, description="Longest conversation in tokens.")
    hub_id: str = Field(
        "",
        pattern=r"^([\w.-]+/[\w.-]+)?$",
        description="The base model's name on the Hugging Face Hub, for the cards and the PEFT configs of exports.",
    )
    license: str = Field(
        "",
        pattern=r"^[\w.-]*$",
        description="License that exported cards name, in the Hub's spelling (apache-2.0); empty is unknown.",
    )


class StoreSettings(Section):
    """How long the store keeps what is not needed any more."""

    keep_exchanges_days: int = Field(
        30, ge=0, le=3650, description="Days that nights and `episodes prune` leave exchanges of episodes."
    )


HintSource = Literal["suggestions", "fixes", "facts"]
"""Where hints are from: rustc's own suggestions, verified fixes of the same error elsewhere, a fact about its code."""


class AgentSettings(Section):
    """The built-in agent that works on tasks by day."""

    attempts: int = Field(5, ge=1, le=20, description="Attempts before a task counts as failed.")
    temperature: float = Field(0.2, ge=0, le=2, description="Sampling temperature of the first attempt.")
    retry_temperature: float = Field(0.8, ge=0, le=2, description="Sampling temperature of later attempts.")
    max_tokens: int = Field(160, ge=16, le=32768, description="Longest reply in tokens.")
    concurrency: int = Field(16, ge=1, le=256, description="Tasks in flight at the same time.")
    hints: tuple[HintSource, ...] = Field(
        ("suggestions", "fixes", "facts"),
        description="What hints-only and `eval --hints` put into prompts.",
    )


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
    dream_turns: int = Field(3, ge=0, le=20, description="Tries after feedback per failed answer when dreaming.")
    dream_hinted: int = Field(4, ge=0, le=256, description="Samples per failed task with each kind of hints.")
    dream_temperature: float = Field(0.8, ge=0, le=2, description="Sampling temperature when dreaming.")
    rollout_tasks: int = Field(64, ge=1, le=10_000, description="Tasks that GRPO answers anew at most.")
    sft_file: Path | None = Field(
        None, description="Your own conversations to be replayed whole, as JSON lines; from the home folder."
    )
    anchors: int = Field(300, ge=0, le=10_000, description="Anchor rows the base model writes for itself, once.")
    fresh_share: float = Field(
        0.2,
        ge=0,
        le=0.9,
        description="Share of new programs that are judged before they may train, once anything was promoted.",
    )
    fresh_days: float = Field(14, ge=0, le=365, description="Days for which these are held back from training.")

    @property
    def shares(self) -> dict[ExampleKind, float]:
        """The share of each kind of rows that is asked for."""
        return {"replay": self.replay, "passed": self.passed, "hard": self.hard}

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        whole = sum(self.shares.values())
        if not math.isclose(whole, 1, abs_tol=1e-3):
            raise ValueError(f"replay + passed + hard add up to {whole:.4g}, not 1")
        return self


RecipeName = Literal[
    "rft-anchor",
    "seed-plain",
    "naive",
    "sure-dual",
    "sam",
    "ssr",
    "grpo",
    "sdft",
    "hints-only",
    "no-update",
]
"""The recipes by name; `sleepy-coder recipes` tells them apart."""


WIDEST_RECIPE: Final = 16
"""The largest LoRA rank that a recipe brings of its own."""


class RecipeSettings(Section):
    """One conservative LoRA cycle (docs/learning.md)."""

    name: RecipeName = Field("rft-anchor", description="How a night learns; `sleepy-coder recipes` lists the choices.")
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
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="LoRA dropout; on a CPU it costs a third of a step. `grpo` and `sdft` train without.",
    )
    max_steps: int = Field(100, ge=1, le=10_000, description="Optimiser steps in one night at most.")
    batch_size: int = Field(16, ge=1, le=4096, description="Rows in one optimiser step.")
    warmup_steps: int = Field(5, ge=0, le=1000, description="Steps over which the learning rate rises.")
    ema: float = Field(0.97, ge=0, lt=1, description="Decay of the running average of the weights; 0 turns it off.")
    kl_anchor: float = Field(1.0, ge=0, le=100, description="Weight of KL(base||adapter) on anchor rows.")
    kl_verified: float = Field(0.05, ge=0, le=100, description="Weight of KL(base||adapter) on verified rows.")
    kl_limit: float = Field(
        0.5, ge=0, le=100, description="KL to the base on anchors, in nats per token, that ends training; 0 never does."
    )
    held_out: float = Field(
        0.05, ge=0, le=0.5, description="Share of the tasks that are not trained on but tell the checkpoints apart."
    )
    choose_tasks: int = Field(
        96, ge=0, le=10_000, description="Dev tasks that choose among checkpoints and scales; 0 serves the average."
    )
    rebase_after: int = Field(
        7, ge=1, le=1000, description="Promoted nights on one adapter before a night starts afresh on all kept rows."
    )
    rebase_rejections: int = Field(
        2, ge=1, le=1000, description="Rejected nights in a row before a night starts afresh."
    )
    rebase_steps: int = Field(
        300, ge=1, le=10_000, description="Optimiser steps at most in a night that starts afresh on all kept rows."
    )

    @property
    def largest_rank(self) -> int:
        """What a model server has to accept, whichever recipe a night is asked for."""
        return max(self.rank, WIDEST_RECIPE)


class TrainingSettings(Section):
    """What training may take of the machine (docs/how-to/scale.md)."""

    processes: int = Field(1, ge=1, le=1024, description="Processes that train together under `accelerate launch`.")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="Each process holds the base model (ddp), or all hold it together (fsdp)."
    )
    accelerate_args: tuple[str, ...] = Field((), description="More arguments of `accelerate launch`, as it takes them.")
    rows_at_once: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Rows that go through the model together; changes memory and speed and not what is learned. "
        "Unset: 1 on a GPU, all of a batch on a CPU.",
    )


ONE_PROCESS: Final = TrainingSettings()  # pyright: ignore[reportCallIssue]


class EvalSettings(Section):
    """How models are compared on the frozen set."""

    samples: int = Field(1, ge=1, le=64, description="Samples per task and arm.")
    baseline_samples: int = Field(
        8, ge=1, le=256, description="Samples per task of the baseline, which is measured seldom; greedy ones: one."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature; 0 is greedy.")
    max_tokens: int = Field(160, ge=16, le=32768, description="Longest reply in tokens.")
    fresh_tasks: int = Field(
        120, ge=0, le=10_000, description="Fresh tasks that a candidate about to be promoted is asked at most."
    )
    concurrency: int = Field(48, ge=1, le=512, description="Requests in flight at the same time.")
    seed: int = Field(20_000, ge=0, description="Seeds of the samples count up from here; equal for all arms.")

    @model_validator(mode="after")
    def _each_sample_is_a_draw(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples = {self.samples} at temperature = 0 counts one greedy answer {self.samples} times: "
                "set samples = 1, or a temperature above 0, such as 0.8"
            )
        return self


class GatePolicy(Section):
    """What the gate asks of a candidate."""

    alpha: float = Field(
        default=0.05, gt=0, le=0.2, description="Largest chance per epoch of promoting what is no better than the base."
    )
    confidence: float = Field(
        default=0.95, ge=0.5, lt=1, description="Level of the two-sided intervals of the differences."
    )
    family_alpha: float = Field(
        default=0.10, gt=0, le=0.5, description="Chance of blocking over any family by mistake (Holm)."
    )
    max_infra_share: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="A larger share of clusters without a measurement decides nothing.",
    )
    openings: int = Field(
        default=50, ge=1, le=10_000, description="Candidates that one epoch of the frozen set may judge (J)."
    )
    early_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        exclude_if=lambda share: not share,  # as in the records of before there was a share
        description="Share of alpha that goes to an epoch's first openings, as 1/j^2; the rest is spread evenly.",
    )
    progress_threshold: float = Field(
        default=100, ge=1, description="E-value of a gain over the served model that a promotion needs."
    )
    futility_margin: float = Field(
        default=0.03, gt=0, lt=1, description="Gain over the served model below which a candidate is futile."
    )
    futility_threshold: float = Field(
        default=10, gt=1, description="E-value against that gain at which a candidate is rejected and measuring stops."
    )
    block: int = Field(default=20, ge=1, le=1000, description="Clusters measured between two looks at the e-values.")
    min_clusters: int = Field(default=60, ge=5, description="With fewer clusters than this nothing is promoted.")
    autonomous_clusters: int = Field(
        default=100, ge=5, description="Sets with fewer clusters are small: `small_sets` says what they may decide."
    )
    small_sets: Literal["hold", "frozen-set-only"] = Field(
        default="hold",
        description="On a small set, hold for a person to decide, or promote on pairs, for this set only.",
    )
    min_family_clusters: int = Field(
        default=20, ge=5, description="Families and categories with fewer clusters are not guarded on their own."
    )
    min_fresh_clusters: int = Field(
        default=60, ge=5, description="From this many fresh clusters on, they must not show a loss."
    )
    fresh_margin: float = Field(
        default=0.05, gt=0, lt=1, description="Loss on fresh tasks that must be ruled out, as a share."
    )
    fresh_threshold: float = Field(default=10, gt=1, description="Evidence, 1/p of the test, that rules this loss out.")
    leak_z: float = Field(
        default=2.33,
        gt=0,
        description="Standard errors by which the gain on frozen tasks may exceed that on fresh ones.",
    )
    trunk_nights: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="Nights that may go on training from undecided candidates before one starts from served.",
    )
    controls: int = Field(default=3, ge=1, le=20, description="Times that a task's reference has to pass each night.")


class CanarySettings(Section):
    """How a promotion is watched by day, and what takes it back."""

    enabled: bool = Field(True, description="Whether promotions are watched, and rolled back when they do harm.")
    share: float = Field(
        0.5, ge=0.05, le=0.95, description="Chance that a session is given to the new adapter rather than the old one."
    )
    threshold: float = Field(
        20,
        ge=2,
        le=1e6,
        description="E-value of harm that rolls back; one false alarm in this many canaries at most.",
    )
    sessions: int = Field(200, ge=10, le=100_000, description="Judged sessions after which the split ends.")
    hours: float = Field(72, gt=0, le=8760, description="Time after which the split ends, however few were judged.")
    holdback: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Share of sessions that get the old adapter after the split; 0 ends the watch.",
    )
    patience_minutes: float = Field(
        60, ge=0, le=1440, description="How long a session still being judged may hold up the count of later ones."
    )
    broken_in_a_row: int = Field(
        5,
        ge=3,
        le=1000,
        description="Sessions in a row, at least, whose first replies are empty or malformed that roll back; "
        "the run must also be unlikely by chance.",
    )
    explosion: float = Field(
        4,
        ge=1.5,
        le=100,
        description="A reply this many times as long or slow as the old adapter's median has exploded.",
    )
    explosion_threshold: float = Field(
        1000,
        ge=2,
        le=1e9,
        description="E-value of more such sessions than with the old adapter that rolls back.",
    )
    refusals: int = Field(
        3, ge=1, le=100, description="Times that a server refuses to load it, and not the old one, that roll back."
    )
    shadow_tasks: int = Field(
        20, ge=0, le=1000, description="Tasks of the day that a night replays against the old adapter; 0 for none."
    )
    shadow_samples: int = Field(4, ge=1, le=64, description="Samples of each adapter on each of these tasks.")
    shadow_temperature: float = Field(0.8, ge=0, le=2, description="Sampling temperature of the replay.")
    drill_days: float = Field(
        7, ge=0, le=365, description="The daemon ends a night with a drill when the last is this old; 0 turns them off."
    )


class NightSettings(Section):
    """When the nights come, and what they leave behind."""

    window: str = Field("01:00-06:00", description='Hours of the nights on the local clock; "" means any time.')
    timezone: str = Field(
        "", description="Time zone of the window, such as Europe/Berlin; empty is $TZ, or else the machine's own."
    )
    stop_at_window_end: bool = Field(
        False, description="Whether a night started by hand pauses too when the window it began in closes."
    )
    quiet_minutes: float = Field(15, ge=0, le=1440, description="Time without requests before a night begins.")
    gpu_percent: int = Field(10, ge=0, le=100, description="A GPU that is busier than this is in use.")
    share_gpu: bool = Field(False, description="Whether the model server sleeps while a night trains on its GPU.")
    sleep_level: Literal[1, 2] = Field(
        1,
        description="Level 1 keeps the weights in host memory; 2 drops them and ends with server.restart_command.",
    )
    drain_seconds: float = Field(
        120, ge=0, le=3600, description="Longest wait for requests in flight before the server is put to sleep."
    )
    pause_seconds: float = Field(
        120, ge=1, le=3600, description="Time for a training step and its checkpoint before a paused child is killed."
    )
    keep_adapters: int = Field(20, ge=2, le=10_000, description="Adapters that are kept; older ones are deleted.")
    min_free_gib: float = Field(2, ge=0, le=10_000, description="Free disk space, in GiB, below which no night begins.")
    jitter_minutes: float = Field(
        0,
        ge=0,
        le=240,
        description="A night begins up to this long after its window opens; several machines spread out.",
    )
    catch_up: bool = Field(True, description="Whether a night missed while the machine was off is made up for by day.")
    inhibit_sleep: bool = Field(True, description="Whether the machine is kept from suspending while a night runs.")

    @property
    def grace_seconds(self) -> float:
        """How long a night that is to stop may take: its trainer's time, and some to write things down."""
        return self.pause_seconds + 30

    # Each by itself and with a ValueError, so that they are named beside whatever else is wrong.
    @field_validator("window")
    @classmethod
    def _are_hours(cls, window: str) -> str:
        if window.strip():
            Window.parse(window, UTC)
        return window

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, timezone: str) -> str:
        zone_named(timezone)
        return timezone

    def hours(self) -> Window | None:
        """The window of the nights; None is any time."""
        zone = zone_named(self.timezone)
        return Window.parse(self.window, zone) if self.window.strip() else None


class RunSettings(Section):
    """What `sleepy-coder run` does beside its options."""

    verify: str = Field(
        "", description="The command that checks what an agent leaves where --verify names none; empty: by the folder."
    )


class CredentialSource(PydanticBaseSettingsSource):
    """The keys in the folder of $CREDENTIALS_DIRECTORY. An empty or absent file is a key that is not set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        folder = os.environ.get(CREDENTIALS_VARIABLE)
        found: dict[str, Any] = {}
        for name in CREDENTIALS if folder else ():
            path = Path(folder or "", name)
            if path.is_file() and (key := path.read_text().strip()):
                section, field = name.split(".")
                found[section] = {field: key}
        return found


class Config(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=VARIABLES, env_nested_delimiter="__", extra="forbid", frozen=True)
    reads_file: ClassVar[bool] = True

    home: Path = Field(Path(), description="Folder that holds adapters/, episodes/ and state/.")
    seed: int = Field(0, ge=0, description="Seed of everything random that is not an evaluation.")
    server: ServerSettings = ServerSettings()  # pyright: ignore[reportCallIssue]
    gateway: GatewaySettings = GatewaySettings()  # pyright: ignore[reportCallIssue]
    store: StoreSettings = StoreSettings()  # pyright: ignore[reportCallIssue]
    model: ModelSettings = ModelSettings()  # pyright: ignore[reportCallIssue]
    agent: AgentSettings = AgentSettings()  # pyright: ignore[reportCallIssue]
    mix: MixSettings = MixSettings()  # pyright: ignore[reportCallIssue]
    recipe: RecipeSettings = RecipeSettings()  # pyright: ignore[reportCallIssue]
    training: TrainingSettings = ONE_PROCESS
    eval: EvalSettings = EvalSettings()  # pyright: ignore[reportCallIssue]
    gate: GatePolicy = GatePolicy()
    night: NightSettings = NightSettings()  # pyright: ignore[reportCallIssue]
    canary: CanarySettings = CanarySettings()  # pyright: ignore[reportCallIssue]
    run: RunSettings = RunSettings()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _dropped_weights_need_a_restart(self) -> Self:
        if self.night.share_gpu and self.night.sleep_level == 2 and not self.server.restart_command:
            raise ValueError("night.sleep_level 2 drops the weights, which needs server.restart_command")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over credentials over the TOML file; nothing else is read."""
        sources = (init_settings, env_settings, CredentialSource(settings_cls))
        if not cls.reads_file:
            return sources
        return (*sources, TomlConfigSettingsSource(settings_cls, find_home() / CONFIG_FILE))

    def patient(self, seconds: float) -> Self:
        """These settings, but no reply of a model server is waited for longer than `seconds`: it may hang."""
        wait = min(self.server.timeout_seconds, seconds)
        return self.model_copy(update={"server": self.server.model_copy(update={"timeout_seconds": wait})})

    @property
    def state(self) -> Path:
        """The folder of the store, the nights' work and the logs."""
        return self.home / "state"

    @property
    def store_file(self) -> Path:
        """The store: one SQLite file."""
        return self.state / "sleepy.db"

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
