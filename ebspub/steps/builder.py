"""What several steps ask of the builder and of a published AMI."""

from __future__ import annotations

from ebspub.aws import images, instances, tags
from ebspub.aws.failures import AwsError
from ebspub.aws.images import Image
from ebspub.aws.instances import Instance
from ebspub.engine.outcome import Back, Done, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError, NameTakenError
from ebspub.store import Job, Resource
from ebspub.store.seats import DEVICES


def living(job: Job, world: World) -> Instance | Wait | Back:
    """Return the job's builder; or what to do because it is not visible (yet), or lost."""
    row = job.builder
    if row is None or row.resource_id is None:
        return Back("lose_builder", "the builder is no longer on record")
    seen = world.view.instance(row.resource_id)
    if seen is None:
        gone = Back("lose_builder", f"builder {row.resource_id} no longer exists{_left_alone(job, world, row)}")
        return hidden(job, world, row) or gone
    if seen.state in instances.LOST:
        return Back("lose_builder", f"builder {seen.id} is {seen.state}: {why_gone(world, seen)}")
    return seen


def _left_alone(job: Job, world: World, row: Resource) -> str:
    """Return what may have ended a builder of which EC2, after about an hour, tells nothing any more."""
    limit = job.spec.builder.dead_man
    old = row.made_at is not None and world.view.at > row.made_at + limit
    return f" (one that no publisher looks at for {limit} s ends itself)" if old else ""


def why_gone(world: World, seen: Instance) -> str:
    """Return why a builder is going: the dead-man timer's own word from the console, or EC2's reason."""
    try:
        lines = instances.console(world.clients.reader, seen.id).text.splitlines()
    except AwsError:
        lines = []
    told = [line.strip() for line in lines if "ebspub:" in line]
    return told[-1][-200:] if told else seen.reason or "no reason given"


def address(job: Job, seen: Instance) -> str:
    """Return the address at which the publisher reaches the builder; empty while it has none."""
    return seen.public_address if job.spec.builder.address == "public" else seen.private_address


def device(job: Job) -> str:
    """Return the name under which the job's volume is attached: no other volume of its builder ever has it.

    EC2 recommends /dev/sd[f-p]. Xen shows it as /dev/xvdf, Nitro as /dev/nvmeXn1 in any order.
    """
    return DEVICES[job.seat.slot if job.seat is not None else 0]


def published(job: Job, world: World) -> Image | None:
    """Return this account's AMI of the job's name if it is this very build; None where the name is free.

    The same build: registered for the same job (suite, build, serial, arch, region) from the same source, by its
    checksum; where none is known before a builder has measured it (``verify = "none"``), by the URL until then. Raises
    NameTakenError for any other AMI of that name: a name is never taken away from anybody.
    """
    for image in world.view.images_named(job.spec.registration.name):
        if _just_deregistered(job, world, image.id):
            continue
        same_job = image.tags.get(tags.JOB) == job.id
        if same_job and tags.is_from(image.tags, job.spec.source, job.facts.get("sha256")):
            return image
        what = "was registered from another source" if same_job else "is not this build"
        raise NameTakenError(
            f"{job.id}: the AMI name {image.name!r} is taken by {image.id}, which {what}",
            todo="Publish under a new serial, or deregister that AMI if nobody needs it, then `ebspub resume`.",
            code="InvalidAMIName.Duplicate",
        )
    return None


def _just_deregistered(job: Job, world: World, image: str) -> bool:
    """Whether we took an AMI away so short a time ago that EC2 may still be listing it."""
    gone = next((r.gone_at for r in job.resources if r.resource_id == image), None)
    return gone is not None and world.view.at <= gone + job.spec.limits.listing_lag


def adopted(job: Job, image: Image) -> Done | Wait:
    """Finish the job with an AMI that exists already, once it is available. Raises JobError for one that failed."""
    if image.state in images.FAILED:
        raise JobError(
            f"{job.id}: this build is registered as {image.id}, which is {image.state}: {image.reason or 'no reason'}",
            todo=f"Deregister {image.id}, then `ebspub resume`.",
            code="image-failed",
        )
    if image.state == "disabled":
        raise JobError(
            f"{job.id}: this build is registered as {image.id}, which somebody disabled",
            todo=f"Enable {image.id} again, or deregister it, then `ebspub resume`.",
            code="image-disabled",
        )
    if image.state != "available":
        return Wait(f"AMI {image.id} is {image.state}")
    return Done({"adopted": image.id}, {"ami_id": image.id, "snapshot_id": image.snapshot}, trigger="adopt")


def last_word(job: Job) -> str:
    """Return the last trouble of the present step, or what it waits for, as the end of a message; or nothing."""
    if job.retries and job.error is not None:
        return f": {job.error.message}"
    waiting = str((job.progress or {}).get("what", ""))
    return f": {waiting}" if waiting else ""


def unpublished(job: Job, image: Image) -> list[Resource]:
    """Return what exists or may exist of the job, but for a published AMI and its snapshot."""
    return [r for r in job.own() if r.resource_id not in (image.id, image.snapshot)]


def hidden(job: Job, world: World, row: Resource) -> Wait | None:
    """Return the wait for a resource that the view does not show, while EC2 may still be hiding it; else None."""
    if world.view.at <= (row.made_at or 0.0) + job.spec.limits.listing_lag:
        return Wait(f"{row.kind} {row.resource_id} is not visible yet")
    return None
