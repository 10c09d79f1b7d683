"""populated -> snapshotted: terminate the builder, detach, snapshot, wait until it leaves pending, delete the volume.

In the specification's order: nothing can write to the volume any more when it is snapshotted, and the volume, the
only copy of an hour's work, is deleted only when its snapshot is complete. A builder that others still use is left to
them, and the volume detached from it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ebspub.aws import snapshots, volumes
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.states import Kind
from ebspub.steps import builder, remains, shared
from ebspub.steps.completed import completed, description
from ebspub.store import Job


class Snapshot:
    """Snapshot the populated volume."""

    name = "snapshot"
    kinds = frozenset({Kind.INSTANCE, Kind.VOLUME, Kind.SNAPSHOT, Kind.GROUP})

    def advance(self, job: Job, world: World) -> Outcome:
        """Take apart what populated the volume; snapshot it; then delete it."""
        wait = shared.depart(job, world, finished=True) or remains.remove(job, world, job.own(Kind.INSTANCE))
        if wait is not None:
            return wait
        found = completed(
            job,
            world,
            phase="snapshot",
            make=partial(_create, job, world),
            what=f"snapshots of volume {job.volume_id}",
            todo="The populated volume is kept: `ebspub resume` takes another snapshot of it.",
        )
        if not isinstance(found, snapshots.Snapshot):
            return found
        # A stray builder would hold the security group.
        wait = remains.remove_strays(job, world, (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP))
        wait = wait or remains.remove(job, world, job.own(Kind.INSTANCE, Kind.VOLUME, Kind.GROUP))
        return wait or Done({}, {"snapshot_id": found.id})

    def overdue(self, job: Job) -> Outcome:
        """The volume is kept, and `resume` looks at its snapshot again; one that never got free is given up."""
        limit, last = job.spec.step_limit(self.name), builder.last_word(job)
        if job.current(Kind.SNAPSHOT) is None:
            return Back("lose_volume", f"the volume could not be snapshotted within {limit:.0f} s{last}")
        raise JobError(
            f"{job.id}: the snapshot was not complete within {limit:.0f} s{last}",
            todo="`ebspub resume` goes on waiting; raise limits.snapshot if EC2 is simply slow.",
            code="deadline",
        )


def _create(job: Job, world: World) -> Outcome:
    """Snapshot the volume, once it is free."""
    volume = world.view.volume(job.volume_id)
    row = job.current(Kind.VOLUME)
    if volume is None or row is None:
        gone = Back("lose_volume", f"volume {job.volume_id} no longer exists")
        return gone if row is None else builder.hidden(job, world, row) or gone
    if volume.attachment is not None:
        if volume.attachment[2] not in ("detaching", "busy") and not _just_gone(job, world, volume.attachment[0]):
            detach = partial(volumes.detach, world.clients.writer, volume.id)
            world.effects.act(job, "DetachVolume", detach, target=volume.id)
        return Wait(f"volume {volume.id} is detaching")
    if volume.state != "available":
        return Wait(f"volume {volume.id} is {volume.state}")
    spent = job.spent(Kind.SNAPSHOT)
    request = {"volume": volume.id, "description": description(job)}

    def call(told: Any, _token: str, marks: dict[str, str]) -> str:
        return snapshots.create(world.clients.writer, told, tags=marks)

    made = world.effects.make(
        job,
        world.view,
        Making(Kind.SNAPSHOT, f"snapshot.{spent}", "CreateSnapshot", request, call, token_honoured=False),
    )
    return made if isinstance(made, Wait) else Wait(f"snapshot {made} is pending")


#: How long (seconds) EC2 may take to detach the volume of a terminated instance by itself.
_DETACHING = 30.0


def _just_gone(job: Job, world: World, instance: str) -> bool:
    gone = next((r.gone_at for r in job.resources if r.resource_id == instance), None)
    return gone is not None and world.view.at < gone + _DETACHING
