"""Jobs and rows for the tests of the store."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebspub.spec import Builder, JobSpec, Registration, Source, Volume
from ebspub.states import Status
from ebspub.store import Job, Lease, Store, jobs, leases

OWNER = "publisher-one"
NOW = 1_000_000.0


def spec(serial: str = "20101020", **changes: Any) -> JobSpec:
    """Return what a job is asked to do; jobs of different serials are different jobs."""
    document = JobSpec(
        suite="lucid",
        build="server",
        label="release",
        serial=serial,
        version="10.04",
        arch="amd64",
        region="us-east-1",
        source=Source(url="http://127.0.0.1/lucid.tar.gz", sha256="d" * 64),
        builder=Builder(image="ami-0000b0b0", instance_types=("m5.large",), ssh_cidr="192.0.2.1/32"),
        volume=Volume(size=8),
        registration=Registration(name=f"lucid-{serial}", architecture="x86_64"),
        tags={},
    )
    return document.model_copy(update=changes)


def plan(store: Store, *documents: JobSpec) -> list[str]:
    """Plan jobs, one second after the other; return their ids."""
    with store.write() as conn:
        for seconds, document in enumerate(documents or (spec(),)):
            assert jobs.add(conn, document, NOW + seconds)
    return [document.job_id for document in documents or (spec(),)]


def take(store: Store, job_id: str, *, owner: str = OWNER, now: float = NOW, seconds: float = 60.0) -> Lease | None:
    """Claim a job's lease in a transaction of its own, believing everybody alive."""
    with store.write() as conn:
        return leases.claim(
            conn, job_id, owner=owner, now=now, until=now + seconds, status=Status.RUNNING, dead=lambda _: False
        )


def driven(store: Store, document: JobSpec | None = None) -> tuple[Job, Lease]:
    """Plan a job and claim it."""
    (job_id,) = plan(store, document or spec())
    lease = take(store, job_id)
    assert lease is not None
    return job_of(store, job_id), lease


def job_of(store: Store, job_id: str) -> Job:
    """Return a job as it is now."""
    with store.read() as conn:
        job = jobs.get(conn, job_id)
    assert job is not None
    return job


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    from ebspub.store import tables

    with store.read() as conn:
        return {
            table.name: [tuple(row) for row in conn.execute(sa.select(table).order_by(*table.primary_key.columns))]
            for table in tables.metadata.sorted_tables
        }
