"""Whatever happens, in whatever order: one AMI per job, the right content, nothing left over, one chain of states."""

from __future__ import annotations

import pytest

from ebspub.spec import Method
from tests.simulation.chaos import FOUL, Weather
from tests.simulation.world import World, run, story
from tests.support.variants import few

#: `make simulate SEEDS=…` plays as many as one likes.
_SEEDS = 2000
_DIRECT_SEEDS = 500
_SHARED_SEEDS = 100
_CHUNK = 50


@pytest.mark.parametrize("first", few(range(0, _SEEDS, 2 * _CHUNK), range(0, _SEEDS, _CHUNK), rest="long"))
def test_no_history_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        world, violations = run(seed)
        assert violations == [], f"seed {seed}\n{story(world)}"


@pytest.mark.parametrize(
    "first", few(range(0, _DIRECT_SEEDS, 2 * _CHUNK), range(0, _DIRECT_SEEDS, _CHUNK), rest="long")
)
def test_no_history_of_the_direct_method_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        world, violations = run(seed, method="direct")
        assert violations == [], f"seed {seed}\n{story(world)}"


@pytest.mark.parametrize("first", few([0, 50], range(0, _SHARED_SEEDS, 25), rest="long"))
def test_no_history_of_jobs_that_share_a_builder_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + 25):
        world, violations = run(seed, FOUL if seed % 3 == 0 else None, jobs_each=2 + seed % 3, shared=True)
        assert violations == [], f"seed {seed}\n{story(world)}"


@pytest.mark.parametrize("method", ["filesystem", "direct"])
@pytest.mark.parametrize("seed", range(5))
def test_many_jobs_in_many_regions_side_by_side(seed: int, method: Method) -> None:
    world = World(seed, regions=3, jobs_each=3, weather=FOUL, method=method)
    world.history()
    assert world.violations() == [], story(world)


def test_a_seed_replays_exactly() -> None:
    first, second = (story(run(7, FOUL)[0]) for _ in range(2))
    assert first == second
    assert "KILLED" in first or "took effect, answer lost" in first


def test_in_calm_weather_nothing_is_tried_twice() -> None:
    world, violations = run(1, Weather())
    assert violations == []
    (region,) = world.regions.values()
    made = sorted(thing.kind for thing in region.things.values() if thing.data.get("snapshot") != "snap-stranger")
    assert made == ["group", "image", "instance", "snapshot", "volume"]


def test_the_direct_method_makes_a_snapshot_and_an_image_and_nothing_else() -> None:
    world, violations = run(1, Weather(), method="direct")
    assert violations == []
    (region,) = world.regions.values()
    made = sorted(thing.kind for thing in region.things.values() if thing.data.get("snapshot") != "snap-stranger")
    assert made == ["image", "snapshot"]


def test_in_calm_weather_the_jobs_of_a_region_share_one_builder_at_a_time() -> None:
    world = World(5, regions=2, jobs_each=4, weather=Weather(), shared=True)
    world.dividing = world.cancelling = 0.0
    world.history()
    assert world.violations() == [], story(world)
    for region in world.regions.values():
        assert len(region.of("instance")) == len(region.of("group")) == 1
        assert {t.data["device"] for t in region.of("volume")} == {"/dev/sdf", "/dev/sdg", "/dev/sdh", "/dev/sdi"}


def test_more_jobs_than_a_builder_has_device_names_take_the_next_builder() -> None:
    world = World(6, jobs_each=13, weather=Weather(), shared=True)
    world.dividing = world.cancelling = 0.0
    world.history()
    assert world.violations() == [], story(world)
    (region,) = world.regions.values()
    assert len(region.of("instance")) == 2
