"""Redaction that does not look twice at what it has found clean: an agent sends its whole conversation each time.

`RememberingRedactor` gives exactly what the redactor in it gives, sooner. A text is cut between the objects of its
lists (messages, content blocks, tools), and a piece without a finding is remembered by a keyed digest; a text all of
whose pieces are clean is clean. With a finding in any of them the whole text is redacted as ever.

Why no finding is lost at a cut: it lies behind `"},`, and no rule can match across that but two sorts. Those marked
`far`, and those for private keys, are tried on the whole text wherever their hint stands. A quoted value under a
telling name has at most 400 characters, or no quotes in it, and each piece is looked at with more than that of what
follows it. What stands before a match is only asked for as far as there is no brace.
tests/test_redact_memory.py tries to prove this wrong.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from sleepy_coder.collect.redact import SecretRedactor, finds_far, has_far_hint

REMEMBERED: Final = 100_000
"""Pieces in one generation; two of them take at most about 30 MB, for some hundred megabytes of text."""

_CUT: Final = re.compile(r'"[}\]]*\},\s?(?=\{")')
_AFTER: Final = 512
# A value that is quoted with a run of these ends later by as many characters: such a text is not cut.
_LONG_ESCAPE: Final = "\\" * 64


class RememberingRedactor:
    """`ports.Redactor` in front of a `SecretRedactor`. Safe to share by threads."""

    def __init__(self, redactor: SecretRedactor, remembered: int = REMEMBERED) -> None:
        self._redactor, self._limit = redactor, remembered
        self._cuts = not redactor.own_keys_reach_far
        self._pepper = secrets.token_bytes(32)
        # Digest to whether a far rule's hint is in the piece. Two generations are a cheap "least recently used":
        # what the old one still answers moves to the young one.
        self._young: dict[bytes, bool] = {}
        self._old: dict[bytes, bool] = {}

    def redact(self, text: str) -> str:
        """`text` without secrets. Raises SecretFound when it must not be kept at all."""
        return text if self._is_clean(text) else self._redactor.redact(text)

    def _is_clean(self, text: str) -> bool:
        starts = [0]
        if self._cuts and _LONG_ESCAPE not in text:
            starts += [cut.end() for cut in _CUT.finditer(text)]
        ends = [*(start + _AFTER for start in starts[1:]), len(text)]
        hinted = False
        for start, end in zip(starts, ends, strict=True):
            hint = self._hint_in_clean(text[start:end])
            if hint is None:
                return False
            hinted |= hint
        return not (hinted and finds_far(text))

    def _hint_in_clean(self, piece: str) -> bool | None:
        """Whether a far rule's hint is in a clean `piece`; None when it is not clean."""
        digest = hashlib.blake2b(piece.encode(errors="surrogatepass"), key=self._pepper, digest_size=16).digest()
        hint = self._young.get(digest)
        if hint is not None:
            return hint
        hint = self._old.get(digest)
        if hint is None:
            if not self._redactor.finds_nothing(piece):
                return None
            hint = has_far_hint(piece)
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[digest] = hint
        return hint
