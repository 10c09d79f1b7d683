"""Leases: one process drives a job at a time.

The lease names its owner and ends at a time; the epoch grows by one whenever it changes hands, and every commit
of the owner checks both (:func:`ebspub.store.jobs.change`). A dead owner on this host is recognised at once, because
the owner's name holds the boot id, the process id and the process's start time; a dead host when the lease has ended.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from ebspub.states import Status
from ebspub.store import tables
from ebspub.store.records import Job, Lease

_JOBS = tables.jobs
Dead = Callable[[str], bool]
#: The start time of a process where the system does not tell it (no /proc).
_UNKNOWN = "0"


def this_process() -> str:
    """Return a name for this process that no other process on any host ever has.

    host/boot id/pid/start time/random: the last tells several owners within one process apart.
    """
    pid = os.getpid()
    return "/".join((_host(), _boot_id(), str(pid), _started(pid) or _UNKNOWN, secrets.token_hex(4)))


def is_dead(owner: str) -> bool:
    """Whether ``owner`` surely is gone: a process of this host that no longer runs. False where nobody can know."""
    parts = owner.split("/")
    if len(parts) != 5 or parts[0] != _host():
        return False
    if parts[1] != _boot_id():
        return True
    if not parts[2].isdigit() or parts[3] == _UNKNOWN or int(parts[2]) <= 0:
        return False
    pid = int(parts[2])
    return _started(pid) != parts[3] and not _hidden(pid)


def driven(job: Job, now: float) -> bool:
    """Whether a living process drives the job, as far as this host can know."""
    return job.lease is not None and job.lease.until > now and not is_dead(job.lease.owner)


def claim(
    conn: sa.Connection, job_id: str, *, owner: str, now: float, until: float, status: Status, dead: Dead = is_dead
) -> Lease | None:
    """Take the lease of a job; None where a living process holds it or the job has ended.

    ``status`` is the job's new status: running or cancelling.
    """
    query = sa.select(_JOBS.c.epoch, _JOBS.c.lease_owner, _JOBS.c.lease_until, _JOBS.c.ended_at)
    row = conn.execute(query.where(_JOBS.c.id == job_id)).first()
    if row is None or row.ended_at is not None:
        return None
    if row.lease_owner not in (None, owner) and row.lease_until > now and not dead(row.lease_owner):
        return None
    lease = Lease(owner, until, row.epoch + 1)
    statement = (
        _JOBS.update()
        .where(_JOBS.c.id == job_id, _JOBS.c.epoch == row.epoch, _JOBS.c.ended_at.is_(None))
        .values(
            lease_owner=owner,
            lease_until=until,
            epoch=lease.epoch,
            status=status.value,
            updated_at=now,
            # The step's limit is counted anew: nobody was at the job for an unknown time.
            step_started_at=now,
        )
    )
    return lease if conn.execute(statement).rowcount == 1 else None


def renew(conn: sa.Connection, owner: str, leases: Collection[tuple[str, int]], until: float) -> set[str]:
    """Extend leases, given as (job id, epoch); return the ids of the jobs that are still this owner's."""
    if not leases:
        return set()
    statement = _JOBS.update().where(_JOBS.c.lease_owner == owner, _JOBS.c.id.in_([job for job, _ in leases]))
    conn.execute(statement.values(lease_until=until))
    query = sa.select(_JOBS.c.id, _JOBS.c.epoch).where(_JOBS.c.lease_owner == owner)
    ours = set(leases)
    return {row.id for row in conn.execute(query) if (row.id, row.epoch) in ours}


def cancellations(conn: sa.Connection, job_ids: Sequence[str]) -> set[str]:
    """Return those of ``job_ids`` that somebody asked to cancel."""
    query = sa.select(_JOBS.c.id).where(_JOBS.c.id.in_(job_ids), _JOBS.c.cancel_requested)
    return {row.id for row in conn.execute(query)}


@lru_cache(maxsize=1)
def _host() -> str:
    """Return a name for where process ids mean the same: a host, and on it one process namespace.

    Containers of one image may share the host name, the machine id and the boot id, but not each other's processes.
    """
    machine = Path("/etc/machine-id")
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        return f"{socket.gethostname()}:{machine.read_text().strip()[:12]}:{namespace}"
    except OSError:
        return socket.gethostname()


@lru_cache(maxsize=1)
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _hidden(pid: int) -> bool:
    """Whether a process runs that /proc does not show us (another user's, /proc mounted with `hidepid`)."""
    if Path(f"/proc/{pid}/stat").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
