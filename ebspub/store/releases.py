"""Releases: which builds are public, as what, who is at it, and every call that was made for it.

A release is the registered jobs of one (suite, build, serial). One process at a time works on it, under a lease in the
way of :mod:`ebspub.store.leases`; every change checks owner and epoch in its own statement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebspub.errors import LeaseLostError
from ebspub.spec import JobSpec
from ebspub.store import events, jobs, leases, tables
from ebspub.store.database import insert_if_absent, one_by_one
from ebspub.store.records import Failure, Job, Lease
from ebspub.store.tables import EffectStatus, ReleaseState

_RELEASES = tables.releases
_CHANGES = tables.release_changes
_ANNOUNCED = tables.announced
_JOBS = tables.jobs


@dataclass(frozen=True, slots=True)
class Release:
    """A build that was asked to be public. ``error``: what stood in the way the last time, by region.

    ``settled``: the last epoch whose work came to its end with nothing in the way but test boots that are to be passed.
    """

    id: str
    suite: str
    build: str
    serial: str
    label: str
    state: ReleaseState
    error: Mapping[str, str] | None
    lease: Lease | None
    epoch: int
    created_at: float
    updated_at: float
    published_at: float | None
    unpublished_at: float | None
    settled: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseChange:
    """One call that made a release more, or less, public. ``request``: what it was told, beside its target."""

    id: int
    release_id: str
    job_id: str
    epoch: int
    region: str
    action: str
    target: str
    request: Mapping[str, Any]
    status: EffectStatus
    error: Failure | None
    opened_at: float
    closed_at: float | None


@dataclass(frozen=True, slots=True)
class Announced:
    """A job that others can use, of which release, and since when. ``listed``: whether they may find it."""

    job_id: str
    release_id: str
    at: float
    listed: bool


def release_id(spec: JobSpec) -> str:
    """Return the id of the release that a job belongs to: `lucid-server-20101020`."""
    return f"{spec.suite}-{spec.build}-{spec.serial}"


def add(conn: sa.Connection, spec: JobSpec, label: str, now: float) -> bool:
    """Begin the release that a job belongs to; False where it is known."""
    return insert_if_absent(
        conn,
        _RELEASES,
        {
            "id": release_id(spec),
            **{name: getattr(spec, name) for name in ("suite", "build", "serial")},
            "label": label,
            "state": ReleaseState.PUBLISHING.value,
            "epoch": 0,
            "created_at": now,
            "updated_at": now,
        },
        unique=("suite", "build", "serial"),
    )


def get(conn: sa.Connection, wanted: str) -> Release | None:
    """Return a release; None where it is not known."""
    row = conn.execute(sa.select(_RELEASES).where(_RELEASES.c.id == wanted)).mappings().first()
    return None if row is None else _release(row)


def find(conn: sa.Connection) -> list[Release]:
    """Return all releases in the order in which they were begun."""
    query = sa.select(_RELEASES).order_by(_RELEASES.c.created_at, _RELEASES.c.id)
    return [_release(row) for row in conn.execute(query).mappings()]


def jobs_of(conn: sa.Connection, suite: str, build: str, serial: str) -> list[Job]:
    """Return all jobs of a build, registered or not."""
    found = jobs.find(conn, builds=[f"{suite}-{build}-{serial}"])
    return [job for job in found if (job.spec.suite, job.spec.build, job.spec.serial) == (suite, build, serial)]


def under_way(release: Release, now: float) -> bool:
    """Whether a living process is at it, as far as this host can know."""
    held = release.lease
    return held is not None and held.until > now and not leases.is_dead(held.owner)


def claim(conn: sa.Connection, release: Release, *, owner: str, now: float, until: float) -> Lease | None:
    """Take the lease; None where a living process holds it, or somebody took it meanwhile."""
    if under_way(release, now):
        return None
    lease = Lease(owner, until, release.epoch + 1)
    statement = (
        _RELEASES.update()
        .where(_RELEASES.c.id == release.id, _RELEASES.c.epoch == release.epoch)
        .values(lease_owner=owner, lease_until=until, epoch=lease.epoch, updated_at=now)
    )
    return lease if conn.execute(statement).rowcount == 1 else None


def change(conn: sa.Connection, wanted: str, lease: Lease, now: float, **values: Any) -> None:
    """Check the lease and write ``values``. Raises :class:`LeaseLostError`: the transaction must roll back."""
    told = {"updated_at": now, **values}
    if conn.execute(_RELEASES.update().where(*_held(wanted, lease)).values(told)).rowcount != 1:
        raise LeaseLostError(
            f"{wanted}: another process took this release over", todo="Nothing to do: that process goes on with it."
        )


def give_back(conn: sa.Connection, wanted: str, lease: Lease, now: float) -> None:
    """Give the lease back; one that was lost is nobody's to give."""
    told = {"lease_owner": None, "lease_until": None, "updated_at": now}
    conn.execute(_RELEASES.update().where(*_held(wanted, lease)).values(told))


def relabel(conn: sa.Connection, wanted: str, lease: Lease, found: Iterable[Job], label: str, now: float) -> None:
    """Let jobs be found under another label: the same AMIs, promoted. Raises LeaseLostError."""
    change(conn, wanted, lease, now)
    for job in found:
        if job.label == label:
            continue
        conn.execute(_JOBS.update().where(_JOBS.c.id == job.id).values(label=label, updated_at=now))
        events.add(
            conn,
            job.id,
            now,
            attempt=job.attempt,
            epoch=job.epoch,
            action="labelled",
            message=f"{job.label} -> {label}",
            facts={"from": job.label, "to": label},
        )


def ready(conn: sa.Connection, wanted: str, lease: Lease, found: Iterable[Job], now: float) -> None:
    """Write down that all who may can use jobs: a path that goes from build to build may go on to them.

    Raises LeaseLostError.
    """
    one_by_one(conn)
    change(conn, wanted, lease, now)
    for job in found:
        row = {"job_id": job.id, "release_id": wanted, "at": now, "listed": False}
        insert_if_absent(conn, _ANNOUNCED, row, unique=("job_id",))


def announce(conn: sa.Connection, wanted: str, lease: Lease, found: Iterable[Job], now: float) -> list[str]:
    """Let others find jobs; return the ids of those that they could not find before. Raises LeaseLostError."""
    chosen = list(found)
    ready(conn, wanted, lease, chosen, now)
    fresh = []
    for job in chosen:
        hidden = _ANNOUNCED.c.job_id == job.id, sa.not_(_ANNOUNCED.c.listed)
        if conn.execute(_ANNOUNCED.update().where(*hidden).values(listed=True, at=now)).rowcount == 1:
            fresh.append(job.id)
            _tell(conn, job, now, "published", f"{job.ami_id} as {job.label}")
    return fresh


def withdraw(
    conn: sa.Connection, wanted: str, lease: Lease, now: float, only: Iterable[str] | None = None
) -> list[str]:
    """Let nobody find the jobs of a release (``only`` these) any more, and no path go on to them.

    Return the ids of those that could be found. Raises LeaseLostError.
    """
    one_by_one(conn)
    change(conn, wanted, lease, now)
    chosen = None if only is None else set(only)
    mine = {each.job_id: each.listed for each in usable(conn) if each.release_id == wanted}
    gone = [job_id for job_id in mine if chosen is None or job_id in chosen]
    for job in jobs.find(conn, ids=gone) if gone else ():
        conn.execute(_ANNOUNCED.delete().where(_ANNOUNCED.c.job_id == job.id))
        if mine[job.id]:
            _tell(conn, job, now, "unpublished", str(job.ami_id))
    return [job_id for job_id in gone if mine[job_id]]


def usable(conn: sa.Connection) -> list[Announced]:
    """Return every job that all who may can use, whether or not they may find it yet, in that order."""
    query = sa.select(_ANNOUNCED).order_by(_ANNOUNCED.c.at, _ANNOUNCED.c.job_id)
    return [Announced(**row) for row in conn.execute(query).mappings()]


def announced(conn: sa.Connection) -> list[Announced]:
    """Return every job that others may find, in the order in which they could."""
    return [each for each in usable(conn) if each.listed]


def withdrawn(conn: sa.Connection) -> dict[str, float]:
    """Return when each job that others could find once was last taken back; it may be to be found again."""
    query = (
        sa.select(tables.events.c.job_id, sa.func.max(tables.events.c.at))
        .where(tables.events.c.action == "unpublished")
        .group_by(tables.events.c.job_id)
    )
    return {row[0]: float(row[1]) for row in conn.execute(query)}


def open_change(
    conn: sa.Connection, wanted: str, lease: Lease, row: Mapping[str, Any], *, now: float, until: float
) -> int:
    """Record that a call is about to be made, and extend the lease; return the row's id. Raises LeaseLostError.

    ``row``: job_id, region, action, target, request.
    """
    change(conn, wanted, lease, now, lease_until=until)
    told = {**row, "release_id": wanted, "epoch": lease.epoch, "status": EffectStatus.OPEN.value, "opened_at": now}
    key = conn.execute(_CHANGES.insert(), told).inserted_primary_key
    assert key is not None
    return int(key[0])


def under_change(conn: sa.Connection, wanted: str, region: str, targets: Collection[str], now: float) -> set[str]:
    """Return those of ``targets`` that a living process is changing for another release than ``wanted``.

    Until the end of the transaction nobody begins to, and what others have decided on before is in it.
    """
    one_by_one(conn)
    query = (
        sa.select(_CHANGES.c.target, _CHANGES.c.release_id)
        .join(_RELEASES, sa.and_(_RELEASES.c.id == _CHANGES.c.release_id, _RELEASES.c.epoch == _CHANGES.c.epoch))
        .where(
            _RELEASES.c.lease_owner.is_not(None),
            _CHANGES.c.status == EffectStatus.OPEN.value,
            _CHANGES.c.region == region,
            _CHANGES.c.target.in_(sorted(targets)),
            _CHANGES.c.release_id != wanted,
        )
    )
    held: dict[str, set[str]] = {}
    for target, name in conn.execute(query):
        held.setdefault(name, set()).add(target)
    living = [found for found in (get(conn, name) for name in held) if found is not None and under_way(found, now)]
    return {target for found in living for target in held[found.id]}


def close_change(conn: sa.Connection, row: int, now: float, failure: Failure | None = None) -> None:
    """Record what became of a call: done, or refused with ``failure``.

    With one that is done, those before it on the same target end whose answers were lost: nobody waits for them.
    """
    status = EffectStatus.DONE if failure is None else EffectStatus.FAILED
    error = None if failure is None else failure.as_json()
    told = {"status": status.value, "closed_at": now, "error": error}
    conn.execute(_CHANGES.update().where(_CHANGES.c.id == row).values(told))
    if failure is None:
        mine = sa.select(_CHANGES.c.release_id, _CHANGES.c.region, _CHANGES.c.target).where(_CHANGES.c.id == row)
        same = sa.tuple_(_CHANGES.c.release_id, _CHANGES.c.region, _CHANGES.c.target).in_(mine)
        lost = _CHANGES.c.id < row, _CHANGES.c.status == EffectStatus.OPEN.value, same
        conn.execute(_CHANGES.update().where(*lost).values(told))


def settle(conn: sa.Connection, wanted: str, lease: Lease, region: str, now: float) -> None:
    """Close the calls of a region whose answers were lost: what they were for is as wanted now.

    Of this lease and those before it. For when none is under way in the region.
    """
    statement = _CHANGES.update().where(
        _CHANGES.c.release_id == wanted,
        _CHANGES.c.region == region,
        _CHANGES.c.epoch <= lease.epoch,
        _CHANGES.c.status == EffectStatus.OPEN.value,
    )
    conn.execute(statement.values(status=EffectStatus.DONE.value, closed_at=now))


def history(conn: sa.Connection, wanted: Sequence[str], *, job_id: str | None = None) -> list[ReleaseChange]:
    """Return every call made for some releases, or for one job of them, oldest first."""
    query = sa.select(_CHANGES).where(_CHANGES.c.release_id.in_(list(wanted))).order_by(_CHANGES.c.id)
    if job_id is not None:
        query = query.where(_CHANGES.c.job_id == job_id)
    return _changes(conn, query)


def changes_of(conn: sa.Connection, job_ids: Iterable[str]) -> list[ReleaseChange]:
    """Return every call made for some jobs, whatever release it was made for, oldest first."""
    return _changes(conn, sa.select(_CHANGES).where(_CHANGES.c.job_id.in_(sorted(job_ids))).order_by(_CHANGES.c.id))


def _changes(conn: sa.Connection, query: sa.Select[Any]) -> list[ReleaseChange]:
    return [
        ReleaseChange(**{**row, "status": EffectStatus(row["status"]), "error": Failure.from_json(row["error"])})
        for row in conn.execute(query).mappings()
    ]


def _tell(conn: sa.Connection, job: Job, now: float, action: str, message: str) -> None:
    events.add(conn, job.id, now, attempt=job.attempt, epoch=job.epoch, action=action, message=message)


def _held(wanted: str, lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return _RELEASES.c.id == wanted, _RELEASES.c.epoch == lease.epoch, _RELEASES.c.lease_owner == lease.owner


def _release(row: sa.RowMapping) -> Release:
    plain = ("id", "suite", "build", "serial", "label", "error", "epoch", "created_at", "updated_at")
    owner = row["lease_owner"]
    return Release(
        **{name: row[name] for name in (*plain, "published_at", "unpublished_at")},
        state=ReleaseState(row["state"]),
        lease=None if owner is None else Lease(owner, row["lease_until"], row["epoch"]),
        settled=row["settled_epoch"],
    )
