"""The lease of a test boot: one process at a time boots the AMI of a registered job.

A registered job has ended: nobody drives it, and its own lease is closed for good. What a test boot makes is recorded
in the same rows as all that a job makes; this lease is what fences it, in the way of :mod:`ebspub.store.leases`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from ebspub.errors import LeaseLostError
from ebspub.states import State
from ebspub.store import leases, tables
from ebspub.store.records import Job, Lease, Resource

_JOBS = tables.jobs
#: How the purpose of everything begins that a test boot makes.
PURPOSE = "verify."


def under_way(job: Job, now: float) -> bool:
    """Whether a living process boots the job's AMI, as far as this host can know."""
    held = job.verification
    return held is not None and held.until > now and not leases.is_dead(held.owner)


def made(job: Job) -> tuple[Resource, ...]:
    """Return what test boots of the job made, or may have made, and nobody has removed."""
    return tuple(row for row in job.live() if row.purpose.startswith(PURPOSE))


def left_over(known: Iterable[Job], now: float) -> list[Job]:
    """Return those of ``known`` of which a test boot that nobody conducts any more has left something."""
    return [job for job in known if made(job) and not under_way(job, now)]


def claim(conn: sa.Connection, job: Job, *, owner: str, now: float, until: float) -> Lease | None:
    """Take the lease; None where a living process holds it, somebody took it meanwhile, or nothing is registered."""
    if under_way(job, now):
        return None
    lease = Lease(owner, until, job.verify_epoch + 1)
    statement = (
        _JOBS.update()
        .where(
            _JOBS.c.id == job.id,
            _JOBS.c.verify_epoch == job.verify_epoch,
            _JOBS.c.state == State.REGISTERED.value,
        )
        .values(verify_owner=owner, verify_until=until, verify_epoch=lease.epoch, updated_at=now)
    )
    return lease if conn.execute(statement).rowcount == 1 else None


def change(
    conn: sa.Connection,
    job_id: str,
    lease: Lease,
    now: float,
    *,
    until: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Check the lease, extend it to ``until``, write the job's facts. Raises :class:`LeaseLostError`."""
    values: dict[str, Any] = {"updated_at": now}
    if until is not None:
        values["verify_until"] = until
    if facts is not None:
        values["facts"] = dict(facts)
    if conn.execute(_JOBS.update().where(*_held(job_id, lease)).values(values)).rowcount != 1:
        raise LeaseLostError(
            f"{job_id}: another process took this test boot over", todo="Nothing to do: that process goes on with it."
        )


def release(conn: sa.Connection, job_id: str, lease: Lease, now: float) -> None:
    """Give the lease back; one that was lost is nobody's to give."""
    values = {"verify_owner": None, "verify_until": None, "updated_at": now}
    conn.execute(_JOBS.update().where(*_held(job_id, lease)).values(values))


def _held(job_id: str, lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return _JOBS.c.id == job_id, _JOBS.c.verify_epoch == lease.epoch, _JOBS.c.verify_owner == lease.owner
