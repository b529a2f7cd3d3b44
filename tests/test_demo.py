"""What the demo says at its end can be typed as it stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sleepy_coder.demo import typed


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command as an environment has it, called by its path."""
    script = folder / "bin" / "sleepy-coder"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "demo"])
    return script


def test_a_command_that_is_not_on_the_path_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = installed(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", "/nowhere")
    assert typed() == str(script)


def test_a_command_that_is_on_the_path_is_named_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(installed(tmp_path, monkeypatch).parent))
    assert typed() == "sleepy-coder"


def test_another_installation_on_the_path_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    other = installed(tmp_path / "other", monkeypatch)
    mine = installed(tmp_path / "mine", monkeypatch)
    monkeypatch.setenv("PATH", str(other.parent))
    assert typed() == str(mine)


def test_a_module_is_named_with_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/sleepy_coder/__main__.py", "demo"])
    assert typed() == f"{sys.executable} -m sleepy_coder"
