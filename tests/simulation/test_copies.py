"""A copy of the database, taken at any moment, is gone on with while EC2 has gone on without it.

The copy may know nothing of what was made since, and believe in what has been removed since. Still: one AMI per job,
the right content, nothing left over, one chain of states.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tests.simulation.chaos import Killed, Weather
from tests.simulation.store import SimulatedStore
from tests.simulation.world import LEASE, World, story


class CopiedStore(SimulatedStore):
    """A store that is copied after one commit; its process dies so many commits later."""

    def __init__(self, like: SimulatedStore, number: int, later: int) -> None:
        super().__init__(like.url, like.engine)
        self.lean, self.chaos = like.lean, like.chaos
        self._commits, self._number, self._last = 0, number, number + later
        self.copy: bytes | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with super().write() as conn:
            yield conn
        self._commits += 1
        if self._commits == self._number:
            assert self.lean is not None
            self.copy = bytes(self.lean.raw.serialize())
        if self._commits == self._last:
            raise Killed("the publisher of the original")

    def restore(self) -> None:
        """Become the copy."""
        assert self.lean is not None
        assert self.copy is not None
        self.lean.raw.deserialize(self.copy)
        self._last = 0


def play(number: int, later: int, visibility: float, sharing: int = 0) -> tuple[World, list[str]] | None:
    """Go on with the copy after commit ``number`` where the original made ``later`` commits more; None past the end.

    ``sharing``: how many jobs share a builder, 0 for one job of its own.
    """
    world = World(1, weather=Weather(visibility=visibility), jobs_each=sharing or 1, shared=sharing > 0)
    world.dividing = world.cancelling = 0.0
    world.plan()
    world.store = store = CopiedStore(world.store, number, later)
    world.go()
    if store.copy is None:
        return None
    store.restore()
    world.chaos.tell(f"restored: the copy after commit {number}")
    world.clock.wait(LEASE + 1.0)
    world.history(starts=4)
    return world, world.violations()


@pytest.mark.parametrize(("later", "visibility"), [(0, 60.0), (4, 60.0), (1000, 60.0), (1000, 0.0)])
def test_a_copy_of_any_moment_is_gone_on_with(later: int, visibility: float) -> None:
    number = 1
    while played := play(number, later, visibility):
        world, violations = played
        assert violations == [], story(world)
        number += 1
    assert number > 20


@pytest.mark.parametrize("later", [4, 30])
def test_a_copy_that_does_not_know_who_shares_a_builder_is_gone_on_with(later: int) -> None:
    number = 1
    while played := play(number, later, 60.0, sharing=3):
        world, violations = played
        assert violations == [], story(world)
        number += 5
    assert number > 100
