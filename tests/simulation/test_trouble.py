"""Trouble that does not go away: the job fails with a clear last error, and leaves only what `resume` goes on with."""

from __future__ import annotations

import pytest

from ebspub.engine import scheduler
from ebspub.states import State, Status
from ebspub.store import Job, jobs
from tests.simulation.chaos import Weather
from tests.simulation.world import World, run, story


def fail(weather: Weather) -> tuple[World, Job]:
    """Let one publisher work in ``weather`` until its job has failed."""
    world = World(3, weather=weather)
    world.plan()
    assert world.go() == "through", story(world)
    return world, the_job(world)


def the_job(world: World) -> Job:
    """Return the one job of a world."""
    with world.store.read() as conn:
        (job,) = jobs.find(conn)
    return job


def kinds_left(world: World) -> list[str]:
    """Return the kinds of what is in the account when everything has settled."""
    world.clock.wait(1000.0)
    left = []
    for region in world.regions.values():
        region.settle()
        left += [t.kind for t in region.things.values() if t.state(region.now) not in ("terminated", "deleted")]
    return sorted(left)


@pytest.mark.parametrize(
    ("weather", "told"),
    [
        (Weather(builder_dies=1.0), "is shutting-down"),
        (Weather(copy_fails=1.0), "populating failed in copy"),
        (Weather(ssh_drops=1.0), "did not answer over SSH within 900 s"),
    ],
    ids=["builders die", "copies fail", "ssh never works"],
)
def test_when_all_attempts_are_used_up_nothing_is_left_and_resume_starts_over(weather: Weather, told: str) -> None:
    world, job = fail(weather)

    assert (job.status, job.state) == (Status.FAILED, State.PENDING)
    assert job.error is not None
    assert told in job.error.message
    assert "(attempt 5 of 5)" in job.error.message
    assert "ebspub resume" in job.error.todo
    assert kinds_left(world) == []

    world.chaos.calm = True
    assert world.go() == "through"
    assert world.violations() == [], story(world)


@pytest.mark.parametrize(
    ("weather", "code", "state", "kept"),
    [
        (Weather(snapshot_error=1.0), "snapshot-error", State.POPULATED, ["group", "volume"]),
        (Weather(image_fails=1.0), "image-failed", State.SNAPSHOTTED, ["snapshot"]),
    ],
    ids=["snapshots fail", "images fail"],
)
def test_finished_work_is_kept_when_a_later_step_fails(
    weather: Weather, code: str, state: State, kept: list[str]
) -> None:
    world, job = fail(weather)

    assert (job.status, job.state) == (Status.FAILED, state)
    assert job.error is not None
    assert job.error.code == code
    assert kinds_left(world) == kept
    copies = [t.data["copies"] for r in world.regions.values() for t in r.of("volume")]
    assert copies == [1]

    world.chaos.calm = True
    assert world.go() == "through"
    assert world.violations() == [], story(world)
    assert the_job(world).attempt == 1


def test_a_region_that_does_not_answer_fails_its_jobs_after_the_limit_and_says_why() -> None:
    world, job = fail(Weather(error_before=1.0))

    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "InternalError"
    assert job.error.request_id == "req-simulated"
    assert kinds_left(world) == []


def test_no_capacity_for_the_first_type_is_met_by_the_next() -> None:
    world = World(3, weather=Weather())
    world.plan()
    (region,) = world.regions.values()
    region.no_capacity.add("t3.medium")

    assert world.go() == "through"

    assert world.violations() == [], story(world)
    assert the_job(world).facts["instance_type"] == "t3.large"


def test_a_permission_that_is_missing_fails_the_job_at_once_with_what_to_do() -> None:
    world = World(3, weather=Weather())
    world.plan()
    (region,) = world.regions.values()
    region.denied.add("CreateVolume")
    began = world.clock.now()

    assert world.go() == "through"

    job = the_job(world)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "UnauthorizedOperation"
    assert "iam-policy.json" in job.error.todo
    assert world.clock.now() - began < 10 * scheduler.Pace().renew_interval
    assert kinds_left(world) == []


@pytest.mark.parametrize("seed", [1877, 2014])
def test_a_process_that_wakes_up_too_late_leaves_nothing_and_spoils_nothing(seed: int) -> None:
    """Its answer came before it stood still, or its call went out after another process had given that intent up."""
    world, violations = run(seed)
    assert violations == [], story(world)
    assert any("PAUSED" in line for line in world.chaos.story)
