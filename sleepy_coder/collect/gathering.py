"""From what passed the gateway to episodes: conversations that have come to rest are labelled and stored."""

from __future__ import annotations

from datetime import datetime, timedelta

from sleepy_coder import log
from sleepy_coder.collect.episodes import as_episode
from sleepy_coder.collect.outcome import feedback, label
from sleepy_coder.collect.sessions import group
from sleepy_coder.store import Store

_log = log.get("collect")


def gather_resting(store: Store, now: datetime, rest: timedelta) -> int:
    """Store the episodes of the conversations that nobody has gone on with for `rest`; how many are new.

    Episodes and the marks on their exchanges are one transaction, so that whoever is killed here neither loses nor
    doubles any. What a conversation that still goes on needs stays unmarked. One that goes on after its rest
    becomes another episode, of which only the new turns are learned. Raises StoreError.
    """
    exchanges = list(store.uncollected())
    until = now - rest
    ended = {exchange.id: exchange.started + timedelta(seconds=exchange.seconds) for exchange in exchanges}
    found = group(exchanges)
    resting = [talk for talk in found.conversations if ended[talk.exchanges[-1]] <= until]
    going_on = {id for talk in found.conversations if ended[talk.exchanges[-1]] > until for id in talk.exchanges}
    others = [id for id in (*found.side_calls, *found.left_out) if ended[id] <= until]
    done = {id for talk in resting for id in talk.exchanges} - going_on | set(others)
    if not done:
        return 0
    said = {session: feedback(good, note) for session, (good, note) in store.feedback().items()}
    episodes = [as_episode(talk, label(talk.messages, said.get(talk.session))) for talk in resting]
    new = store.save_collected(episodes, done)
    _log.info("episode.gathered", new=new, exchanges=len(done), side_calls=len(found.side_calls))
    return new
