"""An agent of anybody's, pointed at the gateway under a session of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sleepy_coder.config import SESSION_VARIABLE

_PROVIDER = "sleepy-coder"
# Also for its subagents and titles, which would ask for models that are not served.
_CLAUDE_MODELS = (
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
)


def environment(gateway: str, session: str, alias: str, key: str | None, present: Mapping[str, str]) -> dict[str, str]:
    """`present` with what points an agent at the gateway, under the names that agents read.

    `gateway` is its URL without a path. A key that the user has set stays, unless the gateway asks for its own.
    """
    root = f"{gateway}/s/{session}"
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "LLM_API_KEY")
    keys = {name: key or present.get(name) or "sleepy-coder" for name in names}
    points = {
        "OPENAI_BASE_URL": f"{root}/v1",
        "OPENAI_API_BASE": f"{root}/v1",
        "LLM_BASE_URL": f"{root}/v1",
        "ANTHROPIC_BASE_URL": root,
        "OPENAI_MODEL": alias,
        **dict.fromkeys(_CLAUDE_MODELS, alias),
        "AIDER_MODEL": f"openai/{alias}",
        # mini-swe-agent stops at a model without a known price, and asks for its settings at its first start.
        "MSWEA_MODEL_NAME": f"openai/{alias}",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_CONFIGURED": "true",
        "OPENCODE_CONFIG_CONTENT": _opencode(f"{root}/v1", alias, keys["OPENAI_API_KEY"]),
        SESSION_VARIABLE: session,
    }
    return {**present, **points, **keys}


def command_line(agent: Sequence[str], gateway: str, session: str, alias: str) -> list[str]:
    """The agent's command line; Codex, which reads no variable for this, is pointed at the gateway by options."""
    if Path(agent[0]).name != "codex":
        return list(agent)
    settings = {
        "model": alias,
        "model_provider": _PROVIDER,
        f"model_providers.{_PROVIDER}.name": _PROVIDER,
        f"model_providers.{_PROVIDER}.base_url": f"{gateway}/s/{session}/v1",
        f"model_providers.{_PROVIDER}.wire_api": "responses",
        f"model_providers.{_PROVIDER}.env_key": "OPENAI_API_KEY",
    }
    # A JSON text is TOML as well.
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={json.dumps(value)}")]
    return [agent[0], *options, *agent[1:]]


def _opencode(url: str, alias: str, key: str) -> str:
    """Settings that opencode lays over those of its files."""
    provider: dict[str, object] = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": url, "apiKey": key},
        "models": {alias: {}},
    }
    return json.dumps({"provider": {_PROVIDER: provider}, "model": f"{_PROVIDER}/{alias}"})
