"""Asks the model server for the token counts of streams, and takes them out of the reply again.

A stream tells them only when its request says `stream_options.include_usage`. For requests that say nothing of the
kind the gateway puts it in, and the caller gets byte for byte what they would have got without.

What vLLM does then (0.32, `entrypoints/openai/{chat_completion,completion}/serving.py`): one more event with
`"choices":[]` and the counts comes before `[DONE]`, and the system's fingerprint stands in that event rather than in
the one with the finish reason. So the event with the finish reason is held until the next one has come, which
follows at once, and gets the fingerprint back. Other events are the same as ever.
"""

from __future__ import annotations

import re
from typing import Final

from .rename import LONGEST_LINE, top_values, with_member

_OPTIONS: Final = b'"stream_options"'
_STREAM: Final = b'"stream"'
_FLAT: Final = rb'"[^"\\]*"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*'
# Flat members from there to either end of the text prove that `stream` is at the top, without reading the rest.
_STREAMS: Final = re.compile(rb'"stream"\s*:\s*true\s*(?:,\s*' + _FLAT + rb")*\}\s*\Z")
_STREAMS_FIRST: Final = re.compile(rb"\s*\{\s*(?:" + _FLAT + rb',\s*)*?"stream"\s*:\s*true\s*[,}]')
_OBJECT: Final = re.compile(rb'\s*\{\s*"')
_ONE_PROMPT: Final = re.compile(rb'"prompt"\s*:\s*"')

_ENDS: Final = re.compile(rb'"finish_reason"\s*:\s*"')
_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_COUNTS: Final = re.compile(rb'"usage"\s*:\s*\{')
_FINGERPRINT: Final = re.compile(rb'"system_fingerprint"\s*:\s*"(?:[^"\\]|\\.)*"')


def ask_usage(body: bytes, *, prompts: bool) -> bytes:
    """`body` of a chat request (of a completions request with `prompts`), asking for the counts.

    `body` itself when it is no stream, when it speaks of `stream_options` at all, and when it asks for several
    answers: their ends do not come together, and none may be held for another.
    """
    if _STREAM not in body or _OPTIONS in body or not _OBJECT.match(body):
        return body
    if prompts and not (body.count(b'"prompt"') == 1 and _ONE_PROMPT.search(body)):
        return body
    once = body.count(_STREAM) == 1 and b'"n"' not in body
    if not (once and (_STREAMS_FIRST.match(body) or _STREAMS.search(body))):
        values = top_values(body, ("stream", "n"))
        if values.get("stream") != b"true" or values.get("n", b"1") not in (b"1", b"null"):
            return body
    return with_member(body, b'"stream_options":{"include_usage":true}')


class UsageTaker:
    """Takes out of a stream what `ask_usage` put into it, whatever chunks it comes in."""

    def __init__(self) -> None:
        self._partial = b""
        self._held: list[bytes] = []
        self._drops_blank = False
        self._off = False

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that can go on, now that `chunk` has come."""
        lines = self._partial + chunk
        self._partial = b""
        if not lines.endswith(b"\n"):
            end = lines.rfind(b"\n") + 1
            lines, self._partial = lines[:end], lines[end:]
        if len(self._partial) > LONGEST_LINE:
            self._off = True
        plain = not self._held and not self._drops_blank and b'"usage"' not in lines and not _ENDS.search(lines)
        if not (plain or self._off):
            lines = b"".join([self._line(line) for line in lines.splitlines(keepends=True)])
        return lines + self.rest() if self._off else lines

    def rest(self) -> bytes:
        """What is still held when the stream is over."""
        held = b"".join((*self._held, self._partial))
        self._held, self._partial = [], b""
        return held

    def _line(self, line: bytes) -> bytes:
        """What goes on because `line` has come."""
        if self._off:
            return line
        if self._drops_blank:
            self._drops_blank = False
            if not line.strip():
                return b""
        if not line.startswith(b"data:"):
            if self._held:
                self._held.append(line)
                return b""
            return line
        if _COUNTS.search(line):
            if _NO_CHOICES.search(line):
                self._drops_blank = True
                return self._released(_FINGERPRINT.search(line))
            # A server that tells the counts all along does so whether it is asked or not.
            self._off = True
        before = self._released(None)
        if not self._off and _ENDS.search(line):
            self._held = [line]
            return before
        return before + line

    def _released(self, fingerprint: re.Match[bytes] | None) -> bytes:
        held, self._held = self._held, []
        if fingerprint and held and not _FINGERPRINT.search(held[0]):
            place = held[0].rstrip().rfind(b"}")
            held[0] = held[0][:place] + b"," + fingerprint[0] + held[0][place:]
        return b"".join(held)
