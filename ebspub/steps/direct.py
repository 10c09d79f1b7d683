"""The direct method's way through the states, which are the same words: what has no work is passed through, recorded.

pending -> launched -> attached: there is no builder and no volume. attached -> populated: a snapshot is started, and
this process puts the blocks into it that have data (and differ from the parent's). populated -> snapshotted: it is
sealed with the count and the checksum of what was put, and completes. Registering is as ever.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from ebspub.aws import blocks, snapshots
from ebspub.aws.failures import AwsError, Cause
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.engine.uploads import Ended, Failed, Order, Running
from ebspub.errors import EbspubError, JobError, RemoteError
from ebspub.states import Kind
from ebspub.steps import builder, launch, remains
from ebspub.store import Job, Resource

#: Minutes without a block after which EC2 gives a snapshot up: a publisher that died has a day to come back.
_TIMEOUT = 1440
#: What StartSnapshot takes of a key (its reference, KmsKeyArn).
_KEY = re.compile(r"arn:aws[a-z-]*:kms:.*:[0-9]{12}:key/.*")
#: The fact that says why an upload has no parent although one is wanted; and the one that marks that sealing began.
_NO_PARENT, _SEALING = "parent_reason", "sealing"


class NoBuilder:
    """Nothing to launch; but the checks that come before everything."""

    name = "launch"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """Clean up, see that the build is not published already, and pass."""
        key = job.spec.volume.kms_key
        if key is not None and not _KEY.fullmatch(key):
            raise JobError(
                f"{job.id}: the EBS direct APIs take the ARN of a KMS key, and volume.kms_key is {key!r}",
                todo="Write the key's ARN (arn:aws:kms:...:key/...), then `ebspub run`.",
                code="kms-key",
            )
        return launch.begin(job, world) or Done({"builder": "none needed"})

    def overdue(self, job: Job) -> Outcome:
        """Only what an earlier attempt left can take so long."""
        limit = job.spec.step_limit(self.name)
        last = f": {job.error.message}" if job.error else ""
        return Back("lose_builder", f"what earlier attempts left could not be removed within {limit:.0f} s{last}")


class Upload:
    """Start the snapshot and see its blocks put."""

    name = "populate"
    kinds = frozenset({Kind.SNAPSHOT})

    def advance(self, job: Job, world: World) -> Outcome:
        """Start the snapshot, start the upload, or look at it."""
        row = job.current(Kind.SNAPSHOT)
        if row is None or row.resource_id is None:
            return _start(job, world)
        seen = world.view.snapshot(row.resource_id)
        if seen is None and builder.hidden(job, world, row) is None:
            return Back("lose_snapshot", f"snapshot {row.resource_id} no longer exists")
        if seen is not None and seen.state != "pending":
            reason = seen.message or "EC2 gives up what is not completed in time"
            return Back("lose_snapshot", f"snapshot {seen.id} is {seen.state}: {reason}")
        order = Order(job, row, row.request.get("parent_row"), world.effects.ledger, world.clients)
        found = world.uploads.look(order)
        if found is None:
            return _begin(job, world, order)
        if isinstance(found, Running):
            progress = {"phase": found.phase, "done": found.done, "total": found.total}
            return Wait(found.phase, progress=progress)
        world.uploads.drop(job.id)
        if isinstance(found, Failed):
            return _failed(found.error, row)
        return _filled(found, row)

    def overdue(self, job: Job) -> Outcome:
        """An upload that takes too long is given up, and its snapshot with it."""
        limit = job.spec.step_limit(self.name)
        phase = (job.progress or {}).get("phase", "start")
        last = f": {job.error.message}" if job.error else ""
        return Back("lose_snapshot", f"the upload took longer than {limit:.0f} s (last phase: {phase}){last}")


def _begin(job: Job, world: World, order: Order) -> Wait:
    order.ledger.begin(job, order.parent)
    started = world.uploads.start(order)
    return Wait("starting" if started else "waiting for other uploads to end", progress={"phase": "start"})


def _filled(found: Ended, row: Resource) -> Done:
    assert row.resource_id is not None
    return Done(dict(found.facts), {"snapshot_id": row.resource_id})


def _failed(error: EbspubError, row: Resource) -> Outcome:
    """Say what an error of the upload means for the job."""
    if isinstance(error, AwsError) and error.action == "PutSnapshotBlock":
        if error.missing or error.code == "ValidationException":
            reason = f"snapshot {row.resource_id} takes no blocks any more: {error.message}"
            return Back("lose_snapshot", reason, error.code, error.request_id)
    elif isinstance(error, RemoteError):
        raise RemoteError(f"the source does not answer: {error.what}", code="source") from error
    raise error


def _start(job: Job, world: World) -> Outcome:
    """Start the snapshot: as a change of the build before it where that is wanted and can be."""
    live = job.current(Kind.SNAPSHOT)
    if live is not None and live.request.get("parent") and _NO_PARENT in job.facts:
        world.effects.forget(job, live, str(job.facts[_NO_PARENT]))
        return Wait("starting without a parent")
    spent = job.spent(Kind.SNAPSHOT)
    request = live.request if live is not None else _request(job, world)

    def call(told: Any, token: str, marks: dict[str, str]) -> str:
        return blocks.start(world.clients.ebs, told, token=token, tags=marks)

    making = Making(Kind.SNAPSHOT, f"snapshot.{spent}", "StartSnapshot", request, call, token_honoured=True)
    try:
        made = world.effects.make(job, world.view, making)
    except AwsError as error:
        refused = error.code in ("ValidationException", "ResourceNotFoundException")
        if not (request.get("parent") and refused and error.definite):
            raise
        # Nothing was made. It may be gone meanwhile, or be of no use to EC2: a full upload is always right.
        world.effects.note(job, **{_NO_PARENT: f"EC2 refused {request['parent']} as parent: {error.message}"})
        return Wait(f"EC2 refused {request['parent']} as parent; starting without")
    if isinstance(made, Wait):
        return made
    return Wait(f"snapshot {made} is started")


def _request(job: Job, world: World) -> dict[str, Any]:
    volume, name = job.spec.volume, job.spec.registration.name
    request: dict[str, Any] = {
        "size": volume.size,
        "description": f"{name} (ebspub {job.id})"[:255],
        "timeout": _TIMEOUT,
        "encrypted": volume.encrypted,
        "kms_key": volume.kms_key,
        "parent": None,
    }
    if job.spec.parent == "none" or _NO_PARENT in job.facts:
        return request
    parent = _parent(job, world)
    if isinstance(parent, str):
        world.effects.note(job, **{_NO_PARENT: parent})
        return request
    return {**request, "parent": parent.resource_id, "parent_row": parent.id}


def _parent(job: Job, world: World) -> Resource | str:
    """Return the snapshot of the build that was registered last, or why it cannot be the parent."""
    found = world.effects.ledger.predecessor(job)
    if isinstance(found, str):
        return found
    earlier, row = found
    mine, theirs = job.spec.volume, earlier.spec.volume
    if theirs.size > mine.size:
        return f"{earlier.id} has {theirs.size} GiB, and a child of its snapshot can only be larger"
    if (theirs.encrypted, theirs.kms_key) != (mine.encrypted, mine.kms_key):
        return f"{earlier.id} is encrypted otherwise, and a child has its parent's encryption"
    assert row.resource_id is not None
    seen = snapshots.get(world.clients.reader, row.resource_id)
    if seen is None or seen.state != "completed":
        return f"the snapshot {row.resource_id} of {earlier.id} {'is ' + seen.state if seen else 'no longer exists'}"
    return row


class Seal:
    """Complete the snapshot, and wait until EC2 has."""

    name = "snapshot"
    kinds = frozenset({Kind.SNAPSHOT})

    def advance(self, job: Job, world: World) -> Outcome:
        """Seal it once; then look."""
        row = job.current(Kind.SNAPSHOT)
        seen = world.view.snapshot(row.resource_id) if row is not None else None
        if row is None or row.resource_id is None or seen is None:
            gone = Back("lose_snapshot", f"snapshot {job.snapshot_id} no longer exists")
            return gone if row is None else builder.hidden(job, world, row) or gone
        if seen.state == "completed":
            return remains.remove_strays(job, world, self.kinds) or Done({}, {"snapshot_id": seen.id})
        if seen.state != "pending":
            return Back("lose_snapshot", f"snapshot {seen.id} is {seen.state}: {seen.message or 'no reason given'}")
        if job.facts.get(_SEALING) == "done":
            return Wait(f"snapshot {seen.id} is {seen.state}", progress={"phase": "snapshot", "percent": seen.progress})
        return _seal(job, world, seen.id)

    def overdue(self, job: Job) -> Outcome:
        """The snapshot is kept: `resume` looks at it again with a fresh limit."""
        limit = job.spec.step_limit(self.name)
        last = str((job.progress or {}).get("what", ""))
        raise JobError(
            f"{job.id}: the snapshot was not complete within {limit:.0f} s: {last}",
            todo="`ebspub resume` goes on waiting; raise limits.snapshot if EC2 is simply slow.",
            code="deadline",
        )


def _seal(job: Job, world: World, snapshot: str) -> Outcome:
    facts = job.facts
    call = partial(blocks.complete, world.clients.ebs, snapshot, count=facts["blocks_sent"], checksum=facts["checksum"])
    began = facts.get(_SEALING) == "begun"
    if not began:
        world.effects.note(job, **{_SEALING: "begun"})
    try:
        world.effects.act(job, "CompleteSnapshot", call, target=snapshot)
    except AwsError as error:
        if error.cause is not Cause.REFUSED:
            raise
        if not began:
            # EC2 has other blocks than we have on record: nothing can be made of this snapshot.
            reason = f"EC2 refused to complete snapshot {snapshot}: {error.message}"
            return Back("lose_snapshot", reason, error.code, error.request_id)
        # An earlier call, whose answer was lost, has sealed it; or will never have, which the step's limit ends.
    world.effects.note(job, **{_SEALING: "done"})
    return Wait(f"snapshot {snapshot} is sealed")
