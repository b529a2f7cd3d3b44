"""Koan templates written as Rust text with blanks, so that a template reads like the program it yields.

In a stencil `$v1` is a noun, `$p1` a plural, `$f1` a function name, `$T1` a type, `$s1` a word,
`$n1` a number in 10..60 and `$k1` one in 2..9; the same blank is the same word everywhere.
`⟦a // b⟧` is one of the alternatives, and `⟦1: a // b⟧` picks the same place wherever the number is
the same; alternatives may nest. `«x⇒y»` is x in the buggy form and y in the fixed one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sleepy_coder.tasks.koans.family import Category, Draft, family
from sleepy_coder.tasks.koans.words import Words

_CHOICE = re.compile(r"⟦(?:(\d):)?([^⟦⟧]*)⟧")
_BLANK = re.compile(r"\$([vpfTsnk])\d")
_LEFT_BLANKS = re.compile(r"(?<=\() +|(?<=\S) +(?=[ ;,)])")
_BUG = re.compile(r"«([^»⇒]*)⇒([^»]*)»")

Stencil = Callable[[str, str], None]


def _choose(text: str, w: Words) -> str:
    """`text` with every choice made, innermost first; numbered choices share a random number in [0, 1)."""
    shared: dict[str, float] = {}

    def pick(match: re.Match[str]) -> str:
        options = match[2].split("//")
        draw = w.random.random()
        if match[1]:
            draw = shared.setdefault(match[1], draw)
        return options[int(draw * len(options))].strip(" ")

    while _CHOICE.search(text):
        text = _CHOICE.sub(pick, text)
    return text


def _fill(text: str, w: Words) -> str:
    """`text` with every blank filled in."""
    sources: dict[str, Callable[[], str]] = {
        "v": w.noun,
        "p": w.plural,
        "f": w.verb,
        "T": w.type,
        "s": w.text,
        "n": lambda: str(w.number(10, 60)),
        "k": lambda: str(w.number(2, 9)),
    }
    filled: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        if match[0] not in filled:
            filled[match[0]] = sources[match[1]]()
        return filled[match[0]]

    return _BLANK.sub(word, text)


def _tidy(program: str) -> str:
    """`program` without the blanks and blank lines that empty alternatives leave."""
    lines = (_LEFT_BLANKS.sub("", line).rstrip() for line in program.split("\n") if line.strip())
    return "\n".join(lines) + "\n"


def render(statement: str, program: str, w: Words) -> Draft:
    """The draft that the stencil yields for these words."""
    text = _fill(_choose(f"{statement}\n{program}", w), w)
    sentence, _, body = text.partition("\n")
    return Draft(sentence, _tidy(_BUG.sub(r"\1", body)), _tidy(_BUG.sub(r"\2", body)))


def stencils(name: str, category: Category, code: str) -> Stencil:
    """A function that adds the template (statement, program) to the family `name`."""
    register = family(name, category, code)

    def add(statement: str, program: str) -> None:
        def template(w: Words) -> Draft:
            return render(statement, program, w)

        register(template)

    return add
