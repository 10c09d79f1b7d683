"""One process drives a job: leases that many want, that end, that are renewed, and whose owners die."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebspub.states import Status
from ebspub.store import Lease, Store, jobs, leases
from tests.contract.store.rows import NOW, driven, job_of, plan, spec, take

ROOT = Path(__file__).resolve().parents[3]
FAR = NOW + 1e9
#: Says who it is, then waits to be killed.
LIVING = "import time; from ebspub.store import leases; print(leases.this_process(), flush=True); time.sleep(300)"


def claim(store: Store, job_id: str, owner: str, *, now: float = NOW, until: float = FAR) -> Lease | None:
    """Claim a lease as the program does: the dead are recognised."""
    with store.write() as conn:
        return leases.claim(conn, job_id, owner=owner, now=now, until=until, status=Status.RUNNING)


@contextmanager
def living() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a process that owns leases; its name."""
    with subprocess.Popen([sys.executable, "-c", LIVING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


# Claiming ----------------------------------------------------------------------------------------------------------


def test_a_claim_begins_an_epoch_and_counts_the_step_anew(store: Store) -> None:
    job, lease = driven(store)
    assert (lease.epoch, job.status, job.lease, job.epoch) == (1, Status.RUNNING, lease, 1)
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, step_started_at=NOW)
    assert take(store, job.id, owner="next", now=NOW + 60) == Lease("next", NOW + 120, 2)
    job = job_of(store, job.id)
    assert (job.epoch, job.step_started_at, job.updated_at) == (2, NOW + 60, NOW + 60)


def test_a_live_lease_is_not_taken_and_an_expired_one_is(store: Store) -> None:
    job, _ = driven(store)
    assert take(store, job.id, owner="other", now=NOW + 59.9) is None
    assert job_of(store, job.id).epoch == 1
    assert take(store, job.id, owner="other", now=NOW + 60) == Lease("other", NOW + 120, 2)
    assert take(store, job.id, owner="third", now=NOW + 61) is None


def test_a_job_that_has_ended_or_does_not_exist_is_not_taken(store: Store) -> None:
    job, lease = driven(store)
    with store.write() as conn:
        over = {"status": "cancelled", "ended_at": NOW, "lease_owner": None, "lease_until": None}
        jobs.change(conn, job.id, lease, NOW, **over)
    assert take(store, job.id, now=FAR) is None
    assert take(store, "no-such-job") is None


def test_a_job_is_taken_to_be_cancelled(store: Store) -> None:
    (job_id,) = plan(store)
    with store.write() as conn:
        assert leases.claim(conn, job_id, owner="me", now=NOW, until=FAR, status=Status.CANCELLING)
    assert job_of(store, job_id).status is Status.CANCELLING


def test_of_many_who_claim_a_job_at_once_one_gets_it(store: Store) -> None:
    ids = plan(store, *(spec(f"201010{day:02d}") for day in range(10, 22)))
    start = threading.Barrier(6)

    def run(owner: str) -> list[str]:
        start.wait(20)
        return [job_id for job_id in ids if take(store, job_id, owner=owner)]

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(run, f"owner-{number}") for number in range(6)]
        taken = [job_id for future in futures for job_id in future.result()]
    assert sorted(taken) == sorted(ids)
    assert {job_of(store, job_id).epoch for job_id in ids} == {1}


@pytest.mark.parametrize("template", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_claim_that_read_before_another_one_took_the_lease_gets_nothing(store: Store) -> None:
    """The read of a claim and its change are two statements: between them another process may commit."""
    job, _ = driven(store)

    def another(_: str) -> bool:
        assert take(store, job.id, owner="faster", now=FAR)
        return True

    with store.write() as conn:
        late = leases.claim(conn, job.id, owner="late", now=NOW, until=FAR, status=Status.RUNNING, dead=another)
    assert late is None
    assert job_of(store, job.id).lease == Lease("faster", FAR + 60, 2)


@pytest.mark.parametrize("template", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_an_owner_that_renews_its_lease_while_it_is_being_claimed_keeps_it(store: Store) -> None:
    job, _ = driven(store)

    def renewing(_: str) -> bool:
        with store.write() as conn:
            assert leases.renew(conn, "publisher-one", {(job.id, 1)}, FAR) == {job.id: False}
        return True

    with store.write() as conn:
        late = leases.claim(conn, job.id, owner="late", now=NOW, until=FAR, status=Status.RUNNING, dead=renewing)
    assert late is None
    assert job_of(store, job.id).lease == Lease("publisher-one", FAR, 1)


# Renewing ----------------------------------------------------------------------------------------------------------


def test_a_process_renews_what_is_still_its_own(store: Store) -> None:
    mine, theirs, again = plan(store, spec("1"), spec("2"), spec("3"))
    held = []
    for job_id in (mine, theirs, again):
        lease = take(store, job_id)
        assert lease is not None
        held.append((job_id, lease.epoch))
    assert take(store, theirs, owner="other", now=NOW + 60)
    assert take(store, again)  # in a later life: not the lease that is renewed here
    with store.write() as conn:
        assert leases.renew(conn, "publisher-one", held, FAR) == {mine: False}
        assert leases.renew(conn, "publisher-one", [], FAR) == {}
        assert leases.renew(conn, "nobody", held, FAR) == {}
    assert job_of(store, mine).lease == Lease("publisher-one", FAR, 1)
    assert job_of(store, theirs).lease == Lease("other", NOW + 120, 2)


def test_renewing_leaves_the_jobs_alone_that_it_does_not_name(store: Store) -> None:
    first, second = plan(store, spec("1"), spec("2"))
    assert take(store, first)
    assert take(store, second)
    with store.write() as conn:
        assert leases.renew(conn, "publisher-one", {(first, 1)}, FAR) == {first: False}
    assert job_of(store, second).lease == Lease("publisher-one", NOW + 60, 1)


def test_renewing_tells_which_jobs_somebody_asked_to_cancel(store: Store) -> None:
    first, second, third = plan(store, spec("1"), spec("2"), spec("3"))
    for job_id in (first, second):
        assert take(store, job_id)
    with store.write() as conn:
        for job_id in (second, third):
            assert jobs.request_cancel(conn, job_id, NOW)
        assert leases.renew(conn, "publisher-one", {(first, 1), (second, 1)}, FAR) == {first: False, second: True}


# The dead ----------------------------------------------------------------------------------------------------------


def test_the_lease_of_a_killed_process_is_free_at_once(store: Store) -> None:
    (job_id,) = plan(store)
    with living() as (process, owner):
        assert claim(store, job_id, owner)
        assert claim(store, job_id, "other") is None
        process.kill()
        # Not waited for: a process that has ended but has a parent that sleeps is dead all the same.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert claim(store, job_id, "other") == Lease("other", FAR, 2)
    assert claim(store, job_id, leases.this_process()) is None  # "other" may be anywhere


def test_a_process_that_got_the_id_of_a_dead_one_is_not_taken_for_it(store: Store) -> None:
    (job_id,) = plan(store)
    host, boot, pid, started, random = leases.this_process().split("/")
    assert int(pid) == os.getpid()
    earlier = "/".join((host, boot, pid, str(int(started) - 1), random))
    assert claim(store, job_id, earlier)
    assert claim(store, job_id, "other") == Lease("other", FAR, 2)
