"""Shorthand for stencils: `@ty` is one of several types and `@a`, `@b`, `@c` are values of it.

`@int` and `@num` narrow the choice: a type of integers or of numbers, whose values are plain
`$n1`, `$n2` (and `@x`, `@y` for `@num`). Two letters `@ty` in one stencil are the same type.
"""

from __future__ import annotations

from collections.abc import Callable

from sleepy_coder.tasks.koans.family import Category
from sleepy_coder.tasks.koans.stencil import stencils

_SHORT = {
    "@ty": "⟦9: i32 // u64 // f64 // &'static str // String⟧",
    "@a": '⟦9: $n1 // $n1 // $n1.5 // "$s1" // String::from("$s1")⟧',
    "@b": '⟦9: $n2 // $n2 // $n2.5 // "$s2" // String::from("$s2")⟧',
    "@c": '⟦9: $n3 // $n3 // $n3.5 // "$s3" // String::from("$s3")⟧',
    "@int": "⟦8: i32 // u32 // i64 // u64 // usize⟧",
    "@num": "⟦7: i32 // u32 // i64 // f64⟧",
    "@x": "⟦7: $n1 // $n1 // $n1 // $n1.5⟧",
    "@y": "⟦7: $n2 // $n2 // $n2 // $n2.25⟧",
}


def with_values(name: str, category: Category, code: str) -> Callable[[str, str], None]:
    """Like `stencils`, with the shorthand of this module."""
    add = stencils(name, category, code)

    def expand(text: str) -> str:
        for short, long in _SHORT.items():
            text = text.replace(short, long)
        return text

    return lambda statement, program: add(expand(statement), expand(program))
