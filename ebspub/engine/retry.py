"""How long to wait before trying again: full jitter, so that jobs that failed together do not come back together."""

from __future__ import annotations

import random

BASE = 2.0
CAP = 60.0


def delay(tries: int, rng: random.Random) -> float:
    """Return seconds to wait after the ``tries``-th failure in a row (counted from 1): 0 to min(60, 2 * 2**tries)."""
    return rng.uniform(0.0, min(CAP, BASE * 2.0 ** min(tries, 10)))
