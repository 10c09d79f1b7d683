"""Single answers of EC2 that are easily taken for something else: what they mean for the job, and for others' AMIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ebspub.app.publish import _revive
from ebspub.aws import tags
from ebspub.states import Status
from ebspub.store import Job, jobs, tables
from tests.simulation.chaos import Weather, failure
from tests.simulation.clients import Actions
from tests.simulation.ec2 import Region, Thing
from tests.simulation.world import World, story

#: How long a listing may show what is gone (seconds).
_STALE = 20.0


@pytest.fixture
def world() -> World:
    made = World(3, weather=Weather())
    assert made.taken is None
    made.plan()
    return made


def region_of(world: World) -> Region:
    (region,) = world.regions.values()
    return region


def the_job(world: World) -> Job:
    with world.store.read() as conn:
        (job,) = jobs.find(conn)
    return job


def until(world: World, there: Callable[[], object]) -> None:
    """Let the publisher work until something is there."""
    while not there():
        world.go(until=world.clock.now() + 1.0)


def cancel(world: World) -> None:
    job = the_job(world)
    with world.store.calm_write() as conn:
        jobs.request_cancel(conn, job.id, world.clock.now())


def theirs(world: World, state: str) -> Thing:
    """Return an AMI of the very build, registered by another database."""
    spec = world.specs[0]
    marks = {tags.STORE: "other", tags.JOB: spec.job_id, tags.TOKEN: "x", tags.SOURCE: str(spec.source.sha256)}
    return region_of(world).make("image", marks, (0.0, state), Name=spec.registration.name, snapshot="snap-stranger")


def refuse(monkeypatch: pytest.MonkeyPatch, action: str, code: str, *, times: float = float("inf")) -> list[float]:
    """Let EC2 refuse an action so many times; return the moments of its calls."""
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in action).lstrip("_")
    real, calls = getattr(Actions, name), list[float]()

    def answer(self: Actions, **arguments: Any) -> Any:
        calls.append(self._now)
        if len(calls) <= times:
            raise failure(action, code)
        return real(self, **arguments)

    monkeypatch.setattr(Actions, name, answer)
    return calls


def list_stale_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """DescribeImages: "recently deregistered images appear in the returned results for a short interval"."""
    gone: dict[str, tuple[float, Any]] = {}
    deregister, describe = Actions.deregister_image, Actions.describe_images

    def deregistering(self: Actions, **arguments: Any) -> Any:
        name = arguments["ImageId"]
        (shown,) = (i for i in describe(self, Filters=[])["Images"] if i["ImageId"] == name)
        gone[name] = (self._now, shown)
        return deregister(self, **arguments)

    def describing(self: Actions, **arguments: Any) -> Any:
        answer = describe(self, **arguments)
        answer["Images"] += [shown for at, shown in gone.values() if self._now < at + _STALE]
        return answer

    monkeypatch.setattr(Actions, "deregister_image", deregistering)
    monkeypatch.setattr(Actions, "describe_images", describing)


def test_cancelling_leaves_the_ami_that_another_database_published(world: World) -> None:
    image = theirs(world, "available")
    cancel(world)
    world.go()
    assert the_job(world).status is Status.CANCELLED
    assert image.state(world.clock.now()) == "available", story(world)


def test_cancelling_ends_when_something_cannot_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    until(world, lambda: region_of(world).of("group"))
    refuse(monkeypatch, "DeleteSecurityGroup", "DependencyViolation")
    cancel(world)
    world.go(until=world.clock.now() + 7 * 86400.0)
    job = the_job(world)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert "cancelling did not end in time" in job.error.message
    monkeypatch.undo()
    world.go()
    assert the_job(world).status is Status.CANCELLED, story(world)


def test_a_failed_ami_that_is_still_listed_when_it_is_gone_is_registered_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_stale_images(monkeypatch)
    register, tries = Actions.register_image, []

    def registering(self: Actions, **arguments: Any) -> Any:
        tries.append(self._now)
        self._chaos.weather = Weather(image_fails=1.0 if len(tries) == 1 else 0.0)
        return register(self, **arguments)

    monkeypatch.setattr(Actions, "register_image", registering)
    world.go()
    assert the_job(world).status is Status.DONE, story(world)
    assert len(tries) == 2


def test_a_cancelled_jobs_ami_is_not_adopted_by_its_second_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    list_stale_images(monkeypatch)
    region = region_of(world)
    until(world, lambda: region.of("image"))
    cancel(world)
    world.go()
    cancelled = the_job(world)
    assert cancelled.status is Status.CANCELLED
    with world.store.calm_write() as conn:
        conn.execute(tables.jobs.update().values(**_revive(cancelled)))
    world.go()
    job = the_job(world)
    assert job.status is Status.DONE
    assert region.things[job.ami_id or ""].state(region.now) == "available", story(world)


def test_a_group_can_be_made_again_in_the_same_attempt(world: World) -> None:
    region = region_of(world)
    until(world, lambda: region.of("instance"))
    image = theirs(world, "pending")  # it keeps our builder from being needed, and then fails
    world.go(until=world.clock.now() + 200.0)
    image.become(region.now, (0.0, "failed"))
    world.go()
    region.remove(image)
    world.go()
    assert the_job(world).status is Status.DONE, story(world)


def test_one_listing_without_the_fresh_volume_costs_no_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    describe, attached = Actions.describe_volumes, list[object]()

    def describing(self: Actions, **arguments: Any) -> Any:
        answer = describe(self, **arguments)
        attached.extend(v for v in answer["Volumes"] if v["Attachments"] and v["Attachments"][0]["State"] == "attached")
        return {"Volumes": []} if len(attached) == 2 else answer  # another replica answers

    monkeypatch.setattr(Actions, "describe_volumes", describing)
    world.go()
    job = the_job(world)
    assert (job.status, job.attempt) == (Status.DONE, 1), story(world)


def test_capacity_that_nobody_has_is_asked_for_more_and_more_rarely(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refuse(monkeypatch, "RunInstances", "InsufficientInstanceCapacity")
    world.go()
    job = the_job(world)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert "InsufficientInstanceCapacity" in job.error.message or "simulated" in job.error.message
    assert len(calls) < 200


def test_a_builder_image_that_was_deregistered_fails_the_job_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = refuse(monkeypatch, "RunInstances", "InvalidAMIID.Unavailable")
    world.go()
    assert the_job(world).status is Status.FAILED
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("action", "code", "attempt"),
    [
        ("CreateSnapshot", "PendingSnapshotLimitExceeded", 1),
        ("CreateVolume", "VolumeTypeNotAvailableInZone", 2),
        ("RunInstances", "InsufficientInstanceCapacity", 1),
    ],
)
def test_what_another_moment_or_place_mends_fails_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, action: str, code: str, attempt: int
) -> None:
    refuse(monkeypatch, action, code, times=1)
    world.go()
    job = the_job(world)
    assert (job.status, job.attempt) == (Status.DONE, attempt), story(world)


def test_an_ami_of_ours_that_somebody_disabled_is_told_as_such(world: World) -> None:
    theirs(world, "disabled")
    world.go()
    job = the_job(world)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert "somebody disabled" in job.error.message
