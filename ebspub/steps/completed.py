"""A snapshot that EC2 makes in its own time, of a volume or of another snapshot: made once, waited for, made again."""

from __future__ import annotations

from collections.abc import Callable

from ebspub.aws.snapshots import Snapshot
from ebspub.engine.outcome import Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.states import Kind
from ebspub.steps import builder, remains
from ebspub.store import Job


def completed(
    job: Job, world: World, *, phase: str, make: Callable[[], Outcome], what: str, todo: str
) -> Snapshot | Outcome:
    """Return the job's snapshot once it is complete; until then what is done, or waited for.

    ``make`` makes it where there is none. One in `error` is deleted and made again, a bounded number of times; then
    JobError says that EC2 failed ``what``, and ``todo``.
    """
    row = job.current(Kind.SNAPSHOT)
    if row is None or row.resource_id is None:
        return make()
    seen = world.view.snapshot(row.resource_id)
    if seen is None:
        if (hidden := builder.hidden(job, world, row)) is not None:
            return hidden
        world.effects.forget(job, row, "no longer exists")
        return Wait(f"snapshot {row.resource_id} no longer exists")
    if seen.state == "error":
        return _again(job, world, seen.message or "no reason given", what, todo)
    if seen.state != "completed":
        return Wait(f"snapshot {seen.id} is {seen.state}", progress={"phase": phase, "percent": seen.progress})
    return seen


def description(job: Job) -> str:
    """Return what EC2 keeps with a job's snapshot."""
    return f"{job.spec.registration.name} (ebspub {job.id})"[:255]


def _again(job: Job, world: World, reason: str, what: str, todo: str) -> Outcome:
    spent = [r for r in job.resources if r.kind is Kind.SNAPSHOT and r.attempt == job.attempt]
    wait = remains.remove(job, world, spent)
    if len(spent) >= job.spec.limits.attempts:
        raise JobError(f"{job.id}: EC2 failed {len(spent)} {what}: {reason}", todo=todo, code="snapshot-error")
    return wait or Wait(f"EC2 failed the snapshot ({reason}); making it again")
