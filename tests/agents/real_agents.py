"""The real agents, how each is driven without a screen, and a project for them to mend."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sleepy_coder.types import SessionSource, WireApi

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".agents"
PINS: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "agents.toml").read_text())
PROMPT = "Mend add in src/lib.rs until the tests pass."
_BINARIES = {"pip": "bin", "npm": "node_modules/.bin"}

# Nothing here may be fetched, reported or updated: what an agent does must not depend on the network.
QUIET = {
    "AIDER_ANALYTICS_DISABLE": "true",
    "AIDER_CHECK_UPDATE": "false",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "QWEN_CODE_SUPPRESS_YOLO_WARNING": "1",
}
_CODEX_QUIET = "check_for_update_on_startup = false\n[analytics]\nenabled = false\n"


@dataclass(frozen=True)
class Pointing:
    """What points an agent at a URL as its own documentation says: variables, and files below its home."""

    variables: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Agent:
    """`agent` begins its User-Agent; `source` is where its own session is; `end` is the command that it ends with."""

    name: str
    wire: WireApi
    streams: bool
    agent: str
    source: SessionSource
    arguments: tuple[str, ...]
    pointing: Callable[[str], Pointing]
    end: str = ""
    side_calls: int = 0

    @property
    def installed(self) -> bool:
        return (FOLDER / self.name / ".ready").is_file()

    @property
    def command(self) -> list[str]:
        pin = PINS[self.name]
        return [str(FOLDER / self.name / _BINARIES[pin["from"]] / pin["command"]), *self.arguments]


def _openai(*names: str, **more: str) -> Callable[[str], Pointing]:
    def pointing(gateway: str) -> Pointing:
        return Pointing({"OPENAI_API_KEY": "x", **dict.fromkeys(names, f"{gateway}/v1"), **more}, {})

    return pointing


def _opencode(gateway: str) -> Pointing:
    options = {"baseURL": f"{gateway}/v1", "apiKey": "x"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"sleepy-coder": {}}}
    config = {"provider": {"sleepy-coder": provider}, "model": "sleepy-coder/sleepy-coder"}
    return Pointing({}, {".config/opencode/opencode.json": json.dumps(config)})


def _codex(gateway: str) -> Pointing:
    config = (
        'model = "sleepy-coder"\nmodel_provider = "sleepy-coder"\n'
        + _CODEX_QUIET
        + f'[model_providers.sleepy-coder]\nname = "sleepy-coder"\nbase_url = "{gateway}/v1"\nwire_api = "responses"\n'
    )
    return Pointing({}, {".codex/config.toml": config})


def _claude(gateway: str) -> Pointing:
    models = dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), "sleepy-coder")
    return Pointing({"ANTHROPIC_BASE_URL": gateway, "ANTHROPIC_API_KEY": "x", **models}, {})


AGENTS = (
    Agent(
        name="mini-swe-agent",
        wire="chat",
        streams=False,
        agent="OpenAI/Python ",
        source="prefix",
        arguments=("--yolo", "--exit-immediately", "--task", PROMPT),
        pointing=_openai(
            "OPENAI_API_BASE",
            MSWEA_CONFIGURED="true",
            MSWEA_COST_TRACKING="ignore_errors",
            MSWEA_MODEL_NAME="openai/sleepy-coder",
        ),
        end="echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",
    ),
    Agent(
        name="opencode",
        wire="chat",
        streams=True,
        agent="opencode/",
        source="header",
        arguments=("run", "--auto", PROMPT),
        pointing=_opencode,
        side_calls=1,
    ),
    Agent(
        name="qwen-code",
        wire="chat",
        streams=True,
        agent="QwenCode/",
        source="prefix",
        arguments=("--yolo", PROMPT),
        pointing=_openai("OPENAI_BASE_URL", OPENAI_MODEL="sleepy-coder"),
    ),
    Agent(
        name="codex",
        wire="responses",
        streams=True,
        agent="codex_exec/",
        source="header",
        arguments=("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", PROMPT),
        pointing=_codex,
    ),
    Agent(
        name="claude-code",
        wire="messages",
        streams=True,
        agent="claude-cli/",
        source="header",
        arguments=("-p", PROMPT, "--allowedTools", "Bash Edit Read"),
        pointing=_claude,
    ),
)

# It has no tools: it takes whole files from the answer, runs the test itself and sends what failed.
AIDER = Agent(
    name="aider",
    wire="chat",
    streams=True,
    agent="OpenAI/Python ",
    source="prefix",
    arguments=(
        *("--yes-always", "--no-git", "--no-show-model-warnings", "--auto-test", "--test-cmd", "cargo test --offline"),
        *("--message", PROMPT, "src/lib.rs"),
    ),
    pointing=_openai("OPENAI_API_BASE", AIDER_MODEL="openai/sleepy-coder"),
)


def empty_home(home: Path) -> dict[str, str]:
    """Make a home folder for an agent that was never started before; the environment in which to start it."""
    home.mkdir(parents=True)
    path = os.environ["PATH"]
    # Codex asks a login shell, which on some systems forgets the PATH.
    (home / ".profile").write_text(f'export PATH="{path}"\n')
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(_CODEX_QUIET)
    toolchain = {
        name: os.environ.get(name) or str(Path.home() / folder)
        for name, folder in (("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo"))
    }
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", **toolchain, **QUIET}


def write_project(folder: Path, secrets: dict[str, str]) -> Path:
    """A cargo project whose one test fails, with secrets in its .env; the file with the fault."""
    texts = {
        "Cargo.toml": '[package]\nname = "sums"\nversion = "0.1.0"\nedition = "2021"\n',
        "src/lib.rs": "/// The sum of both.\npub fn add(a: i64, b: i64) -> i64 {\n    a - b\n}\n",
        "tests/add.rs": "use sums::add;\n\n#[test]\nfn adds() {\n    assert_eq!(add(1, 2), 3);\n}\n",
        ".env": "DEBUG=1\n" + "".join(f"{name}={secret}\n" for name, secret in secrets.items()),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder / "src" / "lib.rs"
