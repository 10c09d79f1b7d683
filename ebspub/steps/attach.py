"""launched -> attached: an empty volume in the builder's zone, attached, and found on the builder by its id."""

from __future__ import annotations

from functools import partial
from typing import Any

from ebspub.aws import volumes
from ebspub.aws.failures import AwsError, Cause
from ebspub.aws.volumes import Volume
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.populate.device import find_device
from ebspub.remote import detached
from ebspub.spec import PROVISIONED
from ebspub.states import Kind
from ebspub.steps import builder
from ebspub.store import Job


class Attach:
    """Create and attach the volume that becomes the AMI's root."""

    name = "attach"
    kinds = frozenset({Kind.INSTANCE, Kind.VOLUME})

    def advance(self, job: Job, world: World) -> Outcome:
        """Create, attach, and find it."""
        seen = builder.living(job, world)
        if isinstance(seen, Wait | Back):
            return seen
        # Attaching may take longer than a builder waits for a publisher.
        detached.attend(world.shells.get(job))
        row = job.current(Kind.VOLUME)
        if row is None or row.resource_id is None:
            if not seen.zone:
                # The intent would be kept, and tried, with a volume in no zone.
                return Wait(f"EC2 does not say the zone of builder {seen.id} yet")
            return _create(job, world, seen.zone)
        volume = world.view.volume(row.resource_id)
        if volume is None:
            gone = Back("lose_volume", f"volume {row.resource_id} no longer exists")
            return builder.hidden(job, world, row) or gone
        if volume.state in ("error", "deleting", "deleted"):
            return Back("lose_volume", f"volume {volume.id} is {volume.state}")
        if volume.attachment is None:
            return _attach(job, world, volume, seen.id)
        return _find(job, world, volume, seen.id)

    def overdue(self, job: Job) -> Outcome:
        """A volume that is stuck is given up, and the builder with it: the trouble may be on either side."""
        limit = job.spec.step_limit(self.name)
        return Back("lose_volume", f"the volume was not attached within {limit:.0f} s{builder.last_word(job)}")


def _create(job: Job, world: World, zone: str) -> Outcome:
    wanted = job.spec.volume
    request = {
        "zone": zone,
        "size": wanted.size,
        "type": wanted.type,
        # Where another type is registered they may be meant for that one only.
        "iops": wanted.iops if wanted.type in PROVISIONED else None,
        "throughput": wanted.throughput,
        "encrypted": wanted.encrypted,
        "kms_key": wanted.kms_key,
    }

    def call(told: Any, token: str, marks: dict[str, str]) -> str:
        return volumes.create(world.clients.writer, told, token=token, tags=marks)

    spent = job.spent(Kind.VOLUME)
    making = Making(Kind.VOLUME, f"root.{spent}", "CreateVolume", request, call, token_honoured=True)
    try:
        made = world.effects.make(job, world.view, making)
    except AwsError as error:
        if error.cause is not Cause.CAPACITY:
            raise
        # A volume must be in its builder's zone: another zone means another builder.
        reason = f"no {wanted.type} volume of {wanted.size} GiB in {zone}: {error.message}"
        return Back("lose_builder", reason, error.code, error.request_id)
    return made if isinstance(made, Wait) else Wait(f"volume {made} is creating")


def _attach(job: Job, world: World, volume: Volume, instance: str) -> Outcome:
    if volume.state != "available":
        return Wait(f"volume {volume.id} is {volume.state}")
    attach = partial(volumes.attach, world.clients.writer, volume.id, instance, builder.device(job))
    try:
        world.effects.act(job, "AttachVolume", attach, target=volume.id)
    except AwsError as error:
        if job.seat is None or error.code != "InvalidParameterValue":
            raise
        # The device name is in use: a database that is a copy does not know of all that is at the builder.
        reason = f"builder {instance} does not take the volume: {error.message}"
        return Back("lose_builder", reason, error.code, error.request_id)
    return Wait(f"volume {volume.id} is attaching")


def _find(job: Job, world: World, volume: Volume, instance: str) -> Outcome:
    assert volume.attachment is not None
    holder, _, state = volume.attachment
    if holder != instance:
        return Back("lose_volume", f"volume {volume.id} is attached to {holder}, not to our builder {instance}")
    if state != "attached":
        return Wait(f"volume {volume.id} is {state}")
    device = find_device(world.shells.get(job), volume.id, builder.device(job))
    if device is None:
        return Wait(f"volume {volume.id} is attached; the builder does not show it yet")
    return Done({"device": device}, {"volume_id": volume.id})
