"""Jobs: planned once, found, changed by their owner only, and never by half."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from ebspub.errors import LeaseLostError
from ebspub.states import State, Status
from ebspub.store import Failure, Lease, Store, events, jobs
from tests.contract.store.rows import NOW, OWNER, driven, dump, job_of, plan, spec, take


def test_a_new_job_is_pending_and_waits(store: Store) -> None:
    (job_id,) = plan(store)
    job = job_of(store, job_id)
    assert (job.state, job.status, job.attempt, job.attempt_base) == (State.PENDING, Status.WAITING, 1, 1)
    assert (job.epoch, job.lease, job.retries, job.error, job.resources) == (0, None, 0, None, ())
    assert (job.created_at, job.updated_at, job.ended_at) == (NOW, NOW, None)
    assert job.spec == spec()
    assert not job.ended


def test_a_build_is_planned_once_per_region_and_arch(store: Store) -> None:
    plan(store)
    before = dump(store)
    with store.write() as conn:
        # The label is no part of what a build is: a daily that became a release is the same build.
        assert not jobs.add(conn, spec(label="daily"), NOW + 9)
    assert dump(store) == before
    with store.write() as conn:
        assert jobs.add(conn, spec(region="eu-west-1"), NOW)
        assert jobs.add(conn, spec(arch="i386"), NOW)
        assert jobs.add(conn, spec("20101021"), NOW)


def test_of_many_who_plan_a_build_at_once_one_does(store: Store) -> None:
    start = threading.Barrier(6)

    def add() -> bool:
        start.wait(20)
        with store.write() as conn:
            return jobs.add(conn, spec(), NOW)

    with ThreadPoolExecutor(6) as pool:
        added = [future.result() for future in [pool.submit(add) for _ in range(6)]]
    assert sorted(added) == [False] * 5 + [True]


def test_the_document_of_a_job_comes_back_as_it_was_written(store: Store) -> None:
    document = spec(tags={"Purpose": "größer", "Empty": ""}, version="10.04 'LTS' \"x\" \\ %s :name")
    (job_id,) = plan(store, document)
    assert job_of(store, job_id).spec == document


def test_a_job_that_does_not_exist_is_none(store: Store) -> None:
    with store.read() as conn:
        assert jobs.get(conn, "no-such-job") is None
        assert jobs.find(conn) == []
    with store.write() as conn:
        assert not jobs.request_cancel(conn, "no-such-job", NOW)


@pytest.mark.parametrize(
    ("asked", "serials"),
    [
        ({}, ["3", "1", "2"]),
        ({"ids": ["lucid-server-1-amd64-us-east-1", "no-such-job"]}, ["1"]),
        ({"ids": []}, []),
        ({"statuses": [Status.RUNNING]}, ["1"]),
        ({"statuses": [Status.WAITING, Status.RUNNING]}, ["3", "1", "2"]),
        ({"statuses": []}, []),
        ({"regions": ["eu-west-1"]}, ["2"]),
        ({"builds": ["lucid"]}, ["1", "2"]),
        ({"builds": ["lucid-server"]}, ["1", "2"]),
        ({"builds": ["noble-minimal-3"]}, ["3"]),
        ({"builds": ["2", "noble"]}, ["3", "2"]),
        ({"builds": ["server"]}, []),
        ({"builds": ["lucid"], "regions": ["us-east-1"], "statuses": [Status.RUNNING]}, ["1"]),
    ],
)
def test_jobs_are_found_in_the_order_of_their_planning(store: Store, asked: Any, serials: list[str]) -> None:
    plan(store, spec("3", suite="noble", build="minimal"), spec("1"), spec("2", region="eu-west-1"))
    assert take(store, spec("1").job_id)
    with store.read() as conn:
        assert [job.spec.serial for job in jobs.find(conn, **asked)] == serials


def test_jobs_are_found_with_their_own_resources(store: Store) -> None:
    from ebspub.states import Kind
    from ebspub.store import effects

    plan(store, spec("1"), spec("2"), spec("3"))
    with store.write() as conn:
        for serial in ("1", "3"):
            job = jobs.get(conn, spec(serial).job_id)
            assert job is not None
            effects.intend(conn, job, kind=Kind.VOLUME, purpose="root", token=f"t{serial}", request={}, now=NOW)
    with store.read() as conn:
        assert [[r.token for r in job.resources] for job in jobs.find(conn)] == [["t1"], [], ["t3"]]


def test_the_owner_changes_a_job(store: Store) -> None:
    job, lease = driven(store)
    failure = Failure("no answer", code="InternalError", request_id="r-1", todo="Wait.", step="launch", at=NOW)
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW + 5, retries=3, facts={"a": [1, None]}, error=failure.as_json())
    job = job_of(store, job.id)
    assert (job.retries, job.facts, job.error, job.updated_at) == (3, {"a": [1, None]}, failure, NOW + 5)
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW + 6, error=None, progress=None)
    assert job_of(store, job.id).error is None


@pytest.mark.parametrize(
    "stale",
    [
        Lease(OWNER, NOW + 60, 1),
        Lease("publisher-two", NOW + 60, 2),
        Lease(OWNER, NOW + 60, 3),
    ],
    ids=["older epoch", "other owner", "later epoch"],
)
def test_who_lost_the_lease_changes_nothing(store: Store, stale: Lease) -> None:
    job, _ = driven(store)
    assert take(store, job.id) == Lease(OWNER, NOW + 60, 2)
    before = dump(store)
    with pytest.raises(LeaseLostError, match=job.id) as told, store.write() as conn:  # noqa: PT012 - one transaction
        events.add(conn, job.id, NOW, attempt=1, epoch=stale.epoch, action="step", message="launched")
        jobs.change(conn, job.id, stale, NOW + 5, retries=7)
    assert dump(store) == before
    assert told.value.exit_code == 75


def test_nobody_changes_a_job_that_nobody_drives(store: Store) -> None:
    (job_id,) = plan(store)
    with pytest.raises(LeaseLostError), store.write() as conn:
        jobs.change(conn, job_id, Lease(OWNER, NOW, 0), NOW, retries=1)


class _DiedError(Exception):
    """Stands for a process that stops between two statements."""


def test_a_transaction_that_fails_leaves_neither_the_change_nor_its_event(store: Store) -> None:
    job, lease = driven(store)
    before = dump(store)
    with pytest.raises(_DiedError), store.write() as conn:  # noqa: PT012 - one transaction
        jobs.change(conn, job.id, lease, NOW, state="launched", instance_id="i-1")
        events.add(conn, job.id, NOW, attempt=1, epoch=1, action="step", change=(State.PENDING, State.LAUNCHED))
        raise _DiedError
    assert dump(store) == before
    with store.write() as conn:  # and the connection is of use again
        jobs.change(conn, job.id, lease, NOW, state="launched", instance_id="i-1")
    assert job_of(store, job.id).state is State.LAUNCHED


def test_a_row_that_is_refused_takes_the_whole_transaction_with_it(store: Store) -> None:
    job, lease = driven(store)
    before = dump(store)
    with pytest.raises(sa.exc.IntegrityError), store.write() as conn:  # noqa: PT012 - one transaction
        events.add(conn, job.id, NOW, attempt=1, epoch=1, action="step", change=(State.PENDING, State.ATTACHED))
        jobs.change(conn, job.id, lease, NOW, state="attached")
    assert dump(store) == before


def test_cancelling_is_asked_for_until_a_job_has_ended(store: Store) -> None:
    job, lease = driven(store)
    with store.write() as conn:
        assert jobs.request_cancel(conn, job.id, NOW + 1)
    assert job_of(store, job.id).cancel_requested
    with store.write() as conn:
        over = {"status": "cancelled", "ended_at": NOW, "lease_owner": None, "lease_until": None}
        jobs.change(conn, job.id, lease, NOW, **over)
    with store.write() as conn:
        assert not jobs.request_cancel(conn, job.id, NOW + 2)
    assert job_of(store, job.id).ended
