"""Who gets the new adapter while a promotion is watched: a lot per session, drawn once and kept.

The lot is a hash of the session and of the promotion's random name, so that the same session draws the same wherever it
is asked, and nobody can choose a session that draws what they like. What was drawn is remembered with the chance it
was drawn with: the chance changes when a canary goes on, a session's adapter does not.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from sleepy_coder.judge.rollback import lot
from sleepy_coder.store_canary import REMEMBERED_SESSIONS, Assigned


class Lots:
    """Draws on the event loop's thread; what is below "The watch" is called on the watch's own.

    `share` is the chance of the new adapter in a promotion that nothing else is known of; 1 divides nobody.
    """

    def __init__(self, share: float) -> None:
        self._default = share
        self._shares: dict[str, float] = {}
        self._promotion = ""
        self._held: OrderedDict[str, Assigned] = OrderedDict()
        self._fresh: deque[tuple[str, Assigned]] = deque()
        self._unsaved: list[tuple[str, Assigned]] = []
        self._asked: OrderedDict[str, str] = OrderedDict()

    @property
    def promotion(self) -> str:
        """The promotion that is drawn for; "" when what serves was not promoted, but rolled back to."""
        return self._promotion

    @property
    def open(self) -> bool:
        """Whether a session may draw the old adapter."""
        return bool(self._promotion) and (self._share < 1 or bool(self._held))

    @property
    def _share(self) -> float:
        return self._shares.get(self._promotion, self._default)

    def begin(self, promotion: str) -> None:
        """Another promotion serves, or none: everybody draws anew."""
        if promotion != self._promotion:
            self._promotion, self._held = promotion, OrderedDict()

    def gives_new(self, session: str) -> bool:
        """Whether `session` gets the new adapter. One without a name does: it cannot be found again."""
        if not session or not self.open:
            return True
        held = self._held  # the watch may put another in its place meanwhile
        known = held.get(session)
        if known is not None:
            held.move_to_end(session)
            return known.new
        share = self._share
        if share >= 1:
            return True
        drawn = Assigned(session=session, new=lot(self._promotion, session) < share, share=share)
        held[session] = drawn
        self._fresh.append((self._promotion, drawn))
        if len(held) > REMEMBERED_SESSIONS:
            held.popitem(last=False)
        return drawn.new

    def note(self, exchange: str, session: str) -> None:
        """Remember whose exchange this is: those without a session of their own are known here only."""
        self._asked[exchange] = session
        if len(self._asked) > REMEMBERED_SESSIONS // 2:
            self._asked.popitem(last=False)

    # The watch

    def session_of(self, exchange: str) -> str:
        """Whose exchange this was; "" when it was not divided."""
        return self._asked.get(exchange, "")

    def set_share(self, promotion: str, share: float) -> None:
        """The chance of the new adapter from now on. 1 divides no new sessions."""
        self._shares = {promotion: share}

    def forget(self) -> None:
        """Give the new adapter to everybody, also to those who drew the old one."""
        self._held = OrderedDict()

    def restore(self, promotion: str, known: Iterable[Assigned]) -> None:
        """What was drawn for `promotion` before a restart holds, also where it was drawn again since."""
        held = self._held
        if promotion == self._promotion:  # else another serves by now, and `held` may be of either
            held.update((one.session, one) for one in known)

    def drawn(self) -> list[tuple[str, Assigned]]:
        """What was drawn and is not `saved` yet, with its promotion."""
        while self._fresh:
            self._unsaved.append(self._fresh.popleft())
        return self._unsaved

    def saved(self) -> None:
        """The store has all that `drawn` told last."""
        self._unsaved = []
