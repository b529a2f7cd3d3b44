"""What the form of replies tells of an adapter, before any verifier speaks: empty, malformed, far too long or too slow.

Pure, and only ever a comparison: what clients ask for may well lead to empty replies or long ones, with either adapter.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import prod
from statistics import median
from typing import Final

from sleepy_coder.collect.streams import object_in
from sleepy_coder.collect.wires import spoken
from sleepy_coder.config import CanarySettings
from sleepy_coder.errors import EpisodeFormatError
from sleepy_coder.store_canary import (
    REMEMBERED_SESSIONS,
    Assigned,
    Counted,
    FirstReply,
    Patience,
    in_lot_order,
)
from sleepy_coder.types import Exchange, Message

_CHANCE: Final = 1e-4
"""A run of broken replies is an alarm when the old adapter's own rate would give it less often than this..."""
_LOTS: Final = 1e-3
"""...and the lot would, had what was asked broken any adapter: one prompt may be tried in session after session. It is
spent over the runs of one canary: the k-th that begins has 1 / (k (k + 1)) of it, all together no more than this."""
PATIENCE: Final = timedelta(minutes=10)
"""How long a session without a reply yet may hold up those that drew their lot later."""
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
class _Begun:
    """A session that drew `lot` at that time, and its first reply as soon as it is there."""

    lot: Assigned
    at: datetime
    first: Heard | None = None


@dataclass(slots=True)
class ReplyWatch:
    """How sessions of one canary begin. `alarm` is why to roll back at once, "" while there is no reason.

    Only the first reply of a session is looked at, whatever comes after it: were sound sessions counted later than
    failed ones, an adapter that needs fewer replies would look worse. And they are looked at in the order of the lots:
    else one that is only slower would have its sound ones missing after a burst.
    """

    settings: CanarySettings
    alarm: str = ""
    _begun: OrderedDict[str, _Begun] = field(default_factory=OrderedDict[str, _Begun])
    _said: list[FirstReply] = field(default_factory=list[FirstReply])
    _run: list[float] = field(default_factory=list[float])
    _runs: int = 0
    _old: int = 0
    _old_broken: int = 0
    _tokens: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))
    _seconds: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))

    def resume(self, forms: Iterable[Counted]) -> None:
        """Take up what was counted before a restart. What was not by then is left out, whichever adapter's it is."""
        for one in forms:
            self._count_form(one.new, one.share, "broken" if one.failed else "")

    def drew(self, lot: Assigned, at: datetime) -> None:
        """A session begins."""
        self._begun.setdefault(lot.session, _Begun(lot, at))
        if len(self._begun) > REMEMBERED_SESSIONS:
            self._begun.popitem(last=False)

    def lot_of(self, session: str) -> Assigned | None:
        """What `session` drew here, as long as its first reply does not count yet."""
        begun = self._begun.get(session)
        return begun.lot if begun else None

    def hear(self, session: str, one: Heard) -> None:
        """Take a reply in: of a session that drew its lot here, the first one."""
        begun = self._begun.get(session)
        if begun is not None and begun.first is None:
            begun.first = one

    def said(self, patience: Patience) -> list[FirstReply]:
        """The first replies that count by now and are not `kept` yet, in the order of their sessions' lots."""
        ready = in_lot_order(
            self._begun.values(), lambda one: one.first is not None, lambda one: patience.waits_for(one.at)
        )
        for begun in list(ready):
            del self._begun[begun.lot.session]
            if begun.first is not None:
                self._said.append(self._counted(begun.lot, begun.first))
        return self._said

    def kept(self) -> None:
        """The store has all that `said` told last."""
        self._said = []

    def _counted(self, lot: Assigned, one: Heard) -> FirstReply:
        # Without others to compare with this session has not failed, nor has it not.
        failed = bool(one.broken) or self._explodes(one) if len(self._tokens) >= _FEWEST else None
        self._count_form(lot.new, lot.share, one.broken)
        if not lot.new:
            self._tokens.append(one.tokens)
            self._seconds.append(one.seconds)
        how = one.broken or ("too long or slow" if failed else "sound")
        return FirstReply(session=lot.session, broken=bool(one.broken), failed=failed, how=how)

    def _explodes(self, one: Heard) -> bool:
        factor = self.settings.explosion
        return one.tokens > factor * median(self._tokens) or one.seconds > factor * median(self._seconds)

    def _count_form(self, new: bool, share: float, broken: str) -> None:
        """A run are sessions of the new adapter, all broken, with none between them that the old one broke as well.

        It begins with a broken reply whose lot is not looked at yet, so that the old one's end runs of no length too.
        """
        self._old += not new
        self._old_broken += not new and bool(broken)
        if not broken:
            self._run = [] if new else self._run
            return
        self._runs += not self._run
        self._run = [*self._run, share] if new else []
        usual, length = (self._old_broken + 1) / (self._old + 2), len(self._run)
        unlikely = usual**length <= _CHANCE and prod(self._run) <= _LOTS / (self._runs * (self._runs + 1))
        if length >= self.settings.broken_in_a_row and unlikely and not self.alarm:
            self.alarm = f"the first replies of {length} sessions in a row were broken, the last one {broken}"
