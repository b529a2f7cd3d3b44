"""Secrets without a shape of their own: found by the name before them, or by being too random for anything else.

Looking for names with one large pattern takes a second per megabyte. So a quick search finds the stems
("token", "passw", ...) and the quoted random words, and only there the patterns are tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sleepy_coder.collect.redact_rules import is_dummy, is_mixed, is_stand_in, is_wordy, looks_random

Span = tuple[int, int, str]

# The text is lower case here. `key` and `pass` need a telling word before them.
_STEM = re.compile(r"passw(?:or)?ds?|passphrase|passcode|pwd|pass|secrets?|tokens?|keys?|credentials?|dsn|webhook")
_KEY_BEFORE = re.compile(
    r"(?:api|access|secret|auth|account|private|signing|encryption|master|shared|session|client|storage|service"
    r"|subscription|license|app)[_.-]?$"
)

_NAME = r"(?P<name>[A-Za-z]{1,64}(?:[A-Z_.-][\w.-]{0,30})?)"
_BETWEEN = (
    r"\\*[\"'`]?\]?(?P<between>\s{0,3}(?::\s{0,2}[A-Za-z_&][\w&' |.\[]{0,24}[\w\]]\s?=|:=|=>|[!=]?={1,2}|:)\s{0,3})"
)
_LIST = r"(?:\\*[\"'`])?(?P<between>\s?[,(]\s?)"
_CLOSE = r"(?<!\\)(?P=open)(?P=quote)"
# Beyond 400 characters a value has to be made of a token's characters: prose is no value, and `"},` is not among
# them, so it cannot reach from one message into the next (redact_memory.py).
# The run holds no `=`, or each "token=" in a long line of them would be a beginning of the whole line.
_LONG = r"[A-Za-z0-9+/_.-]{300,8192}+"
_QUOTED = (
    r"(?P<open>\\*)(?P<quote>[\"'`])"
    rf"(?P<v>(?:(?!{_CLOSE})[^\n]){{4,400}}?(?={_CLOSE})|{_LONG}={{0,2}}){_CLOSE}"
)
_SIGN = r"[^\s\"'`\\,;&<>(){}\[\]|]"
_BARE = rf"(?P<v>{_LONG}{_SIGN}{{0,400}}|{_SIGN}{{6,400}})(?P<after>[^\s]|\s|$)"

_ASSIGNED = re.compile(_NAME + _BETWEEN + _QUOTED)
_ARGUMENT = re.compile(_NAME + _LIST + _QUOTED)
_UNQUOTED = re.compile(_NAME + _BETWEEN + _BARE)
_OPTION = re.compile(_NAME + r"(?P<between> )(?:\\*[\"'])?" + _BARE)

# A line of an env file. Any sign may stand in its value: an ampersand as JSON has it (\u0026), and a quote if it does
# not end a string.
_ANY_SIGN = r"(?:[^\s\"'`\\]|\\+u[0-9a-f]{4}|\\*[\"'`](?=[A-Za-z0-9]))"
_LINE = re.compile(
    r"(?P<name>[A-Z][A-Z0-9_]{0,63})="
    rf"(?P<v>{_LONG}{_ANY_SIGN}{{0,1000}}|[^\s\"'`\\]{_ANY_SIGN}{{5,1000}})(?P<after> ?)"
)
# What may stand before the name in its line, as agents show files: a grep's path, line numbers, the marks of a diff.
_LINE_BEFORE = re.compile(
    r"(?:^|[\r\n\"'`]|\\[nrt])(?:[\w./-]{1,60}:)?(?:\\t|[\s\d+|:\u2192>-]){0,12}(?:(?:export|ENV|set)\s)?[A-Z0-9_]*$"
)
# `os.environ["X`, `(one `, `read(`, `load(1).value;`: of a call or a list whatever reaches to the first space or end.
_CODE = re.compile(
    r"(?:[A-Za-z_][\w.:]*)?[(\[](?:\\*[\"'`]|.* $)|[A-Za-z_][\w.:]*(?:[(\[{]|[(\[].*[)\]](?:\.\w+)*[;,]*)$"
)

_HARMLESS_NAME = re.compile(
    r"(?i)(?:count|counts|limit|length|size|url|uri|file|path|dir|directory|type|name|names|ids?|index|usage|budget|ttl|expir\w*"
    r"|seconds|field|header|hash|prefix|suffix|pattern|regex|endpoint|env|var|policy|hint|label|kind|version|per\w*)$"
)

_DENSE = re.compile(r"[\"'`]([A-Za-z0-9+/=_-]{24,128})(?=\\*[\"'`])")
_ANY_NAME = re.compile(r"([A-Za-z_][\w-]{1,40})" + _BETWEEN + r"\\*$")
_DIGEST_NAME = re.compile(
    r"(?i)(?:hash|sha\d*|digest|checksum|integrity|commit|rev|revision|id|uuid|guid|etag|md5|signature|fingerprint"
    r"|content|data|image|url|path|cursor|nonce|obfuscation|type|name|model)s?$"
)


def named_secrets(text: str, lowered: str) -> Iterator[Span]:
    """(start, end, kind) of values under a telling name. `lowered` is `text` in lower case, as long as it is."""
    for start, end, weak in _stems(lowered):
        match = _value_after(text, start, end, weak)
        if match is not None:
            yield match.start("v"), match.end("v"), "password" if weak else "assigned"


def kind_of_value(name: str, value: str) -> str | None:
    """The kind of secret that the value of a field `name` is, when names and values are apart already."""
    for start, end, weak in _stems(name.lower()):
        if not _goes_on(name, end) and _is_quoted_secret(name[start:], value, weak):
            return "password" if weak else "assigned"
    return None


def _stems(lowered: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether any value will do) of each telling word."""
    for stem in _STEM.finditer(lowered):
        start, word = stem.start(), stem[0]
        weak = word.startswith(("pass", "pwd"))
        if word == "pass" and lowered[start - 1 : start] != "_":
            continue
        if word.startswith("key") and not _KEY_BEFORE.search(lowered[max(0, start - 16) : start]):
            continue
        yield start, stem.end(), weak


def _goes_on(text: str, end: int) -> bool:
    """Whether the word goes on: "tokenize", "keyboard". A capital after a small letter begins another."""
    after = text[end : end + 1]
    return after.isalpha() and not (after.isupper() and text[end - 1].islower())


def random_secrets(text: str) -> Iterator[Span]:
    """(start, end, kind) of quoted values that are too random to be anything else, under whatever name."""
    for match in _DENSE.finditer(text):
        value = match[1]
        if value not in (value.lower(), value.upper()) and looks_random(value):
            name = _ANY_NAME.search(text, max(0, match.start() - 80), match.start())
            if name is not None and not _DIGEST_NAME.search(name[1]):
                yield match.start(1), match.end(1), "high-entropy"


def _value_after(text: str, start: int, end: int, weak: bool) -> re.Match[str] | None:
    """The secret after the name that begins at `start`; its stem ends at `end`."""
    if _goes_on(text, end):
        return None
    quoted = _ASSIGNED.match(text, start)
    if quoted is not None:
        return quoted if _is_quoted_secret(quoted["name"], quoted["v"], weak) else None
    argument = _ARGUMENT.match(text, start)
    if argument is not None:
        value = argument["v"]
        dense = len(value) >= 12 and is_mixed(value) and not is_wordy(value)
        return argument if dense and _is_quoted_secret(argument["name"], value, weak) else None
    line = _LINE_BEFORE.search(text, max(0, start - 100), start) and _LINE.match(text, start)
    if line:
        return line if _is_line_secret(line, weak) else None
    option = text[max(0, start - 30) : start].rpartition("--")[1:] != ("", "") and _OPTION.match(text, start)
    bare = option or _UNQUOTED.match(text, start)
    return bare if bare and _is_bare_secret(bare, weak) else None


def _is_quoted_secret(name: str, value: str, weak: bool) -> bool:
    name = name.lower()
    if _HARMLESS_NAME.search(name) or is_dummy(value) or value.lower() == name:
        return False
    spaced = bool(re.search(r"\s", value))
    if weak:
        return len(value) >= 6 and ("phrase" in name or not spaced)
    if spaced or len(value) < 8 or "://" in value:
        return False
    return (is_mixed(value) and not is_wordy(value)) or _one_mixed_word(value)


def _is_bare_secret(match: re.Match[str], weak: bool) -> bool:
    """Without quotes most values are expressions. An env file or a query says `=` and no space."""
    value, name, between, after = match["v"], match["name"], match["between"], match["after"]
    if _HARMLESS_NAME.search(name) or is_dummy(value) or "://" in value or after in ("(", "["):
        return False
    environment = name.isupper() and between == "="
    if weak:
        ends = after in ("\n", "\r", "\\", "")
        number = bool(re.search(r"\d", value))
        return environment or (number and (between in ("=", " ") or ends or not is_wordy(value)))
    if len(value) < 12:
        return False
    if environment and not re.fullmatch(r"[A-Za-z_.]+", value):
        return True
    return (is_mixed(value) and not is_wordy(value)) or (between == "=" and _one_mixed_word(value))


def _is_line_secret(match: re.Match[str], weak: bool) -> bool:
    value = match["v"]
    if _HARMLESS_NAME.search(match["name"]) or is_stand_in(value) or "://" in value:
        return False
    if _CODE.match(value + match["after"]):
        return False
    return weak or (len(value) >= 12 and (not re.fullmatch(r"[A-Za-z_.]+", value) or _one_mixed_word(value)))


def _one_mixed_word(value: str) -> bool:
    """A token may happen to hold no digit: then it is one long word of both cases."""
    return bool(re.fullmatch(r"[A-Za-z0-9+/=]{20,}", value)) and value not in (value.lower(), value.upper())
