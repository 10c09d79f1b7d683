"""snapshotted -> registered: the AMI is registered, available, and nothing else of the job is left."""

from __future__ import annotations

from functools import partial
from typing import Any

from ebspub.aws import images, tags
from ebspub.aws.images import Image
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.spec import PROVISIONED
from ebspub.states import Kind
from ebspub.steps import builder, remains
from ebspub.store import Job


class Register:
    """Register the snapshot as an AMI."""

    name = "register"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """Register, wait until it is available, and see that nothing else is left."""
        row = job.current(Kind.IMAGE)
        if row is None or row.resource_id is None:
            return _register(job, world)
        seen = world.view.image(row.resource_id)
        if seen is None:
            if (wait := builder.hidden(job, world, row)) is not None:
                return wait
            world.effects.forget(job, row, "no longer exists")
            return Wait(f"AMI {row.resource_id} no longer exists")
        if seen.state in images.FAILED:
            return _failed(job, world, seen)
        if seen.state != "available":
            return Wait(f"AMI {seen.id} is {seen.state}")
        published = (row.resource_id, job.snapshot_id)
        wait = remains.remove(job, world, [r for r in job.own() if r.resource_id not in published])
        wait = wait or remains.remove_strays(job, world, self.kinds - {Kind.IMAGE})
        return wait or Done({"architecture": seen.architecture}, {"ami_id": seen.id})

    def overdue(self, job: Job) -> Outcome:
        """The snapshot and the AMI are kept: `resume` looks again with a fresh limit."""
        limit = job.spec.step_limit(self.name)
        raise JobError(
            f"{job.id}: the AMI was not available within {limit:.0f} s{builder.last_word(job)}",
            todo="`ebspub resume` goes on waiting; raise limits.register if EC2 is simply slow.",
            code="deadline",
        )


def _register(job: Job, world: World) -> Outcome:
    """Register under the name, unless it is taken; an AMI of this job that somebody else registered is adopted."""
    row = job.current(Kind.IMAGE)
    there = builder.published(job, world)
    if there is not None and (row is None or world.view.by_token(Kind.IMAGE, row.token) is None):
        return remains.remove(job, world, builder.unpublished(job, there)) or builder.adopted(job, there)
    snapshot = world.view.snapshot(job.snapshot_id)
    lag = job.spec.limits.listing_lag
    made = next((r.made_at for r in job.live(Kind.SNAPSHOT) if r.resource_id == job.snapshot_id), None)
    if snapshot is None and world.view.at > (made or 0.0) + lag:
        return Back("lose_snapshot", f"snapshot {job.snapshot_id} no longer exists")
    spent = job.spent(Kind.IMAGE)

    kind, volume = job.spec.registration.volume_type, job.spec.volume
    request = {
        "snapshot": job.snapshot_id,
        "iops": volume.iops if kind in PROVISIONED else None,
        "throughput": volume.throughput if kind == "gp3" else None,
    }

    def call(told: Any, _token: str, marks: dict[str, str]) -> str:
        marks |= tags.of_content(job.spec.method, job.facts)
        return images.register(world.clients.writer, job.spec.registration, told, tags=marks)

    made_id = world.effects.make(
        job,
        world.view,
        Making(Kind.IMAGE, f"image.{spent}", "RegisterImage", request, call, token_honoured=False),
    )
    return made_id if isinstance(made_id, Wait) else Wait(f"AMI {made_id} is pending")


def _failed(job: Job, world: World, seen: Image) -> Outcome:
    """A failed AMI is deregistered and registered again, a bounded number of times."""
    rows = [r for r in job.resources if r.kind is Kind.IMAGE and r.attempt == job.attempt]
    reason = seen.reason or seen.state
    row = next(r for r in rows if r.resource_id == seen.id)
    deregister = partial(images.deregister, world.clients.writer, seen.id)
    world.effects.act(job, "DeregisterImage", deregister, target=seen.id, resource=row, gone=True)
    if len(rows) >= job.spec.limits.attempts:
        raise JobError(
            f"{job.id}: EC2 failed {len(rows)} registrations of snapshot {job.snapshot_id}: {reason}",
            todo="The snapshot is kept: `ebspub resume` registers it again.",
            code="image-failed",
        )
    return Wait(f"AMI {seen.id} failed ({reason}); registering again")
