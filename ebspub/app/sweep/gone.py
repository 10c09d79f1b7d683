"""The other way round: what the database believes in, and the account does not have.

Only EC2's own word counts: each thing that the listing lacks is asked for by its id, and is gone where EC2 says that
there is none, or that it has ended. An answer without it, or none, changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ebspub.app.sweep.judge import being_verified
from ebspub.app.sweep.remove import CALLS
from ebspub.app.sweep.report import Action, Finding
from ebspub.aws import account, tags
from ebspub.aws.account import LookUp, Owned
from ebspub.aws.clients import RegionClients
from ebspub.states import Kind, Status
from ebspub.store import Effect, Job, Presence, Resource, Store, events, jobs, leases
from ebspub.store import effects as records

#: The event of a published AMI or snapshot that is no longer there.
LOST = "lost"
_KINDS = {action: kind for kind, (action, _) in CALLS.items()}


@dataclass(frozen=True, slots=True)
class Absent:
    """A thing that a job believes in. ``row`` is None for an AMI or snapshot that was adopted."""

    job: Job
    kind: Kind
    id: str
    row: Resource | None

    @property
    def published(self) -> bool:
        """Whether it is what the job was for."""
        return self.job.status is Status.DONE and self.id in (self.job.ami_id, self.job.snapshot_id)

    def told(self, action: Action, reason: str) -> Finding:
        """Return what the sweep says of it."""
        return Finding(self.job.spec.region, self.kind, self.id, self.job.id, action, reason)


def reconcile(
    store: Store, clients: RegionClients, listed: Sequence[Owned], *, now: float, dry_run: bool
) -> list[Finding]:
    """Compare the region's jobs with the things ``listed``; mark what is gone (unless ``dry_run``); return findings.

    Of a job that has not ended, too, as long as nobody drives it: its next step then finds no row of what is gone, and
    makes it again. Raises AwsError.
    """
    with store.read() as conn:
        found_jobs = jobs.find(conn, regions=[clients.region])
        idle = [job for job in found_jobs if not leases.driven(job, now) and not being_verified(job, now)]
        unanswered = records.open_calls(conn, [job.id for job in idle], _KINDS)
    there = {thing.id for thing in listed}
    suspects = [absent for job in idle for absent in _believed(job) if absent.id not in there and _old(absent, now)]
    lost = [effect for effect in unanswered if effect.target not in there]
    wanted = {(each.kind, each.id) for each in suspects} | {_target(effect) for effect in lost}
    found = _ask(clients, wanted)
    findings = [_finding(store, absent, found[absent.kind], now, dry_run=dry_run) for absent in suspects]
    known = {job.id: job for job in idle}
    told = {absent.id for absent in suspects}
    for effect in lost:
        kind, name = _target(effect)
        if name in found[kind].gone:
            finding = _settle(store, Absent(known[effect.job_id], kind, name, None), effect, now, dry_run=dry_run)
            findings.append(finding if name not in told else None)
    shown = {thing.tags.get(tags.TOKEN, "") for thing in listed}
    trusted = {
        kind for kind in Kind if _complete(store.id, {name for each, name in wanted if each is kind}, found[kind])
    }
    unmade = [(job, row) for job, row in _intents(idle, now) if row.token not in shown and row.kind in trusted]
    findings += [_never_made(store, job, row, now, dry_run=dry_run) for job, row in unmade]
    return [finding for finding in findings if finding is not None]


def _believed(job: Job) -> Iterator[Absent]:
    """Yield what a job has in the account by what this database knows."""
    rows = {row.resource_id: row for row in job.resources if row.resource_id is not None}
    for row in job.live():
        if row.resource_id is not None:
            yield Absent(job, row.kind, row.resource_id, row)
    if job.status is Status.DONE:
        for kind, name in ((Kind.IMAGE, job.ami_id), (Kind.SNAPSHOT, job.snapshot_id)):
            if name is not None and name not in rows:
                yield Absent(job, kind, name, None)


def _old(absent: Absent, now: float) -> bool:
    """Whether EC2 can no longer be hiding a thing that was just made."""
    return absent.row is None or now > (absent.row.made_at or 0.0) + absent.job.spec.limits.listing_lag


def _target(effect: Effect) -> tuple[Kind, str]:
    return _KINDS[effect.action], effect.target or ""


def _ask(clients: RegionClients, wanted: set[tuple[Kind, str]]) -> Mapping[Kind, LookUp]:
    found = {}
    for kind in Kind:
        ids = {name for each, name in wanted if each is kind}
        found[kind] = account.look_up(clients.reader, clients.region, kind, ids)
    return found


def _complete(store_id: str, missed: set[str], told: LookUp) -> bool:
    """Whether a kind's listing can be trusted for what has no id to ask for: all of ours that it ``missed`` is gone."""
    others = {name for name, thing in told.there.items() if thing.tags.get(tags.STORE) != store_id}
    return missed <= told.gone | others


def _finding(store: Store, absent: Absent, told: LookUp, now: float, *, dry_run: bool) -> Finding | None:
    job = absent.job
    if absent.id in told.there:
        return None
    if absent.id not in told.gone:
        return absent.told(Action.UNSURE, "EC2 neither shows it nor says that it is gone: left as it is")
    if not dry_run and not _mark(store, absent, now):
        return None
    if not job.ended:
        return absent.told(Action.MISSING, f"no longer exists; its job is {job.state}, `ebspub resume` goes on without")
    if absent.published:
        return absent.told(Action.LOST, f"of {job.spec.registration.name}: published, and no longer in the account")
    return absent.told(Action.GONE, "no longer exists")


def _mark(store: Store, absent: Absent, now: float) -> bool:
    """Mark a thing as gone, once; False where the job is driven again, or it is known already."""
    with store.write() as conn:
        if not jobs.hold(conn, absent.job, orphaned=True) or _known(conn, absent):
            return False
        if absent.row is not None:
            records.settle(conn, absent.row.id, now)
            records.gone(conn, absent.row.id, now)
        message = f"{absent.kind} {absent.id}: no longer in the account"
        _tell(conn, absent, now, LOST if absent.published else "gone", message)
    return True


def _known(conn: sa.Connection, absent: Absent) -> bool:
    """Whether it was told before that a thing without a row is lost."""
    if absent.row is not None:
        return False
    past = events.history(conn, absent.job.id)
    return any(event.action == LOST and event.facts.get("id") == absent.id for event in past)


def _settle(store: Store, absent: Absent, effect: Effect, now: float, *, dry_run: bool) -> Finding | None:
    """Close a removal whose answer was lost: what it was to remove is gone."""
    if not dry_run:
        with store.write() as conn:
            if not jobs.hold(conn, absent.job, orphaned=True):
                return None
            records.settle_acts(conn, absent.job.id, effect.action, absent.id, now)
            _tell(conn, absent, now, "swept", f"{effect.action} {absent.id}: the answer was lost, and it is gone")
    return absent.told(Action.GONE, f"was removed: the answer to {effect.action} was lost")


def _tell(conn: sa.Connection, absent: Absent, now: float, action: str, message: str) -> None:
    job, facts = absent.job, {"id": absent.id, "kind": absent.kind.value}
    events.add(conn, job.id, now, attempt=job.attempt, epoch=job.epoch, action=action, message=message, facts=facts)


def _intents(idle: Sequence[Job], now: float) -> Iterator[tuple[Job, Resource]]:
    """Yield intents of ended jobs that surely made nothing, if nothing shows: EC2 cannot be hiding it any more.

    There is no id to ask for. What shows up all the same is found by its token, and removed, by a later sweep.
    """
    for job in (each for each in idle if each.ended):
        for row in job.live():
            hidden_until = (row.unsettled_since or row.intended_at) + job.spec.limits.listing_lag
            if row.presence is Presence.INTENDED and now > hidden_until:
                yield job, row


def _never_made(store: Store, job: Job, row: Resource, now: float, *, dry_run: bool) -> Finding | None:
    absent = Absent(job, row.kind, row.resource_id or row.purpose, row)
    if not dry_run and not _mark(store, absent, now):
        return None
    return absent.told(Action.GONE, "was never made")
