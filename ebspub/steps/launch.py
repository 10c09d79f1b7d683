"""pending -> launched: a builder runs and answers over SSH, authenticated both ways.

Before anything is made: is this build published already (then its AMI is adopted), is its name somebody else's (then
the job fails), and is anything left of an earlier attempt (then it is removed).
"""

from __future__ import annotations

from typing import Any

from ebspub.aws import images, instances, parameters, tags
from ebspub.aws.failures import AwsError, Cause
from ebspub.engine.driver import GAVE_UP
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import HostKeyError, JobError, RemoteError
from ebspub.remote.report import clean
from ebspub.remote.userdata import user_data
from ebspub.states import Kind
from ebspub.steps import builder, door, remains, shared
from ebspub.store import Job, Presence, Resource

#: How long a fresh builder may offer another host key: until cloud-init has put ours in place.
_FIRST_KEYS = 120.0


class Launch:
    """Run a builder."""

    name = "launch"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """See that the build is not published, clean up, make the group and the builder, connect."""
        begun = begin(job, world)
        if begun is not None:
            return begun
        if job.seat is None and job.spec.builder.shared and not job.own(Kind.INSTANCE, Kind.GROUP):
            return shared.board(job, world)
        if job.seat is not None and not job.seat.hosted_by(job.id, job.attempt):
            return shared.await_builder(job, world, job.seat) or _reach(job, world)
        group = _group(job, world)
        if isinstance(group, Wait):
            return group
        launched = _run(job, world, group)
        return launched if isinstance(launched, Wait) else _reach(job, world)

    def overdue(self, job: Job) -> Outcome:
        """A builder that does not come up is given up."""
        limit = job.spec.step_limit(self.name)
        last = builder.last_word(job)
        row = job.builder
        if row is None or row.resource_id is None:
            return Back("lose_builder", f"no builder could be launched within {limit:.0f} s{last}")
        return Back("lose_builder", f"the builder did not answer over SSH within {limit:.0f} s{last}")


def begin(job: Job, world: World) -> Outcome | None:
    """Do what comes before anything is made; None when there is nothing (more) of it to do.

    Remove what earlier attempts left; fail a job that was given up; adopt the AMI where the build is published already.
    """
    wait = shared.clear(job, world) or remains.remove(job, world, _left_over(job, world))
    if wait is not None:
        return wait
    if GAVE_UP in job.facts:
        told = job.facts[GAVE_UP]
        raise JobError(told["message"], todo=told["todo"], code=told["code"], request_id=told["request_id"])
    image = builder.published(job, world)
    if image is not None:
        wait = shared.depart(job, world) or remains.remove(job, world, builder.unpublished(job, image))
        return wait or builder.adopted(job, image)
    return None


def _left_over(job: Job, world: World) -> list[Resource]:
    """Return what earlier attempts left, but for what this job was published with.

    A database restored from a copy may not know of its AMI, yet know of the snapshot, which cannot be removed under it.
    """
    named = world.view.images_named(job.spec.registration.name)
    mine = [image for image in named if image.tags.get(tags.JOB) == job.id and image.state not in images.FAILED]
    published = {name for image in mine for name in (image.id, image.snapshot)}
    return [r for r in job.own() if r.attempt < job.attempt and r.resource_id not in published]


def _group(job: Job, world: World) -> tuple[str, ...] | Wait:
    """Return the builder's security groups: the configured ones, or a temporary one open to ssh_cidr only."""
    wanted = job.spec.builder
    if wanted.security_groups:
        return wanted.security_groups
    spent = job.spent(Kind.GROUP)
    wish = door.Door(
        purpose=f"group.{spent}" if spent else "group",
        salt=str(job.attempt),
        description=f"ebspub builder of {job.id}",
        subnet=wanted.subnets[0] if wanted.subnets else None,
        port=wanted.ssh_port,
        cidr=wanted.ssh_cidr,
    )
    made = door.ensure(job, world, job.current(Kind.GROUP), wish)
    return made if isinstance(made, Wait) else (made,)


def _run(job: Job, world: World, group: tuple[str, ...]) -> Wait | str:
    """Make the builder, in the next zone and type where the last had no capacity."""
    spent = [r for r in job.resources if r.kind is Kind.INSTANCE and r.attempt == job.attempt]
    live = [r for r in spent if r.presence is not Presence.GONE]
    number = len(spent) - len(live)
    request = live[-1].request if live else _candidate(job, world, group, number)
    purpose = live[-1].purpose if live else f"builder.{number}"
    text = user_data(
        world.keyring.host_key(job.id, job.attempt),
        world.keyring.client_key(job.id, job.attempt),
        job.spec.builder.dead_man,
    )

    def call(told: Any, token: str, marks: dict[str, str]) -> str:
        return instances.run(world.clients.writer, told, token=token, tags=marks, user_data=text)

    fresh = not live or live[-1].resource_id is None
    try:
        made = world.effects.make(
            job, world.view, Making(Kind.INSTANCE, purpose, "RunInstances", request, call, token_honoured=True)
        )
    except AwsError as error:
        if error.code == "InvalidGroup.NotFound" and job.spec.builder.security_groups:
            raise JobError(
                f"{job.id}: {error.message}",
                todo="Correct builder.security_groups in the configuration, then `ebspub run`.",
                code=error.code,
                request_id=error.request_id,
            ) from error
        if error.cause is not Cause.CAPACITY or (number + 1) % len(_candidates(job)) == 0:
            raise
        return Wait(f"{request['instance_type']} in {_place(request)}: {error.code}; trying the next", trouble=True)
    return Wait(f"builder {made} is starting") if fresh and not isinstance(made, Wait) else made


def _candidates(job: Job) -> list[tuple[str, str | None, str | None]]:
    """Return (instance type, zone, subnet) in the order in which they are tried: every place, then the next type."""
    wanted = job.spec.builder
    places: list[tuple[str | None, str | None]] = [(None, subnet) for subnet in wanted.subnets]
    places = places or [(zone, None) for zone in wanted.zones] or [(None, None)]
    return [(kind, zone, subnet) for kind in wanted.instance_types for zone, subnet in places]


def _candidate(job: Job, world: World, group: tuple[str, ...], number: int) -> dict[str, Any]:
    candidates = _candidates(job)
    # A later attempt begins at the next place: what went wrong may be the zone's trouble.
    kind, zone, subnet = candidates[(number + job.attempt - job.attempt_base) % len(candidates)]
    wanted = job.spec.builder
    image = parameters.image_id(world.clients.ssm, wanted.image)
    request: dict[str, Any] = {
        "image": image,
        "instance_type": kind,
        "zone": zone,
        "subnet": subnet,
        "groups": list(group),
        "public": wanted.address == "public",
        "profile": wanted.instance_profile,
        "root": None,
    }
    if wanted.root_size is not None:
        found = images.get(world.clients.reader, image)
        if found is None:
            raise JobError(
                f"{job.id}: the builder image {image} does not exist in {job.spec.region}",
                todo="Name another in builder.images, then `ebspub run`.",
                code="InvalidAMIID.NotFound",
            )
        request["root"] = {"device": found.root_device, "size": wanted.root_size}
    return request


def _place(request: Any) -> str:
    return request["zone"] or request["subnet"] or "any zone"


def _reach(job: Job, world: World) -> Outcome:
    """Wait until the builder runs and an authenticated command succeeds."""
    seen = builder.living(job, world)
    if isinstance(seen, Wait | Back):
        return seen
    where = builder.address(job, seen)
    if seen.state != "running" or not where:
        return Wait(f"builder {seen.id} is {seen.state}")
    facts = {"zone": seen.zone, "address": where}
    if job.facts.get("address") != where:
        world.effects.note(job, **facts)
        return Wait(f"builder {seen.id} runs; waiting for SSH on {where}")
    try:
        answer = world.shells.get(job).run("true", timeout=30.0)
        if answer.status != 0:
            # The login shell refuses: an account that is not made yet, or `Please login as the user "ubuntu"`.
            said = clean((answer.stderr or answer.stdout)[:200].decode("utf-8", "replace"))
            raise RemoteError(f"{job.id}: the builder takes no commands from {job.spec.builder.ssh_user}: {said}")
    except HostKeyError:
        if world.clock.now() < (_made_at(job) or 0.0) + _FIRST_KEYS:
            return Wait(f"builder {seen.id} does not show its host key yet", after=2.0)
        raise
    except RemoteError as error:
        world.shells.drop(job.id)
        return Wait(f"builder {seen.id} runs; waiting for SSH on {where}: {error.what}")
    row = job.builder
    launched = {"instance_type": row.request["instance_type"], "builder_image": row.request["image"]} if row else {}
    return Done({**facts, **launched}, {"instance_id": seen.id})


def _made_at(job: Job) -> float | None:
    row = job.builder
    return row.made_at if row is not None else None
