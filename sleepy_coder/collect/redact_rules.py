"""What a rule is, and what its checks ask of a value: whether it is random, a name, or a stand-in."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

Check = Callable[[re.Match[str]], bool]
_RUN = re.compile(r"[a-z0-9_.+/=%-]{20,}")


class Hay:
    """A text in lower case, as it is searched for hints; `runs` is what of it is as long and dense as a token."""

    def __init__(self, lowered: str) -> None:
        self.lowered = lowered

    @cached_property
    def runs(self) -> str:
        return " ".join(_RUN.findall(self.lowered))


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` is tried on texts that hold one of `hints` (lower case); `check` has the last word on a match.

    `run` says that a match, wherever its hint is in it, is 20 characters of a token or more in a row: then the hint is
    looked for in these alone, a twentieth of most texts. To look for one in all of a text takes as long as to try a
    pattern that starts with a literal, so one short hint is better than five.

    Every rule whose match may hold `"},`, where one JSON object of a list ends, has to be marked `far`.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Check | None = None
    far: bool = False
    run: bool = False

    def hinted(self, hay: Hay) -> bool:
        """Whether the pattern is worth trying on a text that has this `hay`."""
        searched = hay.runs if self.run else hay.lowered
        return any(hint in searched for hint in self.hints)


# What stands where a secret would: nobody is harmed by these, and code is full of them. `$(` amid a value begins no
# template unless it ends: managers of passwords put the two side by side.
_STAND_IN = re.compile(
    r"(?i)^<(?:.*>$|secret:[a-z0-9-]+:\d+>|[a-z_ -]+$)|^\$[a-z_]+$|^\$[{(]|\$\{\w[^{}]*\}|\$\([^()]*\)|^\{\w*\}|^\{\{"
    r"|^%[a-z(]\)?s?$|^%\(|^%\w+%$|^\.{3}|\.{3}$"
    r"|^(?:x+|y+|\*+|-+|_+|0+|password|passwd|pass|pwd|secret|token|string|example\S*|changeme"
    r"|change[-_]me|none|null|nil|true|false|undefined|required|optional|redacted|dummy\S*|test|testing|empty"
    r"|your[-_ ]\S*|my[-_]?(?:secret|token|password|key)|placeholder|hidden|bearer|basic|unset|missing|invalid)$"
)
_FORMAT = re.compile(r"\{\w*\}|\{\{")
_WORDS = re.compile(r"[A-Za-z]{0,18}\d{0,2}|\d+")
_PARTS = re.compile(r"[^A-Za-z0-9+]+")


def entropy(text: str) -> float:
    """Shannon's entropy in bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def is_stand_in(value: str) -> bool:
    """Whether the value begins or ends as a stand-in: a variable, a template, the word password."""
    return bool(_STAND_IN.search(value)) or len(set(value)) < 3


def is_dummy(value: str) -> bool:
    """Whether the value is a stand-in, or has a place to be filled in, as strings in code have."""
    return is_stand_in(value) or bool(_FORMAT.search(value))


def is_wordy(value: str) -> bool:
    """Whether the value reads like a name: its parts are words, numbers, or words with a short number."""
    return all(_WORDS.fullmatch(part) for part in _PARTS.split(value))


def looks_random(value: str) -> bool:
    """Whether nobody would have typed this: long, many different characters, digits amid the letters."""
    changes = len(re.findall(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])", value))
    return len(value) >= 24 and changes >= 3 and entropy(value) >= 3.7 and not is_wordy(value)


def is_mixed(value: str) -> bool:
    return bool(re.search(r"\d", value)) and bool(re.search(r"[A-Za-z]", value))
