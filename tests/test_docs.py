"""The pages in docs/ say what the code does: reference, links and the commands that readers copy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleepy_coder import reference

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
COMMANDS = {command.path: command for command in reference.commands()}
GLOBAL = {"--home", "--verbose", "-v", "--version", "--help"}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link that stays in this repository."""
    for target in _LINK.findall(_BLOCK.sub("", page.read_text())):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def typed(page: Path) -> Iterator[list[str]]:
    """The words of each `sleepy-coder ...` that stands on a line of a shell block."""
    for language, block in _BLOCK.findall(page.read_text()):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"[|;&()]", line.partition(" #")[0]):
                    if part.split()[:1] == ["sleepy-coder"]:
                        yield part.split()


@pytest.mark.parametrize("page", ["cli.md", "config.md", "events.md"])
def test_a_reference_page_is_what_the_code_says(page: str) -> None:
    assert (reference.FOLDER / page).read_text() == reference.pages()[page], "stale: run `make docs`"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_of_a_command_is_explained(path: str) -> None:
    silent = [
        option
        for option, _, default, effect in reference.options(COMMANDS[path].run)
        if not effect and default != "required"
    ]
    assert not silent


def test_every_setting_is_explained_with_its_default() -> None:
    rows = [line.split(" | ") for line in reference.config_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 40
    assert all(len(row) == 4 and row[2] and row[3] != " |" for row in rows)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} does not exist"
        assert not anchor or anchor in anchors(target), f"{path} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_on_a_page_exist_with_their_options(page: Path) -> None:
    for words in typed(page):
        if "--" in words:  # what follows is another program's
            del words[words.index("--") :]
        while len(words) > 1 and words[1] in GLOBAL:
            del words[1 : 3 if words[1] == "--home" else 2]
        path = next((p for p in (" ".join(words[:3]), " ".join(words[:2])) if p in COMMANDS), None)
        if len(words) == 1:
            continue
        assert path, f"no such command: {' '.join(words)}"
        known = " ".join(option for option, *_ in reference.options(COMMANDS[path].run))
        given = [word.partition("=")[0] for word in words if word.startswith("-")]
        unknown = [option for option in given if f"`{option}`" not in known and option not in GLOBAL]
        assert not unknown, f"{path} has no {unknown}"
