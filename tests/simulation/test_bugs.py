"""The simulation can fail: each classic bug, planted, is found within a few histories."""

from __future__ import annotations

import pytest

from tests.simulation import bugs
from tests.simulation.chaos import FOUL
from tests.simulation.world import World

_ENOUGH = 200


@pytest.mark.parametrize("bug", bugs.BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    with bugs.BUGS[bug]():
        for seed in range(_ENOUGH):
            world = World(seed, weather=FOUL)
            bugs.enter(world.regions)
            world.history()
            if world.violations():
                return
    pytest.fail(f"{bug}: no history of {_ENOUGH} showed it")
