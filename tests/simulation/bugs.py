"""The classic bugs of publishing tools, planted one at a time: the simulation must find each of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import sqlalchemy as sa

from ebspub.aws import instances, volumes
from ebspub.aws.images import Image
from ebspub.engine.effects import Effects, Making
from ebspub.engine.step import World as StepWorld
from ebspub.steps import builder
from ebspub.store import Job, jobs, seats, tables


@contextmanager
def token_forgotten() -> Iterator[None]:
    """Every call has a token of its own, so a repeated call makes a second thing."""

    def fresh(original: Callable[..., str]) -> Callable[..., str]:
        def call(*arguments: Any, token: str, **named: Any) -> str:
            del token
            return original(*arguments, token=secrets.token_hex(8), **named)

        return call

    with (
        mock.patch.object(instances, "run", fresh(instances.run)),
        mock.patch.object(volumes, "create", fresh(volumes.create)),
    ):
        yield


@contextmanager
def tagged_after_creating() -> Iterator[None]:
    """The creating call has no tags; they are set by a second call, which a dying process does not make."""
    original = Effects.make

    def make(self: Effects, job: Job, view: Any, making: Making) -> Any:
        def call(request: Mapping[str, Any], token: str, marks: dict[str, str]) -> str:
            made = making.call(request, token, {})
            _SIMULATED[-1].tag(made, marks)
            return made

        bare = Making(making.kind, making.purpose, making.action, making.request, call, making.token_honoured)
        return original(self, job, view, bare)

    with mock.patch.object(Effects, "make", make):
        yield


@contextmanager
def no_epoch_check() -> Iterator[None]:
    """A process that lost its lease goes on writing."""

    def change(conn: sa.Connection, job_id: str, lease: Any, now: float, **values: Any) -> None:
        del lease
        conn.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(updated_at=now, **values))

    with mock.patch.object(jobs, "change", change), mock.patch.object(Effects, "_still_ours"):
        yield


@contextmanager
def committed_before_the_call() -> Iterator[None]:
    """A removal is written down as done, and then made: or not."""
    original = Effects.act

    def act(self: Effects, job: Job, action: str, call: Callable[[], None], **named: Any) -> None:
        original(self, job, action, lambda: None, **named)
        call()

    with mock.patch.object(Effects, "act", act):
        yield


@contextmanager
def adopted_by_name_only() -> Iterator[None]:
    """Whatever AMI has the name is taken for ours."""

    def published(job: Job, world: StepWorld) -> Image | None:
        found = world.view.images_named(job.spec.registration.name)
        return found[0] if found else None

    with mock.patch.object(builder, "published", published):
        yield


class Tagger:
    """Sets tags in a simulated region by a call of its own."""

    def __init__(self, regions: Mapping[str, Any]) -> None:
        self._regions = regions

    def tag(self, name: str, marks: Mapping[str, str]) -> None:
        """Tag a thing, unless the process dies or the call fails first."""
        for region in self._regions.values():
            if name in region.things and region.things[name].tags == {}:
                region.chaos.before_call("CreateTags")
                region.things[name].tags = dict(marks)


#: The world of the history that runs; `tagged_after_creating` needs it.
_SIMULATED: list[Tagger] = []


def enter(regions: Mapping[str, Any]) -> None:
    """Say whose things are to be tagged from now on."""
    _SIMULATED[:] = [Tagger(regions)]


BUGS: dict[str, Callable[[], Any]] = {
    "token forgotten": token_forgotten,
    "tagged after creating": tagged_after_creating,
    "no epoch check": no_epoch_check,
    "committed before the call": committed_before_the_call,
    "adopted by name only": adopted_by_name_only,
}


def _unshared() -> Any:
    """Whoever launched a shared builder ends it when its own volume is filled."""
    return mock.patch.object(Job, "lent", property(lambda _: frozenset()))


def _left_to_others() -> Any:
    """Whoever leaves a shared builder leaves it to the others, the last one, too."""
    return mock.patch.object(Job, "left_behind", property(lambda _: ()))


def _ended_by_any() -> Any:
    """Whoever leaves a shared builder ends it."""

    def left(job: Job) -> tuple[Any, ...]:
        return tuple(row for seat in job.seats if seat.left_at is not None for row in seat.rows)

    return mock.patch.object(Job, "left_behind", property(left))


def _never_sealed() -> Any:
    """A builder that is about to be ended is joined."""
    dead = tables.shared_builders.update().where(sa.false()).values(sealed_at=sa.bindparam("now"))
    return mock.patch.object(seats, "_SEAL", dead)


#: Bugs of jobs that share a builder.
SHARED_BUGS: dict[str, Callable[[], Any]] = {
    "ended by its host": _unshared,
    "left to others by the last": _left_to_others,
    "ended by any": _ended_by_any,
    "never sealed": _never_sealed,
}
