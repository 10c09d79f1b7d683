"""How many examples a property is tried with: few in every run, as many as one likes by hand.

The few are always the same, so that a run can be repeated. ``EBSPUB_EXAMPLES=50 make test ARGS=tests/properties`` tries
50 times as many, others in every run, and prints what reproduces a failure.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

#: Read before the tests forget what the environment says.
FACTOR = max(1, int(os.environ.get("EBSPUB_EXAMPLES", "1")))


def examples(count: int) -> settings:
    """Return settings for ``count`` examples, times the factor."""
    return settings(
        max_examples=count * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,  # a machine may be as slow as it likes
        print_blob=True,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
