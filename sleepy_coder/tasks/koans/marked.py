"""A compact notation for koans: one program text that holds both the bug and its fix.

`«buggy→fixed»` marks the places where the two forms differ; either side may be empty. `$name` is
replaced by the value given for it, or, when none is given, by a fresh word of the kind its first
letter names: `$f1` function, `$m1` method (two words, so that no method of std has that name),
`$v1` variable or field, `$V1` collection, `$T1` type, `$s1` text, `$n1` number. The same
placeholder is the same word everywhere, also inside given values. Empty lines are dropped.
"""

from __future__ import annotations

import re

from sleepy_coder.tasks.koans.family import Draft
from sleepy_coder.tasks.koans.words import Words

_MARK = re.compile(r"«([^«»→]*)→([^«»→]*)»")
_PLACEHOLDER = re.compile(r"\$([A-Za-z]+\d*)")


def _fresh(name: str, words: Words) -> str:
    match name[0]:
        case "f":
            return words.verb()
        case "m":
            verb = words.verb()
            return verb if "_" in verb else f"{verb}_{words.noun()}"
        case "v":
            return words.noun()
        case "V":
            return words.plural()
        case "T":
            return words.type()
        case "s":
            return words.text()
        case "n":
            return str(words.number())
        case _:
            raise KeyError(f"no value and no kind of word for ${name}")


def marked(words: Words, statement: str, program: str, **values: str) -> Draft:
    """The draft that `program` in the notation of this module stands for.

    Raises KeyError when a placeholder has neither a value nor a known first letter.
    """
    known = dict(values)

    def fill(text: str) -> str:
        def word(found: re.Match[str]) -> str:
            name = found.group(1)
            if name not in known:
                known[name] = _fresh(name, words)
            return fill(known[name])

        return _PLACEHOLDER.sub(word, text)

    def form(side: int) -> str:
        text = _MARK.sub(lambda mark: mark.group(side), filled)
        return "\n".join(line for line in text.split("\n") if line.strip()) + "\n"

    filled = fill(program)
    return Draft(fill(statement), form(1), form(2))


def three(words: Words) -> dict[str, str]:
    """Three values `$a`, `$b`, `$c` of one type `$ty`, for `marked`."""
    return words.pick(integers(words), floats(), texts(), strings())


def integers(words: Words) -> dict[str, str]:
    """Three integers, for `marked`."""
    return {"ty": words.pick("i32", "u32", "i64", "u64"), "a": "$n1", "b": "$n2", "c": "$n3"}


def floats() -> dict[str, str]:
    """Three floating-point numbers, for `marked`."""
    return {"ty": "f64", "a": "$n1.5", "b": "$n2.5", "c": "$n3.25"}


def texts() -> dict[str, str]:
    """Three borrowed texts, for `marked`."""
    return {"ty": "&'static str", "a": '"$s1"', "b": '"$s2"', "c": '"$s3"'}


def strings() -> dict[str, str]:
    """Three owned texts, for `marked`."""
    make = 'String::from("{}")'
    return {"ty": "String", "a": make.format("$s1"), "b": make.format("$s2"), "c": make.format("$s3")}


def numbers(words: Words) -> dict[str, str]:
    """Three numbers, whole or not, for `marked`."""
    return words.pick(integers(words), floats())
