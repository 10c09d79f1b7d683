"""A copy's way through the states: the primary region's job makes the snapshot, and EC2 copies it here.

pending -> launched: wait until the primary has its snapshot, and take over what it knows of the content; there is no
builder. launched -> attached -> populated: passed through. populated -> snapshotted: CopySnapshot, in this region, and
wait until EC2 has. Registering is as ever.

The primary is looked at in the database, never in its region: a copy talks to its own region only, and what has become
of the original since EC2 tells in answer to CopySnapshot. A copy waits only for a job that somebody drives: one that
failed, was cancelled or lies idle fails its copies with what to do, because nobody would ever end their waiting.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ebspub.aws import snapshots
from ebspub.aws.failures import AwsError
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.populate.method import DiskFacts, PopulateFacts
from ebspub.states import Kind, State, Status
from ebspub.steps import builder, launch
from ebspub.steps.completed import completed, description
from ebspub.store import Job

#: Facts of a primary that tell what it wrote, whatever its method; the others are of its builder, or of its upload.
_OF_THE_CONTENT = frozenset({*PopulateFacts.model_fields, *DiskFacts.model_fields, "gpt"})
#: Seconds for which a primary that nobody drives is waited for: its publisher may be about to be started again.
_PATIENCE = 600.0
#: The facts by which a copy knows its original; and what else this way through the states adds.
_SNAPSHOT, _PRIMARY = "source_snapshot", "copy_of"


class Follow:
    """Nothing to launch: wait for the primary's snapshot."""

    name = "launch"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """Clean up, see that the build is not published already, and wait for the primary."""
        begun = launch.begin(job, world)
        if begun is not None:
            return begun
        primary = _primary(job, world)
        if primary.state not in (State.SNAPSHOTTED, State.REGISTERED) or primary.snapshot_id is None:
            return _wait(job, primary, world.view.at)
        facts = {key: value for key, value in primary.facts.items() if key in _OF_THE_CONTENT}
        # Of one that failed to register, the snapshot is kept.
        return Done({**facts, "builder": "none needed", _PRIMARY: primary.id, _SNAPSHOT: primary.snapshot_id})

    def overdue(self, job: Job) -> Outcome:
        """The primary took longer than all its attempts may take; or what an earlier attempt left is still there."""
        limit = job.spec.step_limit(self.name)
        raise JobError(
            f"{job.id}: waited {limit:.0f} s{builder.last_word(job)}",
            todo=f"See what keeps {job.spec.primary}, then {_both(job)}.",
            code="deadline",
        )


class Copy:
    """Copy the snapshot, and wait until EC2 has."""

    name = "snapshot"
    kinds = frozenset({Kind.SNAPSHOT})

    def advance(self, job: Job, world: World) -> Outcome:
        """Copy it once; then look."""
        found = completed(
            job,
            world,
            phase="copy",
            make=partial(_copy, job, world),
            what=f"copies of snapshot {job.facts.get(_SNAPSHOT)}",
            todo="`ebspub resume` copies it again; with an encrypted one, see that both keys may be used.",
        )
        return Done({}, {"snapshot_id": found.id}) if isinstance(found, snapshots.Snapshot) else found

    def overdue(self, job: Job) -> Outcome:
        """The copy is kept, and `resume` looks at it again."""
        limit, last = job.spec.step_limit(self.name), builder.last_word(job)
        raise JobError(
            f"{job.id}: the copy of {job.facts.get(_SNAPSHOT)} was not complete within {limit:.0f} s{last}",
            todo="`ebspub resume` goes on waiting; raise limits.snapshot if EC2 is simply slow.",
            code="deadline",
        )


def _primary(job: Job, world: World) -> Job:
    """Return the primary. Raises JobError where it will not make a snapshot."""
    name = str(job.spec.primary)
    found = world.effects.other(name)
    if found is None:
        raise JobError(
            f"{job.id} is to copy the snapshot of {name}, which this database does not know",
            todo="`ebspub run` plans and publishes both.",
            code="primary-unknown",
        )
    if found.status is Status.CANCELLED or found.cancel_requested:
        what = "was cancelled" if found.status is Status.CANCELLED else "is being cancelled"
        raise JobError(
            f"{job.id} is to copy the snapshot of {name}, which {what}", todo=_instead(job), code="primary-cancelled"
        )
    if found.status is Status.FAILED and found.state is not State.SNAPSHOTTED:
        why = found.error.message if found.error else "no reason on record"
        raise JobError(
            f"{job.id} is to copy the snapshot of {name}, which failed: {why}",
            todo=f"Mend the cause, then {_both(job)}.",
            code="primary-failed",
        )
    return found


def _wait(job: Job, primary: Job, now: float) -> Wait:
    """Wait for as long as somebody is at the primary. Raises JobError where nobody is any more."""
    last = max(primary.lease.until if primary.lease else primary.updated_at, job.step_started_at or 0.0)
    if now > last + _PATIENCE:
        raise JobError(
            f"{job.id} is to copy the snapshot of {primary.id}, which is {primary.state}, and which nobody drives",
            todo=f"{_both(job)} drives both.",
            code="primary-idle",
        )
    # What exactly the primary does changes too often to be told here: each change is a write to the database.
    return Wait(f"waits for the snapshot of {primary.id}")


def _copy(job: Job, world: World) -> Outcome:
    fan_out, volume = job.spec.fan_out, job.spec.volume
    assert fan_out is not None
    original = job.facts[_SNAPSHOT]
    request = {
        "snapshot": original,
        "region": fan_out.region,
        "description": description(job),
        "encrypted": volume.encrypted,
        "kms_key": volume.kms_key,
    }

    def call(told: Any, _token: str, marks: dict[str, str]) -> str:
        return snapshots.copy(world.clients.writer, told, tags=marks)

    spent = job.spent(Kind.SNAPSHOT)
    making = Making(Kind.SNAPSHOT, f"snapshot.{spent}", "CopySnapshot", request, call, token_honoured=False)
    try:
        made = world.effects.make(job, world.view, making)
    except AwsError as error:
        if not error.missing:
            raise
        # It was completed before this job knew of it, so EC2 is not hiding it: somebody deleted it, or the primary
        # begins again. The next attempt sees which.
        reason = f"snapshot {original} of {job.spec.primary} no longer exists in {fan_out.region}"
        return Back("lose_snapshot", reason, error.code, error.request_id, todo=_instead(job))
    return made if isinstance(made, Wait) else Wait(f"snapshot {made} is pending")


def _both(job: Job) -> str:
    return f"`ebspub resume {job.spec.primary} {job.id}`"


def _instead(job: Job) -> str:
    """Return what to do where there is no original any more."""
    return f"{_both(job)}; or take fan_out out of the build, then `ebspub run`: the region makes its own."
