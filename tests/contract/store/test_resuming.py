"""What `run` and `resume` write to a job before they take its lease: nothing, where somebody drives it after all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ebspub.app import publish
from ebspub.app.runtime import Runtime
from ebspub.states import Status
from ebspub.store import Lease, Store, leases
from tests.contract.store.rows import NOW, driven, job_of


def prepare(store: Store, job_id: str, now: float, *, meanwhile: bool) -> None:
    """Prepare a job as `resume` does, with what it read at ``now``; ``meanwhile`` its owner renews the lease."""
    job = job_of(store, job_id)
    if meanwhile:
        with store.write() as conn:
            assert leases.renew(conn, "publisher-one", {(job_id, 1)}, now + 60)
    runtime: Any = SimpleNamespace(store=store, clock=SimpleNamespace(now=lambda: now))
    publish._prepare(cast(Runtime, runtime), job, publish._go_again(job))


def test_a_job_whose_lease_is_over_goes_on_with_fresh_limits(store: Store) -> None:
    job, _ = driven(store)
    prepare(store, job.id, NOW + 60, meanwhile=False)
    found = job_of(store, job.id)
    assert (found.status, found.lease) == (Status.WAITING, None)


def test_an_owner_that_came_back_and_renewed_its_lease_keeps_the_job(store: Store) -> None:
    job, _ = driven(store)
    prepare(store, job.id, NOW + 60, meanwhile=True)
    found = job_of(store, job.id)
    assert (found.status, found.lease) == (Status.RUNNING, Lease("publisher-one", NOW + 120, 1))
