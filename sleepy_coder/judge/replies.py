"""What the form of replies tells of an adapter, before any verifier speaks: empty, malformed, far too long or too slow.

Pure, and only ever a comparison: what clients ask for may well lead to empty replies or long ones, with either adapter.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from math import prod
from statistics import median
from typing import Final

from sleepy_coder.collect.streams import object_in
from sleepy_coder.collect.wires import spoken
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.store_canary import REMEMBERED_SESSIONS
from sleepy_coder.types import Exchange, Message

_CHANCE: Final = 1e-4
"""A run of broken replies is an alarm when the old adapter's own rate would give it less often than this..."""
_LOTS: Final = 1e-3
"""...and the lot would, had what was asked broken any adapter: one prompt may be tried in session after session."""
_WINDOW, _FEWEST = 200, 8  # sessions of the old adapter that the median is taken of
_CUT_OFF: Final = frozenset(("length", "max_tokens", "max_output_tokens"))


@dataclass(frozen=True, slots=True)
class Heard:
    """One whole reply: `broken` says how ("" when it is sound); its length in tokens, its time in seconds."""

    broken: str
    tokens: float
    seconds: float


def heard(exchange: Exchange) -> Heard | None:
    """None for what says nothing of a model: errors of server and client, and replies that broke off."""
    if exchange.status != 200 or not exchange.whole:
        return None
    try:
        reply = spoken(exchange).reply
    except (EpisodeFormatError, RecursionError):
        return None
    tokens = exchange.tokens_out if exchange.tokens_out is not None else len(exchange.response) / 4
    return Heard(_broken(reply, exchange.finish_reason), tokens, exchange.seconds)


def _broken(reply: Message | None, finish: str) -> str:
    if reply is None or not (reply.content.strip() or reply.tool_calls or reply.reasoning.strip()):
        return "empty"
    if finish not in _CUT_OFF and any(object_in(call.arguments or "{}") is None for call in reply.tool_calls):
        return "malformed"
    return ""


@dataclass(slots=True)
class ReplyWatch:
    """How sessions of one canary begin. `alarm` is why to roll back at once, "" while there is no reason.

    Only the first reply of a session is looked at, whatever comes after it: were sound sessions counted later than
    failed ones, an adapter that needs fewer replies would look worse.
    """

    settings: CanarySettings
    alarm: str = ""
    _run: list[float] = field(default_factory=list[float])
    _old: int = 0
    _old_broken: int = 0
    _tokens: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))
    _seconds: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))
    _met: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])

    def hear(self, session: str, new: bool, share: float, one: Heard) -> bool | None:
        """Take a reply in; whether its session has failed, None when that is no matter of this reply.

        `share` is the chance with which a session gets the new adapter.
        """
        if session in self._met:
            return None
        self._met[session] = None
        if len(self._met) > REMEMBERED_SESSIONS:
            self._met.popitem(last=False)
        # Without others to compare with this session is never counted.
        failed = bool(one.broken) or self._explodes(one) if len(self._tokens) >= _FEWEST else None
        self._count_run(new, share, one)
        if not new:
            self._tokens.append(one.tokens)
            self._seconds.append(one.seconds)
        return failed

    def _explodes(self, one: Heard) -> bool:
        factor = self.settings.explosion
        return one.tokens > factor * median(self._tokens) or one.seconds > factor * median(self._seconds)

    def _count_run(self, new: bool, share: float, one: Heard) -> None:
        """A run are sessions of the new adapter, all broken, with none between them that the old one broke as well."""
        if not new:
            self._old += 1
            self._old_broken += bool(one.broken)
            if one.broken:
                self._run.clear()
        elif one.broken:
            self._run.append(share)
        else:
            self._run.clear()
        usual, length = (self._old_broken + 1) / (self._old + 2), len(self._run)
        unlikely = usual**length <= _CHANCE and prod(self._run) <= _LOTS
        if length >= self.settings.broken_in_a_row and unlikely and not self.alarm:
            self.alarm = f"the first replies of {length} sessions in a row were broken, the last one {one.broken}"
