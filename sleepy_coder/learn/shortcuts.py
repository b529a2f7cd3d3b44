"""Is an answer that passed an honest one by today's rules? They grow, and not every episode was judged here."""

from __future__ import annotations

from sleepy_coder.dialogue import ReplyFormatError, apply_reply
from sleepy_coder.types import Episode
from sleepy_coder.verify.cheat import find_cheat


def shortcut_in(episode: Episode) -> str:
    """Why the answer that passed must not be learned; empty when nothing is found.

    Another agent's conversation is not looked at: what it did to the files is not in its last words. `sleepy-coder run`
    holds the files themselves against the same rules.
    """
    last = episode.attempts[-1] if episode.attempts else None
    if episode.task is None or last is None or last.first_turn is not None:
        return ""
    try:
        files = apply_reply(last.completion, episode.task.files)
    except ReplyFormatError:
        return ""
    return find_cheat(episode.task, files) or ""
