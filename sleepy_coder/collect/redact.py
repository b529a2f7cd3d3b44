"""Secrets out, before anything is written: each becomes a placeholder that says what kind it was.

`<SECRET:github-pat:1>` keeps a text readable and trainable: the same secret has the same number in all texts
that pass one `SecretRedactor`, and only a keyed digest of it is remembered. A private key makes the whole text
unfit (`SecretFound`): what surrounds it, and the ways to break it over lines, are too many to be sure.
It works on plain text and on JSON alike, however often that is escaped. docs/collect.md says what it misses.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import cast
from urllib.parse import quote

from sleepy_coder.collect.redact_names import Span, kind_of_value, named_secrets, random_secrets
from sleepy_coder.collect.redact_rules import Hay, Rule
from sleepy_coder.collect.redact_tokens import PRIVATE_KEYS, TOKENS
from sleepy_coder.errors import SecretFound
from sleepy_coder.ports import Redactor
from sleepy_coder.types import Example

PLACEHOLDER = re.compile(r"<SECRET:([a-z0-9-]{1,40}):(\d{1,6})>")
# Shorter ones are stand-ins ("EMPTY", "none"), and taking them out would tear up ordinary words.
SHORTEST_KNOWN = 8
_PASSES = 8
_NOTHING_TO_DO = "It is not kept; nothing needs to be done"
_FAR = (*PRIVATE_KEYS, *(rule for rule in TOKENS if rule.far))
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Redaction:
    """A text without secrets, and how many places of each kind were taken out."""

    text: str
    counts: dict[str, int] = field(default_factory=dict[str, int])


def has_far_hint(text: str) -> bool:
    """Whether a far rule, private keys' among them, is worth trying on a text with this one in it."""
    hay = Hay(_lower(text))
    return any(rule.hinted(hay) for rule in _FAR)


def finds_far(text: str) -> bool:
    """Whether a far rule may find something in `text`."""
    return any(rule.pattern.search(text) for rule in _FAR)


class SecretRedactor:
    """Takes out what the rules find, and `known` (our own keys) wherever they stand. Safe to share by threads."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = _known_rule(known)
        self._near = [rule for rule in (*self._known, *TOKENS) if not rule.far]
        self._pepper = secrets.token_bytes(32)
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._highest: Counter[str] = Counter()
        self._lock = threading.Lock()

    def redact(self, text: str) -> str:
        """`text` without secrets. Raises SecretFound when it must not be kept at all."""
        return self.redaction(text).text

    def redaction(self, text: str) -> Redaction:
        """`text` without secrets, and what was taken out. Raises SecretFound.

        A JSON document stays one: where taking a secret out of the text would break it, which takes strange
        quotes, its values are redacted one by one.
        """
        done = self._until_clean(text)
        if done.text != text and (value := _parsed(text)) is not None and _parsed(done.text) is None:
            counts: Counter[str] = Counter()
            try:
                cleaned = json.dumps(self._clean_value(value[0], "", counts), ensure_ascii=False)
            except RecursionError as error:
                raise SecretFound("This text is nested too deeply to be freed of secrets", _NOTHING_TO_DO) from error
            return Redaction(cleaned, dict(counts))
        return done

    @property
    def own_keys_reach_far(self) -> bool:
        """Whether one of our own keys may stand over the border between two JSON objects."""
        return any("{" in form for rule in self._known for form in rule.hints)

    def finds_nothing(self, text: str) -> bool:
        """Whether no rule but the far ones finds anything; the numbers of placeholders in it are respected."""
        self._respect(text)
        hay = Hay(_lower(text))
        found = (_found(rule, text) for rule in self._near if rule.hinted(hay))
        spans = chain(chain.from_iterable(found), named_secrets(text, hay.lowered), random_secrets(text))
        return all(PLACEHOLDER.fullmatch(text, start, end) for start, end, _ in spans)

    def _until_clean(self, text: str) -> Redaction:
        """What a placeholder uncovers may be a secret too, so it goes on until nothing is found."""
        counts: Counter[str] = Counter()
        self._respect(text)
        for _ in range(_PASSES):
            hay = Hay(_lower(text))
            if _holds_private_key(text, hay):
                raise SecretFound("This text holds a private key", _NOTHING_TO_DO)
            after = self._one_pass(text, hay, counts)
            if after == text:
                return Redaction(text, dict(counts))
            text = after
        raise SecretFound("This text cannot be freed of secrets", _NOTHING_TO_DO)

    def _clean_value(self, value: object, name: str, counts: Counter[str]) -> object:
        if isinstance(value, dict):
            items = cast("dict[str, object]", value).items()
            return {self._until_clean(key).text: self._clean_value(inner, key, counts) for key, inner in items}
        if isinstance(value, list):
            return [self._clean_value(inner, name, counts) for inner in cast("list[object]", value)]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return value
        if kind := kind_of_value(name, str(value)):
            counts[kind] += 1
            return self._placeholder(kind, str(value))
        if not isinstance(value, str):
            return value
        done = self._until_clean(value)
        counts.update(done.counts)
        return done.text

    def _one_pass(self, text: str, hay: Hay, counts: Counter[str]) -> str:
        for rule in (*self._known, *TOKENS):
            if rule.hinted(hay):
                text = self._replace(text, _found(rule, text), counts)
        text = self._replace(text, named_secrets(text, _lower(text)), counts)
        return self._replace(text, random_secrets(text), counts)

    def _replace(self, text: str, spans: Iterable[Span], counts: Counter[str]) -> str:
        parts: list[str] = []
        done = 0
        for start, end, kind in spans:
            if start >= done and not PLACEHOLDER.fullmatch(text, start, end):
                counts[kind] += 1
                parts += text[done:start], self._placeholder(kind, text[start:end])
                done = end
        return "".join((*parts, text[done:])) if parts else text

    def _placeholder(self, kind: str, secret: str) -> str:
        digest = hashlib.blake2b(secret.encode(errors="surrogatepass"), key=self._pepper, digest_size=16).digest()
        with self._lock:
            if (kind, digest) not in self._numbers:
                self._highest[kind] += 1
                self._numbers[kind, digest] = self._highest[kind]
            return f"<SECRET:{kind}:{self._numbers[kind, digest]}>"

    def _respect(self, text: str) -> None:
        """Never give a number that a placeholder in the text has already."""
        with self._lock:
            for kind, number in PLACEHOLDER.findall(text):
                self._highest[kind] = max(self._highest[kind], int(number))


def secret_in(redactor: Redactor, row: Example) -> str:
    """Why a training row must not be learned by these rules; empty when nothing is found in its texts."""
    return redacted(redactor, row.model_dump_json(include={"messages", "completion", "reply", "tools"}))[1]


def redacted(redactor: Redactor, text: str) -> tuple[str, str]:
    """`text` as it may be kept (empty if not at all), and what was found in it (empty if nothing)."""
    try:
        clean = redactor.redact(text)
    except SecretFound as error:
        return "", error.message
    if clean == text:
        return text, ""
    new = Counter(PLACEHOLDER.findall(clean)) - Counter(PLACEHOLDER.findall(text))
    return clean, f"a secret: {', '.join(sorted({kind for kind, _ in new}))}"


def _holds_private_key(text: str, hay: Hay) -> bool:
    return any(rule.hinted(hay) and any(_found(rule, text)) for rule in PRIVATE_KEYS)


def _found(rule: Rule, text: str) -> Iterator[Span]:
    group = "v" if "v" in rule.pattern.groupindex else 0
    for match in rule.pattern.finditer(text):
        if rule.check is None or rule.check(match):
            yield match.start(group), match.end(group), rule.kind


def _parsed(text: str) -> tuple[object] | None:
    """The JSON value in `text`, in a tuple because it may be null; None when it is not JSON."""
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        return None


def _lower(text: str) -> str:
    """Lower case, and as long as `text`: one capital letter of Unicode becomes two."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)


def _known_rule(known: Sequence[str]) -> tuple[Rule, ...]:
    """Our own keys as they are, JSON-escaped once and twice, and percent-encoded; longest first."""
    forms: set[str] = set()
    for secret in known:
        if len(secret) >= SHORTEST_KNOWN:
            once = json.dumps(secret)[1:-1]
            forms |= {secret, once, json.dumps(once)[1:-1], quote(secret, safe="")}
    if not forms:
        return ()
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    pattern = re.compile("|".join(re.escape(form) for form in longest_first))
    return (Rule("known", tuple(form.lower() for form in longest_first), pattern),)
