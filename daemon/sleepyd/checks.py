"""What `POST /admin/check` takes: the word of the verifier that `sleepy-coder run` asks about a session."""

from __future__ import annotations

from collections.abc import Callable

from sleepy_coder.collect.agent_run import harmless
from sleepy_coder.ports import Clock, Redactor
from sleepy_coder.serve.gateway_client import VerifierWord
from sleepy_coder.store import Store

KeepCheck = Callable[[VerifierWord], None]
"""Stores it. Raises StoreError."""


def keeping_checks(store: Store, redactor: Redactor, clock: Clock) -> KeepCheck:
    """Keeps what verifiers say in `store`, without secrets."""

    def keep(word: VerifierWord) -> None:
        if word.check is not None:
            store.save_check(harmless(redactor, word.check))
        elif word.state == "awaited":
            store.begin_check(word.session, clock.now())
        else:
            store.drop_check(word.session)

    return keep
