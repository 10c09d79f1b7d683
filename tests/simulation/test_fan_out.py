"""Jobs that copy another region's snapshot: nothing but that, and no waiting for a primary that nobody drives."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from ebspub.spec import Method
from ebspub.states import State, Status
from ebspub.store import Job, jobs, leases, tables
from tests.simulation.chaos import FOUL, Weather
from tests.simulation.world import World, run, story

#: `python -m tests.simulation` plays as many as one likes.
_SEEDS = 200
_CHUNK = 25


@pytest.mark.parametrize("first", range(0, _SEEDS, _CHUNK))
def test_no_history_with_copies_violates_an_invariant(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        method: Method = "direct" if seed % 3 == 0 else "filesystem"
        world, violations = run(seed, method=method, copies=1 + seed % 2)
        assert violations == [], f"seed {seed}\n{story(world)}"


@pytest.mark.parametrize("seed", range(3))
def test_many_copies_in_many_regions_side_by_side(seed: int) -> None:
    world = World(seed, regions=3, jobs_each=3, weather=FOUL, fan_out=True)
    world.history()
    assert world.violations() == [], story(world)


def test_in_calm_weather_a_copy_makes_a_snapshot_and_an_image_and_nothing_else() -> None:
    world, violations = run(1, Weather(), copies=1)
    assert violations == []
    first, second = world.regions.values()
    assert [thing.kind for thing in second.things.values()] == ["snapshot", "image"]
    assert second.of("snapshot")[0].data["copy"] == first.of("snapshot")[0].id


@pytest.fixture
def world() -> World:
    """Two regions in calm weather: a primary and its copy, planned."""
    made = World(3, weather=Weather(), regions=2, fan_out=True)
    made.plan()
    return made


def jobs_of(world: World) -> tuple[Job, Job]:
    """Return the primary and its copy."""
    with world.store.read() as conn:
        found = {job.spec.region: job for job in jobs.find(conn)}
    return found["sim-0"], found["sim-1"]


def drive(world: World, *job_ids: str, until: float | None = None) -> None:
    """Let a publisher drive some jobs, for ``until`` seconds at most."""
    _, scheduler = world.publisher()
    with world.store.read() as conn:
        wanted = jobs.find(conn, ids=list(job_ids))
    scheduler.claim(wanted, dead=lambda name: True)
    began = world.clock.now()
    while not scheduler.idle and (until is None or world.clock.now() < began + until):
        due = scheduler.tick()
        world.clock.wait(max(0.01, due - world.clock.now()))
    scheduler.release()


def put(world: World, job: Job, **values: Any) -> None:
    """Write columns of a job."""
    with world.store.calm_write() as conn:
        conn.execute(tables.jobs.update().where(tables.jobs.c.id == job.id).values(**values))


def failed(world: World) -> tuple[str, str]:
    """Return code and advice of the copy's failure; it has never made anything."""
    _, copy = jobs_of(world)
    assert (copy.status, copy.state) == (Status.FAILED, State.PENDING)
    assert copy.error is not None
    assert list(world.regions["sim-1"].things) == []
    return copy.error.code, copy.error.todo


def mended(world: World) -> None:
    """See that all ends well once what was denied is allowed again."""
    assert world.go() == "through"
    world.failed.clear()
    assert world.violations() == [], story(world)


def test_a_primary_that_failed_fails_its_copy_with_what_to_do(world: World) -> None:
    primary, copy = jobs_of(world)
    world.regions["sim-0"].denied.add("RunInstances")
    drive(world, primary.id, copy.id)
    code, todo = failed(world)
    assert code == "primary-failed"
    assert f"`ebspub resume {primary.id} {copy.id}`" in todo

    world.regions["sim-0"].denied.clear()
    mended(world)


def test_a_primary_that_was_cancelled_fails_its_copy_with_what_to_do(world: World) -> None:
    primary, copy = jobs_of(world)
    drive(world, primary.id, until=100.0)
    put(world, primary, cancel_requested=True)
    drive(world, primary.id)
    assert jobs_of(world)[0].status is Status.CANCELLED
    drive(world, copy.id)
    code, todo = failed(world)
    assert code == "primary-cancelled"
    assert f"`ebspub resume {primary.id} {copy.id}`" in todo
    assert "fan_out" in todo


def test_a_primary_that_is_not_in_the_database_is_told(world: World) -> None:
    primary, copy = jobs_of(world)
    with world.store.calm_write() as conn:
        conn.execute(tables.events.delete().where(tables.events.c.job_id == primary.id))
        conn.execute(tables.jobs.delete().where(tables.jobs.c.id == primary.id))
    drive(world, copy.id)
    with world.store.read() as conn:
        (found,) = jobs.find(conn)
    assert found.error is not None
    assert found.error.code == "primary-unknown"
    assert primary.id in found.error.message


def test_a_primary_that_nobody_drives_is_not_waited_for_for_ever(world: World) -> None:
    primary, copy = jobs_of(world)
    began = world.clock.now()
    drive(world, copy.id)
    code, todo = failed(world)
    assert code == "primary-idle"
    assert f"`ebspub resume {primary.id} {copy.id}`" in todo
    assert 300 < world.clock.now() - began < 1200


def test_a_primary_that_another_process_drives_is_waited_for_longer_than_a_step_may_take(world: World) -> None:
    primary, copy = jobs_of(world)
    with world.store.calm_write() as conn:
        until = world.clock.now() + 5000.0
        leases.claim(conn, primary.id, owner="another", now=world.clock.now(), until=until, status=Status.RUNNING)
    drive(world, copy.id, until=4000.0)
    _, waiting = jobs_of(world)
    assert waiting.status is Status.WAITING
    assert waiting.progress is not None
    assert waiting.progress["what"] == f"waits for the snapshot of {primary.id}"


def test_a_primary_that_was_published_long_ago_is_copied_without_being_driven(world: World) -> None:
    primary, copy = jobs_of(world)
    drive(world, primary.id)
    put(world, jobs_of(world)[0], facts={"adopted": "ami-1"})  # as its adoption would have left it
    world.clock.wait(1e6)
    drive(world, copy.id)
    assert world.violations() == [], story(world)
    assert jobs_of(world)[1].facts["copy_of"] == primary.id


def test_a_primary_that_could_not_register_is_copied_all_the_same(world: World) -> None:
    primary, copy = jobs_of(world)
    world.regions["sim-0"].denied.add("RegisterImage")
    drive(world, primary.id, copy.id)
    first, second = jobs_of(world)
    assert (first.status, first.state, second.status) == (Status.FAILED, State.SNAPSHOTTED, Status.DONE)


def test_a_snapshot_that_somebody_deleted_is_not_asked_for_for_ever(world: World) -> None:
    primary, copy = jobs_of(world)
    drive(world, primary.id)
    (snapshot,) = world.regions["sim-0"].of("snapshot")
    world.regions["sim-0"].remove(snapshot)
    drive(world, copy.id)
    _, todo = failed(world)
    assert "take fan_out out of the build" in todo
    _, told = jobs_of(world)
    assert told.error is not None
    assert f"snapshot {snapshot.id} of {primary.id} no longer exists in sim-0 (attempt 5 of 5)" in told.error.message


def test_a_primary_that_begins_again_is_waited_for_anew(world: World) -> None:
    """Its snapshot is lost while the copy has not begun: the next one is copied."""
    primary, copy = jobs_of(world)
    world.regions["sim-0"].denied.add("RegisterImage")
    world.regions["sim-1"].denied.add("CopySnapshot")
    drive(world, primary.id, copy.id)
    (lost,) = world.regions["sim-0"].of("snapshot")
    assert jobs_of(world)[1].facts["source_snapshot"] == lost.id
    world.regions["sim-0"].remove(lost)
    for region in world.regions.values():
        region.denied.clear()
    world.clock.wait(500.0)
    mended(world)
    assert jobs_of(world)[1].facts["source_snapshot"] not in (None, lost.id)


def test_a_copy_that_is_cancelled_leaves_nothing_and_its_original_alone(world: World) -> None:
    primary, copy = jobs_of(world)
    drive(world, primary.id)
    drive(world, copy.id, until=30.0)
    (begun,) = world.regions["sim-1"].alive("snapshot")
    put(world, copy, cancel_requested=True)
    drive(world, copy.id)
    first, second = jobs_of(world)
    assert (first.status, second.status) == (Status.DONE, Status.CANCELLED)
    assert begun.state(world.clock.now()) == "deleted"
    assert [thing.id for thing in world.regions["sim-0"].alive("snapshot")] == [first.snapshot_id]


@pytest.mark.parametrize("times", [1, 5])
def test_a_copy_that_ec2_fails_is_made_again_a_bounded_number_of_times(
    world: World, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    there = world.regions["sim-1"]
    make = there.make

    def doomed(kind: str, tags: dict[str, str], *states: tuple[float, str], **data: Any) -> Any:
        bad = kind == "snapshot" and len(there.of("snapshot")) < times
        return make(kind, tags, *((after, "error" if bad and after else name) for after, name in states), **data)

    monkeypatch.setattr(there, "make", doomed)
    primary, copy = jobs_of(world)
    drive(world, primary.id, copy.id)
    if times == 5:
        _, told = jobs_of(world)
        assert (told.status, told.state) == (Status.FAILED, State.POPULATED)
        assert told.error is not None
        assert "EC2 failed 5 copies" in told.error.message
        assert there.alive("snapshot") == []
        assert world.go() == "through"
    assert world.violations() == [], story(world)
    assert len(there.of("snapshot")) == times + 1


def test_a_copy_whose_answer_is_lost_is_not_made_again_while_it_may_be_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = world.regions["sim-1"]

    def lose(action: str) -> None:
        if action == "sim-1 CopySnapshot" and len(there.of("snapshot")) == 1:
            there.of("snapshot")[0].visible_at = world.clock.now() + 100.0
            raise ReadTimeoutError(endpoint_url="simulated")

    monkeypatch.setattr(world.chaos, "after_call", lose)
    assert world.go() == "through"
    assert world.violations() == [], story(world)
    assert len(there.of("snapshot")) == 1


def test_copies_beyond_what_a_region_takes_at_a_time_wait() -> None:
    world = World(3, weather=Weather(), regions=2, jobs_each=4, fan_out=True)
    world.regions["sim-1"].copies_at_once = 1
    world.plan()
    assert world.go() == "through"
    assert world.violations() == [], story(world)
    with world.store.read() as conn:
        assert {job.attempt for job in jobs.find(conn)} == {1}
