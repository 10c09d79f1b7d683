"""The lease of a test boot: one process at a time, on what is registered only, and fenced."""

from __future__ import annotations

import pytest

from ebspub.errors import LeaseLostError
from ebspub.states import State, Status
from ebspub.store import Job, Lease, Store, jobs, leases, verifications
from tests.contract.store.rows import NOW, OWNER, driven, job_of, plan

DEAD = f"{leases._host()}/another-boot/1/1/x"


def registered(store: Store) -> Job:
    job, lease = driven(store)
    ended = {"state": State.REGISTERED.value, "status": Status.DONE.value, "ended_at": NOW}
    ids = {"ami_id": "ami-1", "snapshot_id": "snap-1", "lease_owner": None, "lease_until": None}
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, **ended, **ids)
    return job_of(store, job.id)


def take(store: Store, job: Job, owner: str = OWNER, now: float = NOW) -> Lease | None:
    with store.write() as conn:
        return verifications.claim(conn, job, owner=owner, now=now, until=now + 60)


def test_it_is_taken_by_one_process_at_a_time(store: Store) -> None:
    job = registered(store)
    assert take(store, job) == Lease(OWNER, NOW + 60, 1)
    held = job_of(store, job.id)
    assert (held.verification, held.lease, held.status) == (Lease(OWNER, NOW + 60, 1), None, Status.DONE)
    assert take(store, held, "other", NOW + 59) is None
    assert take(store, job, "other", NOW + 59) is None  # who read the job before
    assert take(store, held, "other", NOW + 61) == Lease("other", NOW + 121, 2)


def test_that_of_a_dead_process_is_taken_at_once(store: Store) -> None:
    job = registered(store)
    assert take(store, job, DEAD) is not None
    assert take(store, job_of(store, job.id)) == Lease(OWNER, NOW + 60, 2)


def test_what_is_not_registered_is_not_booted(store: Store) -> None:
    (job_id,) = plan(store)
    assert take(store, job_of(store, job_id)) is None


def test_who_lost_it_changes_nothing(store: Store) -> None:
    job = registered(store)
    first = take(store, job)
    assert first is not None
    second = take(store, job_of(store, job.id), "other", NOW + 61)
    assert second is not None
    with pytest.raises(LeaseLostError), store.write() as conn:
        verifications.change(conn, job.id, first, NOW + 62, facts={"verified": {}})
    with store.write() as conn:
        verifications.release(conn, job.id, first, NOW + 62)
    assert job_of(store, job.id).verification == second
    with store.write() as conn:
        verifications.change(conn, job.id, second, NOW + 62, until=NOW + 200, facts={"a": 1})
    held = job_of(store, job.id)
    assert (held.facts, held.verification) == ({"a": 1}, Lease("other", NOW + 200, 2))
    with store.write() as conn:
        verifications.release(conn, job.id, second, NOW + 63)
    assert job_of(store, job.id).verification is None


def test_who_judges_a_job_from_outside_sees_that_it_was_taken(store: Store) -> None:
    job = registered(store)
    with store.write() as conn:
        assert jobs.hold(conn, job)
    assert take(store, job) is not None
    with store.write() as conn:
        assert not jobs.hold(conn, job)
