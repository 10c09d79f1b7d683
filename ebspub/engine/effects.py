"""The one narrow place through which every call goes that makes, changes or removes something.

Commit the intent; call, with the intent's token and our tags in the creating call; commit the outcome. A process
that dies between any two of these leaves an intent that the next one settles: it looks for what the call may have
made (by the token's tag), adopts it, or makes the call again: at once where EC2 honours a client token, else only
after EC2 can no longer be hiding what was made.

The intent's transaction checks the lease and its epoch, and extends the lease; a process that slept past its lease
between that and the call makes no call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ebspub.aws import tags
from ebspub.aws.failures import AwsError, Cause
from ebspub.aws.view import RegionView
from ebspub.clock import Clock
from ebspub.engine.ledger import Ledger
from ebspub.engine.outcome import Wait
from ebspub.errors import LeaseLostError
from ebspub.states import Kind
from ebspub.store import Failure, Job, Lease, Presence, Resource, Seat, Store, events, jobs, seats
from ebspub.store import effects as records

#: The job's column that shows the id of a resource of a kind.
_COLUMN = {
    Kind.INSTANCE: "instance_id",
    Kind.VOLUME: "volume_id",
    Kind.SNAPSHOT: "snapshot_id",
    Kind.IMAGE: "ami_id",
}


@dataclass(frozen=True)
class Making:
    """A resource to be made.

    ``request`` is what the creating call is told: kept with the intent, so that a reissue says the same even where
    the configuration or an SSM parameter has changed since. ``call`` gets it with the token and the tags, and
    returns the new id. ``token_honoured``: EC2 itself makes one thing of several calls with one client token.
    """

    kind: Kind
    purpose: str
    action: str
    request: Mapping[str, Any]
    call: Callable[[Mapping[str, Any], str, dict[str, str]], str]
    token_honoured: bool


def settled_at(job: Job, resource: Resource) -> float:
    """Return when EC2 can no longer be hiding what a call without an answer made.

    Counted from the last moment at which that call may have been under way. Its own process wrote down when it gave
    the answer up; of a process that died in it, or stood still, no more is known than when this process took the job,
    and a step never begins before that. What another job's process called for a shared builder it called before that
    job left it.
    """
    left = [seat.quiet_at or 0.0 for seat in job.seats if any(row.id == resource.id for row in seat.rows)]
    since = max(resource.unsettled_since or 0.0, job.step_started_at or 0.0, *left)
    return since + job.spec.limits.listing_lag


class Effects:
    """Effects for one job under one lease."""

    def __init__(self, store: Store, clock: Clock, lease: Lease, *, lease_time: float) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._lease_time = lease_time

    @property
    def store_id(self) -> str:
        """The id of the database, part of every name that must be unique in an account."""
        return self._store.id

    @property
    def ledger(self) -> Ledger:
        """The record of blocks, kept under the same lease."""
        return Ledger(self._store, self._clock, self._lease, lease_time=self._lease_time)

    def other(self, job_id: str) -> Job | None:
        """Return another job of this database as it is on record now; None where there is none."""
        with self._store.read() as conn:
            return jobs.get(conn, job_id)

    def make(self, job: Job, view: RegionView, making: Making) -> str | Wait:
        """Return the id of the resource, made now or earlier; or what must be waited for first.

        Raises AwsError where EC2 refused or did not answer, LeaseLostError.
        """
        row = self._row(job, making)
        if row is not None and row.resource_id is not None:
            return row.resource_id
        if row is not None:
            seen = view.by_token(making.kind, row.token)
            if seen is not None:
                return self.adopt(job, row, seen.id)
            if row.unsettled_since is not None and not making.token_honoured:
                clear = settled_at(job, row)
                if view.at <= clear:
                    return Wait(f"seeing whether {making.action} took effect", after=clear - view.at)
        return self._call(job, row, making)

    def act(
        self,
        job: Job,
        action: str,
        call: Callable[[], None],
        *,
        target: str,
        resource: Resource | None = None,
        gone: bool = False,
        leaving: bool = False,
        missing_ok: bool = False,
    ) -> None:
        """Change or remove something; harmless to repeat.

        ``gone``: after the call ``resource`` is no more. ``leaving``: it is on its way out. ``missing_ok``: EC2's "no
        such thing" counts as done; never say so of a fresh thing, which EC2 may still be hiding.
        """
        effect = self._open(job, action, resource.id if resource else None, target)
        try:
            call()
        except AwsError as error:
            if not (error.missing and missing_ok):
                self._refused(job, effect, error)
                raise
        now = self._clock.now()
        with self._store.write() as conn:
            self._hold(conn, job, now)
            records.close_effect(conn, effect, now)
            records.settle_acts(conn, job.id, action, target, now)
            if resource is not None and gone:
                records.gone(conn, resource.id, now)
            elif resource is not None and leaving:
                records.mark(conn, resource.id, leaving_at=now)

    def adopt(self, job: Job, row: Resource, resource_id: str) -> str:
        """Record that an intent of an earlier process made ``resource_id``; return it."""
        now = self._clock.now()
        with self._store.write() as conn:
            self._made(conn, job, row.id, row.kind, resource_id, now)
            records.settle(conn, row.id, now)
            self._event(conn, job, "adopted", f"{row.kind} {resource_id}, made by an earlier process")
        return resource_id

    def forget(self, job: Job, resource: Resource, reason: str) -> None:
        """Record that a resource exists no longer, or was never made."""
        now = self._clock.now()
        with self._store.write() as conn:
            self._hold(conn, job, now)
            records.settle(conn, resource.id, now)
            records.gone(conn, resource.id, now)
            what = f"{resource.kind} {resource.resource_id or resource.purpose}: {reason}"
            self._event(conn, job, "gone", what)

    def board(self, job: Job) -> str:
        """Take a place at a builder that the job may share, or open one; return what was done, empty for: ask again."""
        now = self._clock.now()
        with self._store.write() as conn:
            self._extend(conn, job, now)
            told = seats.board(conn, job, now)
            if told:
                self._event(conn, job, "seated", told)
        return told

    def leave(self, job: Job, seat: Seat, *, seal: bool) -> None:
        """Give a place back. From then on whoever had one there may end a builder that nobody has a place at."""
        now = self._clock.now()
        with self._store.write() as conn:
            self._hold(conn, job, now)
            last = seats.leave(conn, seat, now, seal=seal)
            self._event(conn, job, "left", f"the builder of {seat.host_job}" + (", as the last one" if last else ""))

    def note(self, job: Job, **facts: Any) -> None:
        """Keep facts with the job while its step is still under way."""
        now = self._clock.now()
        with self._store.write() as conn:
            jobs.change(conn, job.id, self._lease, now, facts={**job.facts, **facts})

    def tags(self, job: Job, token: str) -> dict[str, str]:
        """Return the tags of a resource of a job: the configured ones, then ours, which nobody can override."""
        spec = job.spec
        return {
            "Name": job.id,
            **spec.tags,
            tags.STORE: self._store.id,
            tags.JOB: job.id,
            tags.ATTEMPT: str(job.attempt),
            tags.TOKEN: token,
            **tags.of_source(spec.source, job.facts.get("sha256")),
        }

    def _row(self, job: Job, making: Making) -> Resource | None:
        token = tags.token(self._store.id, job.id, job.attempt, making.purpose)
        return next((r for r in job.resources if r.token == token and r.presence is not Presence.GONE), None)

    def _call(self, job: Job, row: Resource | None, making: Making) -> str:
        now = self._clock.now()
        token = tags.token(self._store.id, job.id, job.attempt, making.purpose)
        request = making.request if row is None else row.request
        with self._store.write() as conn:
            self._extend(conn, job, now)
            number = (
                row.id
                if row is not None
                else records.intend(
                    conn, job, kind=making.kind, purpose=making.purpose, token=token, request=request, now=now
                )
            )
            effect = self._record(conn, job, making.action, number, None, now)
        self._still_ours(job, now)
        try:
            made = making.call(request, token, self.tags(job, token))
        except AwsError as error:
            self._refused(job, effect, error)
            if error.cause is Cause.CAPACITY:
                self._never_made(job, number)
            raise
        now = self._clock.now()
        with self._store.write() as conn:
            self._made(conn, job, number, making.kind, made, now)
            records.close_effect(conn, effect, now)
            records.settle(conn, number, now)
        return made

    def _open(self, job: Job, action: str, resource: int | None, target: str) -> int:
        now = self._clock.now()
        with self._store.write() as conn:
            self._extend(conn, job, now)
            effect = self._record(conn, job, action, resource, target, now)
        self._still_ours(job, now)
        return effect

    def _record(self, conn: Any, job: Job, action: str, resource: int | None, target: str | None, now: float) -> int:
        return records.open_effect(
            conn, job, epoch=self._lease.epoch, action=action, resource=resource, target=target, now=now
        )

    def _extend(self, conn: Any, job: Job, now: float) -> None:
        self._hold(conn, job, now, until=now + self._lease_time)

    def _hold(
        self, conn: Any, job: Job, now: float, *, until: float | None = None, made: tuple[Kind, str] | None = None
    ) -> None:
        """Check the lease; extend it to ``until``; show the id of what was ``made``. Raises LeaseLostError."""
        values: dict[str, Any] = {} if until is None else {"lease_until": until}
        column = _COLUMN.get(made[0]) if made else None
        if made and column:
            values[column] = made[1]
        jobs.change(conn, job.id, self._lease, now, **values)

    def _still_ours(self, job: Job, since: float) -> None:
        """A process that was stopped (suspended laptop) between its commit and its call makes no call."""
        if self._clock.now() >= since + self._lease_time:
            raise LeaseLostError(
                f"{job.id}: this process was stopped for longer than its lease",
                todo="Run `ebspub resume`, or leave it to the process that took over.",
            )

    def _refused(self, job: Job, effect: int, error: AwsError) -> None:
        """Close a call that EC2 surely refused; one without an answer stays open, to be settled later."""
        now = self._clock.now()
        if not error.definite:
            with self._store.write() as conn:
                self._hold(conn, job, now)
                records.unanswered(conn, effect, now)
            return
        failure = Failure(error.message, code=error.code, request_id=error.request_id, at=now)
        with self._store.write() as conn:
            self._hold(conn, job, now)
            records.close_effect(conn, effect, now, failure=failure)

    def _never_made(self, job: Job, resource: int) -> None:
        now = self._clock.now()
        with self._store.write() as conn:
            self._hold(conn, job, now)
            records.gone(conn, resource, now)

    def _made(self, conn: Any, job: Job, number: int, kind: Kind, resource_id: str, now: float) -> None:
        self._hold(conn, job, now, made=(kind, resource_id))
        records.made(conn, number, resource_id, now)

    def _event(self, conn: Any, job: Job, action: str, message: str) -> None:
        events.add(
            conn,
            job.id,
            self._clock.now(),
            attempt=job.attempt,
            epoch=self._lease.epoch,
            action=action,
            message=message,
        )
