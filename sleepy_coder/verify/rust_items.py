"""A light reading of Rust: tokens that know comments and strings, and the items they make up.

It reads programs that do not compile, so it is total: every text has tokens and items, if odd ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["word", "lifetime", "text", "number", "mark"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `text` of a string or character is the literal as written."""

    kind: Kind
    text: str


_SCAN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<comment>/\*)
    |(?P<raw>(?:br|cr|r)(?P<hashes>\#*)")
    |(?P<text>[bc]?"(?:\\.|[^"\\])*(?:"|\Z)|b?'(?:\\[^\n]+?|[^'\\\n])')
    |(?P<lifetime>'\w+)
    |(?P<word>(?:r\#)?[^\W\d]\w*)
    |(?P<number>\d[\w]*(?:\.\d[\w]*)?)
    |(?P<mark>->|=>|::|.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def tokenize(source: str) -> tuple[Token, ...]:
    """The tokens of `source` without space and comments; what is left open ends with the text."""
    return tuple(_scan(source))


def _scan(source: str) -> Iterator[Token]:
    at = 0
    while found := _SCAN.match(source, at):
        at = found.end()
        kind = found.lastgroup
        if found["comment"]:
            at = _comment_end(source, at)
        elif found["raw"]:
            close = source.find('"' + found["hashes"], at)
            start, at = found.start(), len(source) if close < 0 else close + 1 + len(found["hashes"])
            yield Token("text", source[start:at])
        elif kind in ("word", "lifetime", "text", "number", "mark"):
            yield Token(kind, found.group())


def _comment_end(source: str, at: int) -> int:
    """Where the block comment ends whose inside starts at `at`. They nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(source, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(source)


@dataclass(slots=True)
class Items:
    """What a program declares. Methods are named with the head of their impl, as `Shape for Square::area`.

    `signatures` hold parameters and result without lifetimes, `&`, `mut`, `dyn`, type parameters
    and bounds.
    """

    names: Counter[str] = field(default_factory=lambda: Counter[str]())
    signatures: dict[str, set[str]] = field(default_factory=lambda: dict[str, set[str]]())
    tests: Counter[str] = field(default_factory=lambda: Counter[str]())
    attributes: Counter[str] = field(default_factory=lambda: Counter[str]())
    macros: Counter[str] = field(default_factory=lambda: Counter[str]())


_NAMED = frozenset({"struct", "enum", "trait", "union", "const", "static", "type", "mod", "macro_rules"})
_BEFORE_ITEM = frozenset({"}", ";", "{", "]", "unsafe", "default", "pub", ")"})
_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, frozenset(")]}")


def read_items(tokens: Sequence[Token]) -> Items:
    """The items that `tokens` declare, nested ones included."""
    items = Items()
    texts = [token.text for token in tokens]
    owners: list[tuple[int, str]] = []
    depth = 0
    for i, token in enumerate(tokens):
        after = tokens[i + 1] if i + 1 < len(tokens) else Token("mark", "")
        if token.text == "{" and token.kind == "mark":
            depth += 1
        elif token.text == "}" and token.kind == "mark":
            depth -= 1
            while owners and owners[-1][0] > depth:
                owners.pop()
        elif token.text == "#" and after.text in ("[", "!"):
            _read_attribute(items, texts, i)
        elif token.kind != "word":
            continue
        elif after.text == "!" and i + 2 < len(texts) and texts[i + 2] in _OPEN:
            items.macros[token.text] += 1
        elif token.text == "fn" and after.kind == "word":
            owner = owners[-1][1] + "::" if owners else ""
            name = f"fn {owner}{after.text}"
            items.names[name] += 1
            items.signatures.setdefault(name, set()).add(_signature(tokens, i + 2))
        elif token.text == "impl" and (i == 0 or texts[i - 1] in _BEFORE_ITEM):
            head = _impl_head(tokens, i + 1)
            items.names[f"impl {head}"] += 1
            owners.append((depth + 1, head))
        elif token.text in _NAMED and after.kind == "word" and after.text not in ("fn", "unsafe"):
            items.names[f"{token.text} {after.text}"] += 1
            if token.text == "trait":
                owners.append((depth + 1, after.text))
        elif token.text == "macro_rules" and i + 2 < len(texts):
            items.names[f"macro_rules {texts[i + 2]}"] += 1
    return items


def _read_attribute(items: Items, texts: Sequence[str], at: int) -> None:
    opening = at + 1 if texts[at + 1] == "[" else at + 2
    if opening + 1 >= len(texts) or texts[opening] != "[":
        return
    items.attributes[texts[opening + 1]] += 1
    attribute = " ".join(texts[opening : closing(texts, opening) + 1])
    if attribute in ("[ test ]", "[ cfg ( test ) ]"):
        brace = next((i for i in range(opening, len(texts)) if texts[i] == "{"), len(texts) - 1)
        items.tests[" ".join(texts[opening : closing(texts, brace) + 1])] += 1


def closing(texts: Sequence[str], opening: int) -> int:
    """The index of the bracket that closes the one at `opening`; the last index when none does."""
    depth = 0
    for i in range(opening, len(texts)):
        depth += (texts[i] in _OPEN) - (texts[i] in _CLOSE)
        if depth <= 0:
            return i
    return len(texts) - 1


def _angles(tokens: Sequence[Token], at: int) -> int:
    """The index after the `<...>` that starts at `at`, or `at` when none does."""
    depth = 0
    for i in range(at, len(tokens)):
        depth += (tokens[i].text == "<") - (tokens[i].text == ">")
        if depth == 0:
            return i + 1 if i > at else at
    return len(tokens)


def _impl_head(tokens: Sequence[Token], at: int) -> str:
    """`Shape for Square` from the tokens after `impl`, without generics and bounds."""
    head: list[str] = []
    while at < len(tokens) and tokens[at].text not in ("{", "where", ";"):
        if tokens[at].text == "<":
            at = _angles(tokens, at)
            continue
        if tokens[at].kind != "lifetime" and tokens[at].text not in ("&", "mut"):
            head.append(tokens[at].text)
        at += 1
    return " ".join(head)


def _signature(tokens: Sequence[Token], at: int) -> str:
    """Parameters and result from the tokens after a function's name, normalised; see `Items`."""
    at = _angles(tokens, at)
    texts = [token.text for token in tokens]
    if at >= len(texts) or texts[at] != "(":
        return ""
    end = closing(texts, at) + 1
    if end < len(texts) and texts[end] == "->":
        while end < len(texts) and texts[end] not in ("{", ";", "where"):
            end += 1
    return _normalised(tokens[at:end])


def _normalised(tokens: Sequence[Token]) -> str:
    out: list[str] = []
    for token in tokens:
        if token.kind == "lifetime":
            if out and out[-1] == "+":
                out.pop()
            continue
        if token.text in ("&", "mut", "dyn"):
            continue
        if token.text in (",", ">", ")") and out and out[-1] in ("<", ","):
            # What stood before the comma was a lifetime, or the comma trails.
            if token.text == ",":
                continue
            dangling = out.pop()
            if token.text == ">" and dangling == "<":
                continue
            if dangling == "<":
                out.append(dangling)
        out.append(token.text)
    return " ".join(out)
