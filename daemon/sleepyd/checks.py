"""What `POST /admin/check` takes: the word of the verifier that `sleepy-coder run` asks about a session."""

from __future__ import annotations

from collections.abc import Callable

from sleepy_coder.collect.project import harmless
from sleepy_coder.ports import Clock, Redactor
from sleepy_coder.serve.gateway_client import VerifierWord
from sleepy_coder.store import Store

KeepCheck = Callable[[VerifierWord], bool]
"""Stores it; False when it is not from who announced the verifier. Raises StoreError."""


def keeping_checks(store: Store, redactor: Redactor, clock: Clock) -> KeepCheck:
    """Keeps what verifiers say in `store`, without secrets."""

    def keep(word: VerifierWord) -> bool:
        if word.check is not None:
            return store.save_check(harmless(redactor, word.check), word.nonce)
        if word.state == "not_passed":
            return store.end_unpassed(word.session, word.nonce)
        store.begin_check(word.session, clock.now(), word.nonce)
        return True

    return keep
