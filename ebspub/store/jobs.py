"""Job rows: plan, read, change.

Every change of a driven job goes through :func:`change`, which checks the lease's owner and epoch in the same
statement: a process that lost its lease changes nothing, whatever it still believes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from ebspub.errors import LeaseLostError
from ebspub.spec import JobSpec
from ebspub.states import State, Status
from ebspub.store import seats, tables
from ebspub.store.database import insert_if_absent
from ebspub.store.records import Failure, Job, Lease, Resource, Seat

_JOBS = tables.jobs
_RESOURCES = tables.resources


# Statements that run many times a second are built once: building costs more than running.
_GET = sa.select(_JOBS).where(_JOBS.c.id == sa.bindparam("job_id"))
_MADE_FOR = (
    sa.select(_RESOURCES, seats.UNSETTLED)
    .where(_RESOURCES.c.job_id == sa.bindparam("job_id"))
    .order_by(_RESOURCES.c.id)
)
_MADE_FOR_ALL = (
    sa.select(_RESOURCES, seats.UNSETTLED)
    .where(_RESOURCES.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
    .order_by(_RESOURCES.c.id)
)
_PREDECESSOR = (
    sa.select(_JOBS.c.id)
    .where(*(_JOBS.c[name] == sa.bindparam(name) for name in ("suite", "build", "arch", "region")))
    .where(_JOBS.c.ami_id.is_not(None), _JOBS.c.state == sa.literal_column("'registered'"))
    .where(_JOBS.c.id != sa.bindparam("its_id"))
    .order_by(_JOBS.c.ended_at.desc(), _JOBS.c.id.desc())
    .limit(1)
)


def add(conn: sa.Connection, spec: JobSpec, now: float) -> bool:
    """Plan a job in state pending; False where the build has a job in that region and arch already."""
    return insert_if_absent(
        conn,
        _JOBS,
        {
            "id": spec.job_id,
            **{
                name: getattr(spec, name) for name in ("suite", "build", "label", "serial", "version", "arch", "region")
            },
            "spec": spec.model_dump_json(),
            "method": spec.way,
            "state": State.PENDING.value,
            "status": Status.WAITING.value,
            "attempt": 1,
            "attempt_base": 1,
            "facts": {},
            "retries": 0,
            "not_before": 0.0,
            "cancel_requested": False,
            "epoch": 0,
            "created_at": now,
            "updated_at": now,
        },
        unique=("suite", "build", "serial", "arch", "region"),
    )


def get(conn: sa.Connection, job_id: str) -> Job | None:
    """Return a job with its resources."""
    row = conn.execute(_GET, {"job_id": job_id}).mappings().first()
    if row is None:
        return None
    made = [Resource.from_row(found) for found in conn.execute(_MADE_FOR, {"job_id": job_id}).mappings()]
    return _job(row, made, seats.of_jobs(conn, [job_id]).get(job_id, ()))


def find(
    conn: sa.Connection,
    *,
    ids: Sequence[str] | None = None,
    statuses: Iterable[Status] | None = None,
    builds: Sequence[str] = (),
    regions: Sequence[str] = (),
) -> list[Job]:
    """Return jobs in the order in which they were planned.

    ``builds`` are matched against the suite, the serial, ``suite-build`` and ``suite-build-serial``.
    """
    asked: dict[str, list[str]] = {}
    if ids is not None:
        asked["ids"] = list(ids)
    if statuses is not None:
        asked["statuses"] = [status.value for status in statuses]
    if regions:
        asked["regions"] = list(regions)
    if builds:
        asked["builds"] = list(builds)
    rows = conn.execute(_finding(tuple(asked)), asked).mappings().all()
    made, places = _belongings(conn, [row["id"] for row in rows])
    return [_job(row, made.get(row["id"], ()), places.get(row["id"], ())) for row in rows]


@lru_cache(maxsize=16)
def _finding(conditions: tuple[str, ...]) -> sa.Select[Any]:
    """Return the query for jobs under ``conditions``; the few there are are built once."""
    name = _JOBS.c.suite + "-" + _JOBS.c.build
    columns: dict[str, Sequence[sa.ColumnElement[str]]] = {
        "ids": (_JOBS.c.id,),
        "statuses": (_JOBS.c.status,),
        "regions": (_JOBS.c.region,),
        "builds": (_JOBS.c.suite, _JOBS.c.serial, name, name + "-" + _JOBS.c.serial),
    }
    query = sa.select(_JOBS).order_by(_JOBS.c.created_at, _JOBS.c.id)
    for condition in conditions:
        values: sa.BindParameter[Any] = sa.bindparam(condition, expanding=True)
        query = query.where(sa.or_(*(column.in_(values) for column in columns[condition])))
    return query


def change(conn: sa.Connection, job_id: str, lease: Lease, now: float, **values: Any) -> None:
    """Change a job that this process drives.

    Raises :class:`LeaseLostError` where another process has taken it (the caller's transaction must roll back).
    """
    told = {"its_id": job_id, "its_epoch": lease.epoch, "its_owner": lease.owner, "updated_at": now, **values}
    if conn.execute(_changing(tuple(values)), told).rowcount != 1:
        raise LeaseLostError(
            f"{job_id}: another process took this job over", todo="Nothing to do: that process goes on with it."
        )


@lru_cache(maxsize=64)
def _changing(columns: tuple[str, ...]) -> sa.Update:
    """Return the statement that changes ``columns`` of a job under its lease; the few there are are built once."""
    return (
        _JOBS.update()
        .where(
            _JOBS.c.id == sa.bindparam("its_id"),
            _JOBS.c.epoch == sa.bindparam("its_epoch"),
            _JOBS.c.lease_owner == sa.bindparam("its_owner"),
        )
        .values({name: sa.bindparam(name) for name in ("updated_at", *columns)})
    )


def respecify(conn: sa.Connection, job: Job, spec: JobSpec, now: float) -> bool:
    """Give a job that nobody has taken since another document; False where somebody has."""
    statement = (
        _JOBS.update()
        .where(_JOBS.c.id == job.id, _JOBS.c.epoch == job.epoch, _JOBS.c.ended_at.is_(None))
        .values(spec=spec.model_dump_json(), method=spec.way, label=spec.label, version=spec.version, updated_at=now)
    )
    return conn.execute(statement).rowcount == 1


def request_cancel(conn: sa.Connection, job_id: str, now: float) -> bool:
    """Ask whoever drives the job to stop and clean up; False where the job has ended."""
    statement = (
        _JOBS.update()
        .where(_JOBS.c.id == job_id, _JOBS.c.ended_at.is_(None))
        .values(cancel_requested=True, updated_at=now)
    )
    return conn.execute(statement).rowcount == 1


def regions(conn: sa.Connection) -> list[str]:
    """Return every region that a job is of, sorted."""
    return list(conn.execute(sa.select(_JOBS.c.region).distinct().order_by(_JOBS.c.region)).scalars())


def predecessor(conn: sa.Connection, spec: JobSpec) -> Job | None:
    """Return the job of the same suite, build, arch and region that was registered last; None where there is none."""
    told = {name: getattr(spec, name) for name in ("suite", "build", "arch", "region")}
    found = conn.execute(_PREDECESSOR, {**told, "its_id": spec.job_id}).scalar()
    return None if found is None else get(conn, found)


def last_facts(conn: sa.Connection, spec: JobSpec) -> Mapping[str, Any]:
    """Return the facts of the job of the same suite, build and arch that was registered last, of any region.

    Not of a copy, which knows less of its content than what it was copied from.
    """
    query = (
        sa.select(_JOBS.c.facts)
        .where(*(_JOBS.c[name] == getattr(spec, name) for name in ("suite", "build", "arch")))
        .where(_JOBS.c.status == Status.DONE.value, _JOBS.c.method != "copy")
        .order_by(_JOBS.c.ended_at.desc(), _JOBS.c.id)
        .limit(1)
    )
    found = conn.execute(query).scalar()
    return {} if found is None else dict(found)


def hold(conn: sa.Connection, job: Job, *, orphaned: bool = False) -> bool:
    """Whether nobody drives ``job`` and nobody did since it was read; nobody can begin before this transaction ends.

    Nor did anybody begin to boot its AMI since. For what is done to a job from outside, without a lease. ``orphaned``:
    it may have the lease of one who surely is gone, as it was read. SQLite: the transaction must be a writer's.
    """
    lease = job.lease if orphaned else None
    owner, until = (lease.owner, lease.until) if lease is not None else (None, None)
    query = sa.select(_JOBS.c.id).where(
        _JOBS.c.id == job.id,
        _JOBS.c.epoch == job.epoch,
        _JOBS.c.verify_epoch == job.verify_epoch,
        _JOBS.c.lease_owner.is_not_distinct_from(owner),
        _JOBS.c.lease_until.is_not_distinct_from(until),
    )
    return conn.execute(query.with_for_update()).first() is not None


def _job(row: sa.RowMapping, made: Sequence[Resource], places: Sequence[Seat]) -> Job:
    owner, verifier = row["lease_owner"], row["verify_owner"]
    plain = ("id", "label", "account", "attempt", "attempt_base", "instance_id", "volume_id", "snapshot_id", "ami_id")
    more = ("facts", "step_started_at", "progress", "retries", "not_before", "cancel_requested", "epoch")
    times = ("created_at", "updated_at", "ended_at")
    return Job(
        **{name: row[name] for name in (*plain, *more, *times)},
        spec=_spec(row["spec"]),
        state=State(row["state"]),
        status=Status(row["status"]),
        error=Failure.from_json(row["error"]),
        lease=None if owner is None else Lease(owner, row["lease_until"], row["epoch"]),
        resources=tuple(made),
        verification=None if verifier is None else Lease(verifier, row["verify_until"], row["verify_epoch"]),
        verify_epoch=row["verify_epoch"],
        seats=tuple(places),
    )


def _belongings(conn: sa.Connection, job_ids: Sequence[str]) -> tuple[dict[str, list[Resource]], dict[str, list[Seat]]]:
    """Return the resources of jobs, and their places at shared builders."""
    found: dict[str, list[Resource]] = {}
    places: dict[str, list[Seat]] = {}
    for start in range(0, len(job_ids), 500):
        chunk = job_ids[start : start + 500]
        for row in conn.execute(_MADE_FOR_ALL, {"job_ids": chunk}).mappings():
            found.setdefault(row["job_id"], []).append(Resource.from_row(row))
        places |= seats.of_jobs(conn, chunk)
    return found, places


@lru_cache(maxsize=512)
def _spec(document: str) -> JobSpec:
    """Return a job's document; the same job is read over and over, and its document never changes."""
    return JobSpec.model_validate_json(document)
