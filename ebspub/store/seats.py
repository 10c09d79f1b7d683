"""Who shares which builder.

A builder is open to every job of its region whose document of the builder is the same. The first one that finds none
opens one and is its host: it launches the instance, whose rows and tags are its own and never change. Every user has
a place, the host included; places are given and given back in transactions that lock the builder, so that whoever
leaves last knows it, and nobody joins a builder that is about to be ended. From then on it is anybody's to remove who
ever had a place there: each of them sees to it before its job ends, and the last one cannot end without.

A place's number is its volume's device name. It is given once in a builder's life: an AttachVolume of a process that
stood still meets no other volume under its name. Who finds all given opens the next builder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import sqlalchemy as sa

from ebspub.spec import Builder
from ebspub.states import Kind
from ebspub.store import tables
from ebspub.store.database import insert_if_absent
from ebspub.store.records import Job, Resource, Seat
from ebspub.store.tables import EffectStatus, Presence

#: EC2 recommends /dev/sdf to /dev/sdp for volumes.
DEVICES = tuple(f"/dev/sd{letter}" for letter in "fghijklmnop")

_BUILDERS = tables.shared_builders
_SEATS = tables.occupants
_RESOURCES = tables.resources
_EFFECTS = tables.effects
_HOSTS = tables.jobs.alias("hosts")
_OTHERS = tables.occupants.alias("others")

# Statements are built once: building costs more than running.
_THERE = _OTHERS.c.builder == _BUILDERS.c.id
_CROWD = sa.select(sa.func.count()).select_from(_OTHERS).where(_THERE).scalar_subquery()
_ACTIVE = sa.select(sa.func.count()).select_from(_OTHERS).where(_THERE, _OTHERS.c.left_at.is_(None)).scalar_subquery()
_QUIET = sa.select(sa.func.max(_OTHERS.c.left_at)).where(_THERE).scalar_subquery()
_HOSTED = sa.exists().where(
    _THERE,
    _OTHERS.c.job_id == _BUILDERS.c.host_job,
    _OTHERS.c.attempt == _BUILDERS.c.host_attempt,
    _OTHERS.c.left_at.is_(None),
)
#: The host's rows of the builder itself: what else the host has, and test boots of its AMI, is not shared.
_OF_BUILDER = sa.and_(
    _RESOURCES.c.job_id == _BUILDERS.c.host_job,
    _RESOURCES.c.attempt == _BUILDERS.c.host_attempt,
    _RESOURCES.c.presence != Presence.GONE.value,
    sa.or_(_RESOURCES.c.purpose.like("builder.%"), _RESOURCES.c.purpose.like("group%")),
)
_MADE = (
    sa.exists()
    .where(_OF_BUILDER, _RESOURCES.c.kind == Kind.INSTANCE.value, _RESOURCES.c.resource_id.is_not(None))
    .correlate(_BUILDERS)
)
#: Locked first, counted by the next statement: what another transaction committed meanwhile is then counted.
_OPEN = (
    sa.select(_BUILDERS.c.id, _BUILDERS.c.host_job)
    .where(
        _BUILDERS.c.region == sa.bindparam("region"),
        _BUILDERS.c.pool == sa.bindparam("pool"),
        _BUILDERS.c.sealed_at.is_(None),
    )
    .with_for_update()
)
_STATE = sa.select(_CROWD.label("crowd"), _MADE.label("made")).where(_BUILDERS.c.id == sa.bindparam("builder"))
_DRIVEN = sa.select(_HOSTS.c.id).where(_HOSTS.c.id == sa.bindparam("host"), _HOSTS.c.lease_until > sa.bindparam("now"))
_LOCK = sa.select(_BUILDERS.c.id).where(_BUILDERS.c.id == sa.bindparam("builder")).with_for_update()
_LEAVE = (
    _SEATS.update()
    .where(_SEATS.c.id == sa.bindparam("seat"), _SEATS.c.left_at.is_(None))
    .values(left_at=sa.bindparam("now"))
)
_STILL = (
    sa.select(sa.func.count().label("active"))
    .select_from(_SEATS)
    .where(_SEATS.c.builder == sa.bindparam("builder"), _SEATS.c.left_at.is_(None))
)
_SEAL = (
    _BUILDERS.update()
    .where(_BUILDERS.c.id == sa.bindparam("builder"), _BUILDERS.c.sealed_at.is_(None))
    .values(sealed_at=sa.bindparam("now"))
)
_SIT = _SEATS.insert()
_OF_JOBS = (
    sa.select(
        _SEATS.c.id,
        _SEATS.c.job_id,
        _SEATS.c.builder,
        _SEATS.c.attempt,
        _SEATS.c.slot,
        _SEATS.c.left_at,
        _BUILDERS.c.host_job,
        _BUILDERS.c.host_attempt,
        _BUILDERS.c.sealed_at,
        _CROWD.label("crowd"),
        _ACTIVE.label("active"),
        _QUIET.label("quiet_at"),
        _HOSTED.label("hosted"),
        _HOSTS.c.lease_until.label("host_until"),
    )
    .join(_BUILDERS, _BUILDERS.c.id == _SEATS.c.builder)
    .join(_HOSTS, _HOSTS.c.id == _BUILDERS.c.host_job)
    .where(
        _SEATS.c.job_id.in_(sa.bindparam("job_ids", expanding=True)),
        sa.or_(_SEATS.c.left_at.is_(None), _BUILDERS.c.host_job == _SEATS.c.job_id, _ACTIVE == 0),
    )
    .order_by(_SEATS.c.id)
)
#: When the newest call for a resource was sent whose outcome is not on record.
UNSETTLED = (
    sa.select(sa.func.max(_EFFECTS.c.opened_at))
    .where(_EFFECTS.c.resource == _RESOURCES.c.id, _EFFECTS.c.status == EffectStatus.OPEN.value)
    .scalar_subquery()
    .label("unsettled_since")
)
_ROWS = (
    sa.select(_RESOURCES, UNSETTLED, _BUILDERS.c.id.label("its_builder"))
    .join(_BUILDERS, _OF_BUILDER)
    .where(_BUILDERS.c.id.in_(sa.bindparam("builders", expanding=True)))
    .order_by(_RESOURCES.c.id)
)


def pool_of(builder: Builder, account: str | None) -> str:
    """Return what jobs of a region that may share a builder have in common: its document, and the account."""
    return hashlib.sha256(f"{account or ''}\0{builder.model_dump_json()}".encode()).hexdigest()


def board(conn: sa.Connection, job: Job, now: float) -> str:
    """Give a job a place at a builder that is open to it, or open one with the job as host; return what was done.

    Empty where another job was opening one at this very moment: then it is there at the next look. A builder that was
    never made, of a host that nobody drives, is not waited for: it is sealed. SQLite: the transaction must be a
    writer's.
    """
    told = {"region": job.spec.region, "pool": pool_of(job.spec.builder, job.account)}
    found = conn.execute(_OPEN, told).mappings().first()
    if found is not None:
        crowd = _room(conn, found, now)
        if crowd is not None:
            _sit(conn, job, found["id"], crowd, now)
            return f"shares the builder of {found['host_job']} as {DEVICES[crowd]}"
        conn.execute(_SEAL, {"builder": found["id"], "now": now})
    opening = {**told, "host_job": job.id, "host_attempt": job.attempt, "opened_at": now}
    if not insert_if_absent(conn, _BUILDERS, opening, unique=("region", "pool")):
        return ""
    fresh = conn.execute(_OPEN, told).mappings().first()
    assert fresh is not None
    _sit(conn, job, fresh["id"], 0, now)
    return "launches a builder that others may share"


def _room(conn: sa.Connection, found: sa.RowMapping, now: float) -> int | None:
    """Return how many have had a place, the next one's number; None where it is full, or nobody launches it."""
    state = conn.execute(_STATE, {"builder": found["id"]}).mappings().first()
    assert state is not None
    driven = conn.execute(_DRIVEN, {"host": found["host_job"], "now": now}).first()
    crowd = int(state["crowd"])
    return crowd if crowd < len(DEVICES) and (state["made"] or driven is not None) else None


def _sit(conn: sa.Connection, job: Job, builder: int, slot: int, now: float) -> None:
    told = {"builder": builder, "job_id": job.id, "attempt": job.attempt, "slot": slot, "joined_at": now}
    conn.execute(_SIT, told)


def leave(conn: sa.Connection, seat: Seat, now: float, *, seal: bool) -> bool:
    """Give a place back; return whether it was the last. ``seal``: nobody shall join that builder any more."""
    conn.execute(_LOCK, {"builder": seat.builder}).first()
    conn.execute(_LEAVE, {"seat": seat.id, "now": now})
    last = conn.execute(_STILL, {"builder": seat.builder}).scalar() == 0
    if last or seal:
        conn.execute(_SEAL, {"builder": seat.builder, "now": now})
    return last


def of_jobs(conn: sa.Connection, job_ids: Sequence[str]) -> dict[str, list[Seat]]:
    """Return the places of jobs (at most 500) that still matter to them, by job."""
    found = list(conn.execute(_OF_JOBS, {"job_ids": list(job_ids)}).mappings())
    if not found:
        return {}
    rows: dict[int, list[Resource]] = {}
    for made in conn.execute(_ROWS, {"builders": sorted({row["builder"] for row in found})}).mappings():
        row = Resource.from_row({key: value for key, value in made.items() if key != "its_builder"})
        rows.setdefault(made["its_builder"], []).append(row)
    seats: dict[str, list[Seat]] = {}
    for told in found:
        seat = Seat(**told, rows=tuple(rows.get(told["builder"], ())))
        if seat.left_at is None or seat.rows:
            seats.setdefault(seat.job_id, []).append(seat)
    return seats
