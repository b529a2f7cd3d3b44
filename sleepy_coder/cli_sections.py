"""What `sleepy-coder --help` lists, by what somebody wants to do."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

SECTIONS: Final = {
    "Start here": ("doctor", "config", "serve", "service", "demo"),
    "By day": ("gateway", "run", "feedback", "koans", "episodes"),
    "By night": ("night", "idle", "pause", "resume", "recipes", "cycles"),
    "Look": ("status", "morning", "nights", "report", "logs", "canary", "eval"),
    "Maintain": ("adapters", "gate", "replay-verdict", "drill", "study"),
}


class Sections(TyperGroup):
    """The commands in the order of `SECTIONS`, each in its section's panel."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        placed = {name: section for section, names in SECTIONS.items() for name in names if name in self.commands}
        self.commands = {name: self.commands[name] for name in (*placed, *self.commands)}
        for name, section in placed.items():
            command = self.commands[name]
            assert isinstance(command, TyperCommand | TyperGroup)
            command.rich_help_panel = section


def unwrap(app: typer.Typer) -> None:
    """Join the lines of each paragraph of the commands' docstrings, which rich would break where the source does."""
    for command in app.registered_commands:
        text = inspect.getdoc(command.callback) if command.callback else None
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", text) if text else None
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unwrap(group.typer_instance)
