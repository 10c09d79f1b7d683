"""The simulation can fail: each classic bug, planted, is found within a few histories."""

from __future__ import annotations

import pytest

from tests.simulation import bugs
from tests.simulation.chaos import FOUL
from tests.simulation.world import World

_ENOUGH = 200
pytestmark = pytest.mark.long


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


@pytest.mark.parametrize("bug", bugs.SHARED_BUGS)
def test_a_planted_bug_of_a_shared_builder_is_found(bug: str) -> None:
    with bugs.SHARED_BUGS[bug]():
        for seed in range(_ENOUGH):
            world = World(seed, weather=FOUL, jobs_each=2 + seed % 3, shared=True)
            world.history()
            if world.violations():
                return
    pytest.fail(f"{bug}: no history of {_ENOUGH} showed it")
