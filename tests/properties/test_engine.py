"""The real engine, steps and store against a region whose answers are garbled now and then.

What EC2 did is done, whatever its answer looks like: a job goes on, tries again or fails with a clear message, and
nothing is made twice, lost or left over. The answers lack things, name states that nobody knows, or come doubled; they
do not lie: nothing protects from an EC2 that denies for minutes what it has.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from ebspub.aws.clients import RegionClients
from ebspub.states import Status
from ebspub.store import Job, events, jobs
from tests.properties.examples import examples
from tests.simulation.chaos import Weather
from tests.simulation.clients import SimulatedClients
from tests.simulation.world import World, story

#: Answers that say when a thing was made or changed, and how the thing is called in them.
_MAKING = ("run_", "create_", "register_")
_READING = ("describe_", "get_")


class Garbler:
    """Garbles answers with the dice of one history."""

    def __init__(self, seed: int, share: float, world: World) -> None:
        self.rng = random.Random(seed)
        self.share = share
        self.world = world
        self.garbled: list[str] = []

    def answer(self, name: str, answer: Any) -> Any:
        """Return ``answer`` as it comes out of a bad line; or raise what botocore raises where it cannot be read."""
        if self.world.chaos.calm or self.rng.random() >= self.share:
            return answer
        self.garbled.append(name)
        self.world.chaos.tell(f"{name}: answer garbled")
        if self.rng.random() < 0.3:
            raise ResponseParserError("not well-formed (invalid token): line 1, column 0")
        spoilt = copy.deepcopy(answer if answer is not None else {})
        self._spoil(spoilt)
        return spoilt

    def _spoil(self, answer: Any) -> None:
        places: list[tuple[Any, Any]] = list(_places(answer))
        if not places:
            return
        inside, key = self.rng.choice(places)
        if isinstance(inside, list):
            inside.append(inside[key])
        elif (key == "State" and isinstance(inside[key], str)) or set(inside) == {"Name"}:
            inside[key] = self.rng.choice(["banana", "", ["available", "available"]])
        else:
            del inside[key]


def _places(value: Any) -> Any:
    """Yield every (container, key) in ``value``, but not within tags: a tag is there as a whole, or no tag is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield value, key
        if key != "Tags":
            yield from _places(each)


class GarbledClient:
    """A client of the simulated region, whose answers pass the garbler."""

    def __init__(self, client: Any, garbler: Garbler) -> None:
        self._client = client
        self._garbler = garbler

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._client, name)

        def garbled(**arguments: Any) -> Any:
            if name == "create_volume":
                assert arguments["AvailabilityZone"], "a volume in no zone"
            return self._garbler.answer(name, call(**arguments))

        return garbled


class GarbledClients(SimulatedClients):
    """Clients of simulated regions, whose answers pass the garbler."""

    def __init__(self, clients: SimulatedClients, garbler: Garbler) -> None:
        self._clients = clients
        self._garbler = garbler

    def region(self, region: str) -> RegionClients:
        """Return the clients of a region."""
        found = self._clients.region(region)
        client: Any = GarbledClient(found.reader, self._garbler)
        return RegionClients(region, client, client, client, found.ebs)


def world_of(seed: int, share: float, *, visibility: float = 0.0) -> tuple[World, Garbler]:
    """Return a world in which nothing goes wrong but answers; fresh things may be invisible for a while."""
    world = World(seed, weather=Weather(visibility=visibility))
    garbler = Garbler(seed, share, world)
    world.clients = GarbledClients(world.clients, garbler)
    return world, garbler


def the_job(world: World) -> Job:
    """Return the one job of a world."""
    with world.store.read() as conn:
        (job,) = jobs.find(conn)
    return job


@examples(40)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.05, 0.1, 0.3]))
def test_garbled_answers_make_nothing_twice_and_leave_nothing(seed: int, share: float) -> None:
    world, garbler = world_of(seed, share)
    world.history()
    assert world.violations() == [], story(world)
    assert defects(world) == [], story(world)
    assert garbler.garbled or share < 0.3


def defects(world: World) -> list[str]:
    """Return what the history tells of errors that no step expected."""
    with world.store.read() as conn:
        told = [event.message for job in jobs.find(conn) for event in events.history(conn, job.id)]
    return [message for message in told if message.startswith("unexpected ")]


@pytest.mark.parametrize(
    "action", ["create_security_group", "run_instances", "create_volume", "create_snapshot", "register_image"]
)
@pytest.mark.parametrize(
    "answer", [{}, {"Instances": []}, {"Instances": [{}]}, {"VolumeId": "", "ImageId": ["a", "a"]}]
)
def test_the_garbled_answer_of_a_creating_call_is_settled_by_looking(action: str, answer: dict[str, Any]) -> None:
    world, garbler = world_of(3, 0.0, visibility=140.0)
    spoilt: list[str] = []

    def once(name: str, right: Any) -> Any:
        if name == action and not spoilt:
            spoilt.append(name)
            return answer
        return right

    garbler.answer = once  # type: ignore[method-assign, assignment]
    world.plan()

    assert world.go() == "through"

    assert spoilt == [action]
    job = the_job(world)
    assert (job.status, job.attempt) == (Status.DONE, 1), story(world)
    assert world.violations() == [], story(world)
    (region,) = world.regions.values()
    made = sorted(thing.kind for thing in region.things.values())
    assert made == ["group", "image", "instance", "snapshot", "volume"]


def test_a_builder_whose_zone_is_not_told_gets_no_volume_until_it_is() -> None:
    world, garbler = world_of(3, 0.0)
    left = 5

    def without_zone(name: str, right: Any) -> Any:
        nonlocal left
        if name == "describe_instances" and right["Reservations"] and left:
            left -= 1
            for reservation in right["Reservations"]:
                del reservation["Instances"][0]["Placement"]
        return right

    garbler.answer = without_zone  # type: ignore[method-assign, assignment]
    world.plan()

    assert world.go() == "through"

    assert left == 0
    assert the_job(world).attempt == 1
    assert defects(world) == []
    assert world.violations() == [], story(world)


def test_a_region_that_only_answers_nonsense_fails_its_jobs_with_a_clear_message() -> None:
    world, garbler = world_of(3, 1.0)
    garbler.answer = lambda name, right: {"ResponseMetadata": {}}  # type: ignore[method-assign, assignment]
    world.plan()

    assert world.go() == "through"

    job = the_job(world)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert job.error.code == "GarbledAnswer"
    assert "cannot be understood" in job.error.message
    (region,) = world.regions.values()
    assert region.things == {}
