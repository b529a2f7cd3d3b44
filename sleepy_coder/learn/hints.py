"""Hints: what is known of an error from elsewhere, put at the end of a prompt.

Three sources, each short: rustc's own suggestions on this program as the edits that they are, verified fixes of the
same error in other tasks, and a fact about the error's code. Dreaming asks with hints and trains the answer without
them; the recipe `hints-only` asks with them by day and trains nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from sleepy_coder.config import HintSource
from sleepy_coder.dialogue import ReplyFormatError, apply_reply, feedback_in
from sleepy_coder.learn.shortcuts import shortcut_in
from sleepy_coder.store import Store
from sleepy_coder.tasks.leaks import LeakIndex
from sleepy_coder.types import Episode, Task, Verdict
from sleepy_coder.verify.diagnostics import error_in

SOURCES: Final[tuple[HintSource, ...]] = get_args(HintSource)
_CANDIDATES: Final = 32
_SUGGESTIONS, _FIXES, _LINES = 3, 2, 3
_WORD = re.compile(r"\w+|[^\w\s]")
_SUGGESTED = re.compile(r"^(\d+)\s*(?:[|+~]) (.*)$")

FACTS: Final[Mapping[str, str]] = {
    "E0106": "name the lifetime of a returned reference, or return an owned value",
    "E0277": "mind references: compare, add and collect values of the same type, or derive the missing trait",
    "E0308": "give the type that is expected: convert, borrow with & or dereference with *",
    "E0382": "a moved value is gone: borrow it, clone it before the move, or use it earlier",
    "E0384": "what is assigned twice needs `let mut`",
    "E0425": "a name has to be spelled as it was declared, and declared in this scope",
    "E0433": "bring the type into scope with `use`",
    "E0499": "one mutable borrow at a time: end the first one before the second begins",
    "E0502": "end the shared borrow before the mutable one begins, or clone what is read",
    "E0505": "a borrowed value cannot be moved: move it after the last use of the borrow, or clone it",
    "E0596": "what is changed needs `mut`, and `&mut` where it is borrowed",
    "E0597": "the value has to live longer than what borrows it: declare it in the outer scope",
    "E0599": "the method is not there: derive or import its trait, or call it on the inner value",
    "E0716": "keep a temporary value alive with a `let` of its own",
}
"""A sentence for the commonest codes, in the spirit of `rustc --explain`, which is too long for a prompt."""


@dataclass(frozen=True, slots=True)
class Hints:
    """Hints from `store` for any task, none of them from its own answers or from what is close to a frozen task."""

    store: Store
    frozen: LeakIndex
    sources: Collection[HintSource] = SOURCES

    def __call__(self, task: Task, verdict: Verdict) -> str:
        """The hints for `task`, of whose broken program the verifier says `verdict`; empty when there are none.

        Raises StoreError.
        """
        mistake, lines = error_in(verdict.feedback), list[str]()
        if "suggestions" in self.sources:
            lines += suggestions(verdict.detail)
        if "fixes" in self.sources:
            lines += self._fixes(task, mistake, verdict.feedback)
        if "facts" in self.sources and (fact := FACTS.get(mistake.partition(":")[0])):
            lines.append(fact)
        return "\n".join(lines)

    def _fixes(self, task: Task, mistake: str, feedback: str) -> list[str]:
        wanted = set(_WORD.findall(feedback))

        def likeness(episode: Episode) -> tuple[bool, float]:
            words = set(_WORD.findall(feedback_in(episode.attempts[0].messages)))
            family = episode.task is not None and episode.task.family == task.family
            return family, len(wanted & words) / max(1, len(wanted | words))

        found = [e for e in self.store.fixes(mistake, _CANDIDATES) if e.task and e.task.id != task.id]
        fixes: dict[str, None] = {}
        for episode in sorted(found, key=likeness, reverse=True):
            if len(fixes) == _FIXES:
                break
            if (text := self._told(episode)) and not shortcut_in(episode) and not self._leaks(episode):
                fixes.setdefault(text)
        return list(fixes)

    def _leaks(self, episode: Episode) -> bool:
        texts = [*(episode.task.files.values() if episode.task else ()), episode.attempts[-1].completion]
        return any(self.frozen.find(episode.id, text) for text in texts)

    def _told(self, episode: Episode) -> str:
        assert episode.task is not None
        try:
            after = apply_reply(episode.attempts[-1].completion, episode.task.files)
        except ReplyFormatError:
            return ""
        for path, text in episode.task.files.items():
            if after[path] != text:
                return change(text, after[path])
        return ""


def change(before: str, after: str) -> str:
    """The first place where two programs differ, in one line; empty where that is no short one."""
    old, new = before.rstrip("\n").split("\n"), after.rstrip("\n").split("\n")
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if i2 - i1 > _LINES or j2 - j1 > _LINES:
            return ""
        was, now = " ".join(map(str.strip, old[i1:i2])), " ".join(map(str.strip, new[j1:j2]))
        if not was:
            return f"like: add `{now}`"
        return f"like: `{was}` became `{now}`" if now else f"like: drop `{was}`"
    return ""


def suggestions(rendered: str) -> Iterator[str]:
    """rustc's suggestions in its rendered messages, as the edits that an answer is made of."""
    given: dict[str, None] = {}
    helping = False
    for line in rendered.splitlines():
        if line.startswith("help: "):
            helping = True
        elif helping and (match := _SUGGESTED.match(line)):
            given.setdefault(f"{match[1]}|{match[2]}")
        elif not line.strip():
            helping = False
    yield from list(given)[:_SUGGESTIONS]
