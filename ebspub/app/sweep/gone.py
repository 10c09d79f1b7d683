"""The other way round: what the database believes in, and the account does not have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ebspub.app.sweep.judge import being_verified
from ebspub.app.sweep.report import Action, Finding
from ebspub.aws import account, tags
from ebspub.aws.account import Owned
from ebspub.aws.clients import RegionClients
from ebspub.states import Kind, Status
from ebspub.store import Job, Presence, Resource, Store, events, jobs
from ebspub.store import effects as records

#: The event of a published AMI or snapshot that is no longer there.
LOST = "lost"


@dataclass(frozen=True, slots=True)
class Absent:
    """A thing that a job believes in. ``row`` is None for an AMI or snapshot that was adopted."""

    job: Job
    kind: Kind
    id: str
    row: Resource | None


def reconcile(
    store: Store,
    clients: RegionClients,
    listed: Sequence[Owned],
    believed: Sequence[Job],
    *,
    now: float,
    dry_run: bool,
) -> list[Finding]:
    """Compare the region's jobs with the things ``listed``; mark what is gone (unless ``dry_run``); return findings.

    What is not listed is asked for by its id, so that a tag that somebody took away makes nothing look lost. Jobs that
    have not ended are only reported: their driver sees to them. Raises AwsError.
    """
    there = {thing.id for thing in listed}
    suspects = [absent for job in believed for absent in _believed(job) if absent.id not in there]
    suspects = [absent for absent in suspects if not being_verified(absent.job, now)]
    settled = [a for a in suspects if a.row is None or now > (a.row.made_at or 0.0) + a.job.spec.limits.listing_lag]
    found = _ask(clients, settled)
    findings = [_finding(store, absent, now, dry_run=dry_run) for absent in settled if absent.id not in found]
    tokens = {thing.tags.get(tags.TOKEN, "") for thing in listed}
    findings += [_never_made(store, job, row, now, dry_run=dry_run) for job, row in _intents(believed, tokens, now)]
    return [finding for finding in findings if finding is not None]


def _believed(job: Job) -> Iterator[Absent]:
    """Yield what a job has in the account by what this database knows; nothing for a job that is being driven."""
    if job.lease is not None:
        return
    rows = {row.resource_id: row for row in job.resources if row.resource_id is not None}
    for row in job.live():
        if row.resource_id is not None and (job.ended or row.attempt == job.attempt):
            yield Absent(job, row.kind, row.resource_id, row)
    if job.status is Status.DONE:
        for kind, name in ((Kind.IMAGE, job.ami_id), (Kind.SNAPSHOT, job.snapshot_id)):
            if name is not None and name not in rows:
                yield Absent(job, kind, name, None)


def _ask(clients: RegionClients, absent: Sequence[Absent]) -> set[str]:
    found: set[str] = set()
    for kind in {each.kind for each in absent}:
        ids = [each.id for each in absent if each.kind is kind]
        found |= account.present(clients.reader, clients.region, kind, ids)
    return found


def _finding(store: Store, absent: Absent, now: float, *, dry_run: bool) -> Finding | None:
    job = absent.job
    published = job.status is Status.DONE and absent.id in (job.ami_id, job.snapshot_id)
    if not job.ended:
        return _told(absent, Action.MISSING, f"no longer exists; its job is {job.state}, `ebspub resume` sees to it")
    if not dry_run and not _mark(store, absent, now, lost=published):
        return None
    if published:
        return _told(absent, Action.LOST, f"of {job.spec.registration.name}: published, and no longer in the account")
    return _told(absent, Action.GONE, "no longer exists")


def _mark(store: Store, absent: Absent, now: float, *, lost: bool) -> bool:
    """Mark a thing as gone, once; False where the job is driven again, or it is known already."""
    with store.write() as conn:
        job = jobs.get(conn, absent.job.id)
        if job is None or not job.ended or being_verified(job, now) or not jobs.hold(conn, job):
            return False
        if absent.row is None and any(
            event.action == LOST and event.facts.get("id") == absent.id for event in events.history(conn, job.id)
        ):
            return False
        if absent.row is not None:
            records.settle(conn, absent.row.id, now)
            records.gone(conn, absent.row.id, now)
        events.add(
            conn,
            job.id,
            now,
            attempt=job.attempt,
            epoch=job.epoch,
            action=LOST if lost else "gone",
            message=f"{absent.kind} {absent.id}: no longer in the account",
            facts={"id": absent.id, "kind": absent.kind.value},
        )
    return True


def _intents(believed: Sequence[Job], tokens: Collection[str], now: float) -> Iterator[tuple[Job, Resource]]:
    """Yield intents of ended jobs that surely made nothing: EC2 cannot be hiding it any more."""
    for job in (each for each in believed if each.ended and not being_verified(each, now)):
        for row in job.live():
            hidden_until = (row.unsettled_since or row.intended_at) + job.spec.limits.listing_lag
            if row.presence is Presence.INTENDED and row.token not in tokens and now > hidden_until:
                yield job, row


def _never_made(store: Store, job: Job, row: Resource, now: float, *, dry_run: bool) -> Finding | None:
    absent = Absent(job, row.kind, row.resource_id or row.purpose, row)
    if not dry_run and not _mark(store, absent, now, lost=False):
        return None
    return _told(absent, Action.GONE, "was never made")


def _told(absent: Absent, action: Action, reason: str) -> Finding:
    return Finding(absent.job.spec.region, absent.kind, absent.id, absent.job.id, action, reason)


def by_region(listed: Sequence[Job]) -> Mapping[str, list[Job]]:
    """Return jobs by their region."""
    found: dict[str, list[Job]] = {}
    for job in listed:
        found.setdefault(job.spec.region, []).append(job)
    return found
