"""The live test of a new adapter: a bet that it fails more often than what served before.

Each session is given to the new adapter with a known chance pi, by lot, and ends well or badly. If the new adapter is
no worse, then whatever happens to both alike (harder work, a slower machine), the chance that a failure was the new
one's is at most pi, and that a success was is at least pi. Against that is bet, for odds o of 1.3, 1.7, 2.5 and 4:

    failure:  p1 = o pi / (o pi + 1 - pi)
    success:  the same with o' = max(.3, 1 - (o - 1) / 4)
    factor:   p1 / pi for a session of the new adapter, (1 - p1) / (1 - pi) for one of the old

E is the mean of the four products. It has expectation at most 1 whenever it is looked at, so P(E ever >= 20) <= 5%
(Ville 1939). Sessions, not requests or episodes, are the unit: what one session does twice was one draw of the lot.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from sleepy_coder.judge.eprocess import Array, Bools
from sleepy_coder.store_canary import Counted

ODDS: Final = np.array((1.3, 1.7, 2.5, 4.0))
_ODDS_OF_SUCCESS: Final = np.maximum(0.3, 1 - (ODDS - 1) / 4)


def lot(promotion: str, session: str) -> float:
    """What `session` draws in `promotion`: a number in [0, 1), as good as random and always the same.

    Below the share it gets the new adapter.
    """
    digest = hashlib.blake2b(f"{promotion}\0{session}".encode(errors="surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def log_paths(new: Bools, failed: Bools, share: Array | float) -> Array:
    """Natural logs of E after each session along the last axis.

    `new` says which adapter a session had, `failed` how it ended, `share` the chance pi with which it was given to
    the new one. All of one shape, or `share` a number.
    """
    pi = np.broadcast_to(np.asarray(share, dtype=np.float64), new.shape)[..., None]
    odds = np.where(failed[..., None], ODDS, _ODDS_OF_SUCCESS)
    p1 = odds * pi / (odds * pi + 1 - pi)
    factors = np.log(np.where(new[..., None], p1 / pi, (1 - p1) / (1 - pi)))
    return np.logaddexp.reduce(np.cumsum(factors, axis=-2), axis=-1) - math.log(len(ODDS))


def log_e(counted: Sequence[Counted]) -> float:
    """Natural log of E after these sessions, in any order; 0 for none."""
    if not counted:
        return 0.0
    new = np.array([one.new for one in counted])
    failed = np.array([one.failed for one in counted])
    return float(log_paths(new, failed, np.array([one.share for one in counted]))[-1])
