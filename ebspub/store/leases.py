"""Leases: one process drives a job at a time.

The lease names its owner and ends at a time; the epoch grows by one whenever it changes hands, and every commit
of the owner checks both (:func:`ebspub.store.jobs.change`). A dead owner on this host is recognised at once, because
the owner's name holds the boot id, the process id and the process's start time; a dead host when the lease has ended.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Collection
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from ebspub.states import Status
from ebspub.store import tables
from ebspub.store.records import Job, Lease

_JOBS = tables.jobs
_HELD = sa.select(_JOBS.c.epoch, _JOBS.c.lease_owner, _JOBS.c.lease_until, _JOBS.c.ended_at).where(
    _JOBS.c.id == sa.bindparam("job_id")
)
_TAKE = (
    _JOBS.update()
    .where(
        _JOBS.c.id == sa.bindparam("its_id"),
        _JOBS.c.epoch == sa.bindparam("its_epoch"),
        # Whose lease was over may have come back and renewed it since.
        _JOBS.c.lease_until.is_not_distinct_from(sa.bindparam("its_until", type_=sa.Double)),
        _JOBS.c.ended_at.is_(None),
    )
    .values(
        {
            name: sa.bindparam(name)
            for name in ("lease_owner", "lease_until", "epoch", "status", "updated_at", "step_started_at")
        }
    )
)
_RENEW = (
    _JOBS.update()
    .where(_JOBS.c.lease_owner == sa.bindparam("its_owner"), _JOBS.c.id.in_(sa.bindparam("job_ids", expanding=True)))
    .values(lease_until=sa.bindparam("until"))
    .returning(_JOBS.c.id, _JOBS.c.epoch, _JOBS.c.cancel_requested)
)
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
    row = conn.execute(_HELD, {"job_id": job_id}).first()
    if row is None or row.ended_at is not None:
        return None
    if row.lease_owner not in (None, owner) and row.lease_until > now and not dead(row.lease_owner):
        return None
    lease = Lease(owner, until, row.epoch + 1)
    told = {
        "its_id": job_id,
        "its_epoch": row.epoch,
        "its_until": row.lease_until,
        "lease_owner": owner,
        "lease_until": until,
        "epoch": lease.epoch,
        "status": status.value,
        "updated_at": now,
        # The step's limit is counted anew: nobody was at the job for an unknown time.
        "step_started_at": now,
    }
    return lease if conn.execute(_TAKE, told).rowcount == 1 else None


def renew(conn: sa.Connection, owner: str, leases: Collection[tuple[str, int]], until: float) -> dict[str, bool]:
    """Extend leases, given as (job id, epoch).

    Returns the jobs that are still this owner's, each with whether somebody asked to cancel it.
    """
    if not leases:
        return {}
    told = {"its_owner": owner, "job_ids": [job for job, _ in leases], "until": until}
    ours = set(leases)
    rows = conn.execute(_RENEW, told).all()
    return {row.id: row.cancel_requested for row in rows if (row.id, row.epoch) in ours}


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
