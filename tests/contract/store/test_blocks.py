"""Blocks of a snapshot: recorded in batches, read as a whole, forgotten when no upload needs them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import sqlalchemy as sa

from ebspub.clock import Clock
from ebspub.engine.ledger import Ledger
from ebspub.errors import LeaseLostError
from ebspub.spec import FanOut, JobSpec
from ebspub.states import Kind, Status
from ebspub.store import Job, Lease, Store, blocks, effects, jobs, tables
from tests.contract.store.rows import NOW, driven, job_of, plan, spec, take


class FixedClock(Clock):
    """A clock that a test sets."""

    def __init__(self, time: float = NOW) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float, wake: Any = None) -> None:
        raise NotImplementedError


def digest(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()


def direct(serial: str = "20101020") -> JobSpec:
    return spec(serial, method="direct")


def snapshot(store: Store, job: Job) -> int:
    """Return the row of a snapshot of a job."""
    with store.write() as conn:
        row = effects.intend(
            conn, job, kind=Kind.SNAPSHOT, purpose="snapshot.0", token=f"t-{job.id}", request={}, now=NOW
        )
        effects.made(conn, row, f"snap-{job.spec.serial}", NOW)
    return row


def filled(store: Store, serial: str = "20101020") -> tuple[Job, Lease, int]:
    job, lease = driven(store, direct(serial))
    row = snapshot(store, job)
    with store.write() as conn:
        blocks.add(conn, row, {0: digest("a"), 7: digest("b")}, sent=True)
    return job, lease, row


def register(store: Store, job: Job, lease: Lease, now: float) -> None:
    with store.write() as conn:
        ids = {"snapshot_id": f"snap-{job.spec.serial}", "ami_id": f"ami-{job.spec.serial}"}
        ended = {"state": "registered", "status": Status.DONE.value, "ended_at": now}
        jobs.change(conn, job.id, lease, now, **ids, **ended, lease_owner=None, lease_until=None)


def of(store: Store, row: int) -> blocks.Recorded:
    with store.read() as conn:
        return blocks.load(conn, row)


def test_what_was_recorded_last_counts(store: Store) -> None:
    _, _, row = filled(store)
    with store.write() as conn:
        blocks.add(conn, row, {7: digest("c"), 2**32 - 1: digest("far")}, sent=True)
        blocks.add(conn, row, {1: digest("same")}, sent=False)
        blocks.add(conn, row, {}, sent=False)
    found = of(store, row)
    assert found.sent == {0: digest("a"), 7: digest("c"), 2**32 - 1: digest("far")}
    assert found.same == {1: digest("same")}
    assert found.content == {**found.sent, **found.same}
    with store.write() as conn:
        blocks.add(conn, row, {1: digest("put after all")}, sent=True)
    assert of(store, row).same == {}


def test_nothing_is_recorded_without_the_lease(store: Store) -> None:
    job, lease, row = filled(store)
    ledger = Ledger(store, FixedClock(), lease, lease_time=60.0)
    ledger.record(job, row, {8: digest("d")}, {})
    assert job_of(store, job.id).lease is not None
    assert take(store, job.id, owner="publisher-two", now=NOW + 120) is not None
    with pytest.raises(LeaseLostError):
        ledger.record(job, row, {9: digest("e")}, {})
    assert set(of(store, row).sent) == {0, 7, 8}


def test_a_process_that_slept_past_its_lease_records_nothing(store: Store) -> None:
    job, lease, row = filled(store)
    clock = FixedClock()
    ledger = Ledger(store, clock, lease, lease_time=60.0)
    clock.time += 31
    assert ledger.doubtful
    ledger.record(job, row, {}, {})
    still: bool = ledger.doubtful
    assert not still
    clock.time += 61
    with pytest.raises(LeaseLostError):
        ledger.record(job, row, {9: digest("e")}, {})


def test_the_predecessor_is_what_was_registered_last(store: Store) -> None:
    for number, serial in enumerate(("20101018", "20101016", "20101017")):
        job, lease, _ = filled(store, serial)
        register(store, job, lease, NOW + number)
    job, lease, _ = filled(store)
    ledger = Ledger(store, FixedClock(), lease, lease_time=60.0)
    found = ledger.predecessor(job)
    assert not isinstance(found, str)
    assert (found[0].spec.serial, found[1].resource_id) == ("20101017", "snap-20101017")
    with store.write() as conn:
        conn.execute(tables.blocks.delete().where(tables.blocks.c.resource == found[1].id))
    assert "not on record" in str(ledger.predecessor(job))


def test_blocks_that_no_upload_needs_are_forgotten(store: Store) -> None:
    rows = {}
    for number, serial in enumerate(("20101016", "20101017")):
        job, lease, rows[serial] = filled(store, serial)
        register(store, job, lease, NOW + number)
    other, other_lease = driven(store, spec("20101016", method="direct", region="eu-west-1"))
    elsewhere = snapshot(store, other)
    with store.write() as conn:
        blocks.add(conn, elsewhere, {0: digest("z")}, sent=True)
    register(store, other, other_lease, NOW)
    job, lease, mine = filled(store)
    Ledger(store, FixedClock(), lease, lease_time=60.0).begin(job, rows["20101017"])
    with store.read() as conn:
        left = set(conn.execute(sa.select(tables.blocks.c.resource)).scalars())
    assert left == {rows["20101017"], elsewhere, mine}


def test_a_copy_needs_neither_builder_nor_volume_but_a_snapshot_in_the_end(store: Store) -> None:
    wish = FanOut(region="eu-west-1", when="always", copies=True, why="because")
    job, lease = driven(store, spec(fan_out=wish))
    for state in ("launched", "attached", "populated"):
        with store.write() as conn:
            jobs.change(conn, job.id, lease, NOW, state=state)
    with pytest.raises(sa.exc.IntegrityError), store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, state="snapshotted")


def test_what_a_product_last_held_is_told_by_who_made_it(store: Store) -> None:
    wish = FanOut(region="us-east-1", when="always", copies=True, why="because")
    done = {"status": "done", "state": "registered", "lease_owner": None, "lease_until": None}
    told = [(spec("1"), 10), (spec("2"), 20), (spec("3", region="eu-west-1", fan_out=wish), 30), (spec("4"), 40)]
    for at, (document, size) in enumerate(told[:3]):
        job, lease = driven(store, document)
        ids = {"ami_id": f"ami-{at}", "snapshot_id": f"snap-{at}", "ended_at": NOW + at}
        with store.write() as conn:
            jobs.change(conn, job.id, lease, NOW, facts={"bytes": size}, **ids, **done)
    plan(store, told[3][0])
    with store.read() as conn:
        assert jobs.last_facts(conn, spec("5")) == {"bytes": 20}
        assert jobs.last_facts(conn, spec("5", arch="arm64")) == {}


def test_a_direct_job_needs_no_builder_but_a_snapshot(store: Store) -> None:
    job, lease = driven(store, direct())
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, state="launched")
        jobs.change(conn, job.id, lease, NOW, state="attached")
    with pytest.raises(sa.exc.IntegrityError), store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, state="populated")
    with store.write() as conn:
        jobs.change(conn, job.id, lease, NOW, state="populated", snapshot_id="snap-1")
