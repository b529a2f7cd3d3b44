"""From what passed the gateway to episodes: conversations that have come to rest are labelled and stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sleepy_coder import log
from sleepy_coder.collect.episodes import as_episode
from sleepy_coder.collect.outcome import UNLABELLED, feedback, label
from sleepy_coder.collect.sessions import Conversation, group
from sleepy_coder.errors import StoreError
from sleepy_coder.store import Store
from sleepy_coder.store_rows import episode_row
from sleepy_coder.types import Episode, SessionCheck

_log = log.get("collect")
_LONGEST_RUN = timedelta(days=1)


def gather_resting(store: Store, now: datetime, rest: timedelta) -> int:
    """Store the episodes of the conversations that nobody has gone on with for `rest`; how many are new.

    A session that `sleepy-coder run` watches comes to rest when its verifier has spoken, for a day at most.
    Episodes and the marks on their exchanges are one transaction, so that whoever is killed here neither loses nor
    doubles any. What a conversation that still goes on needs stays unmarked. One that goes on after its rest
    becomes another episode, of which only the new turns are learned. What lies further ahead than a day was noted while
    the clock was wrong, and is not waited for. Raises StoreError.
    """
    exchanges = list(store.uncollected(now - _LONGEST_RUN, now + _LONGEST_RUN))
    ended = {exchange.id: exchange.started + timedelta(seconds=exchange.seconds) for exchange in exchanges}
    moving = {id for id, end in ended.items() if now - rest < end <= now + _LONGEST_RUN}
    found = group(exchanges)
    checks = store.checks({talk.session for talk in found.conversations})
    busy = {talk.session for talk in found.conversations if talk.exchanges[-1] in moving}
    resting, going_on = list[Conversation](), set[str]()
    for talk in found.conversations:
        # A verdict is one conversation's, which can only be told when all of the session are there.
        if talk.exchanges[-1] in moving or (talk.session in checks and talk.session in busy):
            going_on.update(talk.exchanges)
        else:
            resting.append(talk)
    others = [id for id in (*found.side_calls, *found.left_out) if id not in moving]
    done = {id for talk in resting for id in talk.exchanges} - going_on | set(others)
    if not done:
        return 0
    spoken_for = store.verified_sessions({talk.session for talk in resting})
    left = {session: check for session, check in checks.items() if session not in spoken_for}
    episodes = [one for one in _labelled(resting, left, store.feedback()) if not _put_aside(store, one)]
    new = store.save_collected(episodes, done)
    _log.info("episode.gathered", new=new, exchanges=len(done), side_calls=len(found.side_calls))
    return new


def _put_aside(store: Store, episode: Episode) -> bool:
    """Whether it went to the quarantine: one with half a character of an emoji must not keep all others waiting.

    It goes there before its exchanges are marked, and once however often, so that whoever is killed here loses nothing.
    """
    try:
        episode_row(episode)
    except (StoreError, ValueError, OverflowError) as error:
        said = json.dumps(episode.model_dump(), default=str)  # pydantic's own JSON would fail as the row did
        store.quarantine(f"conversation {episode.id}", str(error), said)
        _log.error("episode.not_stored", conversation=episode.id, reason=str(error))
        return True
    return False


def exchange_name(id: str) -> str:
    """Under what the store keeps feedback on one exchange rather than on a whole session."""
    return f"exchange/{id}"


def _names(talk: Conversation) -> list[str]:
    """Under what there may be feedback on a conversation, the closest first: its last exchange, ..., its session."""
    return [*(exchange_name(id) for id in reversed(talk.exchanges)), talk.session]


def _labelled(
    talks: Sequence[Conversation], checks: Mapping[str, SessionCheck], said: Mapping[str, tuple[bool, str]]
) -> list[Episode]:
    """The episodes, each with the outcome that is to be believed.

    A verifier speaks of what a session ended with: whoever has subagents, or goes on from a summary of what was said,
    has the last word, however short it is. The others keep their hints. Of two that end at once it is the longer one.
    """
    last = {talk.session: talk.id for talk in sorted(talks, key=lambda talk: (talk.ended, len(talk.exchanges)))}
    episodes: list[Episode] = []
    for talk in talks:
        check = checks.get(talk.session) if last[talk.session] == talk.id else None
        word = next((said[name] for name in _names(talk) if name in said), None)
        try:
            found = label(talk.messages, feedback(*word) if word else None, check.verdict if check else None)
        except (ValueError, RecursionError) as error:  # what one conversation holds must not stop the others
            _log.error("episode.not_labelled", conversation=talk.id, reason=str(error))
            found = UNLABELLED
        episodes.append(as_episode(talk, found, check.task if check else None))
    return episodes
