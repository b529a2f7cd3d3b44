"""Templates written as Rust with holes, both forms of the one mistake side by side.

`~buggy~fixed~` holds the two forms (no Rust token has a tilde), and `$` opens a hole:

    $n1 $p1 $f1 $T1 $s1   a fresh noun, plural, function name, type name, word for a string literal
    $d1 $k1               a number in [2, 9], in [10, 60]
    $typo_n1              the name $n1 with a slip of the keyboard
    $ty, $ty0, $ty1       the text picked for choice `ty`, or the parts of the tuple picked for it

Equal holes get equal text. Picked texts may have holes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sleepy_coder.tasks.koans.family import Draft, Template
from sleepy_coder.tasks.koans.words import Words

Choice = tuple[str | tuple[str, ...], ...]

INT: Choice = ("i32", "u32", "i64", "u64")
NUMBER: Choice = (("i32", "$k7"), ("u64", "$k7"), ("usize", "$k7"), ("f64", "$d7.5"), ("u8", "$d7"))
VALUE: Choice = (*NUMBER, ("bool", "true"), ("char", "'x'"), ("&'static str", '"$s7"'))
ARITHMETIC: Choice = ("+", "*", "-")
COMPARISON: Choice = (">", "<", ">=", "<=")

_HOLE = re.compile(r"\$(typo_)?([A-Za-z]+)(\d?)")
_FORMS = re.compile(r"~([^~]*)~([^~]*)~")


def sketch(statement: str, program: str, **choices: Choice) -> Template:
    """The template that fills the holes of `statement` and `program`; one text is picked per choice."""

    def template(words: Words) -> Draft:
        picked = {name: words.pick(*options) for name, options in choices.items()}
        names: dict[str, str] = {}
        wanted, both = (_fill(text, picked, names, words) for text in (statement, program))
        both = "\n".join(line for line in both.split("\n") if line.strip())
        return Draft(wanted, *(_tidy(_FORMS.sub(form, both)) for form in (r"\1", r"\2")))

    return template


def slip(name: str, words: Words) -> str:
    """`name` with one letter left out, doubled, or swapped with the next; the first letter stays."""
    while True:
        i = words.number(1, len(name) - 2)
        wrong = words.pick(
            name[:i] + name[i + 1 :],
            name[:i] + name[i] + name[i:],
            name[:i] + name[i + 1] + name[i] + name[i + 2 :],
        )
        if wrong != name:
            return wrong


def _tidy(program: str) -> str:
    return "\n".join(line for line in program.split("\n") if line.strip()) + "\n"


def _fill(text: str, picked: Mapping[str, str | tuple[str, ...]], names: dict[str, str], words: Words) -> str:
    def hole(match: re.Match[str]) -> str:
        typo, kind, index = match.groups()
        if typo and match[0] not in names:
            names[match[0]] = slip(_fill(f"${kind}{index}", picked, names, words), words)
        if typo:
            return names[match[0]]
        if (choice := picked.get(kind)) is not None:
            return choice[int(index)] if isinstance(choice, tuple) else choice + index
        if kind + index not in names:
            names[kind + index] = _fresh(kind, words)
        return names[kind + index]

    while "$" in text:
        text = _HOLE.sub(hole, text)
    return text


def _fresh(kind: str, words: Words) -> str:
    match kind:
        case "n":
            return words.noun()
        case "p":
            return words.plural()
        case "f":
            return words.verb()
        case "T":
            return words.type()
        case "s":
            return words.text()
        case "d":
            return str(words.number(2, 9))
        case "k":
            return str(words.number(10, 60))
        case _:
            raise ValueError(f"a sketch has a hole of the unknown kind ${kind}")
